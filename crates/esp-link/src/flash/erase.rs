//! Erasing: in slices, so that progress is seen and a cancel stops between two of them.

use esp_model::chip::EraseSize;
use esp_model::job::Job;
use esp_model::wire::Request;

use super::{BLOCK, ERASE_PER_MB, SECTOR, time_for};
use crate::error::LoaderError;
use crate::loader::{Loader, Mode};

/// Bytes erased between two looks at the job.
pub(super) const SLICE: u32 = 4 * BLOCK;

impl Loader {
    /// Erases a region; address and length are multiples of 4096.
    pub fn erase_region(&mut self, job: &Job, address: u32, length: u32) -> Result<(), LoaderError> {
        if !address.is_multiple_of(SECTOR) || !length.is_multiple_of(SECTOR) {
            return Err(LoaderError::Range(format!(
                "erase of {length:#x} bytes at {address:#x}: both must be multiples of {SECTOR:#x}"
            )));
        }
        self.attach_flash(job, None)?;
        self.check_range(address, length.into())?;
        let end = address + length;
        let mut at = address;
        while at < end {
            job.check()?;
            job.progress((at - address).into(), length.into(), format!("erasing {at:#x}"));
            let slice = (end - at).min(SLICE - at % SLICE);
            self.erase_slice(job, at, slice)?;
            at += slice;
        }
        job.progress(length.into(), length.into(), "erased");
        Ok(())
    }

    /// Bytes from `address` on that an erase of `length` bytes really takes: a ROM may reach one sector further.
    pub fn erase_reach(&self, address: u32, length: u32) -> u32 {
        if self.mode() == Mode::Stub { length } else { reach(self.chip().rom.erase_size, address, length) }
    }

    /// Erases the whole flash and returns its size in bytes.
    pub fn erase_all(&mut self, job: &Job) -> Result<u32, LoaderError> {
        let size = self.attach_flash(job, None)?;
        self.erase_region(job, 0, size)?;
        Ok(size)
    }

    /// An erase that has begun is waited for: it cannot be stopped on the chip. Erasing twice does no harm.
    fn erase_slice(&mut self, job: &Job, address: u32, length: u32) -> Result<(), LoaderError> {
        let shielded = job.shielded();
        let mut busy = None;
        let result = self.retrying(job, |loader| {
            let result = match loader.mode() {
                Mode::Stub => {
                    let request = Request::EraseRegion { address, length };
                    loader.call(&shielded, &request, 0, time_for(length, ERASE_PER_MB)).map(|_| ())
                }
                _ => loader.rom_erase(&shielded, address, length, false),
            };
            if let Err(LoaderError::NoAnswer { waited, seen, .. }) = &result
                && seen.0.is_empty()
            {
                busy = Some(*waited);
            }
            result
        });
        match (result, busy) {
            (Err(LoaderError::NoAnswer { .. }), Some(waited)) => Err(LoaderError::FlashBusy { waited }),
            (result, _) => result,
        }
    }

    /// The ROM erases at FLASH_BEGIN; no data has to follow.
    pub(super) fn rom_erase(
        &mut self,
        job: &Job,
        address: u32,
        length: u32,
        encrypted: bool,
    ) -> Result<(), LoaderError> {
        let erase = erase_size(self.chip().rom.erase_size, address, length);
        self.flash_begin(job, erase, length.div_ceil(0x400), 0x400, address, encrypted)
    }
}

/// The size to give to FLASH_BEGIN so that this ROM erases `length` bytes.
fn erase_size(rule: EraseSize, address: u32, length: u32) -> u32 {
    match rule {
        EraseSize::Plain => length,
        // The ROM erases the sectors up to the first block boundary twice over (ESP8266 SPIEraseArea).
        EraseSize::Esp8266Rom => {
            let sectors = length.div_ceil(SECTOR);
            let per_block = BLOCK / SECTOR;
            let head = (per_block - address / SECTOR % per_block).min(sectors);
            if sectors < 2 * head { sectors.div_ceil(2) * SECTOR } else { (sectors - head) * SECTOR }
        }
    }
}

/// What this ROM erases when it is told [`erase_size`].
fn reach(rule: EraseSize, address: u32, length: u32) -> u32 {
    let (told, head) =
        (erase_size(rule, address, length) / SECTOR, BLOCK / SECTOR - address / SECTOR % (BLOCK / SECTOR));
    match rule {
        EraseSize::Plain => length,
        EraseSize::Esp8266Rom => (told + told.min(head)) * SECTOR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_esp8266_rom_is_told_less() {
        let size = |address, length| erase_size(EraseSize::Esp8266Rom, address, length);
        assert_eq!(size(0, 0x1_0000), 0x8000);
        assert_eq!(size(0, 0x10_0000), 0xf_0000);
        assert_eq!(size(0xf000, 0x2000), 0x1000);
        let reach = |address, length| reach(EraseSize::Esp8266Rom, address, length);
        assert_eq!(reach(0x1000, 0x1000), 0x2000, "it erases in pairs");
        assert_eq!(reach(0x1000, 0x2000), 0x2000);
        assert_eq!(reach(0xf000, 0x3000), 0x3000);
        assert_eq!(reach(0, 0x10_0000), 0x10_0000);
    }
}
