//! Intel HEX, read and written.

use std::fmt::Write as _;

/// Bytes at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Flash address.
    pub address: u32,
    /// The bytes.
    pub data: Vec<u8>,
}

impl Part {
    /// One past the last address.
    pub fn end(&self) -> u64 {
        u64::from(self.address) + self.data.len() as u64
    }
}

/// What is wrong with a line of a HEX file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct HexError {
    /// The line's number, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: &'static str,
}

/// The bytes are Intel HEX text, possibly damaged: a first line of a colon and hexadecimal digits.
pub fn is_hex(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii_end();
    matches!(line, [b':', digits @ ..] if digits.len() >= 10 && digits.iter().all(u8::is_ascii_hexdigit))
}

/// Reads a HEX file: one part for each run of addresses without gap, by address.
///
/// # Errors
/// A record that is not valid, or two records for one address.
pub fn read(bytes: &[u8]) -> Result<Vec<Part>, HexError> {
    let mut chunks: Vec<(u64, Vec<u8>, usize)> = Vec::new();
    let mut offset = 0u64;
    let mut started = false;
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let fail = |what| HexError { line: index + 1, what };
        let text = line.strip_suffix(b"\r").unwrap_or(line);
        if text.is_empty() {
            continue;
        }
        let record = decode(text).ok_or(fail("not a record"))?;
        let [len, high, low, kind, data @ .., _] = record.as_slice() else { return Err(fail("too short")) };
        if data.len() != usize::from(*len) {
            return Err(fail("the length does not fit"));
        }
        if record.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) != 0 {
            return Err(fail("the checksum does not fit"));
        }
        let address = u16::from_be_bytes([*high, *low]);
        match (kind, data) {
            (0, data) => chunks.push((offset + u64::from(address), data.to_vec(), index + 1)),
            (1, []) => return join(chunks),
            (1, _) => return Err(fail("the end record has data")),
            (2, [a, b]) if address == 0 => offset = u64::from(u16::from_be_bytes([*a, *b])) * 16,
            (4, [a, b]) if address == 0 => offset = u64::from(u16::from_be_bytes([*a, *b])) << 16,
            (3 | 5, [_, _, _, _]) if address == 0 && !started => started = true,
            (2..=5, _) => return Err(fail("an address record that is not valid")),
            _ => return Err(fail("an unknown record type")),
        }
    }
    join(chunks)
}

fn decode(line: &[u8]) -> Option<Vec<u8>> {
    let digits = line.strip_prefix(b":")?;
    let digit = |byte: &u8| (*byte as char).to_digit(16).map(|digit| digit as u8);
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some((digit(high)? << 4) | digit(low)?),
        _ => None,
    };
    digits.chunks(2).map(pair).collect()
}

fn join(mut chunks: Vec<(u64, Vec<u8>, usize)>) -> Result<Vec<Part>, HexError> {
    chunks.sort_by_key(|(address, ..)| *address);
    let mut parts: Vec<Part> = Vec::new();
    for (address, data, line) in chunks {
        if data.is_empty() {
            continue;
        }
        let end = parts.last().map_or(0, Part::end);
        let address = u32::try_from(address).map_err(|_| HexError { line, what: "an address beyond 4 GB" })?;
        match parts.last_mut() {
            Some(last) if end == u64::from(address) => last.data.extend_from_slice(&data),
            Some(_) if end > u64::from(address) => {
                return Err(HexError { line, what: "a second value for an address" });
            }
            _ => parts.push(Part { address, data }),
        }
    }
    Ok(parts)
}

/// Data bytes of a record.
const RECORD: usize = 16;

/// Writes parts, which must be sorted and apart: records of 16 bytes, upper case, address records when needed.
pub fn write(parts: &[Part]) -> String {
    let bytes: usize = parts.iter().map(|part| part.data.len()).sum();
    let mut out = String::with_capacity(bytes * 2 + bytes.div_ceil(RECORD) * 12 + 64);
    let filled = || parts.iter().filter(|part| !part.data.is_empty());
    let upper_needed = filled().any(|part| part.end() > 0x1_0000);
    let mut upper = None;
    let mut runs = Runs { parts: filled().collect(), index: 0, at: 0 };
    while let Some(address) = runs.address() {
        if upper_needed && upper != Some(address >> 16) {
            upper = Some(address >> 16);
            let [high, low] = ((address >> 16) as u16).to_be_bytes();
            record(&mut out, 0, 4, &[high, low]);
        }
        let room = (0x1_0000 - (address & 0xffff)).min(RECORD as u32);
        let data = runs.take(room as usize);
        record(&mut out, address as u16, 0, &data);
    }
    out.push_str(":00000001FF\n");
    out
}

fn record(out: &mut String, address: u16, kind: u8, data: &[u8]) {
    let [high, low] = address.to_be_bytes();
    let head = [data.len() as u8, high, low, kind];
    let sum = head.iter().chain(data).fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    out.push(':');
    for byte in head.iter().chain(data).chain([&sum.wrapping_neg()]) {
        out.push(DIGITS[usize::from(byte >> 4)] as char);
        out.push(DIGITS[usize::from(byte & 0xf)] as char);
    }
    out.push('\n');
}

const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

/// Walks over parts; neighbours without gap are one run.
struct Runs<'a> {
    parts: Vec<&'a Part>,
    index: usize,
    at: usize,
}

impl Runs<'_> {
    fn address(&self) -> Option<u32> {
        self.parts.get(self.index).map(|part| part.address.wrapping_add(self.at as u32))
    }

    /// The next bytes without gap, `len` at most.
    fn take(&mut self, len: usize) -> Vec<u8> {
        let mut taken = Vec::with_capacity(len);
        let mut next = self.address();
        while let Some(part) = self.parts.get(self.index)
            && taken.len() < len
            && self.address() == next
        {
            let rest = part.data.get(self.at..).unwrap_or_default();
            let piece = rest.get(..len - taken.len()).unwrap_or(rest);
            taken.extend_from_slice(piece);
            self.at += piece.len();
            next = self.address();
            if self.at == part.data.len() {
                (self.index, self.at) = (self.index + 1, 0);
            }
        }
        taken
    }
}

/// A hexadecimal text of bytes, lower case.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
