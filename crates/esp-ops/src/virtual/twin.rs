//! A device's flash and eFuses, for a virtual copy of it.

use esp_model::chip::Chip;
use esp_model::job::Job;

use crate::Call;
use crate::args::PortUrl;
use crate::error::ToolError;

/// Flash is compared with blank flash in pieces of this size.
const BLOCK: u32 = 64 * 1024;

/// What was copied.
pub struct Twin {
    /// The chip.
    pub chip: &'static Chip,
    /// Size of the flash in bytes.
    pub flash_size: u64,
    /// Its content up to the last byte that is not erased.
    pub flash: Vec<u8>,
    /// Bytes that had to be read; the rest was known to be blank.
    pub read_bytes: u64,
    /// The eFuses as a file; none where the device does not show them.
    pub efuse: Option<Vec<u8>>,
}

/// Copies a device. Blank blocks are told by their digest and not read.
pub fn copy(call: &Call, job: &Job, port: &PortUrl) -> Result<Twin, ToolError> {
    call.with_device(Some(port), job, |connected| {
        connected.must_read_flash()?;
        let loader = &mut connected.loader;
        let chip = loader.chip();
        let flash_size = loader.attach_flash(job, None)?;
        let (mut flash, mut read_bytes) = (Vec::new(), 0);
        for address in (0..flash_size).step_by(BLOCK as usize) {
            job.check()?;
            job.progress(address.into(), flash_size.into(), format!("copying flash at {address:#x}"));
            let length = BLOCK.min(flash_size - address);
            if loader.is_blank(job, address, length)? == Some(true) {
                continue;
            }
            flash.resize(address as usize, 0xff);
            // Its own progress would start from 0 for each block.
            flash.extend(loader.read_flash_bytes(&job.silent(), address, length)?);
            read_bytes += u64::from(length);
        }
        let table = chip.efuse_at(loader.revision().unwrap_or(chip.factory.revision));
        let mut efuse = Vec::new();
        for block in &table.blocks {
            let words = loader.read_efuse_block(job, block.id)?;
            efuse.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        }
        Ok(Twin { chip, flash_size: flash_size.into(), flash, read_bytes, efuse: Some(efuse) })
    })
}
