//! What a device prints: ROM boot lines, the bootloader's log, panics and their relatives, decoded from a byte stream.
//!
//! The stream may come in any pieces, with any line ends, with noise in it, with the prefixes of monitors and loggers.
//! All of it is written by the device and therefore untrusted: text is cleaned of control characters and kept bounded,
//! numbers are data, never commands. What is known of troubles is in `console/findings.toml`.

mod address;
mod catalogue;
mod crash;
mod decoder;
mod event;
mod finding;
mod form;
mod garbled;
mod lines;
mod panic;
mod parse;
mod prefix;
mod start;

use std::sync::Arc;
use std::time::Duration;

pub use address::{NULL_END, Number, Place, numbers, place};
pub use catalogue::{Catalogue, CatalogueError, Confidence, Entry};
pub use decoder::{Decoder, Summary};
pub use event::{Boot, Event, ResetKind, Stage, Watchdog};
pub use finding::Finding;
pub use lines::{Line, Lines, MAX_LINE, clean};
pub use panic::Panic;
pub(crate) use prefix::bare;

/// The findings of a whole text.
fn decode(catalogue: &Arc<Catalogue>, text: &str) -> Vec<Finding> {
    let mut decoder = Decoder::with(None, Arc::clone(catalogue));
    decoder.feed(Duration::ZERO, text.as_bytes());
    decoder.finish();
    decoder.findings()
}

#[cfg(test)]
mod tests;
