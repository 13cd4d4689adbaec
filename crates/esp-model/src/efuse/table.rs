//! A chip's eFuse map, read from `chips/ID/efuse.toml`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use crate::chip::Bits;

/// All blocks and fields of a chip.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EfuseTable {
    /// Where the facts come from.
    pub source: String,
    /// Blocks by number.
    pub blocks: Vec<Block>,
    /// Fields in block and bit order.
    pub fields: Vec<Field>,
    /// What a key block can be used for.
    #[serde(default)]
    pub key_purposes: Vec<KeyPurpose>,
    /// Values of a purpose field that have no name of their own are open to users, as `CUSTOM_n`.
    #[serde(default)]
    pub custom_purposes: bool,
    /// Registers of the eFuse controller; none where eFuses cannot be burned by a tool (ESP8266).
    pub controller: Option<Controller>,
    /// What differs on other revisions of the silicon; see [`super::super::chip::Chip::efuse_at`].
    #[serde(default)]
    pub overlays: Vec<Overlay>,
}

/// What differs on some revisions of the silicon.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overlay {
    /// First revision that differs, as major × 100 + minor.
    #[serde(default)]
    pub min_revision: u16,
    /// Last revision that differs.
    #[serde(default = "any_revision")]
    pub max_revision: u16,
    /// Fields that these revisions do not have.
    #[serde(default)]
    pub remove: Vec<String>,
    /// Fields that these revisions have in addition, or that are different on them.
    #[serde(default)]
    pub fields: Vec<Field>,
}

fn any_revision() -> u16 {
    u16::MAX
}

/// What a key block can be used for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPurpose {
    /// Name, as burned with `KEY_PURPOSE_n`.
    pub name: String,
    /// Value in the purpose field. None: a key in two blocks, see `split`.
    pub value: Option<u8>,
    /// The block holds the digest of a public key.
    #[serde(default)]
    pub digest: bool,
    /// The hardware takes the key's bytes in reverse order.
    #[serde(default)]
    pub reversed: bool,
    /// The key must be hidden from software by RD_DIS.
    #[serde(default)]
    pub read_protect: bool,
    /// The purposes of the two blocks that a long key takes, first half first.
    #[serde(default)]
    pub split: Vec<String>,
    /// Blocks that can hold such a key; empty: every key block.
    #[serde(default)]
    pub blocks: Vec<u8>,
    /// Field that the key goes into, where it is not a whole block.
    pub field: Option<String>,
    /// Fields that are burned with the key, where the chip has them.
    #[serde(default)]
    pub sets: BTreeMap<String, u32>,
}

/// Registers of the eFuse controller.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Controller {
    /// How blocks are written.
    pub style: ControllerStyle,
    /// First of eight data registers, shared by all blocks.
    pub pgm_data: Option<u32>,
    /// First of three registers for Reed-Solomon check symbols.
    pub check_value: Option<u32>,
    /// EFUSE_CLK.
    pub clk: u32,
    /// EFUSE_CONF: takes `write_code` or `read_code`.
    pub conf: u32,
    /// EFUSE_CMD: 1 reads, 2 programs (with the block's number in bits 2 and up on newer chips).
    pub cmd: u32,
    /// EFUSE_STATUS: state in bits 0 to 3.
    pub status: Option<u32>,
    /// EFUSE_DAC_CONF.
    pub dac_conf: u32,
    /// EFUSE_RD_TIM_CONF.
    pub rd_tim_conf: Option<u32>,
    /// EFUSE_WR_TIM_CONF0.
    pub wr_tim_conf0: Option<u32>,
    /// EFUSE_WR_TIM_CONF1.
    pub wr_tim_conf1: Option<u32>,
    /// EFUSE_WR_TIM_CONF2.
    pub wr_tim_conf2: Option<u32>,
    /// EFUSE_DATE.
    pub date: Option<u32>,
    /// EFUSE_DEC_STATUS: errors of the 3/4 coding (ESP32).
    pub decode_status: Option<u32>,
    /// Operation code for programming.
    pub write_code: u32,
    /// Operation code for reading.
    pub read_code: u32,
    /// What must be set before programming, for the chip's crystal.
    #[serde(default)]
    pub timing: Vec<Timing>,
    /// EFUSE_RD_REPEAT_ERRn: bits of BLOCK0 whose copies disagree.
    #[serde(default)]
    pub block0_errors: Vec<u32>,
    /// Errors of the Reed-Solomon blocks.
    #[serde(default)]
    pub errors: Vec<BlockErrors>,
}

