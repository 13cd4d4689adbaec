//! The simulator as a virtual device: always there, every chip, no code is run.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use esp_link::qemu::instance::{Config, Directory};
use esp_link::qemu::machine::{About, Machine, Waker};
use esp_link::qemu::{BootMode, QemuError};
use esp_model::chip::{self, Chip};
use esp_sim::VirtualChip;

use crate::simserver::files::Files;

/// Serves the virtual device of `dir` until it is told to stop; says on standard output when it is up.
pub fn host(dir: &Path) -> Result<(), QemuError> {
    esp_link::qemu::host::serve(dir, &mut io::stdout(), make)
}

fn make(config: &Config, dir: &Directory, _: Waker) -> Result<Box<dyn Machine>, QemuError> {
    Ok(Box::new(Builtin::new(config, dir.clone())?))
}

/// A simulated chip on the files of a virtual device.
struct Builtin {
    config: esp_sim::Config,
    dir: Directory,
    running: Option<(VirtualChip, Files)>,
    born: Instant,
    mode: BootMode,
    problem: Option<String>,
}

impl Builtin {
    fn new(config: &Config, dir: Directory) -> Result<Self, QemuError> {
        let chip = chip::by_name(&config.chip).ok_or_else(|| QemuError::NoEmulation(config.chip.clone()))?;
        Ok(Self {
            config: sim_config(chip, &config.id, config.flash_size)?,
            dir,
            running: None,
            born: Instant::now(),
            mode: config.boot_mode,
            problem: None,
        })
    }

    fn start(&mut self) -> Result<(), QemuError> {
        let (flash, efuse) = (self.dir.flash(), self.dir.efuse());
        let failed = |error: crate::simserver::SimError| QemuError::Host(error.to_string());
        let mut files = Files::open_paths(Some(&flash), Some(&efuse), self.config.flash_size).map_err(failed)?;
        let mut chip = VirtualChip::new(&self.config);
        files.load(&mut chip).map_err(|source| QemuError::File { path: flash, source })?;
        self.born = Instant::now();
        self.running = Some((chip, files));
        Ok(())
    }
}

/// How the simulator makes this device.
fn sim_config(chip: &'static Chip, name: &str, flash_size: u64) -> Result<esp_sim::Config, QemuError> {
    let possible = (256 << 10..=64 << 20).contains(&flash_size) && flash_size.is_power_of_two();
    let flash_size = u32::try_from(flash_size).ok().filter(|_| possible).ok_or(QemuError::FlashSize(flash_size))?;
    Ok(esp_sim::Config { flash_size, ..esp_sim::Config::new(chip, name).unpaced() })
}

impl Machine for Builtin {
    fn boot(&mut self, mode: BootMode) -> Result<(), QemuError> {
        if self.running.is_none() {
            self.start()?;
        }
        self.mode = mode;
        let now = self.born.elapsed();
        if let Some((chip, _)) = &mut self.running {
            chip.hold_boot_pin(mode == BootMode::Download);
            chip.power_cycle(now);
            chip.hold_boot_pin(false); // the next reset is the modem lines' own
        }
        Ok(())
    }

    fn halt(&mut self) {
        if let Some((mut chip, mut files)) = self.running.take() {
            self.problem = files.save(&mut chip).err().map(|error| error.to_string());
        }
    }

    fn joined(&mut self, has_rate: bool) {
        let now = self.born.elapsed();
        if let Some((chip, _)) = self.running.as_mut().filter(|_| !has_rate) {
            chip.agree_baud(now, 115_200);
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let now = self.born.elapsed();
        if let Some((chip, _)) = &mut self.running {
            chip.send(now, bytes);
        }
        Ok(())
    }

    fn set_lines(&mut self, dtr: bool, rts: bool) -> Result<(), QemuError> {
        let now = self.born.elapsed();
        if let Some((chip, _)) = &mut self.running {
            chip.set_lines(now, dtr, rts);
        }
        Ok(())
    }

    fn set_baud(&mut self, baud: u32) {
        let now = self.born.elapsed();
        if let Some((chip, _)) = &mut self.running {
            chip.set_host_baud(now, Some(baud));
        }
    }

    fn poll(&mut self, sent: &mut Vec<u8>) -> Duration {
        const LONG: Duration = Duration::from_secs(60);
        let now = self.born.elapsed();
        let Some((chip, files)) = &mut self.running else { return LONG };
        let mut buf = [0; 16 * 1024];
        loop {
            let count = chip.receive(now, &mut buf);
            if count == 0 {
                break;
            }
            sent.extend_from_slice(buf.get(..count).unwrap_or_default());
        }
        self.problem = files.save(chip).err().map(|error| error.to_string());
        chip.next_event().map_or(LONG, |next| next.saturating_sub(self.born.elapsed()))
    }

    fn about(&mut self) -> About {
        About {
            running: self.running.is_some(),
            boot_mode: Some(match &self.running {
                Some((chip, _)) if chip.in_loader() => BootMode::Download,
                Some(_) => BootMode::Normal,
                None => self.mode,
            }),
            emulator_pid: None,
            version: Some(env!("CARGO_PKG_VERSION").into()),
            problem: self.problem.clone(),
        }
    }
}
