//! Numbers with their nouns in results and messages.

use std::fmt::Display;

/// `1 segment`, `2 segments`, `0 entries`.
pub fn counted(number: impl Display, noun: &str) -> String {
    let number = number.to_string();
    if number == "1" { format!("1 {noun}") } else { format!("{number} {}", plural(noun)) }
}

fn plural(noun: &str) -> String {
    match noun.strip_suffix('y').filter(|rest| !rest.ends_with(['a', 'e', 'o'])) {
        Some(rest) => format!("{rest}ies"),
        None if noun.ends_with('s') => format!("{noun}es"),
        None => format!("{noun}s"),
    }
}

/// Characters of a path to a source or library beyond which only its end is shown.
const MAX_PATH: usize = 50;

/// Of a long path the end, from a folder on: `…/components/vfs/vfs.c:1187`; anything else as it is.
pub fn path_end(text: &str) -> String {
    let count = text.chars().count();
    if count <= MAX_PATH || !text.starts_with('/') || text.contains(' ') {
        return text.to_owned();
    }
    let end: String = text.chars().skip(count - MAX_PATH).collect();
    format!("…{}", end.find('/').map_or(end.as_str(), |at| &end[at..]))
}

/// The same for each path in a line.
pub fn short_paths(line: &str) -> String {
    line.split(' ').map(path_end).collect::<Vec<_>>().join(" ")
}

/// Lines of the longest block that is looked for.
const MAX_BLOCK: usize = 12;

/// Lines with what repeats shown once: `hello  (×3)`; below a block of lines, as in a boot loop, `(these 4 lines ×9)`.
pub fn folded<T: AsRef<str> + PartialEq>(lines: &[T]) -> Vec<String> {
    let mut folded = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let (length, times) = longest_repeat(&lines[at..]);
        let block = lines[at..at + length].iter().map(|line| line.as_ref().to_owned());
        match (length, times) {
            (1, 2..) => folded.push(format!("{}  (×{times})", lines[at].as_ref())),
            _ => folded.extend(block),
        }
        if length > 1 {
            folded.push(format!("(these {length} lines ×{times})"));
        }
        at += length * times;
    }
    folded
}

/// The block at the start whose repetitions cover most lines, and how often it is there.
fn longest_repeat<T: PartialEq>(lines: &[T]) -> (usize, usize) {
    let mut best = (1, 1);
    for length in 1..=MAX_BLOCK.min(lines.len() / 2) {
        let block = &lines[..length];
        let times = lines.chunks(length).take_while(|chunk| *chunk == block).count();
        if times > 1 && length * times > best.0 * best.1 {
            best = (length, times);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_paths_in_a_line_show_their_end() {
        let file = "/home/somebody/esp/v5.3/esp-idf/components/vfs/vfs.c:1187";
        assert_eq!(
            short_paths(&format!("0x400d5c27 f {file} (inlined)")),
            "0x400d5c27 f …/esp/v5.3/esp-idf/components/vfs/vfs.c:1187 (inlined)"
        );
        assert_eq!(short_paths("0x400d5c27 app_main main.c:20"), "0x400d5c27 app_main main.c:20");
    }

    #[test]
    fn numbers_agree_with_their_nouns() {
        assert_eq!((counted(1, "entry"), counted(0, "entry")), ("1 entry".into(), "0 entries".into()));
        assert_eq!((counted(1_u64, "more line"), counted(2, "copy")), ("1 more line".into(), "2 copies".into()));
        assert_eq!((counted(3, "key"), counted(2, "address")), ("3 keys".into(), "2 addresses".into()));
    }

    #[test]
    fn lines_and_blocks_that_repeat_are_shown_once() {
        assert_eq!(folded(&["a", "b", "b", "b", "c"]), ["a", "b  (×3)", "c"]);
        assert_eq!(folded(&["x", "a", "b", "a", "b", "a", "b", "y"]), ["x", "a", "b", "(these 2 lines ×3)", "y"]);
        assert_eq!(folded(&["a", "b", "c"]), ["a", "b", "c"]);
        assert_eq!(folded(&["a", "a", "b", "a", "a", "b"]), ["a", "a", "b", "(these 3 lines ×2)"]);
        assert!(folded::<&str>(&[]).is_empty());
    }
}
