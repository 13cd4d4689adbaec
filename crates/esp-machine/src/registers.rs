//! Registers: what they hold after a reset, which bits software can write, and what a write does to the others.

use std::collections::BTreeMap;

/// One register of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register {
    /// Its name.
    pub name: String,
    /// Content after a reset.
    pub reset: u32,
    /// Bits that keep what is written.
    pub writable: u32,
    /// Bits that a written 1 clears.
    pub write_1_clears: u32,
}

/// A block of a chip, as the generated file knows it.
#[derive(Debug, Clone, Default)]
pub struct Block {
    /// Instance, as Espressif's SVD files name it.
    pub name: String,
    /// First address.
    pub base: u32,
    /// Interrupt sources.
    pub sources: Vec<u32>,
    /// Registers by offset.
    pub registers: BTreeMap<u32, Register>,
}

impl Block {
    /// Where the register of that name is.
    pub fn offset(&self, name: &str) -> Option<u32> {
        self.registers.iter().find(|(_, register)| register.name == name).map(|(offset, _)| *offset)
    }
}

/// Reads a chip's generated file: a line `block NAME BASE SOURCES…` with ` = OTHER` behind it when the registers are
/// those of another block, then lines `offset name reset writable w1c` (hexadecimal, zeros at the end left out). A line
/// that is none of these is skipped.
pub fn parse(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut copies: Vec<(usize, String)> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(rest) = line.strip_prefix("block ") {
            let (head, copied) = rest.split_once(" = ").map_or((rest, None), |(head, name)| (head, Some(name)));
            let mut words = head.split_whitespace();
            let name = words.next().unwrap_or_default().to_owned();
            let base = words.next().and_then(hex).unwrap_or(0);
            let sources = words.filter_map(|word| word.parse().ok()).collect();
            if let Some(copied) = copied {
                copies.push((blocks.len(), copied.trim().to_owned()));
            }
            blocks.push(Block { name, base, sources, registers: BTreeMap::new() });
            continue;
        }
        let mut words = line.split_whitespace();
        let (Some(offset), Some(name), Some(block)) = (words.next().and_then(hex), words.next(), blocks.last_mut())
        else {
            continue;
        };
        let mut number = || words.next().and_then(hex).unwrap_or(0);
        let (reset, writable, write_1_clears) = (number(), number(), number());
        block.registers.insert(offset, Register { name: name.to_owned(), reset, writable, write_1_clears });
    }
    for (index, name) in copies {
        let registers = blocks.iter().find(|block| block.name == name).map(|block| block.registers.clone());
        if let (Some(block), Some(registers)) = (blocks.get_mut(index), registers) {
            block.registers = registers;
        }
    }
    blocks
}

/// Some masks of the files have bits beyond the register's.
fn hex(text: &str) -> Option<u32> {
    u64::from_str_radix(text, 16).ok().map(|number| number as u32)
}

/// What software may do with one word.
#[derive(Debug, Clone, Copy)]
pub struct Masks {
    /// Content after a reset.
    pub reset: u32,
    /// See [`Register`].
    pub writable: u32,
    /// See [`Register`].
    pub write_1_clears: u32,
    /// Bits that read as 1 whatever was written.
    pub ones: u32,
    /// Bits that others follow, and how far above them these stand.
    pub copies: (u32, u32),
}

/// A register that no file names keeps what is written.
const UNKNOWN: Masks = Masks { reset: 0, writable: !0, write_1_clears: 0, ones: 0, copies: (0, 0) };

/// A page of registers.
#[derive(Debug, Clone)]
pub struct RegisterPage {
    /// First address.
    pub base: u32,
    /// What stands in them.
    pub values: Box<[u32; 1024]>,
    /// What is known of them.
    pub masks: std::sync::Arc<[Masks; 1024]>,
    /// Which device has which 256 bytes; `NOBODY` for none.
    pub owner: [u16; 16],
    /// Registers that were touched and that nothing models, so that each is reported once.
    pub touched: [u64; 16],
}

/// No device, and nobody says that none is needed.
pub const NOBODY: u16 = u16::MAX;
/// No device is needed: the registers keep what is written.
pub const PLAIN: u16 = u16::MAX - 1;

impl RegisterPage {
    /// A page whose registers nobody knows yet.
    pub fn new(base: u32) -> Self {
        Self {
            base,
            values: Box::new([0; 1024]),
            masks: std::sync::Arc::new([UNKNOWN; 1024]),
            owner: [NOBODY; 16],
            touched: [0; 16],
        }
    }

    /// Says what is known of the register at this offset.
    pub fn learn(&mut self, offset: u32, masks: Masks) {
        if let Some(slot) = std::sync::Arc::make_mut(&mut self.masks).get_mut(offset as usize / 4) {
            *slot = masks;
        }
    }

    /// What is known of it.
    pub fn masks(&self, offset: u32) -> Masks {
        self.masks.get((offset as usize & 0xfff) / 4).copied().unwrap_or(UNKNOWN)
    }

    /// Back to what it holds after a reset.
    pub fn reset(&mut self, offset: u32) {
        let reset = self.masks(offset).reset;
        self.put(offset, reset);
    }

    /// All of them.
    pub fn reset_all(&mut self) {
        (0..1024).for_each(|word| self.reset(word * 4));
    }

    /// The stored word, as it is.
    pub fn get(&self, offset: u32) -> u32 {
        self.values[(offset as usize & 0xfff) / 4]
    }

    /// Stores a word as it is.
    pub fn put(&mut self, offset: u32, value: u32) {
        self.values[(offset as usize & 0xfff) / 4] = value;
    }

    /// The word as software reads it.
    pub fn read(&self, offset: u32) -> u32 {
        let masks = self.masks(offset);
        let mut value = self.get(offset) | masks.ones;
        let (bits, above) = masks.copies;
        if bits != 0 {
            value = value & !(bits << (above & 31)) | (value & bits) << (above & 31);
        }
        value
    }

    /// What a write by software leaves.
    pub fn write(&mut self, offset: u32, value: u32) {
        let masks = self.masks(offset);
        let old = self.get(offset);
        let kept = old & !masks.writable | value & masks.writable;
        self.put(offset, kept & !(value & masks.write_1_clears));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_follow_the_masks_of_the_file() {
        let blocks = parse(
            "# text\nblock A 60000000 21 22\n4 INT_RAW 2 0 f\n8 CONF 10 ff\nc WIDE 1 f83ffffff\nnothing\nblock B 60010000 = A\n",
        );
        assert_eq!(blocks[0].sources, [21, 22]);
        assert_eq!(blocks[1].offset("CONF"), Some(8));
        assert_eq!(blocks[1].registers[&8].reset, 0x10);
        assert_eq!(blocks[0].registers[&12].writable, 0x83ff_ffff);
        let mut page = RegisterPage::new(0x6000_0000);
        page.learn(4, Masks { reset: 3, writable: 0, write_1_clears: 0xf, ones: 0, copies: (0, 0) });
        page.reset(4);
        page.write(4, 1);
        assert_eq!(page.read(4), 2);
        page.learn(8, Masks { reset: 0, writable: !0, write_1_clears: 0, ones: 2, copies: (1, 4) });
        page.write(8, 1);
        assert_eq!(page.read(8), 0x13);
    }
}
