//! The eFuses of one chip: their words, what can be read and written, what protection hides.

use super::bits::{self, Words};
use super::{Block, Coding, EfuseTable, Field};

/// The eFuses of one chip as they can be read, with errors that the chip reports.
#[derive(Debug, Clone)]
pub struct Efuses {
    /// The chip's map for its revision.
    pub table: &'static EfuseTable,
    /// Words of all blocks.
    pub words: Words,
    /// Blocks with errors.
    pub errors: Vec<BlockError>,
}

/// Errors that the chip reports for a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockError {
    /// Block number.
    pub block: u8,
    /// Errors that were corrected; for BLOCK0 the bits whose copies disagree.
    pub count: u32,
    /// The block cannot be corrected.
    pub fail: bool,
}

/// Coding of a block once the chip's coding field is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActiveCoding {
    /// Bits can be burned one by one.
    None,
    /// Groups of six bytes with check bytes (ESP32).
    ThreeQuarters,
    /// Each bit twice (ESP32); not supported by tools.
    Repeat,
    /// Reed-Solomon: a block can be burned once.
    ReedSolomon,
}

/// Field with the ESP32's coding scheme.
const CODING_SCHEME: &str = "CODING_SCHEME";

impl Efuses {
    /// A chip with all eFuses at 0.
    pub fn blank(table: &'static EfuseTable) -> Self {
        Self { table, words: bits::blank(table), errors: Vec::new() }
    }

    /// Eefuses with these words; missing blocks and words are 0, surplus ones are dropped.
    pub fn new(table: &'static EfuseTable, words: &Words) -> Self {
        let mut efuses = Self::blank(table);
        for (id, block) in &mut efuses.words {
            bits::combine(block, words.get(id).map_or(&[], Vec::as_slice), |_, word| word);
        }
        efuses
    }

    /// A block's words; empty when the chip has no such block.
    pub fn block(&self, id: u8) -> &[u32] {
        self.words.get(&id).map_or(&[], Vec::as_slice)
    }

    /// A field's value; `None` when the chip has no such field. Hidden bits read as 0.
    pub fn number(&self, name: &str) -> Option<u32> {
        self.table.field(name).map(|field| field.number(self.block(field.block)))
    }

    /// The field exists and is not 0.
    pub fn is_set(&self, name: &str) -> bool {
        self.number(name).is_some_and(|value| value != 0)
    }

    /// How a block is coded.
    pub fn coding(&self, block: &Block) -> ActiveCoding {
        match block.coding {
            Coding::None => ActiveCoding::None,
            Coding::ReedSolomon => ActiveCoding::ReedSolomon,
            Coding::ByField => match self.number(CODING_SCHEME) {
                Some(1) => ActiveCoding::ThreeQuarters,
                Some(2) => ActiveCoding::Repeat,
                // 3 is "none, recovery".
                _ => ActiveCoding::None,
            },
        }
    }

    /// Bytes that a block holds for software.
    pub fn capacity(&self, block: &Block) -> usize {
        let bytes = usize::from(block.words) * 4;
        match self.coding(block) {
            ActiveCoding::ThreeQuarters => bytes * 3 / 4,
            ActiveCoding::Repeat => bytes / 2,
            _ => bytes,
        }
    }

    /// None of these RD_DIS bits is set.
    pub fn readable(&self, read_protect: &[u8]) -> bool {
        let hidden = self.number("RD_DIS").unwrap_or(0);
        read_protect.iter().all(|bit| hidden & (1 << bit) == 0)
    }

    /// This WR_DIS bit is not set.
    pub fn writeable(&self, write_protect: Option<u8>) -> bool {
        let frozen = self.number("WR_DIS").unwrap_or(0);
        write_protect.is_none_or(|bit| frozen & (1 << bit) == 0)
    }

    /// The bits of a block that WR_DIS freezes.
    pub fn frozen(&self, block: &Block) -> Vec<u32> {
        let words = usize::from(block.words);
        if !self.writeable(block.write_protect) {
            return vec![u32::MAX; words];
        }
        let mut frozen = vec![0; words];
        for field in self.table.fields.iter().filter(|field| field.block == block.id) {
            if !self.writeable(field.write_protect) {
                bits::combine(&mut frozen, &bits::mask(field, words), |a, b| a | b);
            }
        }
        frozen
    }

    /// The bits of a block that RD_DIS hides.
    pub fn hidden(&self, block: &Block) -> Vec<u32> {
        let words = usize::from(block.words);
        let mut hidden = vec![0; words];
        let mut hide = |start: usize, count: usize| {
            hidden.iter_mut().skip(start).take(count).for_each(|word| *word = u32::MAX);
        };
        // Several bits each hide a part of the block, lowest part first.
        let part = words / block.read_protect.len().max(1);
        for (index, bit) in block.read_protect.iter().enumerate() {
            if !self.readable(&[*bit]) {
                hide(index * part, part);
            }
        }
        for field in self.table.fields.iter().filter(|field| field.block == block.id) {
            if !field.read_protect.is_empty() && field.read_protect.iter().all(|bit| !self.readable(&[*bit])) {
                bits::combine(&mut hidden, &bits::mask(field, words), |a, b| a | b);
            }
        }
        hidden
    }

    /// Burns bits as the hardware does: frozen bits do not change, hidden ones become unreadable. The words are the
    /// block's data without check symbols.
    pub fn burn(&mut self, block: &Block, data: &[u32]) {
        let frozen = self.frozen(block);
        if let Some(words) = self.words.get_mut(&block.id) {
            let mut burned = data.to_vec();
            bits::combine(&mut burned, &frozen, |bit, frozen| bit & !frozen);
            bits::combine(words, &burned, |a, b| a | b);
        }
        self.hide();
    }

    /// Makes what RD_DIS hides read as 0.
    pub fn hide(&mut self) {
        for block in &self.table.blocks {
            let hidden = self.hidden(block);
            if let Some(words) = self.words.get_mut(&block.id) {
                bits::combine(words, &hidden, |word, hidden| word & !hidden);
            }
        }
    }

    /// The block, field or alias that this name stands for, as bits: block number and mask.
    pub fn bits_of(&self, field: &Field) -> Vec<u32> {
        bits::mask(field, self.block(field.block).len())
    }
}
