//! Trace files: everything that happened on a line, as text that people can read and a test can run.
//!
//! The first line is `esp-trace 1 URL`. Every other line is `TIME EVENT`, or empty, or a comment (`# …`). TIME is in
//! microseconds of the port's clock, never decreasing. Events:
//!
//! ```text
//! > HEX            bytes written
//! < HEX            bytes read
//! lines DTR RTS    modem lines set, each 0 or 1
//! baud N           line rate set
//! sleep US         the client let time pass
//! reopen           the client opened the line again
//! ! KIND TEXT      the last operation failed
//! ```
//!
//! A version that this one does not know is refused. [`super::replay`] plays a trace to a client.

use std::fmt;
use std::io;

/// Version of the format, in its first line.
pub const VERSION: u32 = 1;

/// A recorded line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// The port it was recorded on.
    pub url: String,
    /// What happened, in order.
    pub steps: Vec<Step>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// When, in microseconds of the port's clock.
    pub at_us: u64,
    /// What.
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Bytes written to the device.
    Wrote(Vec<u8>),
    /// Bytes read from it.
    Read(Vec<u8>),
    /// Modem lines set.
    Lines {
        /// DTR asserted.
        dtr: bool,
        /// RTS asserted.
        rts: bool,
    },
    /// Line rate set, in baud.
    Baud(u32),
    /// The client let this many microseconds pass.
    Sleep(u64),
    /// The client opened the line again.
    Reopened,
    /// The last operation failed.
    Failed {
        /// Kind of the error, one of `KINDS` or `Other`.
        kind: io::ErrorKind,
        /// Its text.
        text: String,
    },
}

/// Error kinds that a line reports, by their name in a trace.
const KINDS: &[(&str, io::ErrorKind)] = &[
    ("Unsupported", io::ErrorKind::Unsupported),
    ("NotConnected", io::ErrorKind::NotConnected),
    ("TimedOut", io::ErrorKind::TimedOut),
    ("ConnectionReset", io::ErrorKind::ConnectionReset),
    ("ConnectionAborted", io::ErrorKind::ConnectionAborted),
    ("BrokenPipe", io::ErrorKind::BrokenPipe),
    ("InvalidInput", io::ErrorKind::InvalidInput),
];

/// Why text is not a trace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// The first line is another.
    #[error("not a trace: the first line is not \"esp-trace 1 URL\"")]
    Header,
    /// A later version of the format.
    #[error("trace version {0} is not known")]
    Version(u32),
    /// A line that says nothing known.
    #[error("line {0} of the trace is not an event")]
    Line(usize),
    /// A line that is earlier than the one before.
    #[error("line {0} of the trace goes back in time")]
    Backwards(usize),
}

impl Trace {
    /// Reads a trace.
    pub fn parse(text: &str) -> Result<Self, TraceError> {
        let mut lines = text.lines().enumerate();
        let header = lines.next().and_then(|(_, line)| line.strip_prefix("esp-trace ")).ok_or(TraceError::Header)?;
        let (version, url) = header.split_once(' ').ok_or(TraceError::Header)?;
        match version.parse() {
            Ok(VERSION) => {}
            Ok(other) => return Err(TraceError::Version(other)),
            Err(_) => return Err(TraceError::Header),
        }
        let mut trace = Self { url: url.trim().into(), steps: Vec::new() };
        let mut last = 0;
        for (index, line) in lines {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let step = step(line).ok_or(TraceError::Line(index + 1))?;
            if step.at_us < last {
                return Err(TraceError::Backwards(index + 1));
            }
            last = step.at_us;
            trace.steps.push(step);
        }
        Ok(trace)
    }
}

