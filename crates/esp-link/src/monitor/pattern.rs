//! Patterns in a byte stream.

use regex::bytes::{Regex, RegexBuilder};

/// How much of the stream is kept for a match that spans reads, in bytes.
const OVERLAP: usize = 2048;

/// A text that cannot be used as a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pattern \"{pattern}\": {reason}")]
pub struct BadPattern {
    /// The text.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A regular expression over bytes, or plain text.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

impl Pattern {
    /// A regular expression; `^` and `$` are the ends of lines. A match may be up to 2 KiB long.
    pub fn regex(text: &str) -> Result<Self, BadPattern> {
        let bad = |error: regex::Error| BadPattern { pattern: text.into(), reason: error.to_string() };
        let regex = RegexBuilder::new(text).multi_line(true).crlf(true).size_limit(1 << 20).build().map_err(bad)?;
        if regex.is_match(b"") {
            return Err(BadPattern { pattern: text.into(), reason: "matches nothing at all".into() });
        }
        Ok(Self { text: text.into(), regex })
    }

    /// Plain text.
    pub fn literal(text: &str) -> Result<Self, BadPattern> {
        Ok(Self { text: text.into(), ..Self::regex(&regex::escape(text))? })
    }

    /// Where it is found first.
    pub fn find(&self, bytes: &[u8]) -> Option<std::ops::Range<usize>> {
        self.regex.find(bytes).map(|hit| hit.range())
    }

    /// The pattern as given.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn watch(&self) -> Watch {
        Watch { pattern: self.text.clone(), regex: self.regex.clone(), tail: Vec::new() }
    }
}

/// Looks for a pattern in a stream that comes in pieces.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    pub pattern: String,
    regex: Regex,
    tail: Vec<u8>,
}

impl Watch {
    /// Takes the next piece; gives what matched.
    pub fn feed(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.tail.extend_from_slice(bytes);
        let found = self.regex.find(&self.tail).map(|hit| hit.as_bytes().to_vec());
        let surplus = self.tail.len().saturating_sub(OVERLAP);
        self.tail.drain(..surplus);
        found
    }
}
