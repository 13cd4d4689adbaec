//! Numbers and text as ESP-IDF's Python tools read them.
//!
//! Partition tables and NVS data are written for those tools, so their idea of a number (Python's `int`), of white
//! space and of a line end decides what is valid.

/// Reads an integer like Python's `int(text, base)`; base 0 follows the prefix.
///
/// Accepts surrounding white space, a sign, single underscores between digits and the prefixes `0x`, `0o` and `0b`
/// where the base allows them. `None` for anything else and for numbers beyond 127 bits.
pub fn integer(text: &str, base: u32) -> Option<i128> {
    let text = trim(text);
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = split_prefix(text, base)?;
    let value = digits_value(digits, radix)?;
    // With base 0 a decimal number has no leading zero, except zero itself.
    if base == 0 && radix == 10 && digits.starts_with('0') && value != 0 {
        return None;
    }
    Some(if negative { -value } else { value })
}

/// Reads `65536`, `0x10000`, `0b1010`, `64K`, `4MB`, `1_000`. K and M are powers of 1024.
pub fn quantity(text: &str) -> Option<u64> {
    let plain = text.trim().replace('_', "").to_ascii_lowercase();
    if let Some(digits) = plain.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).ok();
    }
    if let Some(digits) = plain.strip_prefix("0b") {
        return u64::from_str_radix(digits, 2).ok();
    }
    let plain = plain.strip_suffix("ib").or_else(|| plain.strip_suffix('b')).unwrap_or(&plain);
    let (digits, factor) = match plain.strip_suffix('k') {
        Some(digits) => (digits, 1u64 << 10),
        None => plain.strip_suffix('m').map_or((plain, 1), |digits| (digits, 1 << 20)),
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(factor)
}

fn split_prefix(text: &str, base: u32) -> Option<(u32, &str)> {
    for (small, capital, radix) in [("0x", "0X", 16), ("0o", "0O", 8), ("0b", "0B", 2)] {
        if base != 0 && base != radix {
            continue;
        }
        if let Some(rest) = text.strip_prefix(small).or_else(|| text.strip_prefix(capital)) {
            return Some((radix, rest.strip_prefix('_').unwrap_or(rest)));
        }
    }
    Some((if base == 0 { 10 } else { base }, text))
}

fn digits_value(digits: &str, radix: u32) -> Option<i128> {
    // Nearly all numbers are short and plain.
    if digits.len() < 12 && digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return u64::from_str_radix(digits, radix).ok().map(i128::from);
    }
    if digits.is_empty() || digits.starts_with('_') || digits.ends_with('_') || digits.contains("__") {
        return None;
    }
    digits
        .chars()
        .filter(|c| *c != '_')
        .try_fold(0i128, |value, c| value.checked_mul(i128::from(radix))?.checked_add(i128::from(c.to_digit(radix)?)))
}

/// White space as `str.strip` sees it: Unicode's, and the four ASCII separators.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// `str.strip`.
pub fn trim(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.splitlines`: lines without their ends; all of Unicode's line ends count.
pub fn lines(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let Some((at, end)) = rest.char_indices().find(|(_, c)| is_line_end(*c)) else {
            out.push(rest);
            break;
        };
        out.push(&rest[..at]);
        let length = if rest[at..].starts_with("\r\n") { 2 } else { end.len_utf8() };
        rest = &rest[at + length..];
    }
    out
}

fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Text with a byte order mark in its encoding, without one in UTF-8. `None` when it is not valid in that encoding.
pub fn decode_marked(bytes: &[u8]) -> Option<String> {
    if let Some(rest) = bytes.strip_prefix(&[0xef, 0xbb, 0xbf]) {
        return String::from_utf8(rest.to_vec()).ok();
    }
    // The UTF-16 mark is looked for first, so that UTF-32 in little-endian order is taken for UTF-16.
    if let Some(rest) = bytes.strip_prefix(&[0xff, 0xfe]) {
        return utf16(rest, u16::from_le_bytes);
    }
    if let Some(rest) = bytes.strip_prefix(&[0xfe, 0xff]) {
        return utf16(rest, u16::from_be_bytes);
    }
    if let Some(rest) = bytes.strip_prefix(&[0, 0, 0xfe, 0xff]) {
        let (chars, tail) = rest.as_chunks::<4>();
        let text = chars.iter().map(|c| char::from_u32(u32::from_be_bytes(*c))).collect();
        return if tail.is_empty() { text } else { None };
    }
    String::from_utf8(bytes.to_vec()).ok()
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Option<String> {
    let (units, tail) = bytes.as_chunks::<2>();
    let text: Result<String, _> = char::decode_utf16(units.iter().map(|c| unit(*c))).collect();
    if tail.is_empty() { text.ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_follow_python() {
        let base0 = [
            ("12", Some(12)),
            (" 0x10 ", Some(16)),
            ("0X_1f", Some(31)),
            ("0o17", Some(15)),
            ("0b1_0", Some(2)),
            ("-4", Some(-4)),
            ("+4", Some(4)),
            ("00", Some(0)),
            ("010", None),
            ("0x", None),
            ("1__0", None),
            ("_1", None),
            ("- 4", None),
            ("", None),
            ("1e3", None),
        ];
        for (text, value) in base0 {
            assert_eq!(integer(text, 0), value, "{text:?}");
        }
        assert_eq!(integer("010", 10), Some(10));
        assert_eq!(integer("0x10", 10), None);
        assert_eq!(integer("0x40", 16), Some(64));
        assert_eq!(integer("40", 16), Some(64));
        assert_eq!(integer(&"9".repeat(60), 0), None);
    }

    #[test]
    fn lines_end_where_python_ends_them() {
        assert_eq!(lines("a\r\nb\rc\u{2028}d\n\ne\n"), ["a", "b", "c", "d", "", "e"]);
        assert!(lines("").is_empty());
    }

    #[test]
    fn byte_order_marks() {
        assert_eq!(decode_marked(b"\xef\xbb\xbfa").as_deref(), Some("a"));
        assert_eq!(decode_marked(b"\xff\xfea\0").as_deref(), Some("a"));
        assert_eq!(decode_marked(b"\xfe\xff\0a").as_deref(), Some("a"));
        assert_eq!(decode_marked(b"\0\0\xfe\xff\0\0\0a").as_deref(), Some("a"));
        assert_eq!(decode_marked(b"\xff\xfea"), None);
        assert_eq!(decode_marked(b"\x80"), None);
    }
}
