//! The chip's eFuses: words by block, readable at their registers.

use esp_model::chip::{Chip, MacSource, Part, Value};
use esp_model::efuse::{EfuseTable, Field};

/// The blocks' content.
#[derive(Debug)]
pub struct Efuse {
    table: &'static EfuseTable,
    blocks: Vec<Vec<u32>>,
}

impl Efuse {
    /// Blank eFuses.
    pub fn new(table: &'static EfuseTable) -> Self {
        let blocks = table.blocks.iter().map(|block| vec![0; usize::from(block.words)]).collect();
        Self { table, blocks }
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
        let positions = field.bits.iter().flat_map(|range| range.0..range.0 + range.1);
        for (from, to) in positions.enumerate() {
            let bit = bytes.get(from / 8).is_some_and(|byte| byte >> (from % 8) & 1 == 1);
            if let Some(word) = words.get_mut(usize::from(to / 32)) {
                *word = *word & !(1 << (to % 32)) | u32::from(bit) << (to % 32);
            }
        }
    }

    /// Sets the word at a read register.
    pub fn set_word(&mut self, address: u32, value: u32) {
        for (block, words) in self.table.blocks.iter().zip(&mut self.blocks) {
            let offset = address.checked_sub(block.read).map(|offset| (offset / 4) as usize);
            if let Some(word) = offset.and_then(|at| words.get_mut(at)) {
                *word = value;
                return;
            }
        }
    }
}

/// What the factory burns: MAC address, revision. Returns register words that belong to the revision.
pub fn factory(efuse: &mut Efuse, chip: &Chip, mac: [u8; 6], revision: Option<u16>) -> Vec<(u32, u32)> {
    match chip.identity.mac {
        MacSource::Field => {
            let mut reversed = mac;
            reversed.reverse();
            efuse.set("MAC", &reversed);
            for name in ["MAC_CRC", "MAC_FACTORY_CRC"] {
                efuse.set(name, &[crc8(&mac)]);
            }
        }
        MacSource::Esp8266Otp => esp8266_mac(efuse, mac),
    }
    if efuse.number("CK8M_FREQ") == 0 {
        // The ROM needs it to measure the crystal; the value is a usual one.
        efuse.set("CK8M_FREQ", &[52]);
    }
    let mut registers = Vec::new();
    if let Some(revision) = revision {
        let (major, minor) = (u32::from(revision / 100), u32::from(revision % 100));
        set_value(efuse, &chip.identity.major, major, &mut registers);
        set_value(efuse, &chip.identity.minor, minor, &mut registers);
    }
    registers
}

/// The three OTP words: the vendor part in the fourth, the rest in the first two.
fn esp8266_mac(efuse: &mut Efuse, mac: [u8; 6]) {
    const OTP: u32 = 0x3ff0_0050;
    let [a, b, c, d, e, f] = mac.map(u32::from);
    efuse.set_word(OTP, f << 24);
    efuse.set_word(OTP + 4, d << 8 | e);
    efuse.set_word(OTP + 12, a << 16 | b << 8 | c);
}

/// Puts `wanted` into the parts that a value is read from.
fn set_value(efuse: &mut Efuse, value: &Value, wanted: u32, registers: &mut Vec<(u32, u32)>) {
    let raw = value.map.iter().find(|(_, stands_for)| **stands_for == wanted).and_then(|(raw, _)| raw.parse().ok());
    let mut raw: u32 = raw.unwrap_or(if value.map.is_empty() { wanted } else { 0 });
    for part in &value.parts {
        let len = match part {
            Part::Efuse(name) => {
                efuse.set(name, &raw.to_le_bytes());
                efuse.table.field(name).map_or(0, Field::len)
            }
            Part::Register(bits) => {
                registers.push((bits.register, (raw & (u32::MAX >> (32 - u32::from(bits.len.max(1))))) << bits.bit));
                u16::from(bits.len)
            }
        };
        raw = raw.checked_shr(len.into()).unwrap_or(0);
    }
}

/// CRC-8 with polynomial 0x31, reflected, as the ESP32 keeps it beside its MAC address.
fn crc8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc: u8, _| if crc & 1 == 1 { crc >> 1 ^ 0x8c } else { crc >> 1 })
    })
}
