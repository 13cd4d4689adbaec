//! Which chip answers, in which state, and how fast it can be spoken to.

use std::time::Duration;

use esp_model::chip::{self, BaudScale, Chip, CrystalFoundBy, Detect, Identified, PowerStep};
use esp_model::job::Job;
use esp_model::wire::{Command, RegWrite, Request};
use serde::Serialize;

use crate::error::{LoaderError, Seen};
use crate::loader::{COMMAND_TIME, Loader, Mode};

/// What GET_SECURITY_INFO says.
///
/// Source: ESP-IDF, "Serial Protocol": flags, SPI_BOOT_CRYPT_CNT, seven key purposes, chip id, API version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecurityInfo {
    /// Flag bits, see [`SecurityInfo::flag_names`].
    pub flags: u32,
    /// Flash encryption counter; an odd number of set bits means on.
    pub flash_crypt_count: u8,
    /// Purposes of key blocks 0 to 6.
    pub key_purposes: Vec<u8>,
    /// `esp_chip_id_t`; missing on the S2.
    pub chip_id: Option<u32>,
    /// Version of the ROM's interface.
    pub api_version: Option<u32>,
}

/// Names of the flag bits, lowest first.
const FLAGS: [&str; 11] = [
    "SECURE_BOOT_EN",
    "SECURE_BOOT_AGGRESSIVE_REVOKE",
    "SECURE_DOWNLOAD_ENABLE",
    "SECURE_BOOT_KEY_REVOKE0",
    "SECURE_BOOT_KEY_REVOKE1",
    "SECURE_BOOT_KEY_REVOKE2",
    "SOFT_DIS_JTAG",
    "HARD_DIS_JTAG",
    "DIS_USB",
    "DIS_DOWNLOAD_DCACHE",
    "DIS_DOWNLOAD_ICACHE",
];

impl SecurityInfo {
    /// Reads the 12 (S2) or 20 bytes of the answer.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        Some(Self {
            flags: word(0)?,
            flash_crypt_count: *bytes.get(4)?,
            key_purposes: bytes.get(5..12)?.to_vec(),
            chip_id: word(12),
            api_version: word(16),
        })
    }

    /// Names of the flags that are set.
    pub fn flag_names(&self) -> Vec<&'static str> {
        FLAGS.iter().enumerate().filter(|(bit, _)| self.flags >> bit & 1 == 1).map(|(_, name)| *name).collect()
    }

    /// The chip only takes the few commands of secure download mode.
    pub fn is_secure_download(&self) -> bool {
        self.flags & 1 << 2 != 0
    }

    /// Secure boot is on.
    pub fn is_secure_boot(&self) -> bool {
        self.flags & 1 != 0
    }
}

/// Finds out which chip answers and sets chip, mode and identity of the loader.
pub(crate) fn recognise(loader: &mut Loader, job: &Job) -> Result<(), LoaderError> {
    let info = match loader.surely(job, |loader| loader.security_info(job)) {
        Ok(info) => Some(info),
        Err(error) if error.is_unknown_command() => None,
        Err(error) => return Err(error),
    };
    let secure = info.as_ref().is_some_and(SecurityInfo::is_secure_download);
    if secure {
        loader.set_mode(Mode::SecureDownload);
    }
    let chip_id = info.as_ref().and_then(|info| info.chip_id);
    let found = match chip_id {
        Some(id) => {
            u16::try_from(id).ok().and_then(chip::by_chip_id).ok_or_else(|| unknown_chip(format!("chip id {id}")))?
        }
        // Only one chip has a security info without chip id, and its magic word cannot be read in this mode.
        None if secure => chip::all()
            .iter()
            .find(|chip| chip.rom.security_info_len == 12)
            .ok_or_else(|| unknown_chip("security info without chip id".into()))?,
        None => by_magic(loader, job)?,
    };
    loader.set_chip(found);
    if !secure {
        let identity = loader.identify(job)?;
        loader.state.revision = Some(identity.revision_number());
        loader.state.identity = Some(identity);
    }
    Ok(())
}

/// The chip with the magic word that is read.
fn by_magic(loader: &mut Loader, job: &Job) -> Result<&'static Chip, LoaderError> {
    let magic = loader.read_reg_surely(job, Detect::MAGIC_REGISTER)?;
    chip::by_magic(magic).ok_or_else(|| unknown_chip(format!("magic word {magic:#010x}")))
}

fn lost_at(baud: u32) -> LoaderError {
    LoaderError::BadLine { address: 0, attempts: 3, last: format!("no answer at {baud} baud") }
}

fn unknown_chip(what: String) -> LoaderError {
    LoaderError::Unsupported {
        what: format!("a chip with {what}"),
        mode: "this version",
        chip: "the known chips".into(),
        stub_can: false,
    }
}

