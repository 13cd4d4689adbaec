//! ELF files as far as images need them: most of a file is debug information.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::ops::Range;

use esp_model::image::elf;
use sha2::{Digest, Sha256};

use super::{Files, read_error};
use crate::error::ToolError;

impl Files {
    /// An ELF file's bytes as far as images are built from them, zeros elsewhere, and the SHA-256 of the whole file. Most
    /// of a file goes through the hash and is not kept.
    pub fn read_elf(&self, path: &str) -> Result<(Vec<u8>, [u8; 32]), ToolError> {
        let (mut file, _, len) = self.open(path)?;
        let mut piece = |range: Range<u64>| {
            let mut bytes = vec![0; usize::try_from(range.end.min(len).checked_sub(range.start)?).ok()?];
            file.seek(io::SeekFrom::Start(range.start)).and_then(|_| file.read_exact(&mut bytes)).ok()?;
            (range.end <= len).then_some(bytes)
        };
        let Some(needed) = elf::needed(&mut piece) else {
            let bytes = self.read_some(path)?;
            let hash = Sha256::digest(&bytes).into();
            return Ok((bytes, hash));
        };
        read_parts(file, len, &needed).map_err(|error| read_error(path, &error))
    }
}

/// Reads a file in pieces, hashes all of it and keeps the needed ranges, which are in order.
fn read_parts(mut file: File, len: u64, needed: &[Range<u64>]) -> io::Result<(Vec<u8>, [u8; 32])> {
    let mut kept = vec![0; usize::try_from(len).unwrap_or(0)];
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    file.seek(io::SeekFrom::Start(0))?;
    let mut at = 0u64;
    let mut needed = needed.iter().peekable();
    loop {
        let count = file.read(&mut buffer)?;
        let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else { break };
        hash.update(piece);
        let end = at + count as u64;
        while let Some(range) = needed.peek().filter(|range| range.start < end) {
            let (from, to) = (range.start.max(at), range.end.min(end).min(len));
            let source = piece.get((from - at) as usize..to.saturating_sub(at) as usize);
            let target = kept.get_mut(from as usize..to as usize);
            if let (Some(source), Some(target)) = (source, target) {
                target.copy_from_slice(source);
            }
            if range.end > end {
                break;
            }
            needed.next();
        }
        at = end;
    }
    Ok((kept, hash.finalize().into()))
}
