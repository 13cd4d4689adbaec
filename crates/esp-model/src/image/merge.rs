//! Several files as one, byte for byte as `esptool merge-bin` does it, and the way back.

use sha2::{Digest as _, Sha256};

use super::build::{BuildError, frequency_code, size_code};
use super::hex::{self, HexError, Part};
use super::uf2::{self, Uf2Error};
use super::{DIGEST_LEN, FlashMode, Header, MAGIC, parse};
use crate::chip::Chip;

/// Bytes of a flash sector: files must not share one.
pub const SECTOR: u64 = 0x1000;

/// Why files cannot be merged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// No files.
    #[error("nothing to merge")]
    Empty,
    /// Two files in one sector.
    #[error("the bytes at {address:#x} overlap those before, which end at {end:#x} (sectors of 4096 bytes count)")]
    Overlap {
        /// Where the later one begins.
        address: u32,
        /// Where the earlier one ends.
        end: u64,
    },
    /// A file before the output's start.
    #[error("the bytes at {address:#x} are before the output's start at {start:#x}")]
    BeforeStart {
        /// Where the file begins.
        address: u32,
        /// Where the output begins.
        start: u32,
    },
    /// More than can be one file.
    #[error("the output would have {0} bytes")]
    TooLarge(u64),
    /// A HEX file that is damaged.
    #[error(transparent)]
    Hex(#[from] HexError),
    /// Blocks cannot be written.
    #[error(transparent)]
    Uf2(#[from] Uf2Error),
    /// The chip cannot have these flash settings.
    #[error(transparent)]
    Flash(#[from] BuildError),
}

/// Flash settings for a bootloader's header; None keeps what is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlashSettings {
    /// Mode.
    pub mode: Option<FlashMode>,
    /// Size in the chip's spelling: `4MB`.
    pub size: Option<String>,
    /// Frequency in the chip's spelling: `80m`.
    pub frequency: Option<String>,
}

impl FlashSettings {
    /// Nothing is to be changed.
    pub fn is_keep(&self) -> bool {
        *self == Self::default()
    }
}

/// What became of flash settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patched {
    /// Nothing was asked for, or these bytes are not at the bootloader's place.
    NotAsked,
    /// The bytes are not an image of this chip, so they stay as they are.
    NotAnImage,
    /// The header holds what was asked for; the SHA-256 was made anew where there is one.
    Done,
}

/// Sets mode, size and frequency in a bootloader's header.
///
/// # Errors
/// The chip has no such size or frequency.
pub fn set_flash(
    chip: &'static Chip,
    address: u32,
    image: &mut Vec<u8>,
    settings: &FlashSettings,
) -> Result<Patched, BuildError> {
    if image.len() < Header::LEN || address != chip.flash.bootloader_offset || settings.is_keep() {
        return Ok(Patched::NotAsked);
    }
    let Some(header) = Header::decode(image).filter(|header| header.magic == MAGIC) else {
        return Ok(Patched::NotAnImage);
    };
    let Ok(parsed) = parse::parse_for(chip, image) else { return Ok(Patched::NotAnImage) };
    let digest_at = parsed.extended.filter(|extended| extended.append_digest == 1).map(|_| parsed.data_len);

    let mode = settings.mode.map_or(header.flash_mode, |mode| mode as u8);
    let frequency = match &settings.frequency {
        Some(name) => frequency_code(chip, name)?,
        None => header.flash_size_freq & 0x0f,
    };
    let size = match &settings.size {
        Some(name) => size_code(chip, name)?,
        None => header.flash_size_freq & 0xf0,
    };
    let patched = Header { flash_mode: mode, flash_size_freq: size | frequency, ..header };
    if let Some(place) = image.first_chunk_mut() {
        *place = patched.encode();
    }
    if let Some(at) = digest_at {
        let digest = Sha256::digest(image.get(..at).unwrap_or_default());
        image.resize(image.len().max(at + DIGEST_LEN), 0);
        if let Some(place) = image.get_mut(at..at + DIGEST_LEN) {
            place.copy_from_slice(&digest);
        }
    }
    Ok(Patched::Done)
}

/// A file's bytes as parts: Intel HEX brings its own addresses.
///
/// # Errors
/// A damaged HEX file.
pub fn parts_of(address: u32, data: Vec<u8>) -> Result<Vec<Part>, MergeError> {
    if hex::is_hex(&data) { Ok(hex::read(&data)?) } else { Ok(vec![Part { address, data }]) }
}

