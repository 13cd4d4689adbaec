//! What can go wrong on the way to a chip: what happened and what was seen, no advice.

use std::io;
use std::time::Duration;

use esp_model::job::Cancelled;
use esp_model::wire::{Command, Status};

/// A command to the loader did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum LoaderError {
    /// The line itself failed: unplugged, closed by the peer.
    #[error("the line failed: {0}")]
    Line(#[from] io::Error),
    /// The caller cancelled.
    #[error("cancelled")]
    Cancelled,
    /// No answer came in time.
    #[error("no answer to {command} within {waited:?}{seen}", command = .command.name())]
    NoAnswer {
        /// The command that was sent.
        command: Command,
        /// How long was waited.
        waited: Duration,
        /// The bytes that came instead.
        seen: Seen,
    },
    /// The device answers, and yet it does not come to an end.
    #[error("not connected within {limit:?}: the device sends something all the time, but not what was asked for")]
    TooLong {
        /// The time that it was given.
        limit: Duration,
    },
    /// The loader answered that it failed.
    #[error("{command} refused with {status}", command = .command.name())]
    Refused {
        /// The command that was sent.
        command: Command,
        /// The loader's status bytes.
        status: Status,
    },
    /// An answer that breaks the protocol.
    #[error("{command}: {what}{seen}", command = .command.name())]
    Protocol {
        /// The command that was sent.
        command: Command,
        /// What is wrong with the answer.
        what: &'static str,
        /// The bytes of the answer.
        seen: Seen,
    },
    /// This loader (ROM, stub, secure download mode) cannot do it on this chip.
    #[error("{what} is not possible with the {mode} of {chip}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// `ROM loader`, `stub` or `ROM loader in secure download mode`.
        mode: &'static str,
        /// The chip's name.
        chip: String,
        /// A flasher stub could do it.
        stub_can: bool,
    },
    /// No stub for this chip.
    #[error("stub: {0}")]
    Stub(String),
    /// The flash chip does not answer.
    #[error("no flash answers (id {0})")]
    NoFlash(String),
    /// The flash did not finish what it was told.
    #[error("the flash is still busy after {waited:?}")]
    FlashBusy {
        /// How long was waited.
        waited: Duration,
    },
    /// The flash does not say how large it is, or cannot be asked.
    #[error("the flash size is not known: {0}")]
    FlashSize(String),
    /// An address or size that the flash does not have.
    #[error("{0}")]
    Range(String),
    /// What is in the flash is not what was written.
    #[error("flash differs at {address:#x} after {attempts} attempts: {what}")]
    Mismatch {
        /// First differing sector.
        address: u32,
        /// How often it was written.
        attempts: u32,
        /// Kind of difference.
        what: String,
    },
    /// The line loses too much to get on.
    #[error("the line is too bad: no progress at {address:#x} in {attempts} attempts (last: {last})")]
    BadLine {
        /// Where it got stuck.
        address: u32,
        /// Attempts in a row without progress.
        attempts: u32,
        /// The last thing that went wrong.
        last: String,
    },
    /// A data source or sink of the caller failed.
    #[error("data: {0}")]
    Data(String),
    /// What is to be written changed while it was being written.
    #[error("{0}")]
    Changed(String),
}

impl LoaderError {
    /// A data source failed; one that says [`io::ErrorKind::InvalidData`] is not any more what it was.
    pub(crate) fn source(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData => Self::Changed(error.to_string()),
            _ => Self::Data(error.to_string()),
        }
    }
}

impl From<Cancelled> for LoaderError {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

impl LoaderError {
    /// The line is gone or the caller wants to stop: trying again is no use.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::NoAnswer { .. } | Self::Protocol { .. } | Self::Refused { .. })
    }

    /// The loader said no. Seldom because the request was damaged on its way.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    /// The line lost or damaged something; another try may succeed.
    pub fn is_line_trouble(&self) -> bool {
        matches!(self, Self::NoAnswer { .. } | Self::Protocol { .. } | Self::Refused { .. } | Self::BadLine { .. })
    }

    /// No answer came, and not a byte instead.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::NoAnswer { seen, .. } if seen.0.is_empty())
    }

    /// The loader does not know the command, or does not allow it in its present mode.
    pub fn is_unknown_command(&self) -> bool {
        let unknown = [Status::INVALID, Status::STUB_INVALID, Status::NOT_IMPLEMENTED];
        matches!(self, Self::Refused { status, .. } if unknown.contains(status))
    }
}

/// Bytes that came in, kept as evidence: the last 256 at most.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen(pub Vec<u8>);

impl Seen {
    /// Keeps the end of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(bytes[bytes.len().saturating_sub(256)..].to_vec())
    }
}

impl std::fmt::Display for Seen {
    /// `; seen 4 bytes "ets "` or `; nothing was seen`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return f.write_str("; nothing was seen");
        }
        let end = &self.0[self.0.len().saturating_sub(64)..];
        write!(f, "; seen {} bytes, at the end \"{}\"", self.0.len(), end.escape_ascii())
    }
}
