//! Flash through the loader: attach, read, write what differs, erase, verify.

mod blocks;
mod diff;
mod erase;
mod meter;
mod program;
mod read;
mod runs;
mod source;
mod spi;
mod verify;
mod write;
mod writer;

use std::time::Duration;

use esp_model::efuse::Efuses;
use esp_model::flash::jedec::JedecId;
use esp_model::job::Job;
use esp_model::wire::{Begin, Command, Request, SpiParams};

pub use self::blocks::Block;
pub use self::source::{Fill, Part, Shared, Source};
pub use self::spi::SpiCommand;
pub use self::verify::{Difference, Kind};
pub use self::write::{Compress, WriteOptions, WriteReport, slower};
use crate::error::LoaderError;
use crate::loader::{COMMAND_TIME, Loader, Mode};
pub use crate::packed::Packed;

pub use esp_model::flash::{BLOCK, SECTOR};

/// Longest time an operation over `bytes` may take, at `per_mb` seconds each megabyte, and 3 s at least.
pub(crate) fn time_for(bytes: u32, per_mb: u32) -> Duration {
    COMMAND_TIME.max(Duration::from_micros(u64::from(bytes) * u64::from(per_mb)))
}

/// Wakes a flash part from deep power-down, and how long that takes at most (data sheets: 3 to 35 µs).
const WAKE: u8 = 0xab;
const WAKE_TIME: Duration = Duration::from_millis(1);
/// Longest time for getting back in step, again and again, without a byte of progress.
pub(crate) const RESYNC_TIME: Duration = Duration::from_secs(120);
/// Seconds a megabyte may take to erase: slow chips need over 30 s by ROM.
pub(crate) const ERASE_PER_MB: u32 = 40;
/// Seconds a megabyte may take to hash.
pub(crate) const MD5_PER_MB: u32 = 8;

impl Loader {
    /// Makes the flash reachable and tells the loader its size. Does nothing the second time.
    ///
    /// `size` overrides what the flash says of itself; in secure download mode it must be given, because the
    /// flash cannot be asked there.
    pub fn attach_flash(&mut self, job: &Job, size: Option<u32>) -> Result<u32, LoaderError> {
        if !self.state.flash_attached {
            self.connect_pins(job)?;
            self.state.flash_attached = true;
        }
        if let Some(known) = self.state.flash_size.filter(|known| size.is_none_or(|size| size == *known)) {
            return Ok(known);
        }
        let size = match size {
            Some(size) => size,
            None if self.mode() == Mode::SecureDownload => {
                let text = "in secure download mode the flash cannot be asked (give its size explicitly)";
                return Err(LoaderError::FlashSize(text.into()));
            }
            None => {
                let id = self.flash_id(job)?;
                let unknown = || LoaderError::FlashSize(format!("the flash id {id} does not tell it"));
                id.size().ok_or_else(unknown)?
            }
        };
        if self.allow(Command::SpiSetParams).is_ok() {
            let request = Request::SpiSetParams(SpiParams::for_size(size));
            self.retrying(job, |loader| loader.command(job, &request))?;
        }
        self.state.flash_size = Some(size);
        Ok(size)
    }

    /// Connects the flash at these pins, as SPI_ATTACH takes them: 0 for the chip's own, 1 for HSPI, else five numbers of
    /// six bits. What follows works on that part.
    pub fn attach_flash_on(&mut self, job: &Job, pins: u32) -> Result<(), LoaderError> {
        let legacy = (self.mode() != Mode::Stub).then_some(0);
        let request = Request::SpiAttach { pins, legacy };
        self.retrying(job, |loader| loader.command(job, &request))?;
        self.state.flash_attached = true;
        self.state.flash_size = None;
        Ok(())
    }

    fn connect_pins(&mut self, job: &Job) -> Result<(), LoaderError> {
        match self.mode() {
            // The stub attaches the flash when it starts.
            Mode::Stub => Ok(()),
            _ if self.allow(Command::SpiAttach).is_ok() => {
                let request = Request::SpiAttach { pins: self.own_pins(job)?, legacy: Some(0) };
                self.retrying(job, |loader| loader.command(job, &request)).map(|_| ())
            }
            // The ESP8266's ROM attaches it with the first FLASH_BEGIN.
            _ => self.retrying(job, |loader| loader.flash_begin(job, 0, 0, 0x400, 0, false)),
        }
    }

    /// The pins of the chip's own flash, as the ROM has to be told: eFuses name those of a flash inside of the package.
    fn own_pins(&mut self, job: &Job) -> Result<u32, LoaderError> {
        if self.chip().spi.pin_efuses.is_empty() || self.mode() == Mode::SecureDownload {
            return Ok(0);
        }
        let words = [(0, self.read_efuse_block(job, 0)?)].into();
        let efuses = Efuses::new(self.chip().efuse(), &words);
        Ok(self.chip().spi.attach_word(|name| efuses.number(name).unwrap_or_default()))
    }

