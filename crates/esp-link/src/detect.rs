//! Which chip answers, in which state, and how fast it can be spoken to.

use std::time::Duration;

use esp_model::chip::{self, BaudScale, Chip, CrystalFoundBy, Part, Value};
use esp_model::job::Job;
use esp_model::wire::{Command, RegWrite, Request};
use serde::Serialize;

use crate::error::{LoaderError, Seen};
use crate::loader::{COMMAND_TIME, Loader, Mode};

/// Word that differs between the older chips.
const MAGIC_REGISTER: u32 = 0x4000_1000;

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

/// Finds out which chip answers and sets chip, mode and revision of the loader.
pub(crate) fn recognise(loader: &mut Loader, job: &Job) -> Result<(), LoaderError> {
    match loader.security_info(job) {
        Ok(info) => {
            if info.is_secure_download() {
                loader.set_mode(Mode::SecureDownload);
            }
            if let Some(found) = info.chip_id.and_then(|id| u16::try_from(id).ok()).and_then(chip::by_chip_id) {
                loader.set_chip(found);
                return read_revision(loader, job);
            }
            if let Some(id) = info.chip_id {
                return Err(unknown_chip(format!("chip id {id}")));
            }
        }
        Err(error) if error.is_unknown_command() => {}
        Err(error) => return Err(error),
    }
    if loader.mode() == Mode::SecureDownload {
        // Only the S2 has a security info without chip id, and its magic word cannot be read in this mode.
        let found = chip::all().iter().find(|chip| chip.rom.security_info_len == 12);
        loader.set_chip(found.ok_or_else(|| unknown_chip("security info without chip id".into()))?);
        return Ok(());
    }
    let magic = read_magic(loader, job)?;
    loader.set_chip(chip::by_magic(magic).ok_or_else(|| unknown_chip(format!("magic word {magic:#010x}")))?);
    read_revision(loader, job)
}

/// The magic word, read until two readings agree: an answer carries no checksum.
fn read_magic(loader: &mut Loader, job: &Job) -> Result<u32, LoaderError> {
    let mut last = loader.read_reg(job, MAGIC_REGISTER)?;
    for _ in 0..4 {
        if chip::by_magic(last).is_some() {
            break;
        }
        last = loader.read_reg(job, MAGIC_REGISTER)?;
    }
    Ok(last)
}

fn unknown_chip(what: String) -> LoaderError {
    LoaderError::Unsupported {
        what: format!("a chip with {what}"),
        mode: "this version",
        chip: "the known chips".into(),
    }
}

fn read_revision(loader: &mut Loader, job: &Job) -> Result<(), LoaderError> {
    if loader.mode() == Mode::SecureDownload {
        return Ok(());
    }
    let chip = loader.chip();
    let major = loader.value(job, chip, &chip.identity.major)?;
    let minor = loader.value(job, chip, &chip.identity.minor)?;
    loader.state.revision = u16::try_from(major * 100 + minor).ok();
    Ok(())
}

impl Loader {
    /// GET_SECURITY_INFO. The ESP32 and ESP8266 refuse it.
    pub fn security_info(&mut self, job: &Job) -> Result<SecurityInfo, LoaderError> {
        // The chip may not be known yet, and with it the length: the whole body is taken and cut by its size.
        self.send(job, &Request::SecurityInfo)?;
        let answer = self.answer(job, Command::SecurityInfo, 20, COMMAND_TIME);
        let bytes = match answer {
            Ok(answer) => answer.data,
            Err(LoaderError::Protocol { seen, .. }) if seen.0.len() >= 8 + 14 => seen.0[8..20].to_vec(),
            Err(error) => return Err(error),
        };
        let seen = Seen::of(&bytes);
        let what = "the security info is too short";
        SecurityInfo::parse(&bytes).ok_or(LoaderError::Protocol { command: Command::SecurityInfo, what, seen })
    }

    /// Reads a 32-bit register or memory word.
    pub fn read_reg(&mut self, job: &Job, address: u32) -> Result<u32, LoaderError> {
        self.command(job, &Request::ReadReg { address })
    }

    /// Writes the bits in `mask` of a 32-bit register.
    pub fn write_reg(&mut self, job: &Job, address: u32, value: u32, mask: u32) -> Result<(), LoaderError> {
        self.command(job, &Request::WriteReg(vec![RegWrite { address, value, mask, delay_us: 0 }])).map(|_| ())
    }

