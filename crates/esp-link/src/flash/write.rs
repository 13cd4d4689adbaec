//! Writing: only what differs, compressed where it pays, verified by MD5.
//!
//! A lost answer to a data block is never answered by sending the block again: the stub acknowledges before it
//! writes and does not notice duplicates, so the block could be written twice. Instead the line is synchronised,
//! the sectors are compared, and the write begins again at the last good boundary.

use std::io::Write as _;
use std::time::Duration;

use esp_model::job::Job;
use esp_model::wire::{Begin, Command, Request};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde::Serialize;

use super::packed::Packed;
use super::source::{Part, Sectors};
use super::{BLOCK, ERASE_PER_MB, SECTOR, time_for};
use crate::error::LoaderError;
use crate::loader::{Loader, Mode};

/// Sectors sent in one go, at most: what is compressed and held at once (1 MiB).
const WINDOW: u32 = 256;
/// Bytes in a data block for the stub and for the ROM.
const STUB_BLOCK: u32 = 0x4000;
const ROM_BLOCK: u32 = 0x400;
/// Deflate level. The highest one takes twice the time for 0.3 % less: no line makes up for that.
const LEVEL: u32 = 6;
/// Smallest block on a bad line.
const LEAST_BLOCK: u32 = 0x200;
/// Attempts in a row without progress before giving up.
const PATIENCE: u32 = 24;
/// A loader that had to be started anew counts as so many failures: the fifth in a row is the last.
const RESET: u32 = 5;
/// Times that a part is mended which was right and is not any more.
const ROUNDS: u32 = 5;
/// A blank run of this many sectors is erased rather than sent.
const BLANK_RUN: u32 = 16;
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

/// A run of sectors to be written in one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    first: u32,
    end: u32,
    blank: bool,
}

