//! The mask ROM: from the packed form of the build, or from Espressif's ELF file.

use std::collections::BTreeMap;
use std::io::Read as _;

use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SectionKind, SymbolKind};

static ROMS: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/roms.rs"));

/// Larger than any ROM with its names, unpacked.
const LARGEST: u64 = 8 << 20;

/// A ROM cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RomError {
    /// This build has none.
    #[error("the mask ROM {0} is not built in")]
    Missing(String),
    /// The file is no such ELF.
    #[error("the mask ROM is damaged: {0}")]
    Damaged(String),
}

/// A mask ROM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rom {
    /// Where the ELF says that it begins.
    pub entry: u32,
    /// Sections with bytes: address, name, bytes.
    pub sections: Vec<(u32, String, Vec<u8>)>,
    /// Functions by address.
    pub functions: BTreeMap<u32, String>,
}

/// Names of the ROMs that are built in.
pub fn built_in() -> impl Iterator<Item = &'static str> {
    ROMS.iter().map(|(name, _)| *name)
}

/// Names of the built-in ROMs of a chip, one for each revision of it that has its own.
pub fn built_in_for(chip: &str) -> Vec<&'static str> {
    let is_of = |name: &&str| name.strip_prefix(chip).is_some_and(|rest| rest.starts_with("_rev"));
    built_in().filter(is_of).collect()
}

impl Rom {
    /// The built-in ROM of that name.
    pub fn named(name: &str) -> Result<Self, RomError> {
        let packed = ROMS.iter().find(|(known, _)| *known == name).map(|(_, packed)| *packed);
        let packed = packed.ok_or_else(|| RomError::Missing(name.to_owned()))?;
        let mut plain = Vec::new();
        let unpacked = flate2::read::ZlibDecoder::new(packed).take(LARGEST).read_to_end(&mut plain);
        unpacked.map_err(|error| RomError::Damaged(error.to_string()))?;
        unpack(&mut plain.as_slice()).ok_or_else(|| RomError::Damaged("it ends early".into()))
    }

    /// From Espressif's ELF file.
    pub fn from_elf(elf: &[u8]) -> Result<Self, RomError> {
        let damaged = |error: object::Error| RomError::Damaged(error.to_string());
        let file = object::File::parse(elf).map_err(damaged)?;
        let mut rom = Self { entry: file.entry() as u32, ..Self::default() };
        for section in file.sections() {
            if section.address() != 0 && section.size() != 0 && section.kind() != SectionKind::UninitializedData {
                let name = section.name().map_err(damaged)?.to_owned();
                rom.sections.push((section.address() as u32, name, section.data().map_err(damaged)?.to_vec()));
            }
        }
        for symbol in file.symbols() {
            if symbol.kind() == SymbolKind::Text
                && let Ok(name) = symbol.name()
            {
                rom.functions.entry(symbol.address() as u32).or_insert_with(|| name.to_owned());
            }
        }
        Ok(rom)
    }

    /// The function that an address is in, when the ROM's names know it.
    pub fn function(&self, address: u32) -> Option<&str> {
        self.functions.range(..=address).next_back().map(|(_, name)| name.as_str())
    }

    /// The same, for addresses in the ROM only.
    pub fn function_in_rom(&self, address: u32) -> Option<&str> {
        let inside = |(start, _, data): &&(u32, String, Vec<u8>)| address.wrapping_sub(*start) < data.len() as u32;
        self.sections.iter().find(inside).and_then(|_| self.function(address))
    }

    /// The bytes of a ROM of that size, which appears at `views`: (first address, first byte shown there).
    ///
    /// The ELF has `.data*` at their addresses in RAM only. The ROM's start-up code copies them from ROM by a table
    /// of entries `(begin, end, source)`; where such an entry names a section, its bytes belong at `source`.
    pub fn image(&self, views: &[(u32, u32)], size: u32) -> Vec<u8> {
        let offset = |address: u32| {
            let shown = views.iter().filter_map(|(start, first)| address.checked_sub(*start)?.checked_add(*first));
            shown.filter(|offset| *offset < size).min()
        };
        let mut bytes = vec![0; size as usize];
        for (address, name, data) in &self.sections {
            if let (Some(at), false) = (offset(*address), name.starts_with(".eh_frame")) {
                place(&mut bytes, at, data);
            }
        }
        let words: Vec<u32> =
            bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect();
        for (address, name, data) in &self.sections {
            if !name.starts_with(".data") || offset(*address).is_some() {
                continue;
            }
            let last = u64::from(*address) + data.len() as u64 + 64;
            for entry in words.windows(3) {
                let [begin, end, source] = [entry[0], entry[1], entry[2]];
                if begin == *address
                    && end > begin
                    && u64::from(end) <= last
                    && let Some(at) = offset(source)
                {
                    place(&mut bytes, at, data);
                }
            }
        }
        bytes
    }
}

fn place(bytes: &mut [u8], at: u32, data: &[u8]) {
    let Some(target) = bytes.get_mut(at as usize..) else { return };
    target.iter_mut().zip(data).for_each(|(to, from)| *to = *from);
}

fn unpack(rest: &mut &[u8]) -> Option<Rom> {
    let mut rom = Rom { entry: word(rest)?, ..Rom::default() };
    for _ in 0..word(rest)? {
        let address = word(rest)?;
        let name = String::from_utf8_lossy(text(rest)?).into_owned();
        rom.sections.push((address, name, text(rest)?.to_vec()));
    }
    for _ in 0..word(rest)? {
        let address = word(rest)?;
        rom.functions.insert(address, String::from_utf8_lossy(text(rest)?).into_owned());
    }
    Some(rom)
}

fn word(rest: &mut &[u8]) -> Option<u32> {
    let (bytes, tail) = rest.split_first_chunk::<4>()?;
    *rest = tail;
    Some(u32::from_le_bytes(*bytes))
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = word(rest)? as usize;
    let (bytes, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(bytes)
}

#[cfg(all(test, feature = "roms"))]
mod tests {
    use super::*;

    #[test]
    fn data_sections_are_placed_where_the_start_up_code_copies_them_from() {
        let rom = Rom::named("esp32c3_rev300_rom").unwrap();
        assert_eq!(rom.entry, 0x4000_0000);
        let window = rom.image(&[(0x4000_0000, 0), (0x3ff0_0000, 0x4_0000)], 0x6_0000);
        let placed = rom.sections.iter().filter(|(_, name, _)| name.starts_with(".data"));
        let found = placed.filter(|(_, _, data)| window.windows(data.len()).any(|part| part == data.as_slice()));
        assert!(found.count() >= 10);
        assert!(rom.functions.values().any(|name| name == "ets_printf"));
    }

    #[test]
    fn a_missing_or_damaged_rom_is_said() {
        assert_eq!(Rom::named("none"), Err(RomError::Missing("none".into())));
        assert!(matches!(Rom::from_elf(b"\x7fELF"), Err(RomError::Damaged(_))));
    }
}
