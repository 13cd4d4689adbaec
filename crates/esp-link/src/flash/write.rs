//! Writing: only what differs, compressed where it pays, verified by MD5.
//!
//! A lost answer to a data block is never answered by sending the block again: the stub acknowledges before it
//! writes and does not notice duplicates, so the block could be written twice. Instead the line is synchronised,
//! the sectors are compared, and the write begins again at the last good boundary.

use std::sync::Arc;

use esp_model::job::Job;
use serde::Serialize;

use super::source::Part;
use super::writer::{Flow, Writer};
use super::{Packed, SECTOR};
use crate::error::LoaderError;
use crate::loader::Loader;

/// Rates to step down to on a bad line, in baud.
const SLOWER: [u32; 4] = [460_800, 230_400, 115_200, 57_600];

/// When data is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compress {
    /// With the stub, when it makes the data smaller.
    #[default]
    Auto,
    /// Always, where the loader can.
    Always,
    /// Never.
    Never,
}

/// How to write.
#[derive(Debug, Clone, Copy, Default)]
pub struct WriteOptions {
    /// When data is compressed.
    pub compress: Compress,
    /// Send everything, also what is already there.
    pub all: bool,
    /// Flash size in bytes, where it cannot or shall not be detected.
    pub flash_size: Option<u32>,
    /// Let the chip encrypt with its own key what it writes. Everything is sent and nothing can be compared, because what
    /// is in flash then is not what was sent.
    pub encrypt: bool,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct WriteReport {
    /// Bytes of flash that were written, in whole sectors.
    pub written_bytes: u64,
    /// Bytes of flash that were right already.
    pub skipped_bytes: u64,
    /// Bytes of data that went over the line, compressed.
    pub sent_bytes: u64,
    /// Bytes that were blank and only erased.
    pub erased_bytes: u64,
    /// Times a transfer had to begin again.
    pub restarts: u32,
    /// Everything was compared on the chip afterwards. `false`: this loader cannot.
    pub verified: bool,
    /// Seconds spent comparing before the write.
    pub compare_s: f64,
    /// Seconds spent erasing, sending and programming.
    pub write_s: f64,
    /// Seconds spent verifying.
    pub verify_s: f64,
}

impl Loader {
    /// Writes the parts. On return every part is on the chip, or an error says where it stopped.
    pub fn write_flash(
        &mut self,
        job: &Job,
        parts: &mut [Part],
        options: &WriteOptions,
    ) -> Result<WriteReport, LoaderError> {
        self.attach_flash(job, options.flash_size)?;
        for part in &*parts {
            self.check_range(part.address, part.source.len())?;
        }
        if options.encrypt {
            self.may_encrypt(parts)?;
        }
        self.can_keep_neighbours(parts)?;
        let mut report = WriteReport { verified: true, ..WriteReport::default() };
        let flow = Flow::default();
        let mut writer = Writer { loader: self, job, options: *options, report: &mut report, flow };
        parts.iter_mut().try_for_each(|part| writer.write_part(part))?;
        Ok(report)
    }

    fn may_encrypt(&self, parts: &[Part]) -> Result<(), LoaderError> {
        if !self.can_encrypt() {
            return Err(self.unsupported("writing encrypted by the chip"));
        }
        match parts.iter().find(|part| !part.address.is_multiple_of(SECTOR)) {
            Some(part) => {
                let text =
                    format!("{:#x} is not a sector's start: its neighbours cannot be kept encrypted", part.address);
                Err(LoaderError::Range(text))
            }
            None => Ok(()),
        }
    }

    /// Shares compressed data with all devices of this batch from here on.
    pub fn use_packed(&mut self, packed: Arc<Packed>) {
        self.state.packed = Some(packed);
    }
}

/// The next rate below `baud` that is worth a try on a bad line.
pub fn slower(baud: u32) -> Option<u32> {
    SLOWER.into_iter().find(|rate| *rate < baud)
}
