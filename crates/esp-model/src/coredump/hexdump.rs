//! A dump as hexadecimal text: `hexdump -C`, `hexdump`, `xxd`, `xxd -p`, `od -t x1`, ESP-IDF's buffer logs.

use super::container;
use crate::console::bare;

/// Digits from which on a line of nothing else is bytes without an address.
const LEAST_PLAIN: usize = 32;
/// Bytes from which on text is worth a try.
const LEAST_BYTES: usize = 64;
/// Bytes of a line that has an address.
const MOST_A_LINE: usize = 32;

/// A line: its address, where it has one, and its bytes; a star stands for lines like the one before.
enum Row {
    Bytes(Option<u32>, Vec<u8>),
    Again,
}

/// The dump in a hexadecimal text; other lines before and between are passed over.
pub(super) fn read(lines: &[&str]) -> Option<Vec<u8>> {
    let mut rows: Vec<Row> = Vec::new();
    for line in lines {
        // The last line of bytes without addresses may be short.
        let is_plain = matches!(rows.last(), Some(Row::Bytes(None, bytes)) if bytes.len() >= LEAST_PLAIN / 2);
        rows.extend(row(line, if is_plain { 2 } else { LEAST_PLAIN }));
    }
    let begins = |row: &Row| {
        let Row::Bytes(_, bytes) = row else { return false };
        container::looks_like_dump(bytes) || bytes.starts_with(b"\x7fELF")
    };
    let first = rows.iter().position(begins)?;
    let bytes = joined(rows.get(first..)?);
    (bytes.len() >= LEAST_BYTES).then_some(bytes)
}

fn joined(rows: &[Row]) -> Vec<u8> {
    let mut all: Vec<u8> = Vec::new();
    let mut last: &[u8] = &[];
    let (mut base, mut again) = (None, false);
    for row in rows {
        match row {
            Row::Again => again = true,
            Row::Bytes(address, bytes) => {
                let base = *base.get_or_insert(*address);
                let offset = base.zip(*address).and_then(|(base, at)| at.checked_sub(base)).map(|at| at as usize);
                // The star's length is told by the next address.
                if let Some(offset) = offset.filter(|offset| again && *offset <= super::MAX_LEN && !last.is_empty()) {
                    let missing = offset.saturating_sub(all.len());
                    all.extend(last.iter().copied().cycle().take(missing));
                }
                again = false;
                all.extend(bytes);
                last = bytes;
            }
        }
    }
    all
}

