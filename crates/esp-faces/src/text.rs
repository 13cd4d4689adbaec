//! Numbers as text, in the forms that the tools take.

/// An integer as Python's `int(text, 0)` reads it: decimal, `0x`, `0o`, `0b`, underscores between digits.
pub fn integer(text: &str) -> Option<u64> {
    let text = text.trim().replace('_', "");
    let lower = text.to_ascii_lowercase();
    let (digits, radix) = match lower.get(..2) {
        Some("0x") => (lower.get(2..)?, 16),
        Some("0o") => (lower.get(2..)?, 8),
        Some("0b") => (lower.get(2..)?, 2),
        _ => (lower.as_str(), 10),
    };
    u64::from_str_radix(digits, radix).ok()
}

/// An integer that fits 32 bits.
pub fn word(text: &str) -> Option<u32> {
    integer(text).and_then(|value| u32::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::integer;

    #[test]
    fn integers_have_any_base() {
        let texts =
            [("16", Some(16)), ("0x1F", Some(31)), ("0b11", Some(3)), ("0o17", Some(15)), ("1_000", Some(1000))];
        for (text, value) in texts {
            assert_eq!(integer(text), value, "{text}");
        }
        assert_eq!(integer("4K"), None);
        assert_eq!(integer(""), None);
    }
}