    /// A value of the chip's identity, put together from eFuse fields and registers.
    fn value(&mut self, job: &Job, chip: &Chip, value: &Value) -> Result<u32, LoaderError> {
        let (mut sum, mut shift) = (0, 0);
        for part in &value.parts {
            let (bits, len) = match part {
                Part::Efuse(name) => self.efuse_field(job, chip, name)?,
                Part::Register(bits) => (bits.of(self.read_reg(job, bits.register)?), u32::from(bits.len)),
            };
            sum |= bits.checked_shl(shift).unwrap_or(0);
            shift += len;
        }
        Ok(match value.map.is_empty() {
            true => sum,
            false => value.map.get(&sum.to_string()).copied().unwrap_or(0),
        })
    }

    fn efuse_field(&mut self, job: &Job, chip: &Chip, name: &str) -> Result<(u32, u32), LoaderError> {
        let table = chip.efuse();
        let (Some(field), Some(block)) = (table.field(name), table.field(name).and_then(|f| table.block(f.block)))
        else {
            return Ok((0, 0));
        };
        let mut words = vec![0; usize::from(block.words)];
        for range in &field.bits {
            for word in range.0 / 32..=(range.0 + range.1 - 1) / 32 {
                if let Some(slot) = words.get_mut(usize::from(word)) {
                    *slot = self.read_reg(job, block.read + u32::from(word) * 4)?;
                }
            }
        }
        Ok((field.number(&words), u32::from(field.len())))
    }

    /// The crystal's frequency in MHz.
    pub fn crystal_mhz(&mut self, job: &Job) -> Result<u32, LoaderError> {
        let chip = self.chip();
        let usual = chip.crystal.mhz.first().copied().unwrap_or(40);
        let measured = match chip.crystal.found_by {
            CrystalFoundBy::Fixed => return Ok(usual),
            CrystalFoundBy::Register => match chip.crystal.register {
                Some(bits) => bits.of(self.read_reg(job, bits.register)?),
                None => return Ok(usual),
            },
            // The stub runs the UART from another clock: only the ROM's divider tells.
            CrystalFoundBy::UartDivider if self.mode() == Mode::Stub => match self.rom_measured_hz(job)? {
                Some(hz) => (hz / 1_000_000) as u32,
                None => return Ok(usual),
            },
            CrystalFoundBy::UartDivider => {
                let divider = self.read_reg(job, chip.uart.clkdiv)? & chip.uart.clkdiv_mask;
                let hz = u64::from(self.port().baud()) * u64::from(divider);
                (hz / 1_000_000 / u64::from(chip.crystal.uart_divider.max(1))) as u32
            }
        };
        let distance = |mhz: &&u32| mhz.abs_diff(measured);
        Ok(chip.crystal.mhz.iter().min_by_key(distance).copied().unwrap_or(usual))
    }

    /// The crystal's frequency in Hz as the ESP32's ROM measured it against its 8 MHz oscillator.
    fn rom_measured_hz(&mut self, job: &Job) -> Result<Option<u64>, LoaderError> {
        let chip = self.chip();
        let Some(bits) = chip.crystal.calibration else { return Ok(None) };
        let count = bits.of(self.read_reg(job, bits.register)?);
        let (ck8m, _) = self.efuse_field(job, chip, "CK8M_FREQ")?;
        Ok(Some(u64::from(count) * 15_625 * u64::from(ck8m) / 40))
    }

    /// Changes the rate on both sides. The ROM of some chips must be told another number than is meant.
    pub fn change_baud(&mut self, job: &Job, baud: u32) -> Result<(), LoaderError> {
        let old = if self.mode() == Mode::Stub { self.port().baud() } else { 0 };
        let new = if self.mode() == Mode::Stub { baud } else { self.scaled_baud(job, baud)? };
        self.call(job, &Request::ChangeBaud { new, old }, 0, COMMAND_TIME)?;
        self.port().set_baud(baud)?;
        self.port().sleep(Duration::from_millis(5));
        self.drain(Duration::from_millis(1), Duration::from_millis(50))?;
        Ok(())
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
                let assumed = self.chip().crystal.mhz.first().copied().unwrap_or(40);
                let fitted = self.crystal_mhz(job)?;
                scale(assumed.into(), fitted.into())
            }
        })
    }

    /// Raises the rate when the loader can; falls back to the present one when the line does not follow.
    pub(crate) fn raise_baud(&mut self, job: &Job, baud: u32) -> Result<(), LoaderError> {
        let present = self.port().baud();
        if baud == present || self.allow(Command::ChangeBaud).is_err() {
            return Ok(());
        }
        self.change_baud(job, baud)?;
        if self.sync(job, 3).is_ok() {
            return Ok(());
        }
        Err(LoaderError::BadLine { address: 0, attempts: 3, last: format!("no answer at {baud} baud") })
    }

    /// Quietens the watchdogs that a built-in USB connection leaves running: they would reset the chip in mid-write.
    pub(crate) fn prepare_chip(&mut self, job: &Job) -> Result<(), LoaderError> {
        let reset = &self.chip().reset;
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
