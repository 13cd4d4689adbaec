//! The chip's eFuses: words by block, readable at their registers.

use std::collections::BTreeMap;

use esp_model::efuse::{EfuseTable, Field};

/// The blocks' content.
#[derive(Debug)]
pub struct Efuse {
    table: &'static EfuseTable,
    blocks: Vec<Vec<u32>>,
}

impl Efuse {
    /// eFuses with this content, by block number; a block that is missing is blank.
    pub fn new(table: &'static EfuseTable, mut content: BTreeMap<u8, Vec<u32>>) -> Self {
        let words = |block: &esp_model::efuse::Block| {
            let mut words = content.remove(&block.id).unwrap_or_default();
            words.resize(block.words.into(), 0);
            words
        };
        Self { table, blocks: table.blocks.iter().map(words).collect() }
    }

    /// Takes the blocks' words from `image`, in order, little endian; what is missing stays 0.
    pub fn load(&mut self, image: &[u8]) {
        let mut words = image.chunks(4).map(|chunk| {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            u32::from_le_bytes(word)
        });
        for word in self.blocks.iter_mut().flatten() {
            *word = words.next().unwrap_or(0);
        }
    }

    /// The blocks' words in order, little endian.
    pub fn image(&self) -> Vec<u8> {
        self.blocks.iter().flatten().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// The word at this register, when it is one of a block's read registers.
    pub fn read(&self, address: u32) -> Option<u32> {
        self.table.blocks.iter().zip(&self.blocks).find_map(|(block, words)| {
            let offset = address.checked_sub(block.read)?;
            words.get((offset / 4) as usize).copied()
        })
    }

    /// A field's value as a number; 0 when the chip has no such field.
    pub fn number(&self, name: &str) -> u32 {
        self.table.field(name).map_or(0, |field| field.number(self.words(field)))
    }

    fn words(&self, field: &Field) -> &[u32] {
        let found = self.table.blocks.iter().position(|block| block.id == field.block);
        found.and_then(|at| self.blocks.get(at)).map_or(&[], Vec::as_slice)
    }

    /// Sets a field's bits to `bytes` (lowest bits first), as the factory does before the chip is sold.
    /// An unknown name changes nothing.
    pub fn set(&mut self, name: &str, bytes: &[u8]) {
        let Some(field) = self.table.field(name) else { return };
        let found = self.table.blocks.iter().position(|block| block.id == field.block);
        let Some(words) = found.and_then(|at| self.blocks.get_mut(at)) else { return };
        field.store(words, bytes);
    }
}
