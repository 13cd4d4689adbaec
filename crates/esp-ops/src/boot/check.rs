//! The boot chain of a connected device: its flash is read as the walk asks for it.

use std::cell::RefCell;
use std::collections::BTreeMap;

use esp_link::Mode;
use esp_model::boot::{self, BootReport, Config, Device, FlashRead};
use esp_model::efuse::bits::Words;
use esp_model::efuse::security::SecurityView;
use esp_model::job::Job;
use esp_model::secure::flash_encryption::{Direction, FlashKey};

use crate::boot::trial::{self, Trial};
use crate::error::ToolError;
use crate::session::device::Connected;

/// What the boot chain depends on beyond the flash, read from the device.
pub fn state_of(connected: &mut Connected, job: &Job) -> Result<Device, ToolError> {
    Ok(state_and_efuses(connected, job)?.0)
}

/// The same with the eFuses that it was read from, where they can be read.
pub fn state_and_efuses(connected: &mut Connected, job: &Job) -> Result<(Device, Option<Words>), ToolError> {
    if connected.loader.mode() == Mode::SecureDownload {
        let encrypted = connected.is_encrypted(job)?;
        return Ok((Device { encrypted: Some(encrypted), ciphertext: encrypted, ..Device::default() }, None));
    }
    if connected.image.is_some() {
        return Ok((Device::default(), None));
    }
    let revision = connected.loader.revision().unwrap_or(0);
    let efuses = connected.loader.read_efuses(job)?;
    let view = SecurityView { chip: connected.loader.chip().at(revision), efuses: &efuses };
    let device = view.boot_device(revision);
    Ok((device, Some(efuses.words)))
}

/// Walks the flash of a device as if `changes` (address, bytes) were written already.
pub fn walk(
    connected: &mut Connected,
    job: &Job,
    device: &Device,
    config: &Config,
    changes: Vec<(u32, Vec<u8>)>,
) -> Result<BootReport, ToolError> {
    Ok(walk_and_try(connected, job, device, config, changes, None, None)?.0)
}

/// The walk, and the start of a virtual copy with what the walk has read, where such a copy tells anything. `key`: that of an
/// encrypted flash; changes are plain. `efuses`: those of the copy, without which there is none.
pub fn walk_and_try(
    connected: &mut Connected,
    job: &Job,
    device: &Device,
    config: &Config,
    changes: Vec<(u32, Vec<u8>)>,
    key: Option<&FlashKey>,
    efuses: Option<&Words>,
) -> Result<(BootReport, Option<Trial>), ToolError> {
    let chip = connected.loader.chip();
    let size = connected.loader.attach_flash(job, None)?;
    let state = RefCell::new(Reading { connected, pages: BTreeMap::new(), failed: None });
    let flash = DeviceFlash { size, state, job, changes, key };
    let report = boot::walk(chip, &flash, device, config);
    let read = flash.state.into_inner();
    if let Some(error) = read.failed {
        return Err(error);
    }
    let trial = efuses.filter(|_| trial::is_possible(device)).and_then(|efuses| {
        let copy = trial::Copy { size, pages: &read.pages, efuses: Some(efuses) };
        trial::start(chip, device.revision, &copy)
    });
    Ok((report, trial))
}

/// A device's flash, read in pages as they are needed.
struct DeviceFlash<'a> {
    size: u32,
    state: RefCell<Reading<'a>>,
    job: &'a Job,
    changes: Vec<(u32, Vec<u8>)>,
    key: Option<&'a FlashKey>,
}

struct Reading<'a> {
    connected: &'a mut Connected,
    pages: BTreeMap<u32, Vec<u8>>,
    failed: Option<ToolError>,
}

/// Bytes read at once.
const PAGE: u32 = 0x4000;

impl FlashRead for DeviceFlash<'_> {
    fn read(&self, address: u32, buf: &mut [u8]) -> bool {
        let end = u64::from(address) + buf.len() as u64;
        if end > u64::from(self.size) {
            return false;
        }
        let mut state = self.state.borrow_mut();
        for (index, byte) in buf.iter_mut().enumerate() {
            let at = address + index as u32;
            let start = at / PAGE * PAGE;
            if !state.pages.contains_key(&start) && !self.load(&mut state, start) {
                return false;
            }
            let found = state.pages.get(&start).and_then(|page| page.get((at - start) as usize));
            let Some(found) = found else { return false };
            *byte = *found;
        }
        true
    }
}

impl DeviceFlash<'_> {
    fn load(&self, state: &mut Reading, start: u32) -> bool {
        if state.failed.is_some() {
            return false;
        }
        let length = PAGE.min(self.size - start);
        match state.connected.loader.read_flash_bytes(&self.job.silent(), start, length) {
            Ok(mut page) => {
                if let Some(key) = self.key
                    && key.apply(Direction::Decrypt, start.into(), &mut page).is_err()
                {
                    return false;
                }
                self.change(start, &mut page);
                state.pages.insert(start, page);
                true
            }
            Err(error) => {
                state.failed = Some(error.into());
                false
            }
        }
    }
}

impl DeviceFlash<'_> {
    /// Puts the changes into a page that begins at `start`.
    fn change(&self, start: u32, page: &mut [u8]) {
        for (address, bytes) in &self.changes {
            let (change, page_at) = (*address as usize, start as usize);
            let (from, to) = (change.max(page_at), (change + bytes.len()).min(page_at + page.len()));
            if let (Some(new), Some(slots)) = (
                bytes.get(from.wrapping_sub(change)..to.wrapping_sub(change)),
                page.get_mut(from - page_at..to.max(from) - page_at),
            ) && new.len() == slots.len()
            {
                slots.copy_from_slice(new);
            }
        }
    }
}
