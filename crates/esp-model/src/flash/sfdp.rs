//! The flash part's description of itself (SFDP, opcode 0x5A): headers and the basic flash parameter table.
//!
//! Layout as in JEDEC JESD216 up to revision F: the first 16 words of the basic table.

mod basic;

use serde::Serialize;

pub use self::basic::{Basic, EraseType, FastRead, QuadEnable};

/// The area is never larger than its 24-bit addresses reach; no part is known that uses more than this.
pub const LONGEST: usize = 4096;
/// Bytes of the header.
pub const HEADER: usize = 8;
/// Id of the basic flash parameter table.
const BASIC: u16 = 0xff00;

/// The area cannot be read as SFDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SfdpError {
    /// It does not begin with `SFDP`.
    #[error("there is no SFDP signature")]
    NoSignature,
    /// It ends before its tables do.
    #[error("the area ends at {0:#x}, before its tables do")]
    Short(usize),
    /// No header names the basic table.
    #[error("there is no basic flash parameter table")]
    NoBasic,
}

/// A parameter header: which table stands where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Header {
    /// `0xff00` is the basic table, `0xff84` the 4-byte address instructions, an id below `0xff00` a maker's own table.
    pub id: u16,
    /// Major revision of the table.
    pub major: u8,
    /// Minor revision of the table.
    pub minor: u8,
    /// Length in words of 32 bits.
    pub words: u8,
    /// Address in the SFDP area.
    pub address: u32,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sfdp {
    /// Major revision.
    pub major: u8,
    /// Minor revision. JESD216 is 1.0, A 1.5, B 1.6, C 1.7, D 1.8, E 1.9, F 1.10.
    pub minor: u8,
    /// The parameter headers, in order.
    pub headers: Vec<Header>,
}

impl Header {
    /// What the table is, by its id.
    pub fn name(&self) -> &'static str {
        match self.id {
            BASIC => "basic flash parameters",
            0xff81 => "sector map",
            0xff84 => "4-byte address instructions",
            0xff87 => "status and configuration registers",
            _ if self.id >> 8 == 0xff => "another JEDEC table",
            _ => "a maker's table",
        }
    }

    /// First address behind the table.
    pub fn end(&self) -> usize {
        self.address as usize + usize::from(self.words) * 4
    }
}

/// Number of parameter headers that the first eight bytes announce.
pub fn header_count(area: &[u8]) -> Result<usize, SfdpError> {
    let head = area.get(..HEADER).ok_or(SfdpError::Short(area.len()))?;
    if head.get(..4) != Some(b"SFDP") {
        return Err(SfdpError::NoSignature);
    }
    Ok(usize::from(head.get(6).copied().unwrap_or(0)) + 1)
}

impl Sfdp {
    /// Reads the headers. `area` begins at SFDP address 0 and may end where the headers end.
    pub fn read(area: &[u8]) -> Result<Self, SfdpError> {
        let count = header_count(area)?;
        let table = area.get(HEADER..HEADER + count * 8).ok_or(SfdpError::Short(area.len()))?;
        let headers = table.chunks_exact(8).filter_map(|raw| {
            let &[low, minor, major, words, a0, a1, a2, high] = raw else { return None };
            let (id, address) = (u16::from_le_bytes([low, high]), u32::from_le_bytes([a0, a1, a2, 0]));
            Some(Header { id, major, minor, words, address })
        });
        let (minor, major) = (area.get(4).copied().unwrap_or(0), area.get(5).copied().unwrap_or(0));
        Ok(Self { major, minor, headers: headers.collect() })
    }

    /// The newest header of the basic table: a part may keep an older one for older hosts.
    pub fn basic_header(&self) -> Option<&Header> {
        // The very first header is always the basic table; early parts wrote 0x0000 or 0x00ff as its high byte.
        let basic = self.headers.iter().filter(|header| header.id == BASIC);
        basic.max_by_key(|header| (header.major, header.minor)).or_else(|| self.headers.first())
    }

    /// First address behind all tables: how much of the area is worth reading, in bytes, at most [`LONGEST`].
    pub fn length(&self) -> usize {
        let tables = self.headers.iter().map(Header::end).filter(|end| *end <= LONGEST).max().unwrap_or(0);
        tables.max(HEADER + self.headers.len() * 8)
    }

    /// The basic table out of the whole area.
    pub fn basic(&self, area: &[u8]) -> Result<Basic, SfdpError> {
        let header = self.basic_header().ok_or(SfdpError::NoBasic)?;
        let table = area.get(header.address as usize..header.end()).ok_or(SfdpError::Short(area.len()))?;
        let words: Vec<u32> = table
            .chunks_exact(4)
            .map(|word| word.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte)))
            .collect();
        // The first revision has nine words; fewer say nothing of use.
        if words.len() < 9 { Err(SfdpError::Short(area.len())) } else { Ok(Basic::new(words)) }
    }
}

#[cfg(test)]
mod tests;
