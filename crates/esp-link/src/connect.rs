//! From an open port to a connected loader: reset, synchronise, recognise the chip, upload the stub, raise the rate.

use std::io;
use std::time::Duration;

use esp_model::chip::{self, CrystalFoundBy};
use esp_model::job::Job;
use esp_model::port::Port;
use serde::Serialize;

use crate::detect;
use crate::error::LoaderError;
use crate::loader::{Loader, Mode, State};
use crate::options::{Before, ConnectOptions, ROM_BAUD};
use crate::reset::Sequence;
use crate::stub::{StartRate, Stub};

/// Bytes kept of the beginning and of the end of what an attempt saw.
const KEPT: usize = 256;
/// Longest time for all of connecting: every reset, answer, upload and repetition of it. A bad line takes a quarter.
pub const CONNECT_TIME: Duration = Duration::from_secs(60);

/// One rung of the ladder, as it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// Name of the reset sequence, `no-reset` for none.
    pub sequence: String,
    /// Bytes that came after the reset, before SYNC was answered: boot messages or noise. The first and the last 256.
    pub seen: Vec<u8>,
    /// The `boot:0x..` value of the ROM's message, when there was one.
    pub boot_mode: Option<u32>,
    /// The ROM said that it waits for a download.
    pub waiting_for_download: bool,
    /// SYNC was answered.
    pub synced: bool,
}

/// Why no loader answered.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answered SYNC.
    #[error("no loader answered in {} attempts", .attempts.len())]
    NoSync {
        /// What each attempt saw.
        attempts: Vec<Attempt>,
    },
    /// A loader answered, but something after it failed.
    #[error("{error}")]
    Loader {
        /// What each attempt saw.
        attempts: Vec<Attempt>,
        /// What failed.
        #[source]
        error: LoaderError,
    },
    /// The chip is not the one that was asked for.
    #[error("the chip is {found}, not {expected}")]
    WrongChip {
        /// What answered.
        found: String,
        /// What was asked for.
        expected: String,
    },
}

impl Loader {
    /// Connects. The port should be open at any rate; it is set to 115200 baud first.
    pub fn connect(port: Box<dyn Port>, options: &ConnectOptions, job: &Job) -> Result<(Self, Report), ConnectError> {
        let guess = options.expect.or_else(|| chip::all().first());
        let Some(guess) = guess else { return Err(ConnectError::NoSync { attempts: Vec::new() }) };
        let mut loader = Self::new(port, guess);
        loader.state.options = Some(options.clone());
        let report = loader.within(CONNECT_TIME, |loader| loader.climb(job, options))?;
        loader.expect(options).map(|loader| (loader, report))
    }

    /// Goes on with a stub that runs already, on a line of this rate. Nothing is reset. `options` count for what comes
    /// later: the rate, and resets when the stub is lost.
    pub fn resume(
        port: Box<dyn Port>,
        baud: u32,
        options: &ConnectOptions,
        job: &Job,
    ) -> Result<(Self, Report), ConnectError> {
        let guess = options.expect.or_else(|| chip::all().first());
        let Some(guess) = guess else { return Err(ConnectError::NoSync { attempts: Vec::new() }) };
        let mut loader = Self::new(port, guess);
        loader.state.options = Some(options.clone());
        let failed = |error| ConnectError::Loader { attempts: Vec::new(), error };
        loader.port().set_baud(baud).map_err(|error| failed(error.into()))?;
        let (attempt, stub_runs) = loader.attempt(job, None).map_err(failed)?;
        if !stub_runs {
            return Err(ConnectError::NoSync { attempts: vec![attempt] });
        }
        let stub = loader.settle(job, options, true).map_err(failed)?;
        loader.expect(options).map(|loader| (loader, Report { attempts: vec![attempt], stub }))
    }

