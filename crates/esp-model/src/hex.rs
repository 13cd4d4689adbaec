//! Bytes as hexadecimal digits.

use std::fmt::Write as _;

/// Two lower-case digits a byte: `c0ffee`.
pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    joined(bytes, "")
}

/// The same with `between` between the bytes: `24:0a:c4` with a colon.
pub fn joined(bytes: impl AsRef<[u8]>, between: &str) -> String {
    let mut text = String::new();
    for (index, byte) in bytes.as_ref().iter().enumerate() {
        if index > 0 {
            text.push_str(between);
        }
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Two digits a byte, the last byte first: a little-endian number as it is read.
pub fn reversed(bytes: impl AsRef<[u8]>) -> String {
    let bytes: Vec<u8> = bytes.as_ref().iter().rev().copied().collect();
    encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_digits_a_byte() {
        assert_eq!(encode([0xc0, 0x0f, 0]), "c00f00");
        assert_eq!(joined([0x24, 0x0a], ":"), "24:0a");
        assert_eq!(encode([]), "");
        assert_eq!(reversed([0x24, 0x0a]), "0a24");
    }
}
