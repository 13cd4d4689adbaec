//! ESP-IDF's wear levelling: which sector of the flash holds which sector of the file system.
//!
//! Facts: ESP-IDF `components/wear_levelling` (`WL_Flash.cpp`, `WL_State.h`, `WL_Config.h`), version 2 of the layout. The
//! last sector holds the configuration; before it lie two copies of the state: 64 bytes, then a record of 16 bytes for each
//! step of the spare ("dummy") sector.

use super::u32_at;
use crate::crc::rom_crc32;

/// Bytes of a sector.
pub(super) const SECTOR: usize = 0x1000;
const STATE_LEN: usize = 64;
const RECORD: usize = 16;

/// The mapping of a wear-levelled partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wear {
    /// Bytes for the file system.
    size: usize,
    /// The spare sector's place, in bytes.
    dummy: usize,
    /// How far the data was turned, in bytes.
    turned: usize,
}

impl Wear {
    /// Finds the mapping. None: no wear levelling here.
    pub(super) fn find(image: &[u8]) -> Option<Self> {
        let config = image.len().checked_sub(SECTOR)?;
        let word = |index: usize| u32_at(image, config + index * 4).map(|word| word as usize);
        // Partition start (always 0), its size, page and sector size.
        let whole = word(1)? == image.len() && word(2)? == SECTOR && word(3)? == SECTOR && word(5)? == RECORD;
        if !whole || word(0)? != 0 {
            return None;
        }
        let state_len = (STATE_LEN + image.len() / SECTOR * RECORD).next_multiple_of(SECTOR);
        let first = config.checked_sub(2 * state_len)?;
        let size = first.checked_sub(SECTOR)?;
        let state = [first, first + state_len].into_iter().find(|at| is_state(image, *at))?;
        let moves = u32_at(image, state + 8)? as usize;
        let device = u32_at(image, state + 28)?;
        let most = size / SECTOR;
        let records = (0..most).take_while(|index| is_record(image, state, device, *index)).count();
        let turned = (moves % most.max(1)) * SECTOR;
        Some(Self { size, dummy: records * SECTOR, turned })
    }

    /// Bytes of the file system.
    pub(super) fn size(self) -> usize {
        self.size
    }

    /// Where a sector of the file system is in the image. `at` is a multiple of the sector size, below [`Self::size`].
    pub(super) fn place(self, at: usize) -> usize {
        let place = (self.size - self.turned + at) % self.size.max(1);
        if place < self.dummy { place } else { place + SECTOR }
    }
}

/// The state's own CRC fits.
fn is_state(image: &[u8], at: usize) -> bool {
    let Some(state) = image.get(at..at + STATE_LEN) else { return false };
    let (body, crc) = state.split_at(STATE_LEN - 4);
    u32_at(crc, 0) == Some(rom_crc32(body))
}

/// A step of the spare sector was recorded: four words that only this device would write.
fn is_record(image: &[u8], state: usize, device: u32, index: usize) -> bool {
    let at = state + STATE_LEN + index * RECORD;
    (0..4u32).all(|part| {
        let number = device.wrapping_add(index as u32 * 4).wrapping_add(part);
        u32_at(image, at + part as usize * 4) == Some(rom_crc32(&number.to_le_bytes()))
    })
}
