//! What a device prints: ROM boot lines, the bootloader's log, panics and their relatives, decoded from a byte stream.
//!
//! The stream may come in any pieces, with any line ends, with noise in it. All of it is written by the device and
//! therefore untrusted: text is cleaned of control characters and kept bounded, numbers are data, never commands.

mod decoder;
mod diagnosis;
mod event;
mod lines;
mod panic;
mod parse;

pub use decoder::{Decoder, Summary};
pub use diagnosis::diagnoses;
pub use event::{Boot, Event, ResetKind, Watchdog};
pub use lines::{Line, Lines, MAX_LINE, clean};
pub use panic::{ExplainedPanic, Panic, explain};

#[cfg(test)]
mod tests;