impl Loader {
    /// GET_SECURITY_INFO. The ESP32 and ESP8266 refuse it.
    pub fn security_info(&mut self, job: &Job) -> Result<SecurityInfo, LoaderError> {
        let bytes = self.call(job, &Request::SecurityInfo, 20, COMMAND_TIME)?.data;
        let seen = Seen::of(&bytes);
        let what = "the security info is too short";
        SecurityInfo::parse(&bytes).ok_or(LoaderError::Protocol { command: Command::SecurityInfo, what, seen })
    }

    /// Reads a 32-bit register or memory word.
    pub fn read_reg(&mut self, job: &Job, address: u32) -> Result<u32, LoaderError> {
        self.retrying(job, |loader| loader.command(job, &Request::ReadReg { address }))
    }

    /// Writes the bits in `mask` of a 32-bit register.
    pub fn write_reg(&mut self, job: &Job, address: u32, value: u32, mask: u32) -> Result<(), LoaderError> {
        let request = Request::WriteReg(vec![RegWrite { address, value, mask, delay_us: 0 }]);
        self.retrying(job, |loader| loader.command(job, &request)).map(|_| ())
    }

    fn read_reg_surely(&mut self, job: &Job, address: u32) -> Result<u32, LoaderError> {
        self.surely(job, |loader| loader.read_reg(job, address))
    }

    /// Asks until two answers in a row agree: an answer carries no checksum, and an identity must not be a guess.
    pub(crate) fn surely<T: PartialEq>(
        &mut self,
        job: &Job,
        mut ask: impl FnMut(&mut Self) -> Result<T, LoaderError>,
    ) -> Result<T, LoaderError> {
        let mut last = self.retrying(job, &mut ask)?;
        for _ in 0..4 {
            let again = self.retrying(job, &mut ask)?;
            if again == last {
                return Ok(again);
            }
            last = again;
        }
        let what = "the same question is answered differently each time";
        Err(LoaderError::Protocol { command: Command::ReadReg, what, seen: Seen::default() })
    }

    /// Reads all words of an eFuse block from its read registers.
    pub fn read_efuse_block(&mut self, job: &Job, block: u8) -> Result<Vec<u32>, LoaderError> {
        let Some(block) = self.chip().efuse().block(block) else { return Ok(Vec::new()) };
        (0..u32::from(block.words)).map(|word| self.read_reg_surely(job, block.read + word * 4)).collect()
    }

    /// Reads who the chip is. Not possible in secure download mode.
    pub fn identify(&mut self, job: &Job) -> Result<Identified, LoaderError> {
        chip::identify(self.chip(), |address| self.read_reg_surely(job, address))
    }

    /// Who the chip is, as read when it was connected. `None` in secure download mode.
    pub fn identity(&self) -> Option<&Identified> {
        self.state.identity.as_ref()
    }

    fn efuse_number(&mut self, job: &Job, name: &str) -> Result<u32, LoaderError> {
        let Some(field) = self.chip().efuse().field(name) else { return Ok(0) };
        Ok(field.number(&self.read_efuse_block(job, field.block)?))
    }

    /// The crystal's frequency in MHz. Of a chip whose stub ran before this session it may be the usual one, not measured.
    pub fn crystal_mhz(&mut self, job: &Job) -> Result<u32, LoaderError> {
        if let Some(mhz) = self.state.crystal_mhz {
            return Ok(mhz);
        }
        let chip = self.chip();
        let usual = chip.crystal.mhz.first().copied().unwrap_or(40);
        let measured = match chip.crystal.found_by {
            CrystalFoundBy::Fixed => return Ok(usual),
            // The stub runs the UART from another clock: only the ROM's divider tells.
            CrystalFoundBy::UartDivider if self.mode() == Mode::Stub => match self.rom_measured_hz(job)? {
                Some(hz) if hz > 0 => (hz / 1_000_000) as u32,
                _ => return Ok(usual),
            },
            CrystalFoundBy::UartDivider => {
                let divider = self.read_reg(job, chip.uart.clkdiv)? & chip.uart.clkdiv_mask;
                let hz = u64::from(self.port().baud()) * u64::from(divider);
                (hz / 1_000_000 / u64::from(chip.crystal.uart_divider.max(1))) as u32
            }
        };
        let distance = |mhz: &&u32| mhz.abs_diff(measured);
        let mhz = chip.crystal.mhz.iter().min_by_key(distance).copied().unwrap_or(usual);
        self.state.crystal_mhz = Some(mhz);
        Ok(mhz)
    }

    /// The crystal's frequency in Hz as the ESP32's ROM measured it against its 8 MHz oscillator.
    fn rom_measured_hz(&mut self, job: &Job) -> Result<Option<u64>, LoaderError> {
        let chip = self.chip();
        let Some(calibration) = &chip.crystal.calibration else { return Ok(None) };
        let count = calibration.count.of(self.read_reg(job, calibration.count.register)?);
        let clock = self.efuse_number(job, &calibration.clock)?;
        Ok(Some(calibration.hertz(count, clock)))
    }