fn step(line: &str) -> Option<Step> {
    let (at, rest) = line.split_once(' ')?;
    let (word, value) = rest.split_once(' ').unwrap_or((rest, ""));
    let event = match word {
        ">" => Event::Wrote(unhex(value)?),
        "<" => Event::Read(unhex(value)?),
        "lines" => {
            let (dtr, rts) = value.split_once(' ')?;
            Event::Lines { dtr: level(dtr)?, rts: level(rts)? }
        }
        "baud" => Event::Baud(value.parse().ok()?),
        "sleep" => Event::Sleep(value.parse().ok()?),
        "reopen" => Event::Reopened,
        "!" => {
            let (kind, text) = value.split_once(' ').unwrap_or((value, ""));
            let known = KINDS.iter().find(|(name, _)| *name == kind);
            Event::Failed { kind: known.map_or(io::ErrorKind::Other, |(_, kind)| *kind), text: one_line(text) }
        }
        _ => return None,
    };
    Some(Step { at_us: at.parse().ok()?, event })
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

fn level(text: &str) -> Option<bool> {
    match text {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| (c as char).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let (pairs, odd) = text.as_bytes().as_chunks::<2>();
    if !odd.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", header(&self.url))?;
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

/// The first line of a trace.
pub(super) fn header(url: &str) -> String {
    format!("esp-trace {VERSION} {url}")
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.at_us)?;
        let hex = |f: &mut fmt::Formatter<'_>, bytes: &[u8]| bytes.iter().try_for_each(|b| write!(f, "{b:02x}"));
        match &self.event {
            Event::Wrote(bytes) => f.write_str("> ").and_then(|()| hex(f, bytes)),
            Event::Read(bytes) => f.write_str("< ").and_then(|()| hex(f, bytes)),
            Event::Lines { dtr, rts } => write!(f, "lines {} {}", u8::from(*dtr), u8::from(*rts)),
            Event::Baud(baud) => write!(f, "baud {baud}"),
            Event::Sleep(us) => write!(f, "sleep {us}"),
            Event::Reopened => f.write_str("reopen"),
            Event::Failed { kind, text } => {
                let name = KINDS.iter().find(|(_, known)| known == kind).map_or("Other", |(name, _)| name);
                write!(f, "! {name} {}", one_line(text))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::faulty::Random;

    const SAMPLE: &str = "esp-trace 1 /dev/ttyUSB0\n0 lines 1 0\n10 sleep 100\n110 > c000ffc0\n\
                          200 < 0a\n300 baud 921600\n301 reopen\n400 ! NotConnected the device left the bus\n";

    #[test]
    fn prints_what_it_read() {
        assert_eq!(Trace::parse(SAMPLE).unwrap().to_string(), SAMPLE);
        let commented = SAMPLE.replace("10 sleep", "# why\n\n10 sleep");
        assert_eq!(Trace::parse(&commented).unwrap().to_string(), SAMPLE);
    }

    #[test]
    fn refuses_what_is_none() {
        assert_eq!(Trace::parse(""), Err(TraceError::Header));
        assert_eq!(Trace::parse("esp-trace x y"), Err(TraceError::Header));
        assert_eq!(Trace::parse("esp-trace 2 y"), Err(TraceError::Version(2)));
        for line in ["5", "5 > 0", "5 > 0g", "5 lines 1", "5 lines 1 2", "5 wave", "x > 00", "5 baud -1"] {
            assert_eq!(Trace::parse(&format!("esp-trace 1 u\n{line}")), Err(TraceError::Line(2)), "{line}");
        }
        assert_eq!(Trace::parse("esp-trace 1 u\n5 reopen\n4 reopen"), Err(TraceError::Backwards(3)));
    }

    #[test]
    fn any_text_is_harmless() {
        let mut random = Random::new(1);
        for _ in 0..20_000 {
            let mut text = SAMPLE.as_bytes().to_vec();
            for _ in 0..=random.below(4) {
                let at = random.below(text.len());
                match random.below(3) {
                    0 => text[at] = random.byte(),
                    1 => text.truncate(at.max(1)),
                    _ => text.insert(at, b" \n>0!"[random.below(5)]),
                }
            }
            if let Ok(trace) = Trace::parse(&String::from_utf8_lossy(&text)) {
                assert_eq!(Trace::parse(&trace.to_string()).as_ref(), Ok(&trace));
            }
        }
    }
}
