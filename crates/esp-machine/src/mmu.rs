//! The cache's memory management unit: which flash page an address of a flash window shows.
//!
//! Flash pages come into the arena when they are first touched; the cache itself (lines, timing) is not modelled. Pages of
//! external RAM do so as well.

use std::collections::BTreeMap;

use esp_sim::nor::Nor;

use crate::chip::Cache;
use crate::memory::{EXEC, Memory, PAGE, READ, WRITE};

/// Entries and which flash pages are in the arena.
#[derive(Debug, Clone)]
pub struct Mmu {
    cache: &'static Cache,
    entries: Vec<u32>,
    page_size: u32,
    /// Index register of style `indexed`.
    pub index: u32,
    /// Frame of a 4 KB page of flash, by its number; plain and decrypted.
    frames: BTreeMap<(u32, bool), u32>,
    /// Flash encryption is on: keys of the XTS view.
    pub keys: Option<crate::xts::Keys>,
    /// Bytes of external RAM, and the frames of its pages that were touched.
    psram: u32,
    psram_frames: BTreeMap<u32, u32>,
}

impl Mmu {
    /// All entries invalid.
    pub fn new(cache: &'static Cache, psram: u32) -> Self {
        let first = cache.page_sizes.first().copied().unwrap_or(0x1_0000);
        Self {
            cache,
            entries: vec![cache.invalid; cache.entries as usize],
            page_size: first.max(PAGE as u32),
            index: 0,
            frames: BTreeMap::new(),
            keys: None,
            psram,
            psram_frames: BTreeMap::new(),
        }
    }

    /// The place in external RAM that an address shows.
    fn psram_address(&self, address: u32) -> Option<u32> {
        let place = match self.cache.psram_window {
            Some([start, length]) if address.wrapping_sub(start) < length => address - start,
            _ => {
                let entry = self.entry_of(address).filter(|(entry, _)| entry & self.cache.psram != 0)?;
                (entry.0 & self.cache.number).checked_mul(self.page_size)?.checked_add(entry.1 % self.page_size)?
            }
        };
        (place < self.psram).then_some(place)
    }

    /// The entry that decides about an address, and how far the address is into its window.
    fn entry_of(&self, address: u32) -> Option<(u32, u32)> {
        let inside = |window: &&crate::chip::Window| address.wrapping_sub(window.start) < window.size;
        let window = self.cache.windows.iter().find(inside)?;
        let offset = address - window.start;
        let entry = *self.entries.get((window.first + offset / self.page_size) as usize)?;
        let valid = entry & self.cache.valid == self.cache.valid && entry & self.cache.invalid == 0;
        valid.then_some((entry, offset))
    }

    /// An entry.
    pub fn entry(&self, number: u32) -> u32 {
        self.entries.get(number as usize).copied().unwrap_or(0)
    }

    /// Writes an entry; what its window showed is forgotten.
    pub fn set_entry(&mut self, memory: &mut Memory, number: u32, value: u32) {
        let Some(entry) = self.entries.get_mut(number as usize) else { return };
        if *entry != value {
            *entry = value;
            self.forget(memory, number);
        }
    }

    /// Changes the page size; all entries mean something else now.
    pub fn set_page_size(&mut self, memory: &mut Memory, size: u32) {
        if size != self.page_size && size >= PAGE as u32 {
            self.page_size = size;
            for window in &self.cache.windows {
                memory.unmap(window.start, window.size as usize);
            }
        }
    }

    fn forget(&self, memory: &mut Memory, number: u32) {
        for window in &self.cache.windows {
            let Some(page) = number.checked_sub(window.first) else { continue };
            let Some(offset) = page.checked_mul(self.page_size).filter(|offset| *offset < window.size) else {
                continue;
            };
            memory.unmap(window.start + offset, self.page_size as usize);
        }
    }

    /// All entries are invalid again.
    pub fn reset(&mut self, memory: &mut Memory) {
        for number in 0..self.entries.len() as u32 {
            self.set_entry(memory, number, self.cache.invalid);
        }
    }

