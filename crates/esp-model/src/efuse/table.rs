//! A chip's eFuse map, read from `chips/ID/efuse.toml`.

use std::collections::BTreeMap;

use serde::Deserialize;

/// All blocks and fields of a chip.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EfuseTable {
    /// Where the facts come from.
    pub source: String,
    /// Blocks by number.
    pub blocks: Vec<Block>,
    /// Fields in block and bit order.
    pub fields: Vec<Field>,
}

/// A block of eFuse bits.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// Number as in the manual.
    pub id: u8,
    /// The reference tools' name: `BLOCK4`.
    pub name: String,
    /// Other names: `BLOCK_KEY0`.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Address of the first read register.
    pub read: u32,
    /// Address of the first programming register.
    pub write: Option<u32>,
    /// 32-bit words that can be read.
    pub words: u8,
    /// How the bits are protected against errors.
    pub coding: Coding,
    /// Bit of WR_DIS that freezes the block.
    pub write_protect: Option<u8>,
    /// Bit of RD_DIS that hides the block.
    pub read_protect: Option<u8>,
    /// The block can hold a key.
    #[serde(default)]
    pub is_key: bool,
    /// Field with the purpose of the key in this block.
    pub purpose_field: Option<String>,
}

/// How a block's bits are protected against errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coding {
    /// Not at all (or kept four times inside the chip): bits can be burned one by one.
    None,
    /// As the field CODING_SCHEME says (ESP32): none, 3/4 or repeat.
    ByField,
    /// Reed-Solomon (44, 32): a block can be burned once.
    ReedSolomon,
}

/// A named group of bits.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// The chip's own name.
    pub name: String,
    /// Block number.
    pub block: u8,
    /// Bit ranges in the block, lowest part first: `[start, length]`.
    pub bits: Vec<BitRange>,
    /// How the value is shown.
    #[serde(default)]
    pub kind: FieldKind,
    /// Bit of WR_DIS that freezes the field.
    pub write_protect: Option<u8>,
    /// Bit of RD_DIS that hides the field.
    pub read_protect: Option<u8>,
    /// Other names.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// What it is for, in a few words.
    #[serde(default)]
    pub about: String,
    /// Meaning of values.
    #[serde(default)]
    pub values: BTreeMap<String, String>,
}

/// First bit in the block and number of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct BitRange(pub u16, pub u16);

/// How a field's value is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldKind {
    /// One bit or a number.
    #[default]
    Number,
    /// One bit.
    Flag,
    /// Bytes.
    Bytes,
    /// A MAC address.
    Mac,
    /// A key or digest.
    Key,
}

impl EfuseTable {
    /// Reads the text of an `efuse.toml`.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The field of this name or alias.
    pub fn field(&self, name: &str) -> Option<&Field> {
        let fits = |field: &&Field| field.name == name || field.aliases.iter().any(|alias| alias == name);
        self.fields.iter().find(fits)
    }

    /// The block of this number.
    pub fn block(&self, id: u8) -> Option<&Block> {
        self.blocks.iter().find(|block| block.id == id)
    }
}

impl Field {
    /// Number of bits.
    pub fn len(&self) -> u16 {
        self.bits.iter().map(|range| range.1).sum()
    }

    /// A field always has bits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The field's bits from its block's words, lowest first, packed into bytes.
    pub fn bytes(&self, words: &[u32]) -> Vec<u8> {
        let mut out = vec![0; usize::from(self.len()).div_ceil(8)];
        let positions = self.bits.iter().flat_map(|range| range.0..range.0 + range.1);
        for (to, from) in positions.enumerate() {
            let word = words.get(usize::from(from / 32)).copied().unwrap_or(0);
            out[to / 8] |= (((word >> (from % 32)) & 1) as u8) << (to % 8);
        }
        out
    }

    /// The field's value as a number; the lowest 32 bits of longer fields.
    pub fn number(&self, words: &[u32]) -> u32 {
        let mut bytes = self.bytes(words);
        bytes.resize(4.max(bytes.len()), 0);
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
}
