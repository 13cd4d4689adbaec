//! The address space as far as nobody else claims it: RAM, and registers that only keep what is written.

use std::collections::HashMap;

const PAGE: usize = 4096;
/// Pages kept at most (16 MiB): a client cannot grow the simulator's memory without end.
const MAX_PAGES: usize = 4096;

/// Words by address; what was never written reads as 0.
#[derive(Debug, Default)]
pub struct Bus {
    pages: HashMap<u32, Box<[u8; PAGE]>>,
}

impl Bus {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.pages.clear();
    }

    /// The word at `address`; the lowest two address bits are ignored, as the hardware's bus does.
    pub fn read(&self, address: u32) -> u32 {
        let at = (address & !3) as usize % PAGE;
        let page = self.pages.get(&(address / PAGE as u32));
        let bytes = page.and_then(|page| page.get(at..at + 4)).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_le_bytes)
    }

    /// Sets the word at `address`.
    pub fn write(&mut self, address: u32, value: u32) {
        self.store(address & !3, &value.to_le_bytes());
    }

    /// Sets bytes from `address` on.
    pub fn store(&mut self, mut address: u32, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let at = address as usize % PAGE;
            let (now, later) = bytes.split_at(bytes.len().min(PAGE - at));
            let number = address / PAGE as u32;
            if self.pages.len() < MAX_PAGES || self.pages.contains_key(&number) {
                let page = self.pages.entry(number).or_insert_with(|| Box::new([0; PAGE]));
                page[at..at + now.len()].copy_from_slice(now);
            }
            address = address.wrapping_add(now.len() as u32);
            bytes = later;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_words_meet_across_pages() {
        let mut bus = Bus::default();
        bus.store(0x3fff_effe, &[1, 2, 3, 4, 5, 6]);
        assert_eq!(bus.read(0x3fff_effc), 0x0201_0000);
        assert_eq!(bus.read(0x3fff_f000), 0x0605_0403);
        bus.write(0xffff_fffe, 7);
        assert_eq!(bus.read(0xffff_fffc), 7);
        assert_eq!(bus.read(0x1234), 0);
    }
}
