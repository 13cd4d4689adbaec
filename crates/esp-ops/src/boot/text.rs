//! Logs as files: which bytes are text, and in which encoding.

/// Bytes that somebody can read: few NULs and control characters, or UTF-16 by its mark.
pub fn is_text(bytes: &[u8]) -> bool {
    if utf16(bytes).is_some() {
        return true;
    }
    let head = bytes.get(..bytes.len().min(1 << 16)).unwrap_or_default();
    let control = |byte: &&u8| **byte < 0x20 && !matches!(**byte, b'\n' | b'\r' | b'\t' | 0x1b | 0x07 | 0x08);
    // Noise on a line is part of a log; a program is mostly that.
    head.iter().filter(control).count() * 20 <= head.len()
}

/// Text in UTF-16, as Windows shells redirect it.
fn utf16(bytes: &[u8]) -> Option<String> {
    let units = |from: fn([u8; 2]) -> u16, rest: &[u8]| -> String {
        let words: Vec<u16> = rest.chunks_exact(2).filter_map(|two| two.try_into().ok().map(from)).collect();
        String::from_utf16_lossy(&words)
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => Some(units(u16::from_le_bytes, rest)),
        [0xfe, 0xff, rest @ ..] => Some(units(u16::from_be_bytes, rest)),
        _ => None,
    }
}

/// The text of a file, in UTF-8 or UTF-16.
pub fn decoded(bytes: &[u8]) -> String {
    utf16(bytes).unwrap_or_else(|| String::from_utf8_lossy(bytes).trim_start_matches('\u{feff}').to_owned())
}
