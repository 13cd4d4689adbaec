//! Pieces of lines.

use std::sync::OnceLock;

use regex::Regex;

/// The hexadecimal number after `mark`: `0x…` or bare digits.
pub(super) fn hex_after(text: &str, mark: &str) -> Option<u32> {
    let rest = text.split_once(mark)?.1.trim_start();
    let digits = rest.strip_prefix("0x").unwrap_or(rest);
    let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
    u32::from_str_radix(digits.get(..end)?, 16).ok()
}

/// The decimal number after `mark`.
pub(super) fn decimal_after(text: &str, mark: &str) -> Option<u32> {
    let rest = text.split_once(mark)?.1.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

/// What stands in the first round brackets after `mark`.
pub(super) fn bracketed(text: &str, mark: &str) -> Option<String> {
    let rest = text.split_once(mark)?.1;
    let inner = rest.split_once('(')?.1;
    // Modes name UARTs in brackets of their own: DOWNLOAD_BOOT(UART0/UART1/SDIO_REI_REO_V2).
    let mut depth = 1;
    let end = inner.find(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth == 0
    })?;
    inner.get(..end).map(str::to_owned)
}

/// `tag: message` of an ESP-IDF log line: `I (27) boot: …`, with the time in milliseconds or as a clock.
pub(super) fn log_line(text: &str) -> Option<(char, &str, &str)> {
    let level = text.chars().next().filter(|c| "EWIDV".contains(*c))?;
    let rest = text.get(1..)?.strip_prefix(" (")?;
    let (_, rest) = rest.split_once(") ")?;
    let (tag, message) = rest.split_once(": ")?;
    Some((level, tag, message.trim()))
}

/// A pattern of this file, made once.
macro_rules! pattern {
    ($text:literal) => {{
        static PATTERN: OnceLock<Option<Regex>> = OnceLock::new();
        PATTERN.get_or_init(|| Regex::new($text).ok()).as_ref()
    }};
}

fn number(digits: Option<regex::Match<'_>>) -> Option<u32> {
    u32::from_str_radix(digits?.as_str(), 16).ok()
}

/// `NAME : 0x12345678` pairs of a register dump; `NAME=0x12345678` on an ESP8266 and in Rust.
pub(super) fn registers(text: &str) -> Vec<(String, u32)> {
    let Some(pattern) = pattern!(r"(?-u:\b)([A-Za-z][A-Za-z0-9]{0,7}(?:/FP|/fp)?) *[:=] *0x([0-9a-fA-F]{8})(?-u:\b)")
    else {
        return Vec::new();
    };
    let pair = |found: regex::Captures<'_>| Some((found.get(1)?.as_str().to_owned(), number(found.get(2))?));
    pattern.captures_iter(text).filter_map(pair).collect()
}

/// A line that is nothing but a code address.
pub(super) fn lone_address(text: &str) -> Option<u32> {
    let digits = text.trim().strip_prefix("0x").filter(|digits| digits.len() == 8)?;
    u32::from_str_radix(digits, 16).ok()
}

/// The pairs `pc:sp` of an Xtensa backtrace, also without a space between them; on RISC-V with frame pointers alike.
pub(super) fn backtrace(text: &str) -> Vec<(u32, u32)> {
    let Some(pattern) = pattern!(r"0x([0-9a-fA-F]{8}): ?0x([0-9a-fA-F]{8})") else { return Vec::new() };
    let pair = |found: regex::Captures<'_>| Some((number(found.get(1))?, number(found.get(2))?));
    pattern.captures_iter(text).filter_map(pair).take(128).collect()
}

/// The line goes on with a backtrace that was wrapped: nothing but addresses and the mark of a broken chain.
pub(super) fn continues_backtrace(text: &str) -> bool {
    let plain = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b'x' | b':' | b'|' | b'<' | b'-'))
    };
    let mut words = text.split_whitespace().filter(|word| !word.contains("CORRUPTED"));
    text.contains("CORRUPTED") || (text.contains(':') && words.all(plain) && text.bytes().any(|b| b.is_ascii_digit()))
}

/// Joins a wrapped backtrace: a pair that was cut is made whole.
pub(super) fn join_backtrace(begun: &mut String, more: &str) {
    let last = begun.split_whitespace().last().unwrap_or_default();
    let whole =
        last == "Backtrace:" || last.rsplit("0x").next().is_some_and(|digits| digits.len() == 8) && last.contains(':');
    if whole {
        begun.push(' ');
    }
    begun.push_str(more);
}

/// A line of a stack dump: `3fc8e9d0: 0x… 0x…`, on an ESP8266 without the `0x`.
pub(super) fn stack_line(text: &str) -> Option<(u32, Vec<u32>)> {
    let found =
        pattern!(r"(?:^|[ >|])(?:0x)?([0-9a-fA-F]{8}): +((?:(?:0x)?[0-9a-fA-F]{8}(?: +|$))+)")?.captures(text)?;
    let address = number(found.get(1))?;
    let words = found.get(2)?.as_str().split_whitespace();
    let words = words.filter_map(|word| u32::from_str_radix(word.trim_start_matches("0x"), 16).ok());
    Some((address, words.take(16).collect()))
}
