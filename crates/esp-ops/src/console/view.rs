//! What a reader of a console is shown: text from a place on, up to a pattern, with the crashes in it.

use std::time::{Duration, Instant};

use esp_link::monitor::Pattern;
use esp_model::console::{Decoder, Finding, Line};
use esp_model::job::Job;

use super::link::Link;
use super::lost;
use super::ring::{Cursor, Piece};
use super::session::{About, State};
use crate::Call;
use crate::boot::capture::{self, Crash, Names};
use crate::error::{Code, ToolError};

/// What is decoded before the first byte that is shown: the start of an app names the ELF file of a later crash.
const BEFORE: u64 = 64 * 1024;
/// Longest single wait for bytes: how late a cancel is noticed.
const SLICE: Duration = Duration::from_millis(200);
/// How much of what was searched is searched again: a match may come in pieces.
const OVERLAP: u64 = 2048;

/// How to read.
#[derive(Debug, Default)]
pub struct Reading {
    /// From where; without it the last `most` bytes, or from now on where a pattern is waited for.
    pub from: Option<Cursor>,
    /// At most this many bytes.
    pub most: usize,
    /// Up to the first match.
    pub until: Option<Pattern>,
    /// Longest wait for it, or for the first byte.
    pub wait: Duration,
}

/// What was read.
pub struct Read {
    /// The console.
    pub about: About,
    /// The bytes.
    pub piece: Piece,
    /// What the pattern matched.
    pub matched: Option<Vec<u8>>,
    /// The cursor was of an earlier session of this port: its bytes are in that one's log.
    pub began_anew: bool,
    /// Lines with their time.
    pub lines: Vec<Line>,
    /// What was recognised, with what came before.
    pub decoder: Decoder,
    /// Events of `decoder` that end before the piece.
    known: usize,
}

impl Read {
    /// The cursor behind it.
    pub fn next(&self) -> Cursor {
        Cursor { session: self.about.session.clone(), at: self.piece.next() }
    }

    /// The crashes in it, with names where an ELF file is that app's.
    pub fn crashes(&self, call: &Call, elf: Option<&str>) -> Result<Vec<Crash>, ToolError> {
        Ok(capture::crashes(&self.decoder, self.known, &mut Names::new(call, elf, &[]))?.shown)
    }

    /// Known troubles in it.
    pub fn findings(&self) -> Vec<Finding> {
        let begin = self.piece.marks.first().map_or(0, |(_, at)| *at);
        let mut all = self.decoder.findings();
        all.retain(|finding| !self.piece.bytes.is_empty() && finding.at_ms >= begin);
        all
    }
}

/// Reads.
pub fn read(call: &Call, link: &Link, reading: &Reading, job: &Job) -> Result<Read, ToolError> {
    let about = link.about().map_err(lost)?;
    let (from, began_anew) = match &reading.from {
        Some(cursor) if cursor.session == about.session => (cursor.at, false),
        Some(_) => (0, true),
        None if reading.until.is_some() => (about.end, false),
        None => (about.end.saturating_sub(reading.most as u64), false),
    };
    let (piece, matched) = match &reading.until {
        Some(pattern) => search(link, from, reading, pattern, job)?,
        None => (collect(link, from, reading, job)?, None),
    };
    let before = link.read(from.saturating_sub(BEFORE), BEFORE.min(from) as usize, Duration::ZERO).map_err(lost)?.0;
    let mut decoder = Decoder::with(None, call.catalogue()?);
    feed(&mut decoder, &before);
    let known = decoder.events().len();
    let mut lines = feed(&mut decoder, &piece);
    lines.extend(decoder.finish());
    let about = link.about().map_err(lost)?;
    Ok(Read { about, piece, matched, began_anew, lines, decoder, known })
}

