//! DFU files as `idf.py dfu` makes them, read: a cpio archive (newc) whose first member says where in flash the others go.
//!
//! Layout: ESP-IDF `tools/mkdfu.py`.

use super::hex::Part;

/// Begins every member.
const MAGIC: &[u8] = b"070701";
/// Bytes of a member's header: the magic and 13 numbers of 8 hexadecimal digits.
const HEADER: usize = 110;
/// The first member: address (4), flags (4), name (64) and MD5 (16) of each of the others.
const INDEX: &str = "dfuinfo0.dat";
const ENTRY: usize = 88;
/// A member for the chip's ROM, not for flash.
const SETTINGS: &str = "flash_params.dat";
/// The archive's end.
const LAST: &str = "TRAILER!!!";

/// What is wrong with a DFU file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DfuError {
    /// The archive ends within a member.
    #[error("the archive is cut off at byte {0:#x}")]
    Cut(usize),
    /// The index names a file that is not in the archive.
    #[error("`{0}` is in the index and not in the archive")]
    Missing(String),
}

/// The bytes begin like such a file.
pub fn is_dfu(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC) && bytes.get(HEADER..).is_some_and(|rest| rest.starts_with(INDEX.as_bytes()))
}

/// The files for flash with their addresses.
///
/// # Errors
/// An archive that is cut, or that lacks a file of its index.
pub fn read(bytes: &[u8]) -> Result<Vec<(String, Part)>, DfuError> {
    let members = members(bytes)?;
    let index = members.first().map_or(&[][..], |(_, data)| data);
    let mut parts = Vec::new();
    for entry in index.chunks_exact(ENTRY) {
        let address = entry.first_chunk().map_or(0, |word| u32::from_le_bytes(*word));
        let name = text(entry.get(8..72).unwrap_or_default());
        if name == SETTINGS || name.is_empty() {
            continue;
        }
        let found = members.iter().find(|(known, _)| *known == name);
        let (_, data) = found.ok_or_else(|| DfuError::Missing(name.clone()))?;
        parts.push((name, Part { address, data: data.to_vec() }));
    }
    Ok(parts)
}

fn members(bytes: &[u8]) -> Result<Vec<(String, &[u8])>, DfuError> {
    let (mut found, mut at) = (Vec::new(), 0);
    loop {
        let cut = || DfuError::Cut(at);
        let number = |field: usize| {
            let digits = bytes.get(at + 6 + 8 * field..at + 14 + 8 * field)?;
            usize::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
        };
        if !bytes.get(at..).is_some_and(|rest| rest.starts_with(MAGIC)) {
            return Err(cut());
        }
        let (size, name_size) = (number(6).ok_or_else(cut)?, number(11).ok_or_else(cut)?);
        let name_end = (at + HEADER).checked_add(name_size).ok_or_else(cut)?;
        let name = text(bytes.get(at + HEADER..name_end).ok_or_else(cut)?);
        if name == LAST {
            return Ok(found);
        }
        let start = name_end.next_multiple_of(4);
        let end = start.checked_add(size).ok_or_else(cut)?;
        found.push((name, bytes.get(start..end).ok_or_else(cut)?));
        at = end.next_multiple_of(4);
    }
}

/// Up to the first zero.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, data: &[u8]) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        let mut fields = [0; 13];
        (fields[6], fields[11]) = (data.len(), name.len() + 1);
        fields.iter().for_each(|field| out.extend(format!("{field:08x}").bytes()));
        out.extend(name.bytes().chain([0]));
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend(data);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    fn entry(address: u32, name: &str) -> Vec<u8> {
        let mut out = [address.to_le_bytes(), [0; 4]].concat();
        out.extend(name.bytes());
        out.resize(ENTRY, 0);
        out
    }

    fn file(last: &str) -> Vec<u8> {
        let index = [entry(0, SETTINGS), entry(0x1000, "boot.bin"), entry(0x1_0000, "app.bin")].concat();
        [
            member(INDEX, &index),
            member(SETTINGS, &[9; 32]),
            member("boot.bin", b"boot!"),
            member(last, b"app"),
            member(LAST, b""),
            b"suffix".to_vec(),
        ]
        .concat()
    }

    #[test]
    fn files_are_found_with_their_addresses() {
        let bytes = file("app.bin");
        assert!(is_dfu(&bytes) && !is_dfu(b"070701") && !is_dfu(b"\xe9"));
        let found = read(&bytes).unwrap();
        let shown: Vec<_> = found.iter().map(|(name, part)| (name.as_str(), part.address, part.data.len())).collect();
        assert_eq!(shown, [("boot.bin", 0x1000, 5), ("app.bin", 0x1_0000, 3)]);
    }

    #[test]
    fn damaged_files_are_refused() {
        assert_eq!(read(&file("other.bin")).unwrap_err(), DfuError::Missing("app.bin".into()));
        let bytes = file("app.bin");
        for len in [8, 100, 130, 500, 700, bytes.len() - 130] {
            assert!(matches!(read(&bytes[..len]), Err(DfuError::Cut(_))), "{len}");
        }
        let mut huge = bytes;
        huge[54..62].copy_from_slice(b"ffffffff");
        assert!(read(&huge).is_err());
    }
}
