//! What a field's bits mean.

use super::state::{BlockError, Efuses};
use super::{Field, FieldKind};
use crate::mac::Mac;

/// A field with its value, for people and programs.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldValue {
    /// The field's name.
    pub name: &'static str,
    /// Block number.
    pub block: u8,
    /// The field's bits as bytes, lowest first. Hidden bits are 0.
    pub raw: Vec<u8>,
    /// The value.
    pub value: Shown,
    /// What the value stands for, where the map says so.
    pub meaning: Option<String>,
    /// RD_DIS does not hide it.
    pub readable: bool,
    /// WR_DIS does not freeze it.
    pub writeable: bool,
    /// The chip reports an error in these bits or this block.
    pub error: bool,
}

/// A value as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub enum Shown {
    /// One bit.
    Flag(bool),
    /// A number.
    Number(i64),
    /// A measured quantity, such as degrees.
    Real(f64),
    /// A name, or bytes in hex.
    Text(String),
    /// Hidden from software.
    Hidden,
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flag(value) => value.fmt(f),
            Self::Number(value) => value.fmt(f),
            Self::Real(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
            Self::Hidden => f.write_str("hidden"),
        }
    }
}

/// Name of a key purpose's value that no table knows.
const FORBIDDEN: &str = "FORBIDDEN_STATE";

impl Efuses {
    /// All fields in block and bit order.
    pub fn values(&self) -> Vec<FieldValue> {
        self.table.fields.iter().map(|field| self.value(field)).collect()
    }

    /// One field.
    pub fn value(&self, field: &'static Field) -> FieldValue {
        let raw = self.capped(field, field.bytes(self.block(field.block)));
        let readable = self.readable(&field.read_protect);
        let number = field.number(self.block(field.block));
        let meaning = field.values.get(&number.to_string()).cloned();
        // Parts of a key that are hidden by bits of their own show what is left.
        let hidden = !readable && raw.iter().all(|byte| *byte == 0);
        let value = if hidden { Shown::Hidden } else { self.shown(field, number, &raw) };
        let writeable = self.writeable(field.write_protect);
        let error = self.errors.iter().any(|error| error.concerns(field.block));
        FieldValue { name: &field.name, block: field.block, raw, value, meaning, readable, writeable, error }
    }

    /// A key block in 3/4 coding holds fewer bytes than its field has bits for.
    fn capped(&self, field: &Field, mut raw: Vec<u8>) -> Vec<u8> {
        raw.truncate(self.byte_capacity(field));
        raw
    }

    /// Bytes that a field takes; a field that is a whole key block takes as many as the block's coding leaves.
    pub(super) fn byte_capacity(&self, field: &Field) -> usize {
        let bytes = usize::from(field.len()).div_ceil(8);
        match self.table.block(field.block) {
            Some(block) if field.kind == FieldKind::Key => bytes.min(self.capacity(block)),
            _ => bytes,
        }
    }

    fn shown(&self, field: &Field, number: u32, raw: &[u8]) -> Shown {
        if let Some(scale) = &field.scale {
            let value = scale.apply(number, field.len());
            let whole = scale.step.fract() == 0.0;
            return if whole { Shown::Number(value as i64) } else { Shown::Real(value) };
        }
        match field.kind {
            FieldKind::Flag => Shown::Flag(number != 0),
            FieldKind::Bytes | FieldKind::Key => Shown::Text(self.visible(field, raw)),
            FieldKind::Mac => Shown::Text(self.mac(field, raw)),
            FieldKind::SpiPin => Shown::Number(i64::from(spi_pin(number))),
            _ if self.is_purpose(&field.name) => Shown::Text(self.purpose_name(number)),
            _ => Shown::Number(i64::from(number)),
        }
    }

    /// Bytes as text; `??` where RD_DIS hides them.
    fn visible(&self, field: &Field, raw: &[u8]) -> String {
        let block = self.table.block(field.block);
        let hidden = block.map(|block| field.bytes(&self.hidden(block))).unwrap_or_default();
        let mut hidden = hidden.into_iter().chain(std::iter::repeat(0));
        let shown = |byte: &u8| if hidden.next() == Some(0) { format!("{byte:02x}") } else { "??".into() };
        raw.iter().map(shown).collect::<Vec<_>>().join(" ")
    }

