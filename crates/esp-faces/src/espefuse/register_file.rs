//! The file in which espefuse keeps a virtual chip: the eFuse registers, last byte first.

use std::fs;
use std::path::Path;

use esp_model::chip::Chip;
use esp_model::efuse::{ControllerStyle, EfuseTable, Efuses};

use crate::fault::Fault;

/// Bytes of the register window: the first chips', and the later ones'.
const SMALL: usize = 0x120;
const LARGE: usize = 0x200;

/// First address of the window.
fn base(table: &EfuseTable) -> u32 {
    let first = table.blocks.first().map_or(0, |block| block.read);
    table.controller.as_ref().and_then(|controller| controller.pgm_data).unwrap_or(first)
}

fn length(table: &EfuseTable) -> usize {
    let small = table.controller.as_ref().is_some_and(|controller| controller.style == ControllerStyle::Esp32);
    if small { SMALL } else { LARGE }
}

/// The register's four bytes in the file.
fn place(bytes: &mut [u8], offset: u32) -> Option<&mut [u8; 4]> {
    let end = bytes.len().checked_sub(offset as usize)?;
    bytes.get_mut(end.checked_sub(4)?..end)?.first_chunk_mut()
}

/// The chip's eFuses in a file; a missing or empty file is a blank chip.
pub fn load(chip: &'static Chip, path: &Path) -> Result<Efuses, Fault> {
    let newest = chip.efuse();
    let mut bytes = fs::read(path).unwrap_or_default();
    if bytes.is_empty() {
        return Ok(at_own_revision(chip, Efuses::blank(newest)));
    }
    let base = base(newest);
    let mut word = |address: u32| place(&mut bytes, address - base).map_or(0, |bytes| u32::from_be_bytes(*bytes));
    let blocks = newest.blocks.iter().map(|block| {
        let words = (0..u32::from(block.words)).map(|index| word(block.read + index * 4)).collect();
        (block.id, words)
    });
    let blocks = blocks.collect();
    Ok(at_own_revision(chip, Efuses::new(newest, &blocks)))
}

/// The map that fits the revision in the eFuses.
fn at_own_revision(chip: &'static Chip, efuses: Efuses) -> Efuses {
    let mut efuses = Efuses { table: chip.efuse_at(revision(&efuses)), ..efuses };
    let table = efuses.table;
    for block in &table.blocks {
        let words = efuses.capacity(block) / 4;
        if let Some(block) = efuses.words.get_mut(&block.id) {
            block.iter_mut().skip(words).for_each(|word| *word = 0);
        }
    }
    efuses
}

/// The revision in the eFuses, major × 100 + minor.
pub fn revision(efuses: &Efuses) -> u16 {
    // Of the first chip espefuse's virtual one is always the last revision: a register that is no eFuse tells it.
    if efuses.table.field("CHIP_VER_REV1").is_some() {
        return 300;
    }
    let part = |names: [&str; 2]| names.iter().find_map(|name| efuses.number(name)).unwrap_or(0) as u16;
    part(["WAFER_VERSION_MAJOR", "WAFER_VERSION_MAJOR_LO"]) * 100
        + part(["WAFER_VERSION_MINOR", "WAFER_VERSION_MINOR_LO"])
}

/// Writes the file; what else stands in it stays.
pub fn store(efuses: &Efuses, path: &Path) -> Result<(), Fault> {
    let mut bytes = fs::read(path).unwrap_or_default();
    if bytes.is_empty() {
        bytes = vec![0; length(efuses.table)];
    }
    let base = base(efuses.table);
    for block in &efuses.table.blocks {
        for (word, address) in efuses.block(block.id).iter().zip((block.read..).step_by(4)) {
            if let Some(place) = place(&mut bytes, address - base) {
                *place = word.to_be_bytes();
            }
        }
    }
    Ok(fs::write(path, bytes)?)
}