    /// Changes the rate on both sides and makes sure that the loader answers at it; else goes back to the old rate.
    ///
    /// The ROM of some chips must be told another number than is meant.
    pub fn change_baud(&mut self, job: &Job, baud: u32) -> Result<(), LoaderError> {
        let old = self.port().baud();
        for _ in 0..3 {
            match self.try_baud(job, baud) {
                Ok(()) => return Ok(()),
                Err(error) if error.is_final() => return Err(error),
                Err(_) => {
                    self.port().set_baud(old)?;
                    // No answer at the old rate either: the loader is at neither, and only a reset helps.
                    self.resync(job).map_err(|error| if error.is_final() { error } else { lost_at(baud) })?;
                }
            }
        }
        Err(lost_at(baud))
    }

    fn try_baud(&mut self, job: &Job, baud: u32) -> Result<(), LoaderError> {
        let stub = self.mode() == Mode::Stub;
        let (new, old) = if stub { (baud, self.port().baud()) } else { (self.scaled_baud(job, baud)?, 0) };
        let answer = self.call(job, &Request::ChangeBaud { new, old }, 0, COMMAND_TIME);
        if let Err(error @ LoaderError::Refused { .. }) = answer {
            return Err(error);
        }
        self.port().set_baud(baud)?;
        self.port().sleep(Duration::from_millis(5));
        self.drain(Duration::from_millis(1), Duration::from_millis(50))?;
        self.sync(job, 5).map(|_| ())
    }

    fn scaled_baud(&mut self, job: &Job, baud: u32) -> Result<u32, LoaderError> {
        let scale = |from: u64, to: u64| (u64::from(baud) * from / to.max(1)) as u32;
        Ok(match self.chip().rom.baud_scale {
            BaudScale::None => baud,
            BaudScale::RomCalibration => match self.rom_measured_hz(job)? {
                Some(hz) if hz > 0 => scale(hz, if hz > 33_000_000 { 40_000_000 } else { 26_000_000 }),
                _ => baud,
            },
            BaudScale::RomCrystal => {
                let fitted = self.crystal_mhz(job)?;
                let crystal = &self.chip().crystal;
                let assumed = match (crystal.rom_assumes, crystal.register) {
                    (Some(mhz), _) => mhz,
                    (None, Some(bits)) => bits.of(self.read_reg(job, bits.register)?),
                    (None, None) => fitted,
                };
                scale(assumed.into(), fitted.into())
            }
        })
    }

    /// Raises the rate when the loader can.
    pub(crate) fn raise_baud(&mut self, job: &Job, baud: u32) -> Result<(), LoaderError> {
        if baud == self.port().baud() || self.allow(Command::ChangeBaud).is_err() {
            return Ok(());
        }
        // Where the rate depends on the crystal, registers tell which one is fitted, and nobody can read them now.
        if self.mode() == Mode::SecureDownload && self.chip().rom.baud_scale != BaudScale::None {
            return Ok(());
        }
        self.change_baud(job, baud)
    }

    /// Switches the flash's supply on, for chips whose ROM does not.
    fn power_flash(&mut self, job: &Job) -> Result<(), LoaderError> {
        let chip = self.chip();
        let revision = self.revision().unwrap_or(0);
        for power in chip.flash.power_on.iter().filter(|power| power.revisions.contains(&revision)) {
            let mut applies = true;
            for (field, values) in &power.when {
                applies &= values.contains(&self.efuse_number(job, field)?);
            }
            if applies {
                return power.steps.iter().try_for_each(|step| self.power_step(job, step));
            }
        }
        Ok(())
    }

    fn power_step(&mut self, job: &Job, step: &PowerStep) -> Result<(), LoaderError> {
        let word = match step.write {
            Some(word) => word,
            None => {
                let present = self.read_reg(job, step.register)?;
                if present & step.only_if != step.only_if {
                    return Ok(());
                }
                present & !step.clear | step.set
            }
        };
        self.write_reg(job, step.register, word, u32::MAX)?;
        self.port().sleep(Duration::from_micros(step.wait_us.into()));
        Ok(())
    }

    /// Quietens the watchdogs that a built-in USB connection leaves running: they would reset the chip in mid-write.
    pub(crate) fn prepare_chip(&mut self, job: &Job) -> Result<(), LoaderError> {
        let reset = &self.chip().reset;
        self.power_flash(job)?;
        if !self.port().info().is_usb_serial_jtag() {
            return Ok(());
        }
        if let Some(watchdog) = &reset.watchdog {
            self.write_reg(job, watchdog.protect, watchdog.key, u32::MAX)?;
            self.write_reg(job, watchdog.config0, 0, u32::MAX)?;
            self.write_reg(job, watchdog.protect, 0, u32::MAX)?;
        }
        if let Some(watchdog) = &reset.super_watchdog {
            self.write_reg(job, watchdog.protect, watchdog.key, u32::MAX)?;
            self.write_reg(job, watchdog.config, u32::MAX, watchdog.auto_feed)?;
            self.write_reg(job, watchdog.protect, 0, u32::MAX)?;
        }
        Ok(())
    }
}
