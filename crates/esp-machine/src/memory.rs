//! What the processor's addresses mean: one arena of 4 KB frames, and a table from address to frame.
//!
//! A load, a store or a fetch from memory is one look-up in the table. All else (registers, flash pages that are not yet
//! in the arena, accesses across a page's end) goes the slow way through [`crate::soc::Soc`].

/// Size of a page and a frame.
pub const PAGE: usize = 4096;
const PAGES: usize = 1 << 20;

/// Flags of a table entry; the frame's number stands above them. 0 means that nothing answers.
pub const READ: u32 = 1;
/// Plain stores.
pub const WRITE: u32 = 2;
/// Fetches.
pub const EXEC: u32 = 4;
/// Some core keeps decoded instructions of this frame: stores go the slow way.
pub const CODE: u32 = 8;
/// Registers; the frame's number is that of the register page.
pub const IO: u32 = 16;
/// A debugger watches something on this page: loads and stores go the slow way.
pub const WATCH: u32 = 32;
/// Where the frame's number begins.
pub const SHIFT: u32 = 6;

/// The arena and its table.
#[derive(Debug, Clone)]
pub struct Memory {
    bytes: Vec<u8>,
    map: Vec<u32>,
    /// Writable pages (addresses) that show a frame; at most two.
    shown: Vec<[u32; 2]>,
    /// One bit for each halfword that some core has decoded, by frame.
    decoded: Vec<Option<Box<[u64; PAGE / 128]>>>,
    /// Pages (their numbers) that a debugger watches.
    watched: Vec<u32>,
    /// Places (offsets into the arena) of decoded code that were overwritten. The machine hands them to all cores.
    pub overwritten: Vec<u32>,
}

impl Default for Memory {
    fn default() -> Self {
        // Frame 0 is never shown, so that an entry of 0 stays unmapped.
        Self {
            bytes: vec![0; PAGE],
            map: vec![0; PAGES],
            shown: vec![[0; 2]],
            decoded: vec![None],
            watched: Vec::new(),
            overwritten: Vec::new(),
        }
    }
}

impl Memory {
    /// New frames for so many bytes, filled with `fill`; the first frame's number.
    pub fn allocate(&mut self, length: usize, fill: u8) -> u32 {
        let first = self.bytes.len() / PAGE;
        let count = length.div_ceil(PAGE);
        self.bytes.resize(self.bytes.len() + count * PAGE, fill);
        self.shown.resize(first + count, [0; 2]);
        self.decoded.resize(first + count, None);
        first as u32
    }

    /// Shows frames at `address` (a page's begin).
    pub fn map(&mut self, address: u32, length: usize, frame: u32, flags: u32) {
        for index in 0..length.div_ceil(PAGE) as u32 {
            let page = (address >> 12).wrapping_add(index) & (PAGES as u32 - 1);
            let watch = if self.watched.contains(&page) { WATCH } else { 0 };
            self.map[page as usize] = (frame + index) << SHIFT | flags | watch;
            if flags & WRITE != 0
                && let Some(shown) = self.shown.get_mut((frame + index) as usize)
            {
                let slot = usize::from(shown[0] != 0);
                shown[slot] = page << 12;
            }
        }
    }

    /// A debugger watches these pages (their numbers), and no others.
    pub fn watch(&mut self, pages: Vec<u32>) {
        let old = std::mem::replace(&mut self.watched, pages);
        for page in old {
            self.map[page as usize & (PAGES - 1)] &= !WATCH;
        }
        for page in &self.watched {
            let entry = &mut self.map[*page as usize & (PAGES - 1)];
            if *entry != 0 {
                *entry |= WATCH;
            }
        }
    }

    /// Nothing answers at these pages any more.
    pub fn unmap(&mut self, address: u32, length: usize) {
        let first = (address >> 12) as usize;
        let end = (first + length.div_ceil(PAGE)).min(PAGES);
        if let Some(entries) = self.map.get_mut(first..end) {
            entries.fill(0);
        }
    }

    /// The table's entry for an address.
    #[inline(always)]
    pub fn entry(&self, address: u32) -> u32 {
        // The table has an entry for every page; the mask lets the compiler see it.
        self.map[(address >> 12) as usize & (PAGES - 1)]
    }

    /// Where an address' byte is in the arena, given its entry.
    #[inline(always)]
    pub fn place(entry: u32, address: u32) -> usize {
        (entry >> SHIFT) as usize * PAGE + (address as usize & (PAGE - 1))
    }

