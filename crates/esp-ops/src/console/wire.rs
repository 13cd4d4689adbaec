//! What a daemon and its clients say to each other: one line of JSON each way.

use std::io::{self, BufRead, Read as _, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ring::Piece;
use super::session::{About, Order, State, Wish};
use crate::error::{Code, ToolError};

/// Both ends must mean the same by their messages.
pub const VERSION: u32 = 2;
/// Longest line, in bytes.
pub(super) const LONGEST: u64 = 8 << 20;

/// What a client wants. `Open` and `Join` come first; what follows them is about that console.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Who are you?
    Hello,
    /// Open a console, or join the one of that device.
    Open(Wish),
    /// Join the console of this port, if there is one.
    Join {
        /// The port's URL.
        url: String,
    },
    /// What comes from there on.
    Read {
        /// The first byte wanted.
        from: u64,
        /// At most this many.
        most: usize,
        /// Longest wait for the first one, in milliseconds.
        wait_ms: u64,
    },
    /// Do something on the line.
    Do(Order),
    /// What can be said of it?
    About,
    /// It goes on without readers.
    Keep,
    /// End it.
    Close,
    /// All consoles.
    List,
    /// Give the port away until this connection ends.
    Pause {
        /// The port's URL.
        url: String,
        /// For whom.
        holder: String,
    },
    /// Take the port back.
    Resume {
        /// And start the application.
        reset: bool,
    },
    /// Lend the line to this port until this connection ends.
    Lend {
        /// The port's URL.
        url: String,
        /// To whom.
        holder: String,
    },
    /// Do this on the line that is lent.
    Line(Move),
}

/// What is done on a line that is lent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Move {
    /// Send the bytes that follow.
    Write {
        /// How many.
        count: usize,
    },
    /// What is there, as bytes behind the answer.
    Read {
        /// At most this many.
        most: usize,
        /// Longest wait for the first one, in microseconds.
        wait_us: u64,
    },
    /// Set the modem lines.
    Lines {
        /// DTR.
        dtr: bool,
        /// RTS.
        rts: bool,
    },
    /// Set the rate.
    Baud {
        /// In baud.
        baud: u32,
    },
    /// Hold the break state.
    Break {
        /// For this long, in milliseconds.
        ms: u64,
    },
    /// Open the line again after the device left the bus.
    Reopen,
    /// A stub stays there for the next call.
    Leave {
        /// The application is started when nobody comes.
        to_app: bool,
        /// For this long, in milliseconds.
        idle_ms: u64,
    },
}

/// What the daemon answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Done.
    Done,
    /// There is no such console.
    None,
    /// The daemon.
    Hello {
        /// What it means by its messages.
        version: u32,
        /// Its process.
        pid: u32,
    },
    /// A console.
    About(About),
    /// All consoles.
    List(Vec<About>),
    /// Bytes.
    Piece {
        /// The bytes.
        piece: Piece,
        /// What the console does.
        state: State,
    },
    /// A line is lent.
    Lent {
        /// The port's URL.
        url: String,
        /// Its rate, in baud.
        baud: u32,
        /// Its USB ids.
        usb: Option<(u16, u16)>,
        /// DTR and RTS reach the device.
        modem_lines: bool,
        /// A stub runs there since the last call.
        is_warm: bool,
    },
    /// Bytes follow.
    Bytes {
        /// How many.
        count: usize,
    },
    /// The line refused an order.
    Refused {
        /// In the words of [`kind_name`].
        kind: String,
        /// Why.
        why: String,
    },
    /// It failed.
    Failed(Failure),
}

/// An error on its way.
#[derive(Debug, Serialize, Deserialize)]
pub struct Failure {
    code: String,
    message: String,
    evidence: Map<String, Value>,
    next_step: String,
}

impl From<ToolError> for Failure {
    fn from(error: ToolError) -> Self {
        Self {
            code: error.code.to_string(),
            message: error.message,
            evidence: error.evidence,
            next_step: error.next_step,
        }
    }
}

impl From<Failure> for ToolError {
    fn from(failure: Failure) -> Self {
        let known = Code::ALL.into_iter().find(|known| known.as_str() == failure.code);
        let code = known.unwrap_or(Code::Internal);
        let mut error = Self::new(code, failure.message).next(failure.next_step);
        error.evidence = failure.evidence;
        error
    }
}

/// The kinds of errors that a reader tells apart.
const KINDS: [(io::ErrorKind, &str); 4] = [
    (io::ErrorKind::Unsupported, "unsupported"),
    (io::ErrorKind::ResourceBusy, "busy"),
    (io::ErrorKind::NotConnected, "gone"),
    (io::ErrorKind::BrokenPipe, "closed"),
];

impl From<io::Error> for Answer {
    fn from(error: io::Error) -> Self {
        let kind = KINDS.iter().find(|(kind, _)| *kind == error.kind()).map_or("other", |(_, name)| name);
        Self::Refused { kind: kind.into(), why: error.to_string() }
    }
}

/// The error that a line refused with.
pub fn refused(kind: &str, why: String) -> io::Error {
    let kind = KINDS.iter().find(|(_, name)| *name == kind).map_or(io::ErrorKind::Other, |(kind, _)| *kind);
    io::Error::new(kind, why)
}

/// Sends one message.
pub fn send(out: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    out.write_all(&line)?;
    out.flush()
}

/// Takes one message; `None` when the other side has ended.
pub fn take<T: DeserializeOwned>(from: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    from.take(LONGEST).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&line)?))
}