/// Sorts the parts, refuses those that share a sector, and sets the flash settings.
///
/// # Errors
/// No parts, overlap, flash settings that the chip does not have.
pub fn prepare(chip: &'static Chip, mut parts: Vec<Part>, flash: &FlashSettings) -> Result<Vec<Part>, MergeError> {
    if parts.is_empty() {
        return Err(MergeError::Empty);
    }
    parts.sort_by_key(|part| part.address);
    check_overlap(&parts)?;
    for part in &mut parts {
        set_flash(chip, part.address, &mut part.data, flash)?;
    }
    Ok(parts)
}

/// Two parts must not share a sector: writing the one erases the other. The parts are sorted.
pub fn check_overlap(parts: &[Part]) -> Result<(), MergeError> {
    let mut end = 0;
    for part in parts {
        let start = u64::from(part.address) / SECTOR * SECTOR;
        if start < end {
            return Err(MergeError::Overlap { address: part.address, end });
        }
        end = part.end().next_multiple_of(SECTOR);
    }
    Ok(())
}

/// Filling of gaps.
static FILLING: [u8; 1 << 16] = [0xff; 1 << 16];

/// Prepared parts as one file for the flash address `start`, gaps filled with 0xFF: the pieces of the file in their order.
///
/// `pad_to`: the flash address up to which the file is filled, when it does not reach it.
///
/// # Errors
/// Parts before `start`, and files of more than 1 GB.
pub fn raw(parts: &[Part], start: u32, pad_to: Option<u32>) -> Result<Vec<&[u8]>, MergeError> {
    const LIMIT: u64 = 1 << 30;
    let first = parts.first().ok_or(MergeError::Empty)?;
    if first.address < start {
        return Err(MergeError::BeforeStart { address: first.address, start });
    }
    let pad_to = pad_to.map_or(0, u64::from);
    let end = parts.iter().map(Part::end).max().unwrap_or(0).max(pad_to);
    let len = end.saturating_sub(u64::from(start));
    if len > LIMIT {
        return Err(MergeError::TooLarge(len));
    }
    let mut out = Vec::new();
    let mut at = u64::from(start);
    for part in parts {
        fill(&mut out, at, u64::from(part.address));
        out.push(part.data.as_slice());
        at = part.end();
    }
    fill(&mut out, at, pad_to);
    Ok(out)
}

/// Filling from one address to another, in pieces that end where pages of a file end.
fn fill(out: &mut Vec<&[u8]>, mut from: u64, to: u64) {
    while from < to {
        let room = FILLING.len() as u64 - from % FILLING.len() as u64;
        let piece = FILLING.get(..room.min(to - from) as usize).unwrap_or_default();
        out.push(piece);
        from += piece.len() as u64;
    }
}

/// Prepared parts as UF2 for the chip.
///
/// # Errors
/// See [`uf2::write`].
pub fn to_uf2(chip: &Chip, parts: &[Part], chunk: Option<u32>, md5: bool) -> Result<Vec<u8>, MergeError> {
    Ok(uf2::write(parts, chip.image.uf2_family.unwrap_or(0), chunk, md5)?)
}

/// Prepared parts as Intel HEX.
pub fn to_hex(parts: &[Part]) -> String {
    hex::write(parts)
}

/// A flash image's contents without the filling: runs of sectors that are not all 0xFF, cut behind their last byte
/// that is not 0xFF.
pub fn split_blank(start: u32, bytes: &[u8]) -> Vec<Part> {
    let sector = SECTOR as usize;
    let mut parts: Vec<Part> = Vec::new();
    let mut open = false;
    for (index, data) in bytes.chunks(sector).enumerate() {
        if data.iter().all(|byte| *byte == 0xff) {
            open = false;
            continue;
        }
        match parts.last_mut() {
            Some(last) if open => last.data.extend_from_slice(data),
            _ => parts.push(Part { address: start.wrapping_add((index * sector) as u32), data: data.to_vec() }),
        }
        open = true;
    }
    for part in &mut parts {
        let used = part.data.iter().rposition(|byte| *byte != 0xff).map_or(0, |at| at + 1);
        part.data.truncate(used);
    }
    parts
}

/// The chip whose images have a UF2 family.
pub fn chip_of_family(family: u32) -> Option<&'static Chip> {
    crate::chip::all().iter().find(|chip| chip.image.uf2_family == Some(family))
}
