//! The files behind a virtual chip: flash and eFuses, written as the chip changes them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use esp_sim::VirtualChip;

use crate::VirtualError;

const SECTOR: usize = esp_sim::nor::SECTOR;

/// Open and locked files; none where the content need not last.
pub struct Files {
    flash: Option<File>,
    efuse: Option<File>,
    /// The eFuse file's content as last written.
    burned: Vec<u8>,
}

impl Files {
    /// Opens and locks these files, for a flash of this size in bytes.
    pub fn open(flash: Option<&Path>, efuse: Option<&Path>, flash_size: u32) -> Result<Self, VirtualError> {
        let named = flash;
        let flash = flash.map(open_locked).transpose()?;
        if let (Some(file), Some(path)) = (&flash, named) {
            let length = file.metadata().map_err(VirtualError::file(path))?.len();
            if length > u64::from(flash_size) {
                let text = format!("{}: {length} bytes do not fit the flash ({flash_size})", path.display());
                return Err(VirtualError::Image(text));
            }
        }
        let efuse = efuse.map(open_locked).transpose()?;
        Ok(Self { flash, efuse, burned: Vec::new() })
    }

    /// Puts the files' content into the chip and fills up what they lack.
    pub fn load(&mut self, chip: &mut VirtualChip) -> io::Result<()> {
        if let Some(file) = &mut self.flash {
            let mut content = Vec::new();
            file.read_to_end(&mut content)?;
            chip.flash().load(0, &content);
            fill_up(file, content.len(), chip.flash().size() as usize)?;
            chip.flash().watch();
        }
        if let Some(file) = &mut self.efuse {
            file.read_to_end(&mut self.burned)?;
            if !self.burned.is_empty() {
                chip.efuse().load(&self.burned);
            }
        }
        self.save(chip)
    }

    /// Writes what changed since the last call.
    pub fn save(&mut self, chip: &mut VirtualChip) -> io::Result<()> {
        if let Some(file) = &mut self.flash {
            for number in chip.flash().take_changed() {
                file.seek(SeekFrom::Start(u64::from(number) * SECTOR as u64))?;
                file.write_all(chip.flash().sector(number))?;
            }
        }
        if let Some(file) = &mut self.efuse {
            let image = chip.efuse().image();
            if !self.burned.starts_with(&image) {
                file.seek(SeekFrom::Start(0))?;
                file.write_all(&image)?;
                self.burned = image;
            }
        }
        Ok(())
    }
}

fn open_locked(path: &Path) -> Result<File, VirtualError> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let file = file.map_err(VirtualError::file(path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(VirtualError::FileInUse(path.into())),
        Err(std::fs::TryLockError::Error(source)) => Err(VirtualError::file(path)(source)),
    }
}

/// A flash file has the size of the part; what was never written is 0xff.
fn fill_up(file: &mut File, from: usize, to: usize) -> io::Result<()> {
    file.seek(SeekFrom::Start(from as u64))?;
    let blank = [0xff; 1 << 16];
    let mut left = to.saturating_sub(from);
    while left > 0 {
        let step = left.min(blank.len());
        file.write_all(&blank[..step])?;
        left -= step;
    }
    Ok(())
}
