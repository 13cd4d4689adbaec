//! Bytes to and from the accelerators for cryptography, and chips with keys.
#![allow(dead_code, reason = "each test file takes what it needs")]

use esp_machine::{Config, Machine};
use esp_model::efuse::bits::to_words;
use esp_sim::efuse::Efuse;

use crate::registers::{load, store};

pub fn write(machine: &mut Machine, address: u32, bytes: &[u8]) {
    for (at, word) in (address..).step_by(4).zip(bytes.chunks_exact(4)) {
        store(machine, at, u32::from_le_bytes(word.try_into().unwrap()));
    }
}

pub fn read(machine: &mut Machine, address: u32, length: u32) -> Vec<u8> {
    (0..length).step_by(4).flat_map(|at| load(machine, address + at).to_le_bytes()).collect()
}

pub fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

pub fn machine(id: &str) -> Machine {
    Machine::new(Config::new(id, 1 << 20).unwrap()).unwrap()
}

/// A chip with this key in its third key block, for this purpose.
pub fn with_key(id: &str, key: &[u8; 32], purpose: u8) -> Machine {
    with_keys(id, &[(2, *key, purpose)])
}

/// A chip with keys: number of the block, key, purpose.
pub fn with_keys(id: &str, keys: &[(usize, [u8; 32], u8)]) -> Machine {
    let mut config = Config::new(id, 1 << 20).unwrap();
    let mut words = config.efuse.decoded().words.clone();
    for (number, key, _) in keys {
        let name = format!("BLOCK_KEY{number}");
        let block = config.efuse.table().blocks.iter().find(|block| block.name == name).unwrap().id;
        words.insert(block, to_words(key));
    }
    config.efuse = Efuse::new(config.efuse.table(), words);
    for (number, _, purpose) in keys {
        config.efuse.set(&format!("KEY_PURPOSE_{number}"), &[*purpose]);
    }
    Machine::new(config).unwrap()
}

pub fn reversed(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().rev().copied().collect()
}