    /// The address with what speaks for it: a CRC where the chip has one, coding errors elsewhere.
    fn mac(&self, field: &Field, raw: &[u8]) -> String {
        let custom = field.name == "CUSTOM_MAC";
        let mac: Vec<u8> = if custom { raw.to_vec() } else { raw.iter().rev().copied().collect() };
        let text = hex(&mac, ':');
        if let (Some(stored), Ok(mac)) = (self.number(&format!("{}_CRC", field.name)), <[u8; 6]>::try_from(mac)) {
            let right = Mac(mac).crc8();
            return if stored == u32::from(right) {
                format!("{text} (CRC {stored:#04x} OK)")
            } else {
                format!("{text} (CRC {stored:#04x} invalid - calculated {right:#04x})")
            };
        }
        match self.errors.iter().find(|error| error.concerns(field.block)) {
            Some(BlockError { block, count, fail }) => {
                format!("{text} (Block{block} has ERRORS:{count} FAIL:{})", if *fail { "True" } else { "False" })
            }
            None => format!("{text} (OK)"),
        }
    }

    /// The field holds the purpose of a key block.
    pub fn is_purpose(&self, name: &str) -> bool {
        self.table.blocks.iter().any(|block| block.purpose_field.as_deref() == Some(name))
    }

    /// The name of a purpose's value.
    pub fn purpose_name(&self, number: u32) -> String {
        let fits = |purpose: &&super::KeyPurpose| purpose.value.map(u32::from) == Some(number);
        match self.table.key_purposes.iter().find(fits) {
            Some(purpose) => purpose.name.clone(),
            None if self.table.custom_purposes => format!("CUSTOM_{number}"),
            None => FORBIDDEN.into(),
        }
    }

    /// The purpose of a key block's key; `None` where the block has no purpose field.
    pub fn purpose(&self, block: &super::Block) -> Option<String> {
        let number = self.number(block.purpose_field.as_deref()?)?;
        Some(self.purpose_name(number))
    }
}

impl BlockError {
    fn concerns(&self, block: u8) -> bool {
        self.block == block && (self.fail || self.count != 0)
    }
}

/// Pins 30 and 31 do not exist; the codes stand for 32 and 33 (ESP32).
pub fn spi_pin(code: u32) -> u32 {
    if code >= 30 { code + 2 } else { code }
}

/// Bytes in hex with a separator.
pub fn hex(bytes: &[u8], separator: char) -> String {
    let mut out = String::new();
    for (at, byte) in bytes.iter().enumerate() {
        if at > 0 {
            out.push(separator);
        }
        out.push_str(&format!("{byte:02x}"));
    }
    out
}

#[cfg(test)]
mod tests {
    use crate::chip;
    use crate::efuse::{Burn, Efuses, Request};

    #[test]
    fn key_block_with_one_half_hidden_shows_the_other() {
        let halves = |block: &&crate::efuse::Block| block.is_key && block.read_protect.len() == 2;
        let tables = chip::all().iter().map(|chip| chip.efuse());
        let found: Vec<_> = tables.filter_map(|table| Some((table, table.blocks.iter().find(halves)?))).collect();
        assert!(!found.is_empty());
        for (table, block) in found {
            let mut burn = Burn::new(Efuses::blank(table));
            burn.add(&Request::Block { block: block.name.clone(), data: vec![0x5a; 32], offset: 0 }).unwrap();
            burn.add(&Request::Field { name: "RD_DIS".into(), value: vec![1] }).unwrap();
            let after = burn.after().unwrap();
            let whole = table.field(&block.name).unwrap();
            let wanted = [vec!["??"; 16], vec!["5a"; 16]].concat().join(" ");
            assert_eq!(after.value(whole).value.to_string(), wanted);
        }
    }
}
