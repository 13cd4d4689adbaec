//! Names of files.

/// A path as parts divided by `/`.
pub(super) fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Text up to the first NUL.
pub(super) fn until_nul(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

/// A short name of a FAT entry: 8 + 3 characters, with the case bits that Windows and FatFs keep.
pub(super) fn short(entry: &[u8]) -> String {
    let (base, rest) = entry.split_at(entry.len().min(8));
    let case = entry.get(12).copied().unwrap_or(0);
    let part = |bytes: &[u8], lower: bool| {
        let end = bytes.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
        let text: String =
            bytes.iter().take(end).map(|byte| if *byte < 0x80 { char::from(*byte) } else { '_' }).collect();
        if lower { text.to_ascii_lowercase() } else { text }
    };
    let mut base = base.to_vec();
    // 0xE5 as the first character would mean a removed file.
    if let Some(first) = base.first_mut().filter(|first| **first == 0x05) {
        *first = 0xe5;
    }
    let base = part(&base, case & 0x08 != 0);
    let extension = part(rest.get(..3).unwrap_or(rest), case & 0x10 != 0);
    if extension.is_empty() { base } else { format!("{base}.{extension}") }
}

/// The checksum of a short name that its long name's entries carry.
pub(super) fn checksum(short: &[u8]) -> u8 {
    short.iter().take(11).fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte))
}