/// How the line is used just now.
struct Pace {
    /// Bytes in a data block.
    block: u32,
    /// Sectors sent in one go.
    sectors: u32,
    /// Failures in a row without progress.
    failures: u32,
    /// Times in a row that all was acknowledged and yet not right.
    mismatches: u32,
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
        for part in parts {
            self.write_part(job, part, options, &mut report)?;
        }
        Ok(report)
    }

    fn may_encrypt(&self, parts: &[Part]) -> Result<(), LoaderError> {
        if !self.can_encrypt() {
            return Err(self.unsupported("writing encrypted by the chip"));
        }
        match parts.iter().find(|part| !part.address.is_multiple_of(SECTOR)) {
            Some(part) => {
                let text = format!("{:#x} is no sector's start: its neighbours cannot be kept encrypted", part.address);
                Err(LoaderError::Range(text))
            }
            None => Ok(()),
        }
    }

    fn write_part(
        &mut self,
        job: &Job,
        part: &mut Part,
        options: &WriteOptions,
        report: &mut WriteReport,
    ) -> Result<(), LoaderError> {
        let began = self.port().now();
        let mut sectors = self.sectors(job, part)?;
        let differing = match options.all || options.encrypt {
            true => vec![true; sectors.count as usize],
            false => self.differing(job, &mut sectors)?,
        };
        report.compare_s += self.since(began);
        let total = u64::from(sectors.count) * u64::from(SECTOR);
        let dirty = differing.iter().filter(|differs| **differs).count() as u64 * u64::from(SECTOR);
        report.skipped_bytes += total - dirty;
        let restarts = report.restarts;
        self.write_sectors(job, &mut sectors, &differing, options, report)?;
        // A request that was damaged on its way may have hit what was right already: after any trouble all is looked at.
        let mut rounds = 0;
        while report.restarts > restarts && self.can_verify() && !options.encrypt {
            let wrong = self.wrong_sectors(job, &mut sectors)?;
            let Some(first) = wrong.iter().position(|wrong| *wrong) else { break };
            rounds += 1;
            if rounds > ROUNDS {
                let (address, what) = (sectors.address(first as u32), "it changes after it was right".into());
                return Err(LoaderError::Mismatch { address, attempts: rounds, what });
            }
            self.write_sectors(&job.silent(), &mut sectors, &wrong, options, report)?;
        }
        job.progress(dirty, dirty, "written");
        Ok(())
    }

    /// Which sectors are not right; one question when all are.
    fn wrong_sectors(&mut self, job: &Job, sectors: &mut Sectors) -> Result<Vec<bool>, LoaderError> {
        let mut wrong = vec![false; sectors.count as usize];
        if self.differs(job, sectors, 0, sectors.count)? {
            for (sector, wrong) in (0..).zip(&mut wrong) {
                *wrong = self.differs(job, sectors, sector, 1)?;
            }
        }
        Ok(wrong)
    }

    fn write_sectors(
        &mut self,
        job: &Job,
        sectors: &mut Sectors,
        chosen: &[bool],
        options: &WriteOptions,
        report: &mut WriteReport,
    ) -> Result<(), LoaderError> {
        let total = chosen.iter().filter(|chosen| **chosen).count() as u64 * u64::from(SECTOR);
        let mut written = 0;
        for run in runs(chosen, sectors.start) {
            // What is blank has to be encrypted as well, to read as blank.
            let pieces = if options.encrypt { vec![run] } else { split_blank(sectors, run)? };
            for run in pieces {
                job.progress(written, total, format!("writing {:#x}", sectors.address(run.first)));
                self.write_run(job, sectors, run, options, report)?;
                written += u64::from(run.end - run.first) * u64::from(SECTOR);
            }
        }
        report.written_bytes += written;
        Ok(())
    }

    /// Writes one run until it is right.
    fn write_run(
        &mut self,
        job: &Job,
        sectors: &mut Sectors,
        run: Run,
        options: &WriteOptions,
        report: &mut WriteReport,
    ) -> Result<(), LoaderError> {
        let block = if self.mode() == Mode::Stub { STUB_BLOCK } else { ROM_BLOCK };
        let mut pace = Pace { block, sectors: WINDOW, failures: 0, mismatches: 0 };
        let mut from = run.first;
        while from < run.end {
            let piece = Run { first: from, end: run.end.min(from.saturating_add(pace.sectors)), ..run };
            let wrong = self.write_piece(job, sectors, piece, options, &mut pace, report)?;
            if wrong > from {
                (pace.failures, pace.mismatches) = (0, 0);
            }
            from = wrong;
        }
        Ok(())
    }

    /// Sends a piece once and returns the first sector that is not right yet (its end when all are).
    fn write_piece(
        &mut self,
        job: &Job,
        sectors: &mut Sectors,
        piece: Run,
        options: &WriteOptions,
        pace: &mut Pace,
        report: &mut WriteReport,
    ) -> Result<u32, LoaderError> {
        let began = self.port().now();
        let sent = self.send_run(job, sectors, piece, options, pace.block, report);
        report.write_s += self.since(began);
        let failed = match sent {
            Ok(()) => false,
            Err(error) if error.is_final() => return Err(error),
            Err(error) => {
                report.restarts += 1;
                self.slow_down(job, sectors.address(piece.first), &error, pace)?;
                true
            }
        };
        if !self.can_verify() || options.encrypt {
            report.verified = false;
            return Ok(if failed { piece.first } else { piece.end });
        }
        let began = self.port().now();
        let wrong = self.first_wrong(job, sectors, piece.first, piece.end)?;
        report.verify_s += self.since(began);
        if let (Some(wrong), false) = (wrong, failed) {
            pace.mismatches += 1;
            report.restarts += 1;
            self.give_up_on_mismatch(job, sectors, wrong, pace.mismatches)?;
        }
        Ok(wrong.unwrap_or(piece.end))
    }

    /// The first sector of a run that is not right; one MD5 when all is well.
    fn first_wrong(
        &mut self,
        job: &Job,
        sectors: &mut Sectors,
        from: u32,
        end: u32,
    ) -> Result<Option<u32>, LoaderError> {
        if from == end || !self.differs(job, sectors, from, end - from)? {
            return Ok(None);
        }
        self.first_differing(job, sectors, from, end)
    }

    fn give_up_on_mismatch(
        &mut self,
        job: &Job,
        sectors: &mut Sectors,
        sector: u32,
        attempts: u32,
    ) -> Result<(), LoaderError> {
        if attempts < 3 {
            return Ok(());
        }
        let address = sectors.address(sector);
        let wanted = sectors.read(sector, 1)?;
        let difference = self.name_difference(job, address, &wanted)?;
        Err(LoaderError::Mismatch { address, attempts, what: difference.kind.to_string() })
    }

    /// After a failure: gets in step again, makes blocks and pieces smaller, and every third time the rate lower.
    fn slow_down(&mut self, job: &Job, address: u32, error: &LoaderError, pace: &mut Pace) -> Result<(), LoaderError> {
        pace.failures += 1;
        if pace.failures > PATIENCE {
            return Err(LoaderError::BadLine { address, attempts: pace.failures, last: error.to_string() });
        }
        pace.block = (pace.block / 2).max(LEAST_BLOCK);
        // The stub writes what it inflated in large steps: only what was sent whole is sure to be there.
        pace.sectors = (pace.sectors / 4).max(1);
        let bad_line = |last: LoaderError| LoaderError::BadLine { address, attempts: 1, last: last.to_string() };
        if self.get_back(job).map_err(|error| if error.is_final() { error } else { bad_line(error) })? {
            pace.failures += RESET;
        }
        self.lower_rate(job, pace.failures)
    }

    fn since(&mut self, began: Duration) -> f64 {
        (self.port().now().saturating_sub(began)).as_secs_f64()
    }

    /// Sends one run; an error leaves the flash in it undefined.
    fn send_run(
        &mut self,
        job: &Job,
        sectors: &mut Sectors,
        run: Run,
        options: &WriteOptions,
        block: u32,
        report: &mut WriteReport,
    ) -> Result<(), LoaderError> {
        let compress = options.compress;
        let (address, length) = (sectors.address(run.first), (run.end - run.first) * SECTOR);
        if run.blank {
            self.erase_region(job, address, length)?;
            report.erased_bytes += u64::from(length);
            return Ok(());
        }
        let data = sectors.read(run.first, run.end - run.first)?;
        let deflate = match compress {
            Compress::Never => false,
            Compress::Auto => self.mode() == Mode::Stub,
            Compress::Always => self.allow(Command::DeflBegin).is_ok(),
        };
        let packed = if deflate { Some(self.packed(&data)?) } else { None };
        match packed.filter(|packed| packed.len() < data.len() || compress == Compress::Always) {
            Some(packed) => self.send_packed(job, (address, length), &packed, options.encrypt, block, report),
            None => self.send_plain(job, address, &data, options.encrypt, block, report),
        }
    }

    /// Shares compressed data with all devices of this batch from here on.
    pub fn use_packed(&mut self, packed: std::sync::Arc<Packed>) {
        self.state.packed = Some(packed);
    }

    fn packed(&self, data: &[u8]) -> Result<std::sync::Arc<Vec<u8>>, LoaderError> {
        let shared = self.state.packed.as_ref().and_then(|packed| packed.get(data, || pack(data).ok()));
        shared.map_or_else(|| pack(data).map(Into::into), Ok)
    }

    fn send_plain(
        &mut self,
        job: &Job,
        address: u32,
        data: &[u8],
        encrypted: bool,
        block: u32,
        report: &mut WriteReport,
    ) -> Result<(), LoaderError> {
        let length = data.len() as u32;
        match self.mode() {
            Mode::Stub => self.flash_begin(job, length, length.div_ceil(block), block, address, encrypted)?,
            _ => self.rom_erase(job, address, length, encrypted)?,
        }
        self.send_blocks(job, Command::FlashData, data, block, length, report)
    }

    fn send_packed(
        &mut self,
        job: &Job,
        (address, length): (u32, u32),
        packed: &[u8],
        encrypted: bool,
        block: u32,
        report: &mut WriteReport,
    ) -> Result<(), LoaderError> {
        let blocks = (packed.len() as u32).div_ceil(block);
        let stub = self.mode() == Mode::Stub;
        // The ROM erases up front and wants whole blocks; the stub erases as it writes.
        let size = if stub { length } else { length.next_multiple_of(block) };
        let encrypted = self.can_encrypt().then_some(encrypted);
        let begin = Begin { size, blocks, block_size: block, address, encrypted };
        let time = if stub { time_for(0, 0) } else { time_for(length, ERASE_PER_MB) };
        self.call(job, &Request::DeflBegin(begin), 0, time)?;
        self.send_blocks(job, Command::DeflData, packed, block, length, report)
    }

    /// Sends the blocks, each after the answer to the one before. `flash_bytes` is what they become in flash.
    fn send_blocks(
        &mut self,
        job: &Job,
        command: Command,
        data: &[u8],
        block: u32,
        flash_bytes: u32,
        report: &mut WriteReport,
    ) -> Result<(), LoaderError> {
        let blocks = data.len().div_ceil(block as usize).max(1) as u32;
        // A block may have to wait for the erase of all that the one before it inflated to.
        let time = time_for(flash_bytes.div_ceil(blocks).max(BLOCK), ERASE_PER_MB);
        for (sequence, piece) in data.chunks(block as usize).enumerate() {
            let request = Request::Data { command, sequence: sequence as u32, data: piece.to_vec() };
            self.call(job, &request, 0, time)?;
            report.sent_bytes += piece.len() as u64;
        }
        Ok(())
    }
}

