//! Base64 as the console prints it: one block a line, between two marker lines, perhaps with a log's own prefixes, with
//! other lines mixed in, with lines that were cut.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Check, CoreDumpError, container, hexdump};
use crate::console::bare;

/// What ESP-IDF prints around a dump on the UART (`core_dump_uart.c`).
const START: &str = "CORE DUMP START";
const END: &str = "CORE DUMP END";
/// Characters of a full line: 48 bytes.
const FULL: usize = 64;
/// A word behind other words is a block only when it is at least this long: "init" is base64 too.
const LEAST_BEHIND: usize = 16;
/// Of the lines of a text without marks at least this share, in percent, is base64.
const MOST_LINES: usize = 90;

/// A dump out of a text.
pub(super) struct Text {
    /// Its bytes; holes are zeros.
    pub bytes: Vec<u8>,
    /// What was not whole.
    pub damage: Vec<String>,
    /// The lines that stand around a dump were there.
    pub is_marked: bool,
}

/// A line of a dump.
enum Block {
    Whole(Vec<u8>),
    /// Line number and what can be read of it.
    Damaged(usize, usize, Vec<u8>),
}

/// The dump in a text, or None when the bytes are no such text. `which` counts the dumps of a log from 1; the last one else.
pub(super) fn decode(bytes: &[u8], check: Check, which: Option<usize>) -> Option<Result<Text, CoreDumpError>> {
    if container::looks_like_dump(bytes) {
        return None;
    }
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().collect();
    let starts: Vec<usize> =
        lines.iter().enumerate().filter(|(_, line)| line.contains(START)).map(|(at, _)| at).collect();
    if starts.is_empty() {
        let plain = |bytes| Ok(Text { bytes, damage: Vec::new(), is_marked: false });
        return hexdump::read(&lines).map(plain).or_else(|| unmarked(&lines, check));
    }
    let chosen = which.unwrap_or(starts.len());
    let Some(start) = chosen.checked_sub(1).and_then(|index| starts.get(index)) else {
        return Some(Err(CoreDumpError::Which { wanted: chosen, have: starts.len() }));
    };
    let from = lines.get(start + 1..)?;
    let end = from.iter().position(|line| line.contains(END) || line.contains(START));
    let body = from.get(..end.unwrap_or(from.len()))?;
    let mut blocks: Vec<Block> = body.iter().enumerate().filter_map(|(at, line)| block(start + at + 2, line)).collect();
    // Where the text ends, its last line may end too.
    if end.is_none()
        && let Some(Block::Damaged(_, _, part)) = blocks.pop_if(|last| matches!(last, Block::Damaged(..)))
    {
        blocks.push(Block::Whole(part));
    }
    let decoded = joined(blocks, check);
    let complete = end.is_some();
    Some(decoded.and_then(|mut text| {
        let have = text.bytes.len();
        text.is_marked = true;
        if have == 0 || (!complete && !whole(&text.bytes) && check == Check::Enforce) {
            return Err(CoreDumpError::Cut { what: "dump on the console", need: have + 1, have });
        }
        if starts.len() > 1 {
            text.damage.push(format!("the text holds {} dumps; this is number {chosen}", starts.len()));
        }
        Ok(text)
    }))
}

/// A text without marks: nothing but base64, wrapped or a block a line.
fn unmarked(lines: &[&str], check: Check) -> Option<Result<Text, CoreDumpError>> {
    let full: Vec<(usize, &str)> =
        lines.iter().enumerate().map(|(at, line)| (at + 1, line.trim())).filter(|(_, line)| !line.is_empty()).collect();
    let good = full.iter().filter(|(_, line)| is_base64(line)).count();
    if full.is_empty() || good * 100 < full.len() * MOST_LINES {
        return None;
    }
    let whole = || Text { bytes: Vec::new(), damage: Vec::new(), is_marked: false };
    let by_line: Option<Vec<Vec<u8>>> = full.iter().map(|(_, line)| STANDARD.decode(line).ok()).collect();
    let all: String = full.iter().map(|(_, line)| *line).collect();
    if let Some(bytes) = by_line.map(|blocks| blocks.concat()).or_else(|| STANDARD.decode(all).ok()) {
        return Some(Ok(Text { bytes, ..whole() }));
    }
    let blocks: Vec<Block> = full.iter().filter_map(|(at, line)| block(*at, line)).collect();
    // Without one whole block it is some text of short words.
    let is_dump = blocks.first().is_some_and(|block| match block {
        Block::Whole(bytes) => container::looks_like_dump(bytes) || bytes.starts_with(b"\x7fELF"),
        Block::Damaged(..) => full.len() > 8,
    });
    is_dump.then(|| joined(blocks, check))
}

/// Puts the blocks together. A damaged one is refused, or leaves a hole as long as what is missing.
fn joined(blocks: Vec<Block>, check: Check) -> Result<Text, CoreDumpError> {
    let damaged = blocks.iter().filter(|block| matches!(block, Block::Damaged(..))).count();
    let sound: usize = blocks.iter().map(|block| if let Block::Whole(bytes) = block { bytes.len() } else { 0 }).sum();
    let (mut bytes, mut damage) = (Vec::with_capacity(sound), Vec::new());
    for block in blocks {
        let (line, have, part) = match block {
            Block::Whole(part) => {
                bytes.extend(part);
                continue;
            }
            Block::Damaged(line, have, part) => (line, have, part),
        };
        if check == Check::Enforce {
            return Err(CoreDumpError::Line { line, have });
        }
        // With one hole the header tells its length.
        let promised = super::le32(&bytes).and_then(|total| usize::try_from(total).ok());
        let missing = promised.and_then(|total| total.checked_sub(sound)).filter(|len| damaged == 1 && *len <= FULL);
        let len = missing.unwrap_or(FULL / 4 * 3).max(part.len());
        damage.push(format!(
            "line {line} is not a whole base64 line ({have} characters): {} bytes are zeros",
            len - part.len()
        ));
        let end = bytes.len() + len;
        bytes.extend(part);
        bytes.resize(end, 0);
    }
    Ok(Text { bytes, damage, is_marked: false })
}

