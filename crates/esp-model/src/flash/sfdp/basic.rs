//! The basic flash parameter table, word by word (JESD216, section 6.4).

use serde::Serialize;

/// The table's words, with accessors for what they mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basic {
    words: Vec<u32>,
}

/// One of up to four sizes that can be erased.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct EraseType {
    /// Bytes that are erased.
    pub size: u64,
    /// The opcode.
    pub opcode: u8,
    /// Typical time in milliseconds, where the table tells (revision 1.5 and later).
    pub typical_ms: Option<u32>,
    /// Longest time in milliseconds.
    pub max_ms: Option<u32>,
}

/// A way to read: how many lines carry opcode, address and data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FastRead {
    /// `1-1-4`: lines for opcode, address and data.
    pub lines: &'static str,
    /// The opcode.
    pub opcode: u8,
    /// Mode clocks.
    pub mode_clocks: u8,
    /// Dummy clocks after them.
    pub dummy_clocks: u8,
}

/// How the part is told to use four data lines (word 15, bits 20 to 22).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum QuadEnable {
    /// There is no bit: four lines always work.
    None,
    /// Bit 1 of status register 2, written with opcode 0x01 and two bytes; one byte clears it.
    Sr2Bit1Cleared,
    /// Bit 6 of status register 1.
    Sr1Bit6,
    /// Bit 7 of status register 2, read with 0x3F and written with 0x3E.
    Sr2Bit7,
    /// Bit 1 of status register 2, written with opcode 0x01 and two bytes; one byte leaves it.
    Sr2Bit1Kept,
    /// Bit 1 of status register 2, read with 0x35, written with 0x01 and two bytes.
    Sr2Bit1,
    /// Bit 1 of status register 2, read with 0x35 and written with 0x31.
    Sr2Bit1Own,
    /// A value that the standard keeps for later.
    Reserved,
}

impl QuadEnable {
    /// Status register (1 or 2) and bit of the quad enable flag, where there is one.
    pub fn place(self) -> Option<(u8, u8)> {
        match self {
            Self::None | Self::Reserved => None,
            Self::Sr1Bit6 => Some((1, 6)),
            Self::Sr2Bit7 => Some((2, 7)),
            Self::Sr2Bit1Cleared | Self::Sr2Bit1Kept | Self::Sr2Bit1 | Self::Sr2Bit1Own => Some((2, 1)),
        }
    }
}

/// Bits `low..low + count` of a word.
fn bits(word: u32, low: u32, count: u32) -> u32 {
    word >> low & ((1 << count) - 1)
}

impl Basic {
    /// From the table's words, the first one first.
    pub fn new(words: Vec<u32>) -> Self {
        Self { words }
    }

    /// The words as they are.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// Word by its number in the standard, which counts from 1.
    fn word(&self, number: usize) -> Option<u32> {
        self.words.get(number - 1).copied()
    }

    fn flag(&self, number: usize, bit: u32) -> bool {
        self.word(number).is_some_and(|word| word >> bit & 1 == 1)
    }

    /// Size in bytes; `None` when the word makes no sense.
    pub fn size(&self) -> Option<u64> {
        let density = self.word(2)?;
        let bits = match density >> 31 {
            0 => Some(u64::from(density) + 1),
            _ => 1u64.checked_shl(density & 0x7fff_ffff),
        };
        bits.filter(|bits| *bits >= 8).map(|bits| bits / 8)
    }