fn row(line: &str, least_plain: usize) -> Option<Row> {
    let text = message(bare(line));
    if text == "*" {
        return Some(Row::Again);
    }
    if text.len() >= least_plain && is_hex(text) {
        return Some(Row::Bytes(None, bytes_of(text)?));
    }
    // What stands behind is the same as characters.
    let text = text.split(['|', '>']).next().unwrap_or_default().trim();
    let (first, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    let digits = first.trim_end_matches(':').trim_start_matches("0x");
    let has_address = digits.bytes().all(|byte| byte.is_ascii_hexdigit()) && digits.len() >= 6 && !rest.is_empty();
    let (address, rest) = match has_address {
        true => (u32::from_str_radix(digits, 16).ok(), rest.trim_start()),
        false => (None, text),
    };
    let columns = if first.ends_with(':') { rest.split("  ").next().unwrap_or_default() } else { rest };
    let groups: Vec<&str> = columns.split_whitespace().collect();
    let width = groups.first()?.len();
    if !matches!(width, 2 | 4 | 8) || !groups.iter().all(|group| is_hex(group) && group.len() <= width) {
        return None;
    }
    // Without a colon behind the address groups of four digits are words, low byte first.
    let words = width == 4 && has_address && !first.ends_with(':');
    let mut bytes = Vec::new();
    for group in groups {
        let part = bytes_of(group)?;
        if words { bytes.extend(part.iter().rev()) } else { bytes.extend(part) }
    }
    (bytes.len() <= MOST_A_LINE).then_some(Row::Bytes(address, bytes))
}

/// The text of a line of ESP-IDF's log: `I (1234) app: 98 0c 00 00`.
fn message(text: &str) -> &str {
    let is_log = text.get(1..3) == Some(" (") && text.starts_with(['E', 'W', 'I', 'D', 'V']);
    let behind = text.split_once("): ").or_else(|| text.split_once(") ")).filter(|_| is_log);
    behind.map_or(text, |(_, rest)| rest.split_once(": ").map_or(rest, |(_, rest)| rest)).trim()
}

fn bytes_of(text: &str) -> Option<Vec<u8>> {
    let pair = |at: usize| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    (0..text.len()).step_by(2).map(pair).collect()
}

fn is_hex(text: &str) -> bool {
    text.len().is_multiple_of(2) && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// A dump header that promises its length, and bytes of which some repeat.
    fn dump() -> Vec<u8> {
        let mut bytes = 403_u32.to_le_bytes().to_vec();
        bytes.extend([0x02, 0x01, 5, 0]);
        bytes.extend((8..200_u32).map(|at| at as u8));
        bytes.resize(328, 0xa5);
        bytes.extend((0..75_u32).map(|at| at as u8));
        bytes
    }

    fn text(line: impl Fn(usize, &[u8]) -> String) -> String {
        let lines = dump().chunks(16).enumerate().fold(String::new(), |mut text, (at, bytes)| {
            let _ = writeln!(text, "{}", line(at * 16, bytes));
            text
        });
        format!("I (1) boot: ESP-IDF\nhello world\n{lines}end of it\n")
    }

    fn spaced(bytes: &[u8], size: usize) -> String {
        bytes.chunks(size).map(crate::hex::encode).collect::<Vec<_>>().join(" ")
    }

    fn decoded(text: &str) -> Option<Vec<u8>> {
        read(&text.lines().collect::<Vec<_>>())
    }

    #[test]
    fn usual_forms_give_the_same_bytes() {
        let swapped = |bytes: &[u8]| bytes.chunks(2).flat_map(|pair| pair.iter().rev().copied()).collect::<Vec<_>>();
        for (name, text) in [
            ("hexdump -C", text(|at, bytes| format!("{at:08x}  {}  |................|", spaced(bytes, 1)))),
            ("hexdump", text(|at, bytes| format!("{at:07x} {}", spaced(&swapped(bytes), 2)))),
            ("xxd", text(|at, bytes| format!("{at:08x}: {}  abcd 1234.......", spaced(bytes, 2)))),
            ("xxd -p", text(|_, bytes| crate::hex::encode(bytes))),
            ("od", text(|at, bytes| format!("{at:06x} {}  >................<", spaced(bytes, 1)))),
            ("log", text(|_, bytes| format!("I (1234) app: {}", spaced(bytes, 1)))),
            (
                "log with addresses",
                text(|at, bytes| {
                    format!(
                        "12:13:14.100 -> I (1234) app: {:#x}   {}  |................|",
                        0x3fc8_0000 + at,
                        spaced(bytes, 1)
                    )
                }),
            ),
        ] {
            assert_eq!(decoded(&text), Some(dump()), "{name}:\n{text}");
        }
    }

    #[test]
    fn star_stands_for_repeated_lines() {
        let bytes = dump();
        let mut text = String::new();
        let mut starred = false;
        for (at, chunk) in bytes.chunks(16).enumerate() {
            if at > 0 && bytes.chunks(16).nth(at - 1) == Some(chunk) {
                if !starred {
                    text += "*\n";
                }
                starred = true;
                continue;
            }
            starred = false;
            let _ = writeln!(text, "{:08x}  {}  |................|", at * 16, spaced(chunk, 1));
        }
        assert!(text.contains('*'));
        assert_eq!(decoded(&text), Some(bytes));
    }

    #[test]
    fn other_text_is_no_dump() {
        for text in ["hello\nworld", "12 34 56\n", "deadbeef cafe\n", "00000000: 1122 3344\n"] {
            assert_eq!(decoded(text), None, "{text}");
        }
    }
}