    /// A word from memory, when the address is plain memory and the word is on one page.
    #[inline(always)]
    pub fn load32(&self, address: u32) -> Option<u32> {
        let entry = self.entry(address);
        if entry & (READ | WATCH) != READ || address & 0xfff > 0xffc {
            return None;
        }
        let at = Self::place(entry, address);
        let bytes = self.bytes.get(at..at + 4)?;
        Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// The same for two bytes.
    #[inline(always)]
    pub fn load16(&self, address: u32) -> Option<u16> {
        let entry = self.entry(address);
        if entry & (READ | WATCH) != READ || address & 0xfff > 0xffe {
            return None;
        }
        let at = Self::place(entry, address);
        let bytes = self.bytes.get(at..at + 2)?;
        Some(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    /// The same for a byte.
    #[inline(always)]
    pub fn load8(&self, address: u32) -> Option<u8> {
        let entry = self.entry(address);
        if entry & (READ | WATCH) != READ {
            return None;
        }
        self.bytes.get(Self::place(entry, address)).copied()
    }

    /// A byte of memory, watched or not.
    pub fn byte(&self, address: u32) -> Option<u8> {
        let entry = self.entry(address);
        if entry & READ == 0 { None } else { self.bytes.get(Self::place(entry, address)).copied() }
    }

    /// A word of memory, watched or not, aligned or not.
    pub fn word(&self, address: u32) -> Option<u32> {
        let bytes = [0, 1, 2, 3].map(|index| self.byte(address.wrapping_add(index)));
        let [a, b, c, d] = bytes;
        Some(u32::from_le_bytes([a?, b?, c?, d?]))
    }

    /// Stores a word when the address is plain memory without decoded code; false otherwise.
    #[inline(always)]
    pub fn store32(&mut self, address: u32, value: u32) -> bool {
        let entry = self.entry(address);
        if entry & (WRITE | CODE | WATCH) != WRITE || address & 0xfff > 0xffc {
            return false;
        }
        let at = Self::place(entry, address);
        let Some(bytes) = self.bytes.get_mut(at..at + 4) else { return false };
        bytes.copy_from_slice(&value.to_le_bytes());
        true
    }

    /// The same for two bytes.
    #[inline(always)]
    pub fn store16(&mut self, address: u32, value: u16) -> bool {
        let entry = self.entry(address);
        if entry & (WRITE | CODE | WATCH) != WRITE || address & 0xfff > 0xffe {
            return false;
        }
        let at = Self::place(entry, address);
        let Some(bytes) = self.bytes.get_mut(at..at + 2) else { return false };
        bytes.copy_from_slice(&value.to_le_bytes());
        true
    }

    /// The same for a byte.
    #[inline(always)]
    pub fn store8(&mut self, address: u32, value: u8) -> bool {
        let entry = self.entry(address);
        if entry & (WRITE | CODE | WATCH) != WRITE {
            return false;
        }
        let Some(byte) = self.bytes.get_mut(Self::place(entry, address)) else { return false };
        *byte = value;
        true
    }

    /// A byte to memory, with decoded code or without; false when it is no writable memory.
    pub fn store_any(&mut self, address: u32, value: u8) -> bool {
        let entry = self.entry(address);
        if entry & WRITE == 0 {
            return false;
        }
        self.put(Self::place(entry, address), value);
        true
    }

    /// Sets a byte of the arena, and notes it when code was decoded there.
    fn put(&mut self, at: usize, value: u8) {
        let Some(byte) = self.bytes.get_mut(at) else { return };
        *byte = value;
        let (frame, half) = (at / PAGE, at % PAGE / 2);
        if let Some(Some(bits)) = self.decoded.get_mut(frame)
            && bits[half / 64] >> (half % 64) & 1 != 0
        {
            bits[half / 64] &= !(1 << (half % 64));
            self.overwritten.push((frame * PAGE + half * 2) as u32);
        }
    }

    /// A frame's bytes.
    pub fn frame(&self, frame: u32) -> &[u8] {
        self.bytes.get(frame as usize * PAGE..(frame as usize + 1) * PAGE).unwrap_or_default()
    }

    /// Replaces a frame's bytes from `offset` on, whatever may be written there.
    pub fn fill(&mut self, frame: u32, offset: usize, bytes: &[u8]) {
        for (index, byte) in bytes.iter().enumerate() {
            let at = frame as usize * PAGE + offset + index;
            if self.bytes.get(at) != Some(byte) {
                self.put(at, *byte);
            }
        }
    }

    /// A core has decoded `halves` halfwords at this address of a frame: it wants to hear of changes.
    pub fn note_decoded(&mut self, frame: u32, offset: u32, halves: u32) {
        let Some(slot) = self.decoded.get_mut(frame as usize) else { return };
        if slot.is_none() {
            for page in self.shown.get(frame as usize).into_iter().flatten().filter(|page| **page != 0) {
                let entry = &mut self.map[(*page >> 12) as usize];
                // The page may show something else by now.
                if *entry >> SHIFT == frame {
                    *entry |= CODE;
                }
            }
        }
        let bits = slot.get_or_insert_with(|| Box::new([0; PAGE / 128]));
        for half in offset / 2..offset / 2 + halves {
            if let Some(word) = bits.get_mut(half as usize / 64) {
                *word |= 1 << (half % 64);
            }
        }
    }

    /// Bytes for a host: what is not memory reads as 0.
    pub fn peek(&self, address: u32, length: usize) -> Vec<u8> {
        (0..length as u32).map(|index| self.byte(address.wrapping_add(index)).unwrap_or(0)).collect()
    }

    /// Resident size, for reports.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_show_the_same_bytes_and_a_store_to_decoded_code_is_noted() {
        let mut memory = Memory::default();
        let frame = memory.allocate(2 * PAGE, 0);
        memory.map(0x4038_0000, 2 * PAGE, frame, READ | WRITE | EXEC);
        memory.map(0x3fc8_0000, 2 * PAGE, frame, READ | WRITE);
        assert!(memory.store32(0x3fc8_1000, 0x1234_5678));
        assert_eq!(memory.load16(0x4038_1002), Some(0x1234));
        assert_eq!(memory.load32(0x4038_0ffe), None, "across a page");
        memory.note_decoded(frame + 1, 0, 2);
        assert!(!memory.store32(0x3fc8_1000, 0));
        assert!(memory.store_any(0x3fc8_1002, 1));
        assert_eq!(memory.overwritten, [(frame + 1) * PAGE as u32 + 2]);
        assert_eq!(memory.load8(0x5000_0000), None);
    }
}