/// The next rate below `baud` that is worth a try on a bad line.
pub fn slower(baud: u32) -> Option<u32> {
    SLOWER.into_iter().find(|rate| *rate < baud)
}

fn pack(data: &[u8]) -> Result<Vec<u8>, LoaderError> {
    let failed = |error: std::io::Error| LoaderError::Data(error.to_string());
    let mut encoder = ZlibEncoder::new(Vec::with_capacity(data.len() / 2), Compression::new(LEVEL));
    encoder.write_all(data).map_err(failed)?;
    encoder.finish().map_err(failed)
}

/// Cuts the differing sectors into runs of at most [`WINDOW`], broken where large erase blocks begin.
fn runs(differing: &[bool], start: u32) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (index, _) in differing.iter().enumerate().filter(|(_, differs)| **differs) {
        let sector = index as u32;
        let aligned = (start + sector * SECTOR).is_multiple_of(BLOCK);
        match runs.last_mut() {
            Some(run) if run.end == sector && !(aligned && sector - run.first >= WINDOW - BLOCK / SECTOR) => {
                run.end += 1;
            }
            _ => runs.push(Run { first: sector, end: sector + 1, blank: false }),
        }
    }
    runs
}

/// Cuts long blank stretches out of a run.
fn split_blank(sectors: &mut Sectors, run: Run) -> Result<Vec<Run>, LoaderError> {
    let mut pieces: Vec<Run> = Vec::new();
    for sector in run.first..run.end {
        let blank = sectors.read(sector, 1)?.iter().all(|byte| *byte == 0xff);
        match pieces.last_mut() {
            Some(piece) if piece.blank == blank => piece.end = sector + 1,
            _ => pieces.push(Run { first: sector, end: sector + 1, blank }),
        }
    }
    // Short blank stretches go with their neighbours.
    let mut merged: Vec<Run> = Vec::new();
    for mut piece in pieces {
        piece.blank &= piece.end - piece.first >= BLANK_RUN;
        match merged.last_mut() {
            Some(last) if last.blank == piece.blank => last.end = piece.end,
            _ => merged.push(piece),
        }
    }
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_cut_at_gaps_and_windows() {
        let mut differing = vec![true; 600];
        differing[3] = false;
        let runs = runs(&differing, 0);
        assert_eq!((runs[0].first, runs[0].end), (0, 3));
        assert!(runs.iter().all(|run| run.end - run.first <= WINDOW));
        assert_eq!(runs.iter().map(|run| run.end - run.first).sum::<u32>(), 599);
        assert!(runs[1..].windows(2).all(|pair| (pair[1].first * SECTOR).is_multiple_of(BLOCK)));
    }

    #[test]
    fn long_blank_stretches_are_erased_not_sent() {
        let mut data = vec![0xff; 40 * SECTOR as usize];
        data[0] = 1;
        data[39 * SECTOR as usize] = 1;
        let mut part = Part::bytes(0, data);
        let mut sectors = Sectors::new(&mut part, Vec::new());
        let pieces = split_blank(&mut sectors, Run { first: 0, end: 40, blank: false }).unwrap();
        assert_eq!(pieces.iter().map(|piece| piece.blank).collect::<Vec<_>>(), [false, true, false]);
    }
}
