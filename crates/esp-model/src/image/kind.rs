//! What a file is, told by its bytes.

use serde::Serialize;

use super::{ParseError, detect, dfu, hex, parse, uf2};
use crate::chip::{self, Chip};
use crate::coredump::{Check, CoreDump};
use crate::fs;
use crate::nvs;
use crate::partition::otadata::{self, Otadata};
use crate::partition::{self, DEFAULT_TABLE_OFFSET, TABLE_LENGTH, Table};

/// Kinds of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// No bytes.
    Empty,
    /// Nothing but 0xFF.
    Blank,
    /// An app or bootloader image.
    Image,
    /// A bootloader, a partition table and what else lies in flash, in one file.
    MergedFlash,
    /// A linked program.
    Elf,
    /// A core dump: ELF, binary or base64.
    CoreDump,
    /// UF2 blocks.
    Uf2,
    /// Intel HEX.
    Hex,
    /// A DFU file of ESP-IDF.
    Dfu,
    /// A binary partition table.
    PartitionTable,
    /// An NVS partition.
    Nvs,
    /// An otadata partition.
    Otadata,
    /// SPIFFS, LittleFS or FAT.
    FileSystem,
    /// Bytes without structure: encrypted, compressed or random.
    Encrypted,
    /// None of these.
    Unknown,
}

/// Tells what the bytes are. An image counts by its first byte even when it is damaged.
pub fn recognise(bytes: &[u8]) -> Kind {
    if bytes.is_empty() {
        return Kind::Empty;
    }
    if uf2::is_uf2(bytes) {
        return Kind::Uf2;
    }
    if hex::is_hex(bytes) {
        return Kind::Hex;
    }
    if dfu::is_dfu(bytes) {
        return Kind::Dfu;
    }
    if bytes.starts_with(b"\x7fELF") {
        // ET_CORE
        let core = bytes.get(16..18) == Some(&[4, 0]);
        return if core { Kind::CoreDump } else { Kind::Elf };
    }
    if bytes.iter().all(|byte| *byte == 0xff) {
        return Kind::Blank;
    }
    if flash_layout(bytes).is_some() {
        return Kind::MergedFlash;
    }
    if detect(bytes).is_ok() && !matches!(parse(bytes), Err(ParseError::Header)) {
        return Kind::Image;
    }
    if Table::is_binary(bytes) {
        return Kind::PartitionTable;
    }
    if is_otadata(bytes) {
        return Kind::Otadata;
    }
    if is_nvs(bytes) {
        return Kind::Nvs;
    }
    if fs::peek(bytes, bytes.len()).is_some() {
        return Kind::FileSystem;
    }
    if CoreDump::parse(bytes, Check::Enforce).is_ok() {
        return Kind::CoreDump;
    }
    if entropy(bytes) > 7.5 { Kind::Encrypted } else { Kind::Unknown }
}

fn is_otadata(bytes: &[u8]) -> bool {
    let data = Otadata::read(bytes);
    bytes.len() >= otadata::ENTRY
        && data.entries.iter().any(otadata::Entry::crc_ok)
        && data.entries.iter().all(|entry| entry.crc_ok() || entry.is_blank())
}

fn is_nvs(bytes: &[u8]) -> bool {
    let known = |page: &&[u8]| {
        let page = nvs::Page::read(0, page);
        page.crc_ok && matches!(page.state, nvs::PageState::Active | nvs::PageState::Full | nvs::PageState::Freeing)
    };
    bytes.len().is_multiple_of(nvs::PAGE) && bytes.chunks(nvs::PAGE).any(|page| known(&page))
}

/// What was found in a file that holds a part of flash from some address on.
#[derive(Debug, Clone)]
pub struct FlashLayout {
    /// The chip that the bootloader is for.
    pub chip: &'static Chip,
    /// Where the bootloader stands in the file.
    pub bootloader: usize,
    /// Where the partition table stands in the file.
    pub table: usize,
}

impl FlashLayout {
    /// The flash address of the file's first byte.
    pub fn base(&self) -> u32 {
        self.chip.flash.bootloader_offset.saturating_sub(self.bootloader as u32)
    }
}

/// A bootloader image and a partition table in one file: at the flash addresses where they belong, or moved together
/// when the file begins at the bootloader.
pub fn flash_layout(bytes: &[u8]) -> Option<FlashLayout> {
    let mut offsets: Vec<usize> = chip::all().iter().map(|chip| chip.bootloader_offset as usize).collect();
    offsets.push(0);
    offsets.sort_unstable();
    offsets.dedup();
    offsets.into_iter().find_map(|bootloader| {
        let image = parse(bytes.get(bootloader..)?).ok()?;
        let home = image.chip.flash.bootloader_offset as usize;
        if bootloader != home && bootloader != 0 {
            return None;
        }
        let end = bootloader + image.data_len;
        let sectors = (end.next_multiple_of(0x1000)..bytes.len().min(0x4_0000)).step_by(0x1000);
        let usual = (DEFAULT_TABLE_OFFSET as usize + bootloader).checked_sub(home);
        let table = usual.into_iter().chain(sectors).find(|at| {
            let sector = bytes.get(*at..(*at + TABLE_LENGTH).min(bytes.len())).unwrap_or_default();
            Table::is_binary(sector) && Table::from_binary(sector, true).is_ok_and(|table| !table.partitions.is_empty())
        })?;
        Some(FlashLayout { chip: image.chip, bootloader, table })
    })
}

/// Shannon entropy in bits a byte: near 8 for encrypted and compressed bytes.
pub fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0u64; 256];
    bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let len = bytes.len().max(1) as f64;
    // Few bytes cannot show more than their number's logarithm: they are no evidence.
    let parts = counts.iter().filter(|count| **count > 0).map(|count| *count as f64 / len);
    if bytes.len() < 512 { 0.0 } else { -parts.map(|part| part * part.log2()).sum::<f64>() }
}

/// The partition table's sector says that flash is encrypted.
pub fn looks_encrypted(sector: &[u8]) -> bool {
    partition::recognise(sector) == partition::Recognised::Encrypted
}
