//! The last bytes that a device has sent, by their place in the stream.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Bytes that are kept.
const KEPT: usize = 4 << 20;
/// Times that are kept: one for each piece that came.
const MARKS: usize = 64 * 1024;

/// A place in the stream of one session. A session that was begun anew has other cursors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The session.
    pub session: String,
    /// Bytes before this place.
    pub at: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.session, self.at)
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (session, at) = text.rsplit_once('.').ok_or(())?;
        Ok(Self { session: session.into(), at: at.parse().map_err(drop)? })
    }
}

/// A piece of the stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Place of its first byte.
    pub from: u64,
    /// The bytes; on the way to another process in hexadecimal digits.
    #[serde(with = "digits")]
    pub bytes: Vec<u8>,
    /// Places and the time since the session's start at which they came, in milliseconds.
    pub marks: Vec<(u64, u64)>,
    /// Bytes before it that the ring no longer has.
    pub lost: u64,
    /// Bytes that came in all.
    pub end: u64,
}

impl Piece {
    /// Place behind its last byte.
    pub fn next(&self) -> u64 {
        self.from + self.bytes.len() as u64
    }
}

/// The ring itself.
#[derive(Debug, Default)]
pub struct Ring {
    bytes: VecDeque<u8>,
    end: u64,
    marks: VecDeque<(u64, u64)>,
}

impl Ring {
    /// Bytes that came in all.
    pub fn end(&self) -> u64 {
        self.end
    }

    fn start(&self) -> u64 {
        self.end - self.bytes.len() as u64
    }

    /// Takes what came `since` the session's start.
    pub fn push(&mut self, since: Duration, bytes: &[u8]) {
        let at = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        if self.marks.back().is_none_or(|(_, last)| *last != at) {
            self.marks.push_back((self.end, at));
        }
        self.bytes.extend(bytes);
        self.end += bytes.len() as u64;
        let surplus = self.bytes.len().saturating_sub(KEPT);
        self.bytes.drain(..surplus);
        let start = self.start();
        // The mark that the first byte belongs to stays.
        while self.marks.len() > MARKS || self.marks.get(1).is_some_and(|(place, _)| *place <= start) {
            self.marks.pop_front();
        }
    }

    /// At most `most` bytes from `from`, or from the first one that is still there.
    pub fn read(&self, from: u64, most: usize) -> Piece {
        let begin = from.clamp(self.start(), self.end);
        let skip = usize::try_from(begin - self.start()).unwrap_or(usize::MAX);
        let until = skip.saturating_add(most).min(self.bytes.len());
        let bytes: Vec<u8> = self.bytes.range(skip.min(until)..until).copied().collect();
        let next = begin + bytes.len() as u64;
        let first = self.marks.partition_point(|(place, _)| *place <= begin).saturating_sub(1);
        let marks = self.marks.iter().skip(first).take_while(|(place, _)| *place < next).copied().collect();
        Piece { from: begin, bytes, marks, lost: begin.saturating_sub(from), end: self.end }
    }
}

/// Bytes as digits: shorter in JSON than a list of numbers.
pub(super) mod digits {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&esp_model::hex::encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        bytes.ok_or_else(|| D::Error::custom("not hexadecimal digits"))
    }
}
