//! A loader on the line: the one place where requests are checked, sent and answered.

use std::time::Duration;

use esp_model::chip::Chip;
use esp_model::job::Job;
use esp_model::port::Port;
use esp_model::wire::{Command, Reply, Request, Status};

use crate::error::{LoaderError, Seen};
use crate::line::Line;
use crate::options::ConnectOptions;
use crate::packed::Packed;

pub use crate::line::Stats;

/// Time most commands may take.
pub const COMMAND_TIME: Duration = Duration::from_secs(3);
/// Bytes of foreign frames that are kept as evidence.
const SEEN_LIMIT: usize = 4096;

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The ROM loader.
    Rom,
    /// The stub.
    Stub,
    /// The ROM loader with most commands locked by eFuse.
    SecureDownload,
}

impl Mode {
    /// For people: `ROM loader`, `stub`, `ROM loader in secure download mode`.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Rom => "ROM loader",
            Self::Stub => "stub",
            Self::SecureDownload => "ROM loader in secure download mode",
        }
    }
}

/// A connected loader.
pub struct Loader {
    line: Line,
    chip: &'static Chip,
    mode: Mode,
    pub(crate) state: State,
}

/// What is known of the session beyond the chip.
#[derive(Default, Clone)]
pub(crate) struct State {
    /// Revision, major × 100 + minor, where it could be read.
    pub revision: Option<u16>,
    /// Who the chip is, where it could be read.
    pub identity: Option<esp_model::chip::Identified>,
    /// Frequency of the crystal in MHz, once measured.
    pub crystal_mhz: Option<u32>,
    /// How it was connected.
    pub options: Option<ConnectOptions>,
    /// SPI_ATTACH was done.
    pub flash_attached: bool,
    /// Flash size in bytes, once detected or told.
    pub flash_size: Option<u32>,
    /// Compressed data shared with other devices.
    pub packed: Option<std::sync::Arc<Packed>>,
}

/// The loader's answer to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The value word.
    pub value: u32,
    /// Data before the status bytes.
    pub data: Vec<u8>,
}

/// Bytes of the security info without chip id and revision (ESP-IDF, `esp_rom_get_security_info`; esptool 5.6.0).
const SHORT_SECURITY_INFO: usize = 12;

impl Loader {
    /// Wraps a port on which nothing has been said yet. `chip` may be a guess until it was detected.
    pub fn new(port: Box<dyn Port>, chip: &'static Chip) -> Self {
        Self { line: Line::new(port), chip, mode: Mode::Rom, state: State::default() }
    }