    /// Tries until a loader answers and all that follows went well.
    fn climb(&mut self, job: &Job, options: &ConnectOptions) -> Result<Report, ConnectError> {
        let mut attempts = Vec::new();
        let mut options = options.clone();
        loop {
            let answered = match self.ladder(job, &options, &mut attempts) {
                Ok(answered) => answered,
                Err(error) => return Err(ConnectError::Loader { attempts, error }),
            };
            let Some(stub_runs) = answered else { return Err(ConnectError::NoSync { attempts }) };
            match self.settle(job, &options, stub_runs) {
                Ok(stub) => return Ok(Report { attempts, stub }),
                // A reset puts things right; a lower rate may keep them so.
                Err(error) if error.is_line_trouble() && attempts.len() < options.attempts as usize => {
                    options.baud = (options.baud / 2).max(ROM_BAUD);
                }
                Err(error) => return Err(ConnectError::Loader { attempts, error }),
            }
        }
    }

    /// Gets in step again, by a reset where nothing else helps: a stub may have crashed, an emulator may hang. What was in
    /// RAM and registers is then lost, so this is for work that can go on from what the flash holds. A chip that speaks
    /// has restarted by itself, perhaps for want of power: that is told, not mended. True when it took a reset.
    ///
    /// Errors: nobody answers, the line has no reset, or another chip answers than before.
    pub(crate) fn get_back(&mut self, job: &Job) -> Result<bool, LoaderError> {
        self.within(CONNECT_TIME, |loader| loader.try_to_get_back(job))
    }

    fn try_to_get_back(&mut self, job: &Job) -> Result<bool, LoaderError> {
        let silence = match self.resync(job) {
            Err(error) if error.is_silence() => error,
            other => return other.map(|()| false),
        };
        let options = self.state.options.clone().filter(|options| options.before != Before::NoReset);
        let (Some(options), true) = (options, self.port().info().modem_lines) else { return Err(silence) };
        let before = self.state.clone();
        self.state = State { packed: before.packed, options: before.options, ..State::default() };
        let stub_runs = self.ladder(job, &options, &mut Vec::new())?.ok_or(silence)?;
        self.settle(job, &options, stub_runs)?;
        if self.state.identity != before.identity {
            return Err(io::Error::other("another chip answers since the reset").into());
        }
        self.attach_flash(job, before.flash_size).map(|_| true)
    }

    fn expect(self, options: &ConnectOptions) -> Result<Self, ConnectError> {
        match options.expect {
            Some(expected) if expected.id != self.chip().id => {
                Err(ConnectError::WrongChip { found: self.chip().name.clone(), expected: expected.name.clone() })
            }
            _ => Ok(self),
        }
    }

    /// Tries the rungs. `Some(true)`: a stub answers; `Some(false)`: the ROM; `None`: nobody.
    fn ladder(
        &mut self,
        job: &Job,
        options: &ConnectOptions,
        attempts: &mut Vec<Attempt>,
    ) -> Result<Option<bool>, LoaderError> {
        let rungs = rungs(self.port(), &options.before);
        for index in attempts.len()..options.attempts.max(1) as usize {
            job.check()?;
            job.progress(index as u64, options.attempts.into(), "connecting");
            let rung = rungs[index % rungs.len()].as_ref();
            // What was not reset may be a stub that still runs at the rate of the call before.
            let left_running = rung.is_none() && index % 2 == 1;
            self.port().set_baud(if left_running { options.baud } else { ROM_BAUD })?;
            let (attempt, stub_runs) = self.attempt(job, rung)?;
            let synced = attempt.synced;
            attempts.push(attempt);
            if synced {
                return Ok(Some(stub_runs));
            }
        }
        Ok(None)
    }

    fn attempt(&mut self, job: &Job, sequence: Option<&Sequence>) -> Result<(Attempt, bool), LoaderError> {
        let mut seen = Vec::new();
        if let Some(sequence) = sequence {
            self.drain(Duration::from_millis(1), Duration::from_millis(50))?;
            sequence.run(self.port())?;
            if self.port().info().is_usb_serial_jtag() {
                self.port().reopen()?;
            }
            seen = self.drain(Duration::from_millis(10), Duration::from_millis(200))?;
        }
        let answer = self.sync(job, 5);
        let synced = answer.is_ok();
        let stub_runs = match answer {
            Ok(stub_runs) => stub_runs,
            Err(LoaderError::NoAnswer { seen: more, .. }) => {
                seen.extend_from_slice(&more.0);
                false
            }
            Err(error) if error.is_final() => return Err(error),
            Err(_) => false,
        };
        let (boot_mode, waiting_for_download) = boot_message(&seen);
        // The ROM's first lines say what it is, the end what it does now.
        if seen.len() > 2 * KEPT {
            seen.drain(KEPT..seen.len() - KEPT);
        }
        let name = sequence.map_or("no-reset", |sequence| &sequence.name);
        Ok((Attempt { sequence: name.into(), seen, boot_mode, waiting_for_download, synced }, stub_runs))
    }

