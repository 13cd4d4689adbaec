//! One write under way: what is compared, sent, checked and sent again.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use esp_model::job::Job;
use esp_model::wire::{Begin, Command, Request};
use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::erase::SLICE;
use super::meter::Meter;
use super::runs::{Run, WINDOW, runs, split_blank};
use super::source::{Part, Sectors};
use super::{BLOCK, Compress, ERASE_PER_MB, RESYNC_TIME, SECTOR, WriteOptions, WriteReport, time_for};
use crate::error::LoaderError;
use crate::loader::{Loader, Mode};

/// Bytes in a data block for the stub and for the ROM.
const STUB_BLOCK: u32 = 0x4000;
/// The same at 115200 baud and below: a block is then through within a second, and progress moves as often.
const SLOW_STUB_BLOCK: u32 = 0x2000;
const SLOW_BAUD: u32 = 115_200;
const ROM_BLOCK: u32 = 0x400;
/// Deflate level. The highest one takes twice the time for 0.3 % less: no line makes up for that.
const LEVEL: u32 = 6;
/// Smallest block on a bad line.
const LEAST_BLOCK: u32 = 0x200;
/// Attempts in a row without progress before giving up.
const MAX_FAILURES: u32 = 24;
/// A loader that had to be started anew counts as so many failures: the fifth in a row is the last.
const RESET: u32 = 5;
/// Times that a part is written again which was right and is not any more.
const MAX_ROUNDS: u32 = 5;

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
    /// Time spent on getting back in step since the last sector came right.
    lost: Duration,
}

/// A write under way.
pub(super) struct Writer<'a> {
    pub loader: &'a mut Loader,
    pub job: &'a Job,
    pub options: WriteOptions,
    pub report: &'a mut WriteReport,
    /// How far the part that is written has come.
    pub flow: Flow,
}

/// How far a part has come.
pub(super) struct Flow {
    meter: Meter,
    /// Bytes before the piece under way.
    before: u64,
    /// Flash address of that piece.
    at: u32,
}

impl Default for Flow {
    fn default() -> Self {
        Self::new(Duration::ZERO, 0)
    }
}

impl Flow {
    fn new(now: Duration, total: u64) -> Self {
        Self { meter: Meter::new(now, total), before: 0, at: 0 }
    }
}