    /// The chip that answers.
    pub fn chip(&self) -> &'static Chip {
        self.chip
    }

    /// Who answers: ROM, stub, or the ROM in secure download mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The chip's revision as major × 100 + minor, where it could be read.
    pub fn revision(&self) -> Option<u16> {
        self.state.revision
    }

    /// What moved over the line so far.
    pub fn stats(&self) -> Stats {
        self.line.stats
    }

    /// The port, for its clock, its rate and its description.
    pub fn port(&mut self) -> &mut dyn Port {
        self.line.port()
    }

    /// Gives the port back, as it is.
    pub fn into_port(self) -> Box<dyn Port> {
        self.line.into_port()
    }

    pub(crate) fn set_chip(&mut self, chip: &'static Chip) {
        self.chip = chip;
    }

    pub(crate) fn set_mode(&mut self, mode: Mode) {
        self.mode = mode;
    }

    /// Sends `request` and waits for its answer with `data_len` bytes of data before the status.
    ///
    /// Cancellation is checked before the request and while waiting. Nothing is ever sent twice here.
    pub fn call(
        &mut self,
        job: &Job,
        request: &Request,
        data_len: usize,
        time: Duration,
    ) -> Result<Answer, LoaderError> {
        self.allow(request.command())?;
        self.send(job, request)?;
        self.answer(job, request.command(), data_len, time)
    }

    /// The common case: no data, the usual time.
    pub fn command(&mut self, job: &Job, request: &Request) -> Result<u32, LoaderError> {
        self.call(job, request, 0, COMMAND_TIME).map(|answer| answer.value)
    }

    /// Does `work` within `limit`, or what is left of a limit that holds already.
    pub(crate) fn within<T, E>(
        &mut self,
        limit: Duration,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let before = self.line.deadline;
        let own = self.port().now() + limit;
        self.line.deadline = Some(before.filter(|(until, _)| *until < own).unwrap_or((own, limit)));
        let result = work(self);
        self.line.deadline = before;
        result
    }

    /// Sends a request that leaves the loader, and does not wait for its answer.
    pub(crate) fn post(&mut self, job: &Job, request: &Request) -> Result<(), LoaderError> {
        self.allow(request.command())?;
        self.send(job, request)
    }

    /// Acknowledges a frame of READ_FLASH with the number of bytes received so far.
    pub(crate) fn acknowledge(&mut self, received: u32) -> Result<(), LoaderError> {
        self.line.send_frame(&received.to_le_bytes())
    }

    fn send(&mut self, job: &Job, request: &Request) -> Result<(), LoaderError> {
        job.check()?;
        self.line.check_deadline()?;
        self.line.send_command(&request.encode())
    }

    /// Waits for the answer to `command`; answers to other commands are late ones and are dropped.
    pub(crate) fn answer(
        &mut self,
        job: &Job,
        command: Command,
        data_len: usize,
        time: Duration,
    ) -> Result<Answer, LoaderError> {
        let until = self.port().now() + time;
        // Only its end is evidence: a device that sends without end fills no memory.
        let mut frames_seen: Vec<u8> = Vec::new();
        loop {
            let found = self.frame_until(job, until)?;
            // Frames that are there already come without a wait: a flood of foreign ones must not outrun the clock.
            let late = self.port().now() >= until;
            let Some(frame) = found.filter(|_| frames_seen.is_empty() || !late) else {
                frames_seen.extend(self.line.evidence());
                return Err(LoaderError::NoAnswer { command, waited: time, seen: Seen::of(&frames_seen) });
            };
            let reply = Reply::decode(&frame);
            if reply.as_ref().is_some_and(|reply| is_foreign_refusal(reply, command)) {
                self.drain(Duration::from_millis(30), Duration::from_millis(300))?;
                return Err(LoaderError::Refused { command, status: Status::INVALID });
            }
            let Some(reply) = reply.filter(|reply| reply.command == command as u8) else {
                frames_seen.extend_from_slice(&frame);
                let surplus = frames_seen.len().saturating_sub(SEEN_LIMIT);
                frames_seen.drain(..surplus);
                continue;
            };
            // The first layout of this answer is shorter; its first byte would pass for a status.
            let short = command == Command::SecurityInfo && (14..22).contains(&reply.body.len());
            let data_len = if short { SHORT_SECURITY_INFO } else { data_len };
            let Some((data, status)) = reply.split(data_len) else {
                let what = "the answer has no status";
                return Err(LoaderError::Protocol { command, what, seen: Seen::of(&frame) });
            };
            if !status.is_ok() {
                return Err(LoaderError::Refused { command, status });
            }
            return Ok(Answer { value: reply.value, data: data.to_vec() });
        }
    }

    /// The next frame, or `None` when none is whole by `until` on the port's clock.
    pub(crate) fn frame_until(&mut self, job: &Job, until: Duration) -> Result<Option<Vec<u8>>, LoaderError> {
        self.line.frame_until(job, until)
    }

    /// Reads until the line was quiet for `quiet` (at most `most`) and forgets frames. Returns bytes outside frames.
    pub(crate) fn drain(&mut self, quiet: Duration, most: Duration) -> Result<Vec<u8>, LoaderError> {
        self.line.drain(quiet, most)
    }

    /// Sends SYNC up to `tries` times. True when the stub answers (its value word is 0), false for the ROM.
    pub(crate) fn sync(&mut self, job: &Job, tries: u32) -> Result<bool, LoaderError> {
        let mut last = None;
        for _ in 0..tries {
            self.send(job, &Request::Sync)?;
            match self.answer(job, Command::Sync, 0, Duration::from_millis(100)) {
                Ok(answer) => {
                    self.rest_of_sync(job, last.is_some())?;
                    return Ok(answer.value == 0);
                }
                Err(error) if error.is_final() => return Err(error),
                Err(error) => last = Some(error),
            }
            self.port().sleep(Duration::from_millis(50));
        }
        Err(last.unwrap_or(LoaderError::Cancelled))
    }

    /// A loader answers each SYNC eight times: takes the rest, or they would pass for later answers. After more than one
    /// SYNC nobody knows how many are to come: only quiet tells.
    fn rest_of_sync(&mut self, job: &Job, more_than_one: bool) -> Result<(), LoaderError> {
        const QUIET: Duration = Duration::from_millis(30);
        for _ in 1..8 {
            let until = self.port().now() + QUIET;
            if more_than_one || self.frame_until(job, until)?.is_none() {
                self.drain(QUIET, 10 * QUIET)?;
                break;
            }
        }
        Ok(())
    }

    /// Gets back in step after an answer was lost: waits for quiet, then synchronises.
    pub(crate) fn resync(&mut self, job: &Job) -> Result<(), LoaderError> {
        self.line.stats.resyncs += 1;
        self.drain(Duration::from_millis(100), Duration::from_secs(2))?;
        self.line.close_frame()?;
        self.sync(job, 20).map(|_| ())
    }

    /// Checks that the present loader knows the command: the one table of what a mode and a chip allow.
    pub(crate) fn allow(&self, command: Command) -> Result<(), LoaderError> {
        let rom = &self.chip.rom;
        let known = match self.mode {
            Mode::Stub => command.in_stub(),
            // Asked before the chip is known.
            Mode::Rom => command == Command::SecurityInfo || command.in_rom(rom, false),
            Mode::SecureDownload => command.in_rom(rom, true),
        };
        if known { Ok(()) } else { Err(self.unsupported(command.name())) }
    }

    pub(crate) fn unsupported(&self, what: impl Into<String>) -> LoaderError {
        let stub_can = self.mode == Mode::Rom;
        LoaderError::Unsupported {
            what: what.into(),
            mode: self.mode.describe(),
            chip: self.chip.name.clone(),
            stub_can,
        }
    }
}

/// A ROM that does not know a command may say so under another command's number, several times over: esptool waits for
/// that too.
fn is_foreign_refusal(reply: &Reply, asked: Command) -> bool {
    reply.command != asked as u8 && reply.split(0).is_some_and(|(_, status)| status == Status::INVALID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_may_name_another_command() {
        let reply = |command, body: &[u8]| Reply { command, value: 0, body: body.to_vec() };
        assert!(is_foreign_refusal(&reply(0, &[1, 5, 0, 0]), Command::SecurityInfo));
        assert!(!is_foreign_refusal(&reply(0x14, &[1, 5, 0, 0]), Command::SecurityInfo), "its own is read as usual");
        assert!(!is_foreign_refusal(&reply(0x08, &[0, 0, 0, 0]), Command::SecurityInfo), "a late answer");
        assert!(!is_foreign_refusal(&reply(0x0a, &[1, 7, 0, 0]), Command::SecurityInfo));
    }
}