    /// After SYNC: recognise the chip, quieten its watchdogs, upload the stub, raise the rate.
    fn settle(&mut self, job: &Job, options: &ConnectOptions, stub_runs: bool) -> Result<Option<String>, LoaderError> {
        self.set_mode(if stub_runs { Mode::Stub } else { Mode::Rom });
        detect::recognise(self, job)?;
        if self.mode() == Mode::SecureDownload {
            self.raise_baud(job, options.baud)?;
            return Ok(None);
        }
        if stub_runs {
            self.raise_baud(job, options.baud)?;
            return Ok(Some("already running".into()));
        }
        self.prepare_chip(job)?;
        if self.chip().crystal.found_by == CrystalFoundBy::UartDivider {
            self.crystal_mhz(job)?; // while the ROM's divider tells
        }
        let stub = Stub::find(self.chip(), self.revision().unwrap_or(0), &options.stub)?;
        // The rate is raised before the upload where the ROM can do it: the stub is 6 to 12 KiB.
        if stub.as_ref().is_none_or(|stub| stub.start_rate != StartRate::Unknown) {
            self.raise_baud(job, options.baud.min(options.rom_baud))?;
        }
        let Some(stub) = stub else { return Ok(None) };
        self.run_stub(job, &stub)?;
        if self.port().baud() < options.baud {
            self.raise_baud(job, options.baud)?;
        }
        Ok(Some(stub.origin))
    }
}

/// How a connection came about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Each reset and what was seen after it.
    pub attempts: Vec<Attempt>,
    /// Where the stub came from; `None` when the ROM serves.
    pub stub: Option<String>,
}

/// The reset sequences to go through; `None` is "no reset".
fn rungs(port: &mut dyn Port, before: &Before) -> Vec<Option<Sequence>> {
    match before {
        _ if !port.info().modem_lines => vec![None],
        Before::NoReset => vec![None],
        Before::Only(sequence) => vec![Some(sequence.clone())],
        Before::Ladder if port.info().is_usb_serial_jtag() => {
            vec![Some(Sequence::usb_serial_jtag()), Some(Sequence::classic(50)), None]
        }
        Before::Ladder => vec![
            Some(Sequence::tight(50)),
            Some(Sequence::classic(50)),
            Some(Sequence::tight(550)),
            Some(Sequence::classic(550)),
            Some(Sequence::usb_serial_jtag()),
            None,
        ],
    }
}

/// Finds `boot:0x13` and "waiting for download" in what the ROM printed.
fn boot_message(seen: &[u8]) -> (Option<u32>, bool) {
    let text = String::from_utf8_lossy(seen);
    let mode = text.rsplit_once("boot:0x").map(|(_, rest)| {
        let digits: String = rest.chars().take_while(char::is_ascii_hexdigit).take(8).collect();
        u32::from_str_radix(&digits, 16).unwrap_or(0)
    });
    (mode, text.to_ascii_lowercase().contains("waiting for download"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_line_is_found() {
        let log =
            b"ets Jun  8 2016\r\nrst:0x1 (POWERON_RESET),boot:0x3 (DOWNLOAD_BOOT(UART0))\r\nwaiting for download\r\n";
        assert_eq!(boot_message(log), (Some(3), true));
        assert_eq!(boot_message(b"rst:0x1 (POWERON),boot:0x13 (SPI_FAST_FLASH_BOOT)"), (Some(0x13), false));
        assert_eq!(boot_message(b"\xff\xfe"), (None, false));
    }
}
