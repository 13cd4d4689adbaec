//! What is to be in the flash, read in pieces so that memory stays flat whatever its size.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use md5::{Digest, Md5};

use super::{BLOCK, SECTOR};
use crate::error::LoaderError;

/// Bytes by offset.
pub trait Source {
    /// Number of bytes.
    fn len(&self) -> u64;

    /// There are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` from `offset`; both lie inside.
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
}

impl Source for Vec<u8> {
    fn len(&self) -> u64 {
        Vec::len(self) as u64
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        copy_at(self, offset, buf)
    }
}

fn copy_at(bytes: &[u8], offset: u64, buf: &mut [u8]) -> io::Result<()> {
    let start = usize::try_from(offset).map_err(io::Error::other)?;
    let bytes = bytes.get(start..start + buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
    buf.copy_from_slice(bytes);
    Ok(())
}

/// Bytes that several parts share.
#[derive(Debug, Clone)]
pub struct Shared(pub Arc<Vec<u8>>);

impl Source for Shared {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        copy_at(&self.0, offset, buf)
    }
}

impl Source for File {
    fn len(&self) -> u64 {
        self.metadata().map_or(0, |metadata| metadata.len())
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.seek(SeekFrom::Start(offset))?;
        self.read_exact(buf)
    }
}

/// So many bytes of 0xff, without holding them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill(pub u64);

impl Source for Fill {
    fn len(&self) -> u64 {
        self.0
    }

    fn read_at(&mut self, _: u64, buf: &mut [u8]) -> io::Result<()> {
        buf.fill(0xff);
        Ok(())
    }
}

/// Bytes and the flash address they belong to.
pub struct Part {
    /// Flash address. Need not be aligned: what stands before it in its sector is kept.
    pub address: u32,
    /// The bytes.
    pub source: Box<dyn Source>,
}

impl Part {
    /// Bytes in memory.
    pub fn bytes(address: u32, bytes: impl Into<Vec<u8>>) -> Self {
        Self { address, source: Box::new(bytes.into()) }
    }
}

/// A part cut into whole sectors: kept bytes before it, 0xff behind it.
pub(super) struct Sectors<'a> {
    /// Address of the first sector.
    pub start: u32,
    /// Number of sectors.
    pub count: u32,
    head: Vec<u8>,
    part: &'a mut Part,
}

impl<'a> Sectors<'a> {
    /// `head` are the bytes between the sector's start and the part's address.
    pub fn new(part: &'a mut Part, head: Vec<u8>) -> Self {
        let start = part.address - head.len() as u32;
        let count = (head.len() as u64 + part.source.len()).div_ceil(SECTOR.into()) as u32;
        Self { start, count, head, part }
    }

    /// Address of a sector.
    pub fn address(&self, sector: u32) -> u32 {
        self.start + sector * SECTOR
    }

    /// The content of `count` sectors from `first`.
    pub fn read(&mut self, first: u32, count: u32) -> Result<Vec<u8>, LoaderError> {
        let mut out = vec![0xff; (count * SECTOR) as usize];
        let from = u64::from(first * SECTOR);
        let head = self.head.len() as u64;
        for (slot, byte) in out.iter_mut().zip(self.head.iter().skip(from as usize)) {
            *slot = *byte;
        }
        let end = (from + out.len() as u64).min(head + self.part.source.len());
        let begin = from.max(head);
        if begin < end {
            let target = &mut out[(begin - from) as usize..(end - from) as usize];
            self.part.source.read_at(begin - head, target).map_err(|error| LoaderError::source(&error))?;
        }
        Ok(out)
    }

    /// MD5 over sectors, read in blocks.
    pub fn md5(&mut self, first: u32, count: u32) -> Result<[u8; 16], LoaderError> {
        let mut hash = Md5::new();
        let step = BLOCK / SECTOR;
        for at in (first..first + count).step_by(step as usize) {
            hash.update(self.read(at, step.min(first + count - at))?);
        }
        Ok(hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_become_whole_sectors() {
        let mut part = Part::bytes(0x1010, vec![7; 0x1000]);
        let mut sectors = Sectors::new(&mut part, vec![3; 0x10]);
        assert_eq!((sectors.start, sectors.count), (0x1000, 2));
        let all = sectors.read(0, 2).unwrap();
        assert_eq!((all[0xf], all[0x10], all[0x100f], all[0x1010]), (3, 7, 7, 0xff));
        assert_eq!(sectors.read(1, 1).unwrap(), all[0x1000..]);
    }
}
