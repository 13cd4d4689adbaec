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
