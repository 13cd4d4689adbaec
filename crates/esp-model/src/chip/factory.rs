//! What a new chip holds: the reverse of `identity`, for simulated chips.

use crate::mac::Mac;
use std::collections::BTreeMap;

use super::Chip;
use super::identity::{MacSource, Part, Preset, Value};

/// A new chip's eFuses and registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FactoryState {
    /// Words of all eFuse blocks by block number.
    pub efuses: BTreeMap<u8, Vec<u32>>,
    /// Registers with a content that tools read.
    pub registers: Vec<Preset>,
}

/// A new chip as it leaves the factory: the MAC address and revision (major × 100 + minor) that are asked for, or
/// those that the chip's data names.
pub fn default_efuses(chip: &Chip, mac: Option<Mac>, revision: Option<u16>) -> FactoryState {
    let table = chip.efuse();
    let blocks = table.blocks.iter().map(|block| (block.id, vec![0; usize::from(block.words)]));
    let mut state = FactoryState { efuses: blocks.collect(), registers: chip.factory.registers.clone() };
    for (name, value) in &chip.factory.efuses {
        state.set(chip, name, *value);
    }
    let revision = revision.unwrap_or(chip.factory.revision);
    state.set_value(chip, chip.identity.major.as_ref(), u32::from(revision / 100));
    state.set_value(chip, chip.identity.minor.as_ref(), u32::from(revision % 100));
    state.set_mac(chip, mac.unwrap_or(chip.factory.mac));
    state
}

impl FactoryState {
    /// The word a read of this address gives: an eFuse word, a register with a known content, or 0.
    pub fn word(&self, chip: &Chip, address: u32) -> u32 {
        if let Some(preset) = self.registers.iter().find(|preset| preset.register == address) {
            return preset.value;
        }
        let efuse = chip.efuse().blocks.iter().find_map(|block| {
            let index = usize::try_from(address.checked_sub(block.read)? / 4).ok()?;
            self.efuses.get(&block.id)?.get(index).copied()
        });
        efuse.unwrap_or(0)
    }

    fn set(&mut self, chip: &Chip, name: &str, value: u32) {
        if let Some(field) = chip.efuse().field(name)
            && let Some(words) = self.efuses.get_mut(&field.block)
        {
            field.store(words, &value.to_le_bytes());
        }
    }

    /// Sets the parts of a value so that they combine to `wanted`.
    fn set_value(&mut self, chip: &Chip, value: Option<&Value>, wanted: u32) {
        let Some(value) = value else { return };
        let looked_up = value.map.iter().find(|(_, meaning)| **meaning == wanted).map(|(raw, _)| raw.parse());
        let mut rest = looked_up.and_then(Result::ok).unwrap_or(wanted);
        for part in &value.parts {
            let len = match part {
                Part::Efuse(name) => {
                    let len = chip.efuse().field(name).map_or(0, crate::efuse::Field::len);
                    self.set(chip, name, rest);
                    u32::from(len)
                }
                Part::Register(bits) => {
                    self.preset(bits.register, bits.placed(rest));
                    u32::from(bits.len)
                }
            };
            rest = rest.checked_shr(len).unwrap_or(0);
        }
    }

    fn preset(&mut self, register: u32, bits: u32) {
        match self.registers.iter_mut().find(|preset| preset.register == register) {
            Some(preset) => preset.value |= bits,
            None => self.registers.push(Preset { register, value: bits }),
        }
    }

    fn set_mac(&mut self, chip: &Chip, mac: Mac) {
        let [a, b, c, d, e, f] = mac.0;
        match chip.identity.mac {
            MacSource::Field => {
                if let Some(field) = chip.efuse().field("MAC")
                    && let Some(words) = self.efuses.get_mut(&field.block)
                {
                    field.store(words, &mac.reversed());
                }
                self.set(chip, "MAC_CRC", u32::from(mac.crc8()));
            }
            MacSource::Esp8266Otp => {
                self.set(chip, "MAC_LOW", u32::from(f));
                self.set(chip, "MAC_MID", u32::from_be_bytes([0, 0, d, e]));
                self.set(chip, "MAC_OUI", u32::from_be_bytes([0, a, b, c]));
            }
        }
    }
}
