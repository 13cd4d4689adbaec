//! What a build occupies: by memory, section, archive, object and symbol, from the linker's map and the ELF file.
//!
//! The numbers are those of `esp-idf-size`; so are the rules by which linker sections are counted or left out.

pub mod diff;
mod map;
mod place;
pub mod symbols;
pub mod treemap;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::chip::{self, Chip};
pub use map::MapError;

/// Why sizes could not be found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// The map is not readable.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The map does not tell for which chip it is.
    #[error("the map does not name its chip")]
    NoChip,
    /// There are no memory types for this chip.
    #[error("the memories of {0} are not known to size reports")]
    UnknownChip(String),
    /// The ELF file is not readable.
    #[error("the ELF file is not readable: {0}")]
    Elf(String),
}

/// A kind of memory, as size reports see it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryType {
    /// Its name: `DRAM`, `Flash Code` …
    pub name: String,
    /// First address.
    pub start: u32,
    /// Bytes.
    pub len: u32,
    /// First address of a second view on the same memory.
    pub alias: Option<u32>,
    /// Flash: how much there is depends on the partition, not on the linker.
    #[serde(default)]
    pub flash: bool,
    /// External RAM: how much there is becomes known at boot only.
    #[serde(default)]
    pub external_ram: bool,
}

/// The memory types of a chip, in the order in which an address is looked up.
///
/// # Errors
/// No data for the chip.
pub fn memory_types(chip: &Chip) -> Result<Vec<MemoryType>, SizeError> {
    #[derive(Deserialize)]
    struct File {
        memory: Vec<MemoryType>,
    }
    let file: File = toml::from_str(chip.size_text()).map_err(|_| SizeError::UnknownChip(chip.name.clone()))?;
    Ok(file.memory)
}

/// What a build occupies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// The chip's id: `esp32c6`.
    pub chip: String,
    /// Bytes of the sections that make up the image.
    pub image_bytes: u64,
    /// By memory type; only those that are used.
    pub memory: BTreeMap<String, Memory>,
}

/// A memory type's use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Bytes that the linker has; 0 where that is not a limit (flash, external RAM).
    pub total_bytes: u64,
    /// Bytes in use.
    pub used_bytes: u64,
    /// By output section.
    pub sections: BTreeMap<String, Section>,
}

impl Memory {
    /// Bytes left; None where there is no limit.
    pub fn free_bytes(&self) -> Option<i64> {
        (self.total_bytes != 0).then(|| self.total_bytes as i64 - self.used_bytes as i64)
    }
}

/// An output section's use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Section {
    /// Its bytes with filling.
    pub bytes: u64,
    /// By archive; `(exe)` holds objects without one.
    pub archives: BTreeMap<String, Archive>,
}

/// An archive's share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Archive {
    /// Its bytes without filling.
    pub bytes: u64,
    /// By object file.
    pub objects: BTreeMap<String, Object>,
}

/// An object file's share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Object {
    /// Its bytes without filling.
    pub bytes: u64,
    /// By symbol; without an ELF file by input section.
    pub symbols: BTreeMap<String, u64>,
}

/// Sizes from the linker's map and, where there is one, the ELF file (for symbols, and for what the image holds).
///
/// # Errors
/// A map or ELF file that is not readable, a chip without data.
pub fn from_map(map: &str, elf: Option<&[u8]>) -> Result<Sizes, SizeError> {
    let map = map::MapFile::parse(map)?;
    let id = map.chip.clone().ok_or(SizeError::NoChip)?;
    let chip = chip::by_name(&id).ok_or(SizeError::UnknownChip(id))?;
    let elf = elf.map(symbols::ElfFacts::read).transpose()?;
    place::place(chip, map, elf.as_ref())
}