    /// The place in flash that an address shows, and whether it is shown decrypted.
    pub fn flash_address(&self, address: u32) -> Option<(u32, bool, bool)> {
        let inside = |window: &&crate::chip::Window| address.wrapping_sub(window.start) < window.size;
        let window = self.cache.windows.iter().find(inside)?;
        let (entry, offset) = self.entry_of(address)?;
        let cache = self.cache;
        if entry & cache.psram != 0 {
            return None;
        }
        let encrypted = self.keys.is_some() && (cache.encrypted == 0 || entry & cache.encrypted != 0);
        let place = u64::from(entry & cache.number) * u64::from(self.page_size) + u64::from(offset % self.page_size);
        Some((u32::try_from(place).ok()?, encrypted, !window.data_only))
    }

    /// Brings the page of flash or external RAM behind an address into the arena; false when the address shows neither.
    pub fn page_in(&mut self, memory: &mut Memory, flash: &Nor, address: u32) -> bool {
        if let Some(place) = self.psram_address(address) {
            let frame = *self.psram_frames.entry(place / PAGE as u32).or_insert_with(|| memory.allocate(PAGE, 0));
            memory.map(address & !0xfff, PAGE, frame, READ | WRITE | EXEC);
            return true;
        }
        let Some((place, encrypted, code)) = self.flash_address(address) else { return false };
        // The part repeats behind its end: higher address lines are not connected.
        let page = place % flash.size().max(1) / PAGE as u32;
        let frame = match self.frames.get(&(page, encrypted)) {
            Some(frame) => *frame,
            None => {
                let frame = memory.allocate(PAGE, 0xff);
                self.frames.insert((page, encrypted), frame);
                self.load(memory, flash, page, encrypted, frame);
                frame
            }
        };
        memory.map(address & !0xfff, PAGE, frame, if code { READ | EXEC } else { READ });
        true
    }

    /// The frame and the offset of a place in external RAM; it repeats behind its end.
    fn psram_place(&mut self, memory: &mut Memory, place: u32) -> (u32, usize) {
        let place = place % self.psram.max(1);
        let frame = *self.psram_frames.entry(place / PAGE as u32).or_insert_with(|| memory.allocate(PAGE, 0));
        (frame, place as usize % PAGE)
    }

    /// Writes external RAM.
    pub fn write_psram(&mut self, memory: &mut Memory, first: u32, bytes: &[u8]) {
        for (place, byte) in (first..).zip(bytes) {
            let (frame, offset) = self.psram_place(memory, place);
            memory.fill(frame, offset, &[*byte]);
        }
    }

    /// Reads it.
    pub fn read_psram(&mut self, memory: &mut Memory, first: u32, bytes: &mut [u8]) {
        for (place, byte) in (first..).zip(bytes) {
            let (frame, offset) = self.psram_place(memory, place);
            *byte = memory.frame(frame).get(offset).copied().unwrap_or(0);
        }
    }

    fn load(&self, memory: &mut Memory, flash: &Nor, page: u32, encrypted: bool, frame: u32) {
        let mut bytes = flash.sector(page).to_vec();
        if let (true, Some(keys)) = (encrypted, &self.keys) {
            keys.decrypt(&mut bytes, page * PAGE as u32);
        }
        memory.fill(frame, 0, &bytes);
    }

    /// The flash has changed: what of it is in the arena is read again.
    pub fn flash_changed(&mut self, memory: &mut Memory, flash: &Nor, first: u32, length: u32) {
        let pages = first / PAGE as u32..=(first + length.max(1) - 1) / PAGE as u32;
        let known: Vec<_> =
            self.frames.range((*pages.start(), false)..=(*pages.end(), true)).map(|(k, f)| (*k, *f)).collect();
        for ((page, encrypted), frame) in known {
            self.load(memory, flash, page, encrypted, frame);
        }
    }

    /// The keys have changed: what was decrypted is decrypted anew.
    pub fn set_keys(&mut self, memory: &mut Memory, flash: &Nor, keys: Option<crate::xts::Keys>) {
        if keys == self.keys {
            return;
        }
        self.keys = keys;
        for window in &self.cache.windows {
            memory.unmap(window.start, window.size as usize);
        }
        self.flash_changed(memory, flash, 0, flash.size());
    }
}
