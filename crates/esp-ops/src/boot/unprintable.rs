//! Output of a console that is no text, as a wrong rate of the line makes it: told of, not shown.

use esp_model::console::Line;

use crate::boot::capture::Heard;

/// Above this share of unprintable characters, the line's rate is most likely wrong.
const GARBLED_PERCENT: usize = 30;
/// The finding's name in the catalogue.
pub const CODE: &str = "wrong_line_rate";
/// Bytes shown in hex.
const SHOWN_BYTES: usize = 16;
/// Rates that programs print at most often, in baud.
const USUAL: [u32; 4] = [115_200, 74_880, 9_600, 921_600];

/// What to do when much of what came is no text.
pub fn finding(heard: &Heard, rate: u32) -> Option<String> {
    in_lines(&heard.lines, &heard.head, rate)
}

/// The same of lines and the bytes that they begin with.
pub fn in_lines(lines: &[Line], head: &[u8], rate: u32) -> Option<String> {
    told(percent(lines.iter().map(|line| line.text.as_str())), head, rate)
}

fn told(percent: usize, head: &[u8], rate: u32) -> Option<String> {
    if percent < GARBLED_PERCENT {
        return None;
    }
    let bytes: Vec<String> = head.iter().take(SHOWN_BYTES).map(|byte| format!("{byte:02x}")).collect();
    let others: Vec<String> = USUAL.iter().filter(|other| **other != rate).map(u32::to_string).collect();
    Some(format!(
        "{percent} % unprintable at {rate} baud (first bytes: {}): try another baud with esp_console_capture baud=… ({})",
        bytes.join(" "),
        others.join(", ")
    ))
}

/// Share of characters that stand for bytes which are no text.
fn percent<'l>(lines: impl Iterator<Item = &'l str>) -> usize {
    let (mut all, mut odd) = (0, 0);
    for character in lines.flat_map(str::chars) {
        all += 1;
        odd += usize::from(is_odd(character));
    }
    (odd * 100).checked_div(all).unwrap_or(0)
}

fn is_odd(character: char) -> bool {
    character == char::REPLACEMENT_CHARACTER || (character.is_control() && character != '\t')
}

/// A line, or how much of it is no text and how it begins.
pub fn readable(line: &str) -> String {
    let odd = line.chars().filter(|character| is_odd(*character)).count();
    let all = line.chars().count();
    if odd * 100 < all * GARBLED_PERCENT || all < 8 {
        return line.to_owned();
    }
    let printable: String = line.chars().filter(|character| !is_odd(*character)).take(16).collect();
    format!("[{all} characters, {odd} of them unprintable; the others begin with {printable:?}]")
}

/// Text of a console in a result, in characters.
const SHOWN: usize = 6000;

/// The last lines with their times.
pub fn tail(lines: &[esp_model::console::Line]) -> String {
    let mut shown: Vec<String> = Vec::new();
    let mut size = 0;
    for line in lines.iter().rev() {
        let text = format!("[{}] {}\n", line.at.as_millis(), readable(&line.text));
        size += text.chars().count();
        if size > SHOWN {
            break;
        }
        shown.push(text);
    }
    shown.into_iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_rate_is_proposed_where_much_is_no_text() {
        let garbled = "\u{fffd}\u{fffd}a\u{fffd}\u{fffd}\u{fffd}b\u{fffd}\u{fffd}";
        assert_eq!(percent([garbled].into_iter()), 77);
        assert_eq!(percent(std::iter::empty()), 0);
        let text = told(77, &[0x80, 0x00, 0xf8], 115_200).unwrap();
        assert!(text.contains("77 % unprintable at 115200 baud (first bytes: 80 00 f8)"), "{text}");
        assert!(text.contains("74880") && !text.contains("(115200"), "{text}");
        assert_eq!(told(29, &[0x80], 115_200), None);
    }
}