/// Waits for something, and takes what is there then.
fn collect(link: &Link, from: u64, reading: &Reading, job: &Job) -> Result<Piece, ToolError> {
    let until = Instant::now() + reading.wait;
    loop {
        job.check()?;
        let left = until.saturating_duration_since(Instant::now());
        let (piece, state) = link.read(from, reading.most, left.min(SLICE)).map_err(lost)?;
        if !piece.bytes.is_empty() || left.is_zero() || state == State::Closed {
            return Ok(piece);
        }
    }
}

/// Waits for a match. The piece ends with it; without one, it is what came, up to the limit.
fn search(
    link: &Link,
    from: u64,
    reading: &Reading,
    pattern: &Pattern,
    job: &Job,
) -> Result<(Piece, Option<Vec<u8>>), ToolError> {
    let until = Instant::now() + reading.wait;
    let mut at = from;
    loop {
        job.check()?;
        let left = until.saturating_duration_since(Instant::now());
        let (new, state) = link.read(at, 1 << 20, left.min(SLICE)).map_err(lost)?;
        let begin = at.saturating_sub(OVERLAP).max(from);
        let (seen, _) = link.read(begin, (new.next() - begin) as usize, Duration::ZERO).map_err(lost)?;
        if let Some(hit) = pattern.find(&seen.bytes) {
            let matched = seen.bytes.get(hit.clone()).map(<[u8]>::to_vec);
            let end = seen.from + hit.end as u64;
            // The end of what is shown is the match; its beginning gives way to the limit.
            let first = end.saturating_sub(reading.most as u64).max(from);
            let piece = link.read(first, (end - first) as usize, Duration::ZERO).map_err(lost)?.0;
            return Ok((piece, matched));
        }
        at = new.next();
        if left.is_zero() || state == State::Closed {
            let first = at.saturating_sub(reading.most as u64).max(from);
            return Ok((link.read(first, (at - first) as usize, Duration::ZERO).map_err(lost)?.0, None));
        }
    }
}

/// Gives a decoder the piece, each part at its time.
fn feed(decoder: &mut Decoder, piece: &Piece) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut marks = piece.marks.iter().peekable();
    while let Some((place, at)) = marks.next() {
        let end = marks.peek().map_or(piece.next(), |(place, _)| *place);
        let range = place.saturating_sub(piece.from) as usize..end.saturating_sub(piece.from) as usize;
        lines.extend(decoder.feed(Duration::from_millis(*at), piece.bytes.get(range).unwrap_or_default()));
    }
    lines
}

/// A pattern of a reader.
pub fn pattern(text: &str) -> Result<Pattern, ToolError> {
    Pattern::regex(text).map_err(|error| ToolError::new(Code::BadParameter, error.to_string()))
}

/// Looks for the packet by which ESP-IDF's GDB stub says that the program has stopped: `$T0b#e6`.
#[derive(Debug, Default)]
pub struct GdbStub {
    /// The end of what came before: a packet may come in pieces.
    tail: Vec<u8>,
}

/// Longest packet of this sort.
const PACKET: usize = 64;

impl GdbStub {
    /// A packet ends in these bytes.
    pub fn is_in(&mut self, bytes: &[u8]) -> bool {
        let known = self.tail.len();
        self.tail.extend_from_slice(bytes);
        let is_hex = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_hexdigit);
        let found = self.tail.windows(4).enumerate().any(|(at, head)| {
            let body = self.tail.get(at + 1..).unwrap_or_default();
            let body = body.get(..PACKET.min(body.len())).unwrap_or_default();
            let Some(end) = body.iter().position(|byte| *byte == b'#') else { return false };
            let (text, sum) = (body.get(..end).unwrap_or_default(), body.get(end + 1..end + 3));
            let adds_up = sum.filter(|sum| is_hex(sum)).is_some_and(|sum| {
                let added = text.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
                std::str::from_utf8(sum).is_ok_and(|sum| u8::from_str_radix(sum, 16) == Ok(added))
            });
            head.starts_with(b"$T") && is_hex(head.get(2..).unwrap_or_default()) && adds_up && at + end + 3 >= known
        });
        let surplus = self.tail.len().saturating_sub(PACKET);
        self.tail.drain(..surplus);
        found
    }
}