    /// FLASH_BEGIN with the words that this loader expects.
    pub(crate) fn flash_begin(
        &mut self,
        job: &Job,
        erase: u32,
        blocks: u32,
        block_size: u32,
        address: u32,
        encrypted: bool,
    ) -> Result<(), LoaderError> {
        let encrypted = self.can_encrypt().then_some(encrypted);
        let begin = Begin { size: erase, blocks, block_size, address, encrypted };
        let time = if self.mode() == Mode::Stub { COMMAND_TIME } else { time_for(erase, ERASE_PER_MB) };
        self.call(job, &Request::FlashBegin(begin), 0, time).map(|_| ())
    }

    /// The JEDEC id. An error when nothing answers.
    pub fn flash_id(&mut self, job: &Job) -> Result<JedecId, LoaderError> {
        if !self.state.flash_attached {
            self.connect_pins(job)?;
            self.state.flash_attached = true;
        }
        let mut id = self.read_id(job)?;
        if id.is_absent() {
            // A part that an app sent to deep power-down answers nothing but the command that wakes it, and a reset of the
            // chip does not. Other parts read their signature by it, without effect.
            self.retrying(job, |loader| loader.spi_command(job, SpiCommand::bare(WAKE)))?;
            self.port().sleep(WAKE_TIME);
            id = self.read_id(job)?;
        }
        if id.is_absent() {
            return Err(LoaderError::NoFlash(id.to_string()));
        }
        Ok(id)
    }

    fn read_id(&mut self, job: &Job) -> Result<JedecId, LoaderError> {
        Ok(JedecId::from_word(self.surely(job, |loader| loader.spi_command(job, SpiCommand::read(0x9f, 24)))?))
    }

    /// MD5 over a flash region, computed on the chip.
    pub fn flash_md5(&mut self, job: &Job, address: u32, length: u32) -> Result<[u8; 16], LoaderError> {
        let time = time_for(length, MD5_PER_MB);
        let hex = self.mode() != Mode::Stub;
        let answer = self.call(job, &Request::FlashMd5 { address, length }, if hex { 32 } else { 16 }, time)?;
        let digest = if hex { from_hex(&answer.data) } else { answer.data.try_into().ok() };
        let seen = crate::error::Seen::default();
        digest.ok_or(LoaderError::Protocol { command: Command::FlashMd5, what: "the digest is damaged", seen })
    }

    /// At every third failure the line goes down to the next lower rate. Only a stub changes it without a reset.
    fn lower_rate(&mut self, job: &Job, failures: u32) -> Result<(), LoaderError> {
        match slower(self.port().baud()) {
            Some(rate) if failures.is_multiple_of(3) && self.mode() == Mode::Stub => self.change_baud(job, rate),
            _ => Ok(()),
        }
    }

    /// The words that begin a write carry the wish that the chip encrypt it.
    pub fn can_encrypt(&self) -> bool {
        self.mode() == Mode::Stub || self.chip().rom.begin_has_encrypted
    }

    /// The present loader can compare flash contents by MD5.
    pub fn can_verify(&self) -> bool {
        self.allow(Command::FlashMd5).is_ok()
    }

    /// The present loader can read flash: a stub, or a ROM that has the command and is not locked.
    pub fn can_read(&self) -> bool {
        self.mode() == Mode::Stub || self.allow(Command::ReadFlashSlow).is_ok()
    }

    /// Refuses where flash cannot be read.
    pub fn must_read(&self) -> Result<(), LoaderError> {
        if self.can_read() { Ok(()) } else { Err(self.unsupported("reading flash")) }
    }

    /// What stands before a part in its first sector is read and written back: said before the first byte where the loader
    /// cannot read.
    fn can_keep_neighbours(&self, parts: &[Part]) -> Result<(), LoaderError> {
        match parts.iter().find(|part| !self.can_read() && !part.address.is_multiple_of(SECTOR)) {
            Some(part) => {
                Err(self.unsupported(format!("keeping what stands before {:#x} in its sector", part.address)))
            }
            None => Ok(()),
        }
    }

    /// Refuses a region that reaches beyond the flash.
    pub(crate) fn check_range(&self, address: u32, length: u64) -> Result<(), LoaderError> {
        let size = self.state.flash_size.unwrap_or(u32::MAX);
        if u64::from(address) + length <= u64::from(size) {
            return Ok(());
        }
        Err(LoaderError::Range(format!(
            "{length} bytes at {address:#x} reach beyond the end of the flash at {size:#x}"
        )))
    }
}

fn from_hex(text: &[u8]) -> Option<[u8; 16]> {
    let mut out = [0; 16];
    for (byte, digits) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    (text.len() == 32).then_some(out)
}
