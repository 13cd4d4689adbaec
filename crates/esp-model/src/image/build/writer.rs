//! The file that is being written, with its running checksum.

use super::BuildError;
use crate::image::{CHECKSUM_SEED, DIGEST_LEN, SEGMENT_HEADER_LEN, checksum};

/// A segment's length must be below this.
const SEGMENT_LIMIT: usize = 0x100_0000;

pub(super) struct Writer {
    pub out: Vec<u8>,
    checksum: u8,
    elf_sha256: Option<(u32, [u8; DIGEST_LEN])>,
}

impl Writer {
    pub fn new(capacity: usize, elf_sha256: Option<(u32, [u8; DIGEST_LEN])>) -> Self {
        Self { out: Vec::with_capacity(capacity), checksum: CHECKSUM_SEED, elf_sha256 }
    }

    /// Where the next byte goes.
    pub fn at(&self) -> usize {
        self.out.len()
    }

    /// A segment that counts in the checksum.
    pub fn segment(&mut self, name: &str, addr: u64, data: &[u8]) -> Result<(), BuildError> {
        let start = self.hidden_segment(name, addr, data)?;
        self.checksum = checksum(self.out.get(start..).unwrap_or_default(), self.checksum);
        Ok(())
    }

    /// A segment that does not count in the checksum. Returns where its data begins.
    pub fn hidden_segment(&mut self, name: &str, addr: u64, data: &[u8]) -> Result<usize, BuildError> {
        let position = self.at();
        self.check_sha256(position, data)?;
        if !data.len().is_multiple_of(4) {
            return Err(BuildError::Unaligned { name: name.to_owned(), len: data.len() });
        }
        if data.len() >= SEGMENT_LIMIT {
            return Err(BuildError::TooLong { name: name.to_owned(), len: data.len() as u64 });
        }
        let addr = u32::try_from(addr).map_err(|_| BuildError::Address(addr))?;
        self.out.extend_from_slice(&addr.to_le_bytes());
        self.out.extend_from_slice(&(data.len() as u32).to_le_bytes());
        let start = self.at();
        self.out.extend_from_slice(data);
        self.place_sha256(position, data.len());
        Ok(start)
    }

    /// Where in a segment's data the ELF's SHA-256 belongs. The reference takes the position of the segment's header
    /// and the length of its data for this question; so it is here.
    fn sha256_at(&self, position: usize, len: usize) -> Option<(usize, u32, [u8; DIGEST_LEN])> {
        let (offset, digest) = self.elf_sha256?;
        let within = (offset as usize).checked_sub(position).filter(|within| *within < len)?;
        Some((within, offset, digest))
    }

    fn check_sha256(&self, position: usize, data: &[u8]) -> Result<(), BuildError> {
        let Some((within, offset, _)) = self.sha256_at(position, data.len()) else { return Ok(()) };
        if within < SEGMENT_HEADER_LEN || within + DIGEST_LEN > data.len() {
            return Err(BuildError::Sha256(offset, "it would cross a segment's boundary"));
        }
        let start = within - SEGMENT_HEADER_LEN;
        let free = data.get(start..start + DIGEST_LEN).is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0));
        if free { Ok(()) } else { Err(BuildError::Sha256(offset, "the bytes there are not zero")) }
    }

    fn place_sha256(&mut self, position: usize, len: usize) {
        if let Some((_, offset, digest)) = self.sha256_at(position, len)
            && let Some(place) = self.out.get_mut(offset as usize..offset as usize + DIGEST_LEN)
        {
            place.copy_from_slice(&digest);
        }
    }

    /// The checksum as the last byte of a multiple of 16.
    pub fn finish_checksum(&mut self) {
        self.out.resize(self.at() | 0xf, 0);
        self.out.push(self.checksum);
    }

    /// Writes the number of segments into the header.
    pub fn set_count(&mut self, count: usize) -> Result<(), BuildError> {
        let count = u8::try_from(count).map_err(|_| BuildError::Count(count))?;
        if let Some(byte) = self.out.get_mut(1) {
            *byte = count;
        }
        Ok(())
    }
}