/// The decoded bytes hold all that their header promises.
fn whole(decoded: &[u8]) -> bool {
    super::le32(decoded).is_some_and(|total| usize::try_from(total).is_ok_and(|total| decoded.len() >= total))
}

fn is_base64(line: &str) -> bool {
    line.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='))
}

/// The base64 block of a line; what stands before it is the log's own (time stamps). None: another line, mixed in.
fn block(number: usize, line: &str) -> Option<Block> {
    let text = bare(line);
    let last = text.split_whitespace().last()?;
    let alone = last.len() == text.len();
    if let Ok(bytes) = STANDARD.decode(last)
        && (alone || last.len() >= LEAST_BEHIND)
    {
        return Some(Block::Whole(bytes));
    }
    // A cut line, or one into which something else was printed.
    let first = text.split_whitespace().next().unwrap_or_default();
    let begun = first.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '+' | '/')).next().unwrap_or_default();
    if !(alone && is_base64(last)) && begun.len() < LEAST_BEHIND {
        return None;
    }
    let quads = begun.get(..begun.len() / 4 * 4).unwrap_or_default();
    Some(Block::Damaged(number, begun.len(), STANDARD.decode(quads).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A dump header that promises `total` bytes, and as many.
    fn dump(total: usize) -> Vec<u8> {
        let mut bytes = (total as u32).to_le_bytes().to_vec();
        bytes.extend([0x02, 0x01, 0, 0]);
        bytes.extend((8..total).map(|at| at as u8));
        bytes
    }

    fn printed(bytes: &[u8]) -> Vec<String> {
        bytes.chunks(48).map(|chunk| STANDARD.encode(chunk)).collect()
    }

    fn log(lines: &[String]) -> String {
        format!("I (1) x: {START} ===\n{}\n{END} ===\nRebooting...\n", lines.join("\n")).replace("I (1) x: ", "=== ")
    }

    fn decoded(text: &str, check: Check) -> Result<Text, CoreDumpError> {
        decode(text.as_bytes(), check, None).unwrap()
    }

    #[test]
    fn lines_with_prefixes_and_others_mixed_in_are_whole() {
        let bytes = dump(500);
        let mut lines = printed(&bytes);
        lines.insert(3, "I (12345) wifi: state: run -> init".into());
        lines.insert(5, "".into());
        for prefix in ["", "12:16:53.101 -> ", "> ", "[1234] "] {
            let lines: Vec<String> = lines.iter().map(|line| format!("{prefix}{line}")).collect();
            let text = decoded(&log(&lines), Check::Enforce).unwrap();
            assert_eq!((text.bytes, text.damage.len()), (bytes.clone(), 0), "{prefix}");
        }
    }

    #[test]
    fn a_cut_line_is_named_and_leaves_a_hole_of_its_length() {
        let bytes = dump(500);
        let mut lines = printed(&bytes);
        lines[4].truncate(29);
        for text in [log(&lines), lines.join("\n")] {
            let number = if text.starts_with("===") { 6 } else { 5 };
            let refused = decoded(&text, Check::Enforce).err();
            assert_eq!(refused, Some(CoreDumpError::Line { line: number, have: 29 }));
            let partial = decoded(&text, Check::Report).unwrap();
            assert_eq!((partial.bytes.len(), partial.damage.len()), (500, 1));
            assert_eq!(partial.bytes[..4 * 48 + 21], bytes[..4 * 48 + 21]);
            assert_eq!(partial.bytes[5 * 48..], bytes[5 * 48..]);
        }
    }

    #[test]
    fn a_line_that_something_was_printed_into_is_damaged() {
        let bytes = dump(300);
        let mut lines = printed(&bytes);
        lines[2] = format!("{}I (5) wifi: on", &lines[2][..40]);
        assert_eq!(decoded(&log(&lines), Check::Enforce).err(), Some(CoreDumpError::Line { line: 4, have: 41 }));
    }

    #[test]
    fn of_several_dumps_the_last_counts_or_the_one_that_is_chosen() {
        let (first, second) = (dump(300), dump(200));
        let both = log(&printed(&first)) + &log(&printed(&second));
        assert_eq!(decoded(&both, Check::Enforce).unwrap().bytes, second);
        let chosen = decode(both.as_bytes(), Check::Enforce, Some(1)).unwrap().unwrap();
        assert_eq!((chosen.bytes, chosen.damage.len()), (first, 1));
        let wrong = decode(both.as_bytes(), Check::Enforce, Some(3)).unwrap().err();
        assert_eq!(wrong, Some(CoreDumpError::Which { wanted: 3, have: 2 }));
    }

    #[test]
    fn other_texts_are_no_dumps() {
        for text in ["hello\nworld\n", "", "ets Jun  8 2016\n", "a\nb\nc\n"] {
            let found = decode(text.as_bytes(), Check::Enforce, None);
            assert!(found.is_none_or(|found| found.is_ok_and(|text| text.bytes.len() < 16)), "{text}");
        }
    }
}