    /// Bytes of an address: `3`, `3 or 4`, `4`.
    pub fn address_bytes(&self) -> Option<&'static str> {
        match bits(self.word(1)?, 17, 2) {
            0 => Some("3"),
            1 => Some("3 or 4"),
            2 => Some("4"),
            _ => None,
        }
    }

    /// Data can also move on both edges of the clock.
    pub fn double_rate(&self) -> bool {
        self.flag(1, 19)
    }

    /// The kinds of erase, the smallest first.
    pub fn erase_types(&self) -> Vec<EraseType> {
        let times = self.word(10);
        let mut types: Vec<EraseType> = (0..4)
            .filter_map(|index| {
                let word = self.word(8 + index / 2)?;
                let half = if index % 2 == 0 { word & 0xffff } else { word >> 16 };
                let (power, opcode) = (half & 0xff, (half >> 8) as u8);
                let size = 1u64.checked_shl(power).filter(|_| power > 0 && power < 40)?;
                let (typical_ms, max_ms) = times.map(|word| erase_time(word, index as u32)).unzip();
                Some(EraseType { size, opcode, typical_ms, max_ms })
            })
            .collect();
        types.sort_by_key(|erase| erase.size);
        types
    }

    /// The fast reads that the part has beside the plain one.
    pub fn fast_reads(&self) -> Vec<FastRead> {
        // Lines, the flag (word, bit), and where opcode and clocks stand (word, lowest bit).
        type Read = (&'static str, (usize, u32), (usize, u32));
        const READS: [Read; 6] = [
            ("1-1-2", (1, 16), (4, 0)),
            ("1-2-2", (1, 20), (4, 16)),
            ("1-1-4", (1, 22), (3, 16)),
            ("1-4-4", (1, 21), (3, 0)),
            ("2-2-2", (5, 0), (6, 16)),
            ("4-4-4", (5, 4), (7, 16)),
        ];
        let there = READS.iter().filter(|(_, (word, bit), _)| self.flag(*word, *bit));
        there
            .filter_map(|&(lines, _, (word, low))| {
                let half = self.word(word)? >> low;
                let (dummy_clocks, mode_clocks) = (bits(half, 0, 5) as u8, bits(half, 5, 3) as u8);
                Some(FastRead { lines, opcode: (half >> 8) as u8, mode_clocks, dummy_clocks })
            })
            .collect()
    }

    /// Bytes that one program command takes, where the table tells.
    pub fn page_size(&self) -> Option<u32> {
        self.word(11).map(|word| 1 << bits(word, 4, 4))
    }

    /// Typical and longest time to program a page, in microseconds.
    pub fn page_program_us(&self) -> Option<(u32, u32)> {
        let word = self.word(11)?;
        let typical = (bits(word, 8, 5) + 1) * if bits(word, 13, 1) == 1 { 64 } else { 8 };
        Some((typical, typical * 2 * (bits(word, 0, 4) + 1)))
    }

    /// Typical and longest time to erase the whole part, in milliseconds.
    pub fn chip_erase_ms(&self) -> Option<(u32, u32)> {
        let word = self.word(11)?;
        let unit = [16, 256, 4000, 64_000].get(bits(word, 29, 2) as usize).copied().unwrap_or(16);
        let typical = (bits(word, 24, 5) + 1) * unit;
        Some((typical, typical * 2 * (bits(word, 0, 4) + 1)))
    }

    /// How four data lines are switched on; `None` where the table is too old to tell.
    pub fn quad_enable(&self) -> Option<QuadEnable> {
        Some(match bits(self.word(15)?, 20, 3) {
            0 => QuadEnable::None,
            1 => QuadEnable::Sr2Bit1Cleared,
            2 => QuadEnable::Sr1Bit6,
            3 => QuadEnable::Sr2Bit7,
            4 => QuadEnable::Sr2Bit1Kept,
            5 => QuadEnable::Sr2Bit1,
            6 => QuadEnable::Sr2Bit1Own,
            _ => QuadEnable::Reserved,
        })
    }

    /// Erase and program can be suspended; `None` where the table is too old to tell.
    pub fn suspend(&self) -> Option<bool> {
        self.word(12).map(|word| word >> 31 == 0)
    }

    /// The opcodes that enter and leave deep power-down, where the part has it.
    pub fn deep_power_down(&self) -> Option<(u8, u8)> {
        let word = self.word(14).filter(|word| word >> 31 == 0)?;
        Some((bits(word, 23, 8) as u8, bits(word, 15, 8) as u8))
    }

    /// 0x66 and 0x99 reset the part.
    pub fn soft_reset(&self) -> Option<bool> {
        self.word(16).map(|word| word >> 12 & 1 == 1)
    }
}

/// Typical and longest time in milliseconds of erase type `index`, from word 10.
fn erase_time(word: u32, index: u32) -> (u32, u32) {
    let low = 4 + 7 * index;
    let unit = [1, 16, 128, 1000].get(bits(word, low + 5, 2) as usize).copied().unwrap_or(1);
    let typical = (bits(word, low, 5) + 1) * unit;
    (typical, typical * 2 * (bits(word, 0, 4) + 1))
}
