//! From bytes to lines.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::Duration;

use regex::Regex;

/// Longest line kept whole, in bytes; what is longer is cut into several.
pub const MAX_LINE: usize = 4096;

/// One line, cleaned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When its first byte came, on the port's clock.
    pub at: Duration,
    /// Its text without escape sequences and control characters.
    pub text: String,
}

/// Cuts a byte stream into lines: LF, CR LF and lone CR all end one.
#[derive(Debug, Clone, Default)]
pub struct Lines {
    pending: Vec<u8>,
    started: Duration,
}

impl Lines {
    /// Takes bytes that came at `at`; gives the lines that they completed.
    pub fn feed(&mut self, at: Duration, bytes: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        for byte in bytes {
            if matches!(byte, b'\n' | b'\r') {
                lines.extend(self.take());
                continue;
            }
            if self.pending.is_empty() {
                self.started = at;
            }
            self.pending.push(*byte);
            if self.pending.len() >= MAX_LINE {
                lines.extend(self.take());
            }
        }
        lines
    }

    /// What came after the last line end.
    pub fn take(&mut self) -> Option<Line> {
        let bytes = std::mem::take(&mut self.pending);
        // A tab parts columns, such as a line's number from its text.
        let text = clean(&bytes.split(|byte| *byte == b'\t').collect::<Vec<_>>().join(&b"  "[..]));
        (!text.trim().is_empty()).then_some(Line { at: self.started, text })
    }
}

/// Text without ANSI escape sequences and control characters; bytes that are no UTF-8 become U+FFFD.
pub fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            // CSI: ESC [ parameters, ended by a letter or one of @ [ \ ] ^ _ ` { | } ~.
            if chars.next_if_eq(&'[').is_some() {
                while chars.next().is_some_and(|c| !('\u{40}'..='\u{7e}').contains(&c)) {}
            }
        } else if c == '\t' {
            out.push(' ');
        } else if !c.is_control() {
            out.push(c);
        }
    }
    if out.contains('[') { without_colours(out) } else { out }
}

/// Colours whose escape sign a copy lost or made visible: `[0;31mE (62) boot`, `␛[0m`, `ESC[0;33m`, `^[[0m`.
fn without_colours(text: String) -> String {
    const COLOURS: &str =
        r"(?:␛|\\x1[bB]|\\e|\\033|\\u001[bB]|\^\[|ESC)\[[0-9;]{0,8}m|\[(?:[01];)?(?:0|3[0-7]|9[0-7])m";
    static PATTERN: OnceLock<Option<Regex>> = OnceLock::new();
    let pattern = PATTERN.get_or_init(|| Regex::new(COLOURS).ok()).as_ref();
    match pattern.map(|pattern| pattern.replace_all(&text, "")) {
        Some(Cow::Owned(plain)) => plain,
        _ => text,
    }
}