/// What shows that a map and an ELF file are of different builds; None when their sections are the same.
///
/// # Errors
/// A map or ELF file that is not readable.
pub fn other_build(map: &str, elf: &[u8]) -> Result<Option<String>, SizeError> {
    let (map, elf) = (map::MapFile::parse(map)?, symbols::ElfFacts::read(elf)?);
    let differs = map.outputs.iter().find_map(|output| {
        let section = elf.sections.get(&output.name).filter(|_| output.len > 0)?;
        let same = (section.address, section.len) == (output.address, output.len);
        (!same).then(|| {
            format!(
                "{} has {} bytes at {:#x} in the map and {} at {:#x} in the ELF file",
                output.name, output.len, output.address, section.len, section.address
            )
        })
    });
    Ok(differs)
}

/// A memory into which more was put than it holds: the linker refuses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overflow {
    /// The memory.
    pub memory: String,
    /// Bytes too many.
    pub bytes: u64,
    /// Object files in it as `archive:object`, the largest first.
    pub largest: Vec<(String, u64)>,
}

/// Sizes from an ELF file alone: sections and symbols, no archives, and no totals of memories.
///
/// # Errors
/// An ELF file that is not readable, a chip without data.
pub fn from_elf(chip: &Chip, elf: &[u8]) -> Result<Sizes, SizeError> {
    place::place_elf(chip, &symbols::ElfFacts::read(elf)?)
}

/// What takes part in a ranking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Output sections.
    Section,
    /// Archives.
    Archive,
    /// Object files, as `archive:object`.
    Object,
    /// Symbols, as `archive:object:symbol`.
    Symbol,
}

impl Sizes {
    /// The bytes of everything on a level, over all memories.
    pub fn totals(&self, level: Level) -> BTreeMap<String, u64> {
        let mut totals = BTreeMap::new();
        let mut add = |name: String, bytes: u64| *totals.entry(name).or_insert(0) += bytes;
        let sections = self.memory.values().flat_map(|memory| &memory.sections);
        for (section, of_section) in sections {
            if level == Level::Section {
                add(section.clone(), of_section.bytes);
                continue;
            }
            for (archive, of_archive) in &of_section.archives {
                if level == Level::Archive {
                    add(archive.clone(), of_archive.bytes);
                    continue;
                }
                for (object, of_object) in &of_archive.objects {
                    if level == Level::Object {
                        add(format!("{archive}:{object}"), of_object.bytes);
                        continue;
                    }
                    for (symbol, bytes) in &of_object.symbols {
                        add(format!("{archive}:{object}:{symbol}"), *bytes);
                    }
                }
            }
        }
        totals
    }

    /// Memories that hold too much, each with its `count` largest object files.
    pub fn overflows(&self, count: usize) -> Vec<Overflow> {
        let over = |memory: &Memory| memory.free_bytes().filter(|free| *free < 0).map(i64::unsigned_abs);
        let found = self.memory.iter().filter_map(|(name, memory)| Some((name, memory, over(memory)?)));
        found
            .map(|(name, memory, bytes)| {
                let alone = Self {
                    chip: self.chip.clone(),
                    image_bytes: 0,
                    memory: BTreeMap::from([(name.clone(), memory.clone())]),
                };
                Overflow { memory: name.clone(), bytes, largest: alone.largest(Level::Object, count) }
            })
            .collect()
    }

    /// The largest on a level, the largest first.
    pub fn largest(&self, level: Level, count: usize) -> Vec<(String, u64)> {
        let mut list: Vec<_> = self.totals(level).into_iter().filter(|(_, bytes)| *bytes > 0).collect();
        list.sort_by(|(a_name, a), (b_name, b)| b.cmp(a).then_with(|| a_name.cmp(b_name)));
        list.truncate(count);
        list
    }
}

/// The part of a section's, archive's or object's name that people read: `.dram0.data` → `.data`.
pub fn short_name(name: &str) -> &str {
    match name.rsplit_once('/') {
        Some((_, last)) => last,
        None => name,
    }
}
