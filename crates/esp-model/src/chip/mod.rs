//! Chips as data: one folder `chips/ID/` each, read here and nowhere else.
//!
//! Code matches on the *behaviour* a chip's data names (`coding`, `reset`, `status_len` …), never on its name.

mod schema;

use std::sync::OnceLock;

use crate::efuse::EfuseTable;
pub use schema::*;

/// The text of one chip's folder.
struct ChipFiles {
    id: &'static str,
    chip: &'static str,
    efuse: &'static str,
    registers: &'static str,
}

static FILES: &[ChipFiles] = include!(concat!(env!("OUT_DIR"), "/chips.rs"));

/// A chip's data with its lazily read eFuse table.
#[derive(Debug)]
pub struct Chip {
    /// The folder's name, as in URLs and parameters: `esp32c6`.
    pub id: &'static str,
    /// What `chip.toml` says.
    pub data: ChipData,
    files: usize,
    efuse: OnceLock<EfuseTable>,
}

impl std::ops::Deref for Chip {
    type Target = ChipData;
    fn deref(&self) -> &ChipData {
        &self.data
    }
}

/// All chips, by id.
///
/// # Panics
/// Never on shipped data: a test reads every folder.
pub fn all() -> &'static [Chip] {
    static CHIPS: OnceLock<Vec<Chip>> = OnceLock::new();
    CHIPS.get_or_init(|| {
        let read = |(files, text): (usize, &ChipFiles)| {
            let data = toml::from_str(text.chip).unwrap_or_else(|error| panic!("chips/{}/chip.toml: {error}", text.id));
            Chip { id: text.id, data, files, efuse: OnceLock::new() }
        };
        FILES.iter().enumerate().map(read).collect()
    })
}

/// The chip with this name or id, in any of the usual spellings: `esp32c6`, `ESP32-C6`, `esp32-c6`.
pub fn by_name(name: &str) -> Option<&'static Chip> {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    all().iter().find(|chip| chip.id == plain)
}

/// The chip whose ROM or image header names this id (`esp_chip_id_t` of ESP-IDF).
pub fn by_chip_id(id: u16) -> Option<&'static Chip> {
    all().iter().find(|chip| chip.chip_id == Some(id))
}

/// The chip with this value in the magic register, for those that are told apart by it.
pub fn by_magic(magic: u32) -> Option<&'static Chip> {
    all().iter().find(|chip| chip.detect.magic.contains(&magic))
}

impl Chip {
    /// The chip's eFuse table.
    ///
    /// # Panics
    /// Never on shipped data: a test reads every table.
    pub fn efuse(&self) -> &EfuseTable {
        self.efuse.get_or_init(|| {
            EfuseTable::parse(FILES[self.files].efuse)
                .unwrap_or_else(|error| panic!("chips/{}/efuse.toml: {error}", self.id))
        })
    }

    /// The text of `registers.toml`, empty when the chip has none.
    pub fn registers_text(&self) -> &'static str {
        FILES[self.files].registers
    }
}

#[cfg(test)]
mod tests;
