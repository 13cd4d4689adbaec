//! Programs in RAM, and leaving the loader.

use esp_model::job::Job;
use esp_model::wire::{Command, Request};

use crate::error::LoaderError;
use crate::loader::{COMMAND_TIME, Loader, Mode};
use crate::reset::Sequence;

impl Loader {
    /// Loads segments into RAM and jumps. The loader is gone afterwards: the port is given back.
    pub fn run_in_ram(
        mut self,
        job: &Job,
        segments: &[(u32, Vec<u8>)],
        entry: u32,
    ) -> Result<Box<dyn esp_model::port::Port>, LoaderError> {
        for (address, bytes) in segments {
            self.load_memory(job, *address, bytes)?;
        }
        self.start(job, entry)?;
        // The program may take the UART before the answer is out.
        match self.answer(job, Command::MemEnd, 0, std::time::Duration::from_millis(200)) {
            Ok(_) | Err(LoaderError::NoAnswer { .. } | LoaderError::Protocol { .. }) => Ok(self.into_port()),
            Err(error) => Err(error),
        }
    }

    /// Leaves the loader by its own command: the app starts without a reset line.
    pub fn soft_reset(&mut self, job: &Job) -> Result<(), LoaderError> {
        match self.mode() {
            Mode::Stub => self.post(job, &Request::RunUserCode),
            _ => {
                self.flash_begin(job, 0, 0, 0x400, 0, false)?;
                self.call(job, &Request::FlashEnd { stay: false }, 0, COMMAND_TIME).map(|_| ())
            }
        }
    }

    /// Starts the app with a pulse on EN.
    pub fn hard_reset(&mut self) -> Result<(), LoaderError> {
        let built_in = self.port().info().usb.is_some_and(|(vendor, _)| vendor == esp_model::port::ESPRESSIF_VID);
        Ok(Sequence::hard_reset(built_in).run(self.port())?)
    }

    /// Lets the RTC watchdog reset the chip: also starts the app when the boot pin was held by hand.
    pub fn watchdog_reset(&mut self, job: &Job) -> Result<(), LoaderError> {
        let reset = &self.chip().reset;
        let Some(watchdog) = reset.watchdog.as_ref().filter(|_| reset.by_watchdog) else {
            let (mode, chip) = (self.mode().describe(), self.chip().name.clone());
            return Err(LoaderError::Unsupported { what: "a watchdog reset".into(), mode, chip, stub_can: false });
        };
        // Stage 0 ends after 2000 slow clock cycles.
        self.write_reg(job, watchdog.protect, watchdog.key, u32::MAX)?;
        self.write_reg(job, watchdog.config1, 2000, u32::MAX)?;
        self.write_reg(job, watchdog.config0, watchdog.enable, u32::MAX)?;
        self.write_reg(job, watchdog.protect, 0, u32::MAX)?;
        self.port().sleep(std::time::Duration::from_millis(500));
        Ok(())
    }
}
