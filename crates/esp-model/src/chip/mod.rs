//! Chips as data: one folder `chips/ID/` each, read here and nowhere else.
//!
//! Code matches on the *behaviour* a chip's data names (`coding`, `reset`, `status_len` …), never on its name.

mod boot;
mod emulation;
mod factory;
mod flash;
mod identity;
mod image;
mod loader;
mod registers;
mod schema;
mod security;

use std::ops::RangeInclusive;
use std::sync::OnceLock;

use crate::efuse::{EfuseTable, Overlay};
pub use boot::*;
pub use emulation::Emulation;
pub use factory::{FactoryState, default_efuses};
pub use flash::*;
pub use identity::*;
pub use image::*;
pub use loader::*;
pub use registers::{FieldValue, Meaning, Register, RegisterGroup, RegisterTable};
pub use schema::*;
pub use security::*;

/// The text of one chip's folder.
struct ChipFiles {
    id: &'static str,
    chip: &'static str,
    efuse: &'static str,
    registers: &'static str,
    size: &'static str,
    qemu: &'static str,
    /// What chips are searched by, taken out of `chip` by the build script: reading all files takes milliseconds.
    chip_id: Option<u16>,
    bootloader_offset: u32,
}

static FILES: &[ChipFiles] = include!(concat!(env!("OUT_DIR"), "/chips.rs"));

/// What differs on ranges of revisions (major × 100 + minor).
type ByRevision<T> = Vec<(RangeInclusive<u16>, T)>;

/// A chip; each of its files is read when it is first asked for.
#[derive(Debug)]
pub struct Chip {
    /// The folder's name, as in URLs and parameters: `esp32c6`.
    pub id: &'static str,
    /// [`ChipData::chip_id`], without reading the file.
    pub chip_id: Option<u16>,
    /// [`Flash::bootloader_offset`], without reading the file.
    pub bootloader_offset: u32,
    files: usize,
    data: OnceLock<ChipData>,
    other_data: OnceLock<ByRevision<ChipData>>,
    efuse: OnceLock<EfuseTable>,
    registers: OnceLock<RegisterTable>,
    other_efuse: OnceLock<ByRevision<EfuseTable>>,
}

impl std::ops::Deref for Chip {
    type Target = ChipData;
    fn deref(&self) -> &ChipData {
        self.data()
    }
}

/// All chips, by id.
pub fn all() -> &'static [Chip] {
    static CHIPS: OnceLock<Vec<Chip>> = OnceLock::new();
    CHIPS.get_or_init(|| {
        let unread = |(files, text): (usize, &ChipFiles)| Chip {
            id: text.id,
            chip_id: text.chip_id,
            bootloader_offset: text.bootloader_offset,
            files,
            data: OnceLock::new(),
            other_data: OnceLock::new(),
            efuse: OnceLock::new(),
            registers: OnceLock::new(),
            other_efuse: OnceLock::new(),
        };
        FILES.iter().enumerate().map(unread).collect()
    })
}

/// What `chip.toml` says of the revisions that differ.
fn read_revisions(text: &str, usual: &ChipData) -> Result<ByRevision<ChipData>, toml::de::Error> {
    let table: toml::Table = toml::from_str(text)?;
    let mut others = Vec::new();
    for other in &usual.revisions {
        let mut changed = table.clone();
        merge(&mut changed, &other.change);
        others.push((other.min_revision..=other.max_revision, changed.try_into()?));
    }
    Ok(others)
}

/// Puts `change` over `table`, going into tables that both have.
fn merge(table: &mut toml::Table, change: &toml::Table) {
    for (key, value) in change {
        match (table.get_mut(key), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(other)) => merge(inner, other),
            _ => drop(table.insert(key.clone(), value.clone())),
        }
    }
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
    all().iter().find(|chip| chip.detect.by_magic && chip.detect.magic.contains(&magic))
}

impl Chip {
    /// # Panics
    /// Never on shipped data: a test reads every folder.
    fn data(&self) -> &ChipData {
        self.data.get_or_init(|| toml::from_str(FILES[self.files].chip).unwrap_or_else(|error| self.bad_file(&error)))
    }

    fn bad_file(&self, error: &toml::de::Error) -> ! {
        panic!("chips/{}/chip.toml: {error}", self.id)
    }

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

    /// What `chip.toml` says of this revision (major × 100 + minor).
    pub fn at(&self, revision: u16) -> &ChipData {
        let usual = self.data();
        if usual.revisions.is_empty() {
            return usual;
        }
        let text = FILES[self.files].chip;
        let read = || read_revisions(text, usual).unwrap_or_else(|error| self.bad_file(&error));
        let others = self.other_data.get_or_init(read);
        others.iter().find(|(range, _)| range.contains(&revision)).map_or(usual, |(_, data)| data)
    }

    /// The eFuse table of this revision (major × 100 + minor); [`Chip::efuse`] is that of the newest silicon.
    pub fn efuse_at(&self, revision: u16) -> &EfuseTable {
        let others = self.other_efuse.get_or_init(|| {
            let table = self.efuse();
            let at = |overlay: &Overlay| {
                let range = overlay.min_revision..=overlay.max_revision;
                (range.clone(), table.at(*range.start()))
            };
            table.overlays.iter().map(at).collect()
        });
        others.iter().find(|(range, _)| range.contains(&revision)).map_or(self.efuse(), |(_, table)| table)
    }

    /// The chip's named registers.
    ///
    /// # Panics
    /// Never on shipped data: a test reads every table.
    pub fn registers(&self) -> &RegisterTable {
        self.registers.get_or_init(|| {
            RegisterTable::parse(FILES[self.files].registers)
                .unwrap_or_else(|error| panic!("chips/{}/registers.toml: {error}", self.id))
        })
    }

    /// The text of `size.toml`, empty when the chip has none.
    pub fn size_text(&self) -> &'static str {
        FILES[self.files].size
    }
}

#[cfg(test)]
mod tests;