impl Writer<'_> {
    pub fn write_part(&mut self, part: &mut Part) -> Result<(), LoaderError> {
        let began = self.loader.port().now();
        let mut sectors = self.loader.sectors(self.job, part)?;
        let differing = match self.options.all || self.options.encrypt {
            true => vec![true; sectors.count as usize],
            false => self.loader.differing(self.job, &mut sectors)?,
        };
        self.report.compare_s += self.since(began);
        let total = u64::from(sectors.count) * u64::from(SECTOR);
        let dirty = differing.iter().filter(|differs| **differs).count() as u64 * u64::from(SECTOR);
        self.report.skipped_bytes += total - dirty;
        let restarts = self.report.restarts;
        self.write_sectors(&mut sectors, &differing)?;
        if self.report.restarts > restarts {
            self.write_again(&mut sectors)?;
        }
        self.job.progress(dirty, dirty, "written");
        Ok(())
    }

    /// A request that was damaged on its way may have hit what was right already: after any trouble all is looked at.
    fn write_again(&mut self, sectors: &mut Sectors) -> Result<(), LoaderError> {
        if !self.verifies() {
            return Ok(());
        }
        let silent = self.job.silent();
        for rounds in 0.. {
            let wrong = self.wrong_sectors(sectors)?;
            let Some(first) = wrong.iter().position(|wrong| *wrong) else { break };
            if rounds == MAX_ROUNDS {
                let (address, what) = (sectors.address(first as u32), "it changes after it was right".into());
                return Err(LoaderError::Mismatch { address, attempts: rounds + 1, what });
            }
            let (loader, report) = (&mut *self.loader, &mut *self.report);
            let mut again = Writer { loader, job: &silent, options: self.options, report, flow: Flow::default() };
            again.write_sectors(sectors, &wrong)?;
        }
        Ok(())
    }

    /// What was written can be compared with what is in flash.
    fn verifies(&self) -> bool {
        self.loader.can_verify() && !self.options.encrypt
    }

    /// Which sectors are not right; one question when all are.
    fn wrong_sectors(&mut self, sectors: &mut Sectors) -> Result<Vec<bool>, LoaderError> {
        let mut wrong = vec![false; sectors.count as usize];
        if self.loader.differs(self.job, sectors, 0, sectors.count)? {
            for (sector, wrong) in (0..).zip(&mut wrong) {
                *wrong = self.loader.differs(self.job, sectors, sector, 1)?;
            }
        }
        Ok(wrong)
    }

    fn write_sectors(&mut self, sectors: &mut Sectors, chosen: &[bool]) -> Result<(), LoaderError> {
        let total = chosen.iter().filter(|chosen| **chosen).count() as u64 * u64::from(SECTOR);
        self.flow = Flow::new(self.loader.port().now(), total);
        let mut written = 0;
        for run in runs(chosen, sectors.start) {
            // What is blank has to be encrypted as well, to read as blank.
            let pieces = if self.options.encrypt { vec![run] } else { split_blank(sectors, run)? };
            for run in pieces {
                self.write_run(sectors, run, written)?;
                written += u64::from(run.end - run.first) * u64::from(SECTOR);
            }
        }
        self.report.written_bytes += written;
        Ok(())
    }

    /// Reports that `done` bytes of the piece under way are through.
    fn tell(&mut self, done: u32) {
        let now = self.loader.port().now();
        let (bytes, at) = (self.flow.before + u64::from(done), self.flow.at.saturating_add(done));
        self.flow.meter.report(self.job, now, bytes, format_args!("writing {at:#x}"));
    }

    /// Writes one run until it is right; `before` bytes were written before it.
    fn write_run(&mut self, sectors: &mut Sectors, run: Run, before: u64) -> Result<(), LoaderError> {
        let block = match self.loader.mode() {
            Mode::Stub if self.loader.port().baud() <= SLOW_BAUD => SLOW_STUB_BLOCK,
            Mode::Stub => STUB_BLOCK,
            _ => ROM_BLOCK,
        };
        let mut pace = Pace { block, sectors: WINDOW, failures: 0, mismatches: 0, lost: Duration::ZERO };
        let mut from = run.first;
        while from < run.end {
            let piece = Run { first: from, end: run.end.min(from.saturating_add(pace.sectors)), ..run };
            self.flow.before = before + u64::from(from - run.first) * u64::from(SECTOR);
            self.flow.at = sectors.address(from);
            self.tell(0);
            let wrong = self.write_piece(sectors, piece, &mut pace)?;
            if wrong > from {
                (pace.failures, pace.mismatches, pace.lost) = (0, 0, Duration::ZERO);
            }
            from = wrong;
        }
        Ok(())
    }

    /// Sends a piece once and returns the first sector that is not right yet (its end when all are).
    fn write_piece(&mut self, sectors: &mut Sectors, piece: Run, pace: &mut Pace) -> Result<u32, LoaderError> {
        let began = self.loader.port().now();
        let sent = self.send_run(sectors, piece, pace.block);
        self.report.write_s += self.since(began);
        let failed = match sent {
            Ok(()) => false,
            Err(error) if error.is_final() => return Err(error),
            Err(error) => {
                self.report.restarts += 1;
                self.slow_down(sectors.address(piece.first), &error, pace)?;
                true
            }
        };
        if !self.verifies() {
            self.report.verified = false;
            return Ok(if failed { piece.first } else { piece.end });
        }
        let began = self.loader.port().now();
        let wrong = self.first_wrong(sectors, piece.first, piece.end)?;
        self.report.verify_s += self.since(began);
        if let (Some(wrong), false) = (wrong, failed) {
            pace.mismatches += 1;
            self.report.restarts += 1;
            self.give_up_on_mismatch(sectors, wrong, pace.mismatches)?;
        }
        Ok(wrong.unwrap_or(piece.end))
    }

    /// The first sector of a run that is not right; one MD5 when all is well.
    fn first_wrong(&mut self, sectors: &mut Sectors, from: u32, end: u32) -> Result<Option<u32>, LoaderError> {
        if from == end || !self.loader.differs(self.job, sectors, from, end - from)? {
            return Ok(None);
        }
        self.loader.first_differing(self.job, sectors, from, end)
    }

    fn give_up_on_mismatch(&mut self, sectors: &mut Sectors, sector: u32, attempts: u32) -> Result<(), LoaderError> {
        if attempts < 3 {
            return Ok(());
        }
        let address = sectors.address(sector);
        let wanted = sectors.read(sector, 1)?;
        let difference = self.loader.name_difference(self.job, address, &wanted)?;
        Err(LoaderError::Mismatch { address, attempts, what: difference.kind.to_string() })
    }

    /// After a failure: re-establishes sync, makes blocks and pieces smaller, and every third time the rate lower.
    fn slow_down(&mut self, address: u32, error: &LoaderError, pace: &mut Pace) -> Result<(), LoaderError> {
        pace.failures += 1;
        if pace.failures > MAX_FAILURES || pace.lost > RESYNC_TIME {
            return Err(LoaderError::BadLine { address, attempts: pace.failures, last: error.to_string() });
        }
        pace.block = (pace.block / 2).max(LEAST_BLOCK);
        // The stub writes what it inflated in large steps: only what was sent whole is sure to be there.
        pace.sectors = (pace.sectors / 4).max(1);
        let bad_line = |last: LoaderError| LoaderError::BadLine { address, attempts: 1, last: last.to_string() };
        let began = self.loader.port().now();
        let back = self.loader.get_back(self.job);
        pace.lost += self.loader.port().now().saturating_sub(began);
        if back.map_err(|error| if error.is_final() { error } else { bad_line(error) })? {
            pace.failures += RESET;
        }
        self.loader.lower_rate(self.job, pace.failures)
    }

    fn since(&mut self, began: Duration) -> f64 {
        (self.loader.port().now().saturating_sub(began)).as_secs_f64()
    }

    /// Sends one run; an error leaves the flash in it undefined.
    fn send_run(&mut self, sectors: &mut Sectors, run: Run, block: u32) -> Result<(), LoaderError> {
        let compress = self.options.compress;
        let (address, length) = (sectors.address(run.first), (run.end - run.first) * SECTOR);
        if run.blank {
            return self.erase_run(address, length);
        }
        let data = sectors.read(run.first, run.end - run.first)?;
        let deflate = match compress {
            Compress::Never => false,
            Compress::Auto => self.loader.mode() == Mode::Stub,
            Compress::Always => self.loader.allow(Command::DeflBegin).is_ok(),
        };
        let packed = if deflate { Some(self.packed(&data)?) } else { None };
        match packed.filter(|packed| packed.len() < data.len() || compress == Compress::Always) {
            Some(packed) => self.send_packed((address, length), &packed, block),
            None => self.send_plain(address, &data, block),
        }
    }

    fn erase_run(&mut self, address: u32, length: u32) -> Result<(), LoaderError> {
        let silent = self.job.silent();
        for from in (0..length).step_by(SLICE as usize) {
            let slice = SLICE.min(length - from);
            self.loader.erase_region(&silent, address + from, slice)?;
            self.tell(from + slice);
        }
        self.report.erased_bytes += u64::from(length);
        Ok(())
    }

    fn packed(&self, data: &[u8]) -> Result<Arc<Vec<u8>>, LoaderError> {
        let cache = self.loader.state.packed.as_ref();
        let shared = cache.and_then(|packed| packed.get(data, || pack(data).ok()));
        shared.map_or_else(|| pack(data).map(Into::into), Ok)
    }

    fn send_plain(&mut self, address: u32, data: &[u8], block: u32) -> Result<(), LoaderError> {
        let (length, encrypt) = (data.len() as u32, self.options.encrypt);
        match self.loader.mode() {
            Mode::Stub => {
                self.loader.flash_begin(self.job, length, length.div_ceil(block), block, address, encrypt)?;
            }
            _ => self.loader.rom_erase(self.job, address, length, encrypt)?,
        }
        self.send_blocks(Command::FlashData, data, block, length)
    }

    fn send_packed(&mut self, (address, length): (u32, u32), packed: &[u8], block: u32) -> Result<(), LoaderError> {
        let blocks = (packed.len() as u32).div_ceil(block);
        let stub = self.loader.mode() == Mode::Stub;
        // The ROM erases up front and wants whole blocks; the stub erases as it writes.
        let size = if stub { length } else { length.next_multiple_of(block) };
        let encrypted = self.loader.can_encrypt().then_some(self.options.encrypt);
        let begin = Begin { size, blocks, block_size: block, address, encrypted };
        let time = if stub { time_for(0, 0) } else { time_for(length, ERASE_PER_MB) };
        self.loader.call(self.job, &Request::DeflBegin(begin), 0, time)?;
        self.send_blocks(Command::DeflData, packed, block, length)
    }

    /// Sends the blocks, each after the answer to the one before. `flash_bytes` is what they become in flash.
    fn send_blocks(&mut self, command: Command, data: &[u8], block: u32, flash_bytes: u32) -> Result<(), LoaderError> {
        let blocks = data.len().div_ceil(block as usize).max(1) as u32;
        // A block may have to wait for the erase of all that the one before it inflated to.
        let time = time_for(flash_bytes.div_ceil(blocks).max(BLOCK), ERASE_PER_MB);
        for (sequence, piece) in data.chunks(block as usize).enumerate() {
            let request = Request::Data { command, sequence: sequence as u32, data: piece.to_vec() };
            self.loader.call(self.job, &request, 0, time)?;
            self.report.sent_bytes += piece.len() as u64;
            // What a block becomes in flash is only known roughly: the data does not compress evenly.
            let through = u64::from(flash_bytes) * (sequence as u64 + 1) / u64::from(blocks);
            self.tell(through as u32);
        }
        Ok(())
    }
}

fn pack(data: &[u8]) -> Result<Vec<u8>, LoaderError> {
    let failed = |error: std::io::Error| LoaderError::Data(error.to_string());
    let mut encoder = ZlibEncoder::new(Vec::with_capacity(data.len() / 2), Compression::new(LEVEL));
    encoder.write_all(data).map_err(failed)?;
    encoder.finish().map_err(failed)
}