/// Bits of a timing register and their value.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// Register address.
    pub register: u32,
    /// Lowest bit.
    pub bit: u8,
    /// Number of bits.
    pub len: u8,
    /// Value of these bits.
    pub value: u32,
    /// For this crystal only, in MHz.
    pub crystal: Option<u32>,
}

impl Timing {
    /// Where the bits are.
    pub fn bits(&self) -> Bits {
        Bits { register: self.register, bit: self.bit, len: self.len }
    }
}

/// How blocks are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControllerStyle {
    /// Each block has its own programming registers (ESP32).
    Esp32,
    /// All blocks share data and check registers.
    PgmData,
}

/// Where the controller reports errors of a block.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockErrors {
    /// Block number.
    pub block: u8,
    /// Number of corrected errors.
    pub count: Bits,
    /// Set when the block cannot be corrected.
    pub fail: Option<Bits>,
}

/// A block of eFuse bits.
#[derive(Debug, Clone, Deserialize)]
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
    /// Bits of RD_DIS that hide the block; several when each hides a part of it.
    #[serde(default, deserialize_with = "one_or_many")]
    pub read_protect: Vec<u8>,
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
#[derive(Debug, Clone, Deserialize)]
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
    /// Bits of RD_DIS that hide the field; several when each hides a part of it.
    #[serde(default, deserialize_with = "one_or_many")]
    pub read_protect: Vec<u8>,
    /// Other names.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// What it is for, in a few words.
    #[serde(default)]
    pub about: String,
    /// The number stands for a measured quantity.
    pub scale: Option<Scale>,
    /// Meaning of values, by number (decimal).
    #[serde(default)]
    pub values: BTreeMap<String, String>,
    /// The reference tools show it in their summaries.
    #[serde(default = "yes")]
    pub shown: bool,
    /// It is put together from bits that have fields of their own.
    #[serde(default)]
    pub composed: bool,
}

fn yes() -> bool {
    true
}

/// A number or a list of numbers.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        One(u8),
        Many(Vec<u8>),
    }
    Either::deserialize(deserializer).map(|either| match either {
        Either::One(bit) => vec![bit],
        Either::Many(bits) => bits,
    })
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
    /// The number of set bits counts.
    BitCount,
    /// Bytes.
    Bytes,
    /// A MAC address.
    Mac,
    /// A key or digest.
    Key,
    /// A pin of the flash (ESP32): codes 30 and 31 stand for pins 32 and 33.
    SpiPin,
}

/// How a number stands for a measured quantity: `offset + step × signed number`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// How the sign is kept.
    pub sign: Sign,
    /// Size of a step.
    pub step: f64,
    /// Value at 0.
    #[serde(default)]
    pub offset: f64,
}

/// How a sign is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// The highest bit is the sign of the others.
    Magnitude,
    /// The highest bit counts negative.
    TwosComplement,
}

impl Scale {
    /// The quantity for a number of `len` bits.
    pub fn apply(&self, number: u32, len: u16) -> f64 {
        let sign = 1i64 << len.clamp(1, 32).saturating_sub(1);
        let (low, negative) = (i64::from(number) & (sign - 1), i64::from(number) & sign != 0);
        let signed = match (self.sign, negative) {
            (_, false) => low,
            (Sign::Magnitude, true) => -low,
            (Sign::TwosComplement, true) => low - sign,
        };
        self.offset + signed as f64 * self.step
    }
}

impl EfuseTable {
    /// The chip's own names of those of these fields that it has, each once: several may be aliases of one field.
    pub fn own_names(&self, names: impl IntoIterator<Item = &'static str>) -> Vec<&str> {
        let mut own = Vec::new();
        for field in names.into_iter().filter_map(|name| self.field(name)) {
            if !own.contains(&field.name.as_str()) {
                own.push(field.name.as_str());
            }
        }
        own
    }

    /// Reads the text of an `efuse.toml`.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The table as it is on a chip of this revision (major × 100 + minor).
    pub fn at(&self, revision: u16) -> Self {
        let mut table = self.clone();
        for overlay in std::mem::take(&mut table.overlays) {
            if (overlay.min_revision..=overlay.max_revision).contains(&revision) {
                let gone = |field: &Field| {
                    overlay.remove.contains(&field.name) || overlay.fields.iter().any(|other| other.name == field.name)
                };
                table.fields.retain(|field| !gone(field));
                table.fields.extend(overlay.fields);
            }
        }
        table.fields.sort_by_key(|field| (field.block, field.bits.first().map_or(0, |range| range.0)));
        table
    }

    /// The field of this name or alias.
    pub fn field(&self, name: &str) -> Option<&Field> {
        let fits = |field: &&Field| field.name == name || field.aliases.iter().any(|alias| alias == name);
        self.fields.iter().find(fits)
    }

    /// Addresses of the read registers that hold a field's bits, each once.
    pub fn addresses(&self, field: &Field) -> impl Iterator<Item = u32> + use<> {
        let start = self.block(field.block).map_or(0, |block| block.read);
        let words = field.bits.iter().flat_map(|range| range.0 / 32..(range.0 + range.1).div_ceil(32));
        let words: std::collections::BTreeSet<u16> = words.collect();
        words.into_iter().map(move |word| start + u32::from(word) * 4)
    }

    /// The key purpose of this name; on chips where values without a name are open to users also `CUSTOM_n`,
    /// `CUSTOM_DIGEST_n` and `CUSTOM_MAX`.
    pub fn purpose(&self, name: &str) -> Option<Cow<'_, KeyPurpose>> {
        if let Some(known) = self.key_purposes.iter().find(|purpose| purpose.name == name) {
            return Some(Cow::Borrowed(known));
        }
        let field = self.blocks.iter().find_map(|block| self.field(block.purpose_field.as_deref()?))?;
        let rest = name.strip_prefix("CUSTOM_").filter(|_| self.custom_purposes)?;
        let (digest, number) = rest.strip_prefix("DIGEST_").map_or((false, rest), |number| (true, number));
        let most = 1u8.checked_shl(u32::from(field.len())).map_or(u8::MAX, |limit| limit.wrapping_sub(1));
        let value = if number == "MAX" { most } else { number.parse().ok().filter(|value| *value <= most)? };
        let named = self.key_purposes.iter().any(|purpose| purpose.value == Some(value));
        (!named).then(|| Cow::Owned(KeyPurpose::custom(name, value, digest)))
    }

    /// The block of this number.
    pub fn block(&self, id: u8) -> Option<&Block> {
        self.blocks.iter().find(|block| block.id == id)
    }
}

impl KeyPurpose {
    /// A purpose of the user's own.
    fn custom(name: &str, value: u8, digest: bool) -> Self {
        Self {
            name: name.into(),
            value: Some(value),
            digest,
            reversed: false,
            read_protect: false,
            split: Vec::new(),
            blocks: Vec::new(),
            field: None,
            sets: BTreeMap::new(),
        }
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

    /// Puts a value, packed into bytes lowest first, into its block's words. What does not fit is cut off.
    pub fn store(&self, words: &mut [u32], bytes: &[u8]) {
        let positions = self.bits.iter().flat_map(|range| range.0..range.0 + range.1);
        for (from, to) in positions.enumerate() {
            let Some(word) = words.get_mut(usize::from(to / 32)) else { return };
            let bit = bytes.get(from / 8).is_some_and(|byte| (byte >> (from % 8)) & 1 == 1);
            *word = *word & !(1 << (to % 32)) | u32::from(bit) << (to % 32);
        }
    }

    /// The field's value as a number; the lowest 32 bits of longer fields.
    pub fn number(&self, words: &[u32]) -> u32 {
        let mut bytes = self.bytes(words);
        bytes.resize(4.max(bytes.len()), 0);
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
}
