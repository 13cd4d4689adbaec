//! A connected chip: opened with the options before the command, reset when the command is done.

use std::io::ErrorKind;
use std::time::Duration;

use esp_link::connect::Attempt;
use esp_link::options::{ROM_BAUD, StubSource};
use esp_link::reset::Sequence;
use esp_link::{Loader, LoaderError, Mode};
use esp_model::chip::ImageFormat;
use esp_model::hex;
use esp_model::job::Job;

use super::config::{self, Config};
use super::connecting::{self, Wanted};
use super::pins;
use super::progress::Meter;
use crate::command::Call;
use crate::fault::Fault;

/// A connected chip.
pub struct Session {
    /// The loader.
    pub loader: Loader,
    /// Reports progress.
    pub job: Job,
    /// How progress is shown.
    pub meter: Meter,
    /// How the connection came about.
    pub attempts: Vec<Attempt>,
    config: Config,
}

/// Connects, works, and resets the chip, also when the work failed.
pub fn with(call: &Call<'_>, work: impl FnOnce(&mut Session) -> Result<(), Fault>) -> Result<(), Fault> {
    let mut session = Session::open(call)?;
    let result = work(&mut session);
    call.terminal.say("");
    let reset = session.reset(call);
    result.and(reset)
}

impl Session {
    /// Connects and says who answers.
    pub fn open(call: &Call<'_>) -> Result<Self, Fault> {
        let pins = pins::named(call)?;
        let stub = if call.switch("no-stub") { StubSource::None } else { call.host.stubs() };
        let (mut session, port, stub) = Self::connect(call, stub)?;
        session.introduce(call, &port)?;
        session.refuse_in_secure_download(call)?;
        session.say_stub(call, stub.as_deref());
        pins::override_voltage(call, &mut session)?;
        pins::connect(call, &mut session, pins)?;
        call.terminal.say("");
        Ok(session)
    }

    /// Connects. Returns the port's name and where the stub came from, too.
    pub fn connect(call: &Call<'_>, stub: StubSource) -> Result<(Self, String, Option<String>), Fault> {
        let meter = Meter::new(call.terminal);
        let job = meter.job();
        let config = config::load().unwrap_or_default();
        let wanted = Wanted { call, config: &config, stub, job: &job, meter: &meter };
        let (loader, port, report) = connecting::connect(&wanted)?;
        Ok((Self { loader, job, meter, attempts: report.attempts, config }, port, report.stub))
    }

    /// The chip is in secure download mode.
    pub fn is_locked(&self) -> bool {
        self.loader.mode() == Mode::SecureDownload
    }

    /// The chip is of the first family, whose ROM has no security features.
    pub fn is_first_family(&self) -> bool {
        self.loader.chip().image.format == ImageFormat::Esp8266
    }

    /// Seconds on the port's clock.
    pub fn clock(&mut self) -> Duration {
        self.loader.port().now()
    }

    fn introduce(&mut self, call: &Call<'_>, port: &str) -> Result<(), Fault> {
        let (terminal, name) = (call.terminal, self.loader.chip().name.clone());
        terminal.say(format_args!("Connected to {name} on {port}:"));
        let Some(identity) = self.loader.identity().cloned() else {
            terminal.say(format_args!("{:<20}{name} in Secure Download Mode\n", "Chip type:"));
            return Ok(());
        };
        let crystal = self.loader.crystal_mhz(&self.job).map_err(failed)?;
        terminal.say(format_args!("{:<20}{}", "Chip type:", identity.description));
        terminal.say(format_args!("{:<20}{}", "Features:", identity.features.join(", ")));
        terminal.say(format_args!("{:<20}{crystal}MHz", "Crystal frequency:"));
        self.say_mac(call);
        terminal.say("");
        Ok(())
    }

    /// The chip's addresses.
    pub fn say_mac(&self, call: &Call<'_>) {
        let Some(identity) = self.loader.identity() else { return };
        let line =
            |label: &str, bytes: &[u8]| call.terminal.say(format_args!("{label:<20}{}", hex::joined(bytes, ":")));
        match (identity.eui64(), identity.mac_ext) {
            (Some(long), Some(ext)) => {
                line("MAC:", &long);
                line("BASE MAC:", &identity.mac.0);
                line("MAC_EXT:", &ext);
            }
            _ => line("MAC:", &identity.mac.0),
        }
    }

    fn refuse_in_secure_download(&self, call: &Call<'_>) -> Result<(), Fault> {
        const ALLOWED: [&str; 3] = ["get-security-info", "write-flash", "erase-region"];
        if !self.is_locked() || ALLOWED.contains(&call.command) {
            return Ok(());
        }
        let text = format!("The '{}' command is not available in Secure Download Mode.", call.command);
        Err(Fault::Fatal(text))
    }

    fn say_stub(&mut self, call: &Call<'_>, stub: Option<&str>) {
        let terminal = call.terminal;
        match (stub, self.is_locked(), call.switch("no-stub")) {
            (_, true, false) => terminal.warn(
                "Stub flasher is not supported in Secure Download Mode, it has been disabled. \
                 Set --no-stub to suppress this warning.",
            ),
            (Some("already running"), _, _) => {
                terminal.say("Stub flasher is already running. No upload is necessary.");
            }
            (Some(_), _, _) => {
                terminal.say("Uploading stub flasher...\nRunning stub flasher...\nStub flasher running.");
            }
            (None, false, false) => terminal.warn(format_args!(
                "Stub flasher is not yet supported on {}, it has been disabled. Set --no-stub to suppress this warning.",
                self.loader.chip().name
            )),
            (None, _, true) => {}
        }
        let baud = self.loader.port().baud();
        if baud != ROM_BAUD {
            terminal.say(format_args!("Changing baud rate to {baud}...\nChanged."));
        }
    }

    /// Leaves the chip as `--after` says.
    pub fn reset(&mut self, call: &Call<'_>) -> Result<(), Fault> {
        let (terminal, job) = (call.terminal, self.job.clone());
        match call.option("after").unwrap_or_default() {
            "soft-reset" => {
                terminal.say("Soft resetting...");
                self.loader.soft_reset(&job).map_err(failed)
            }
            "no-reset-stub" => {
                terminal.say("Staying in flasher stub.");
                Ok(())
            }
            "no-reset" => {
                terminal.say("Staying in bootloader.");
                // The ROM's loader does not come back without a reset; the next call finds the stub running.
                Ok(())
            }
            "watchdog-reset" => self.watchdog_reset(call),
            _ => self.hard_reset(call),
        }
    }

    fn watchdog_reset(&mut self, call: &Call<'_>) -> Result<(), Fault> {
        let instead = "attempting classic hard reset instead.";
        if self.is_locked() {
            let text = format!("Watchdog hard reset is not supported in Secure Download Mode, {instead}");
            call.terminal.warn(text);
            return self.hard_reset(call);
        }
        let chip = self.loader.chip();
        if !chip.reset.by_watchdog {
            call.terminal.note(format_args!("Watchdog hard reset is not supported on {}, {instead}", chip.name));
            return self.hard_reset(call);
        }
        call.terminal.say("Hard resetting with a watchdog...");
        self.loader.watchdog_reset(&self.job).map_err(failed)
    }

    fn hard_reset(&mut self, call: &Call<'_>) -> Result<(), Fault> {
        if let Some(sequence) = self.config.get("custom_hard_reset_sequence") {
            call.terminal.say("Hard resetting with custom sequence...");
            let sequence = custom(sequence)?;
            return without_lines(sequence.run(self.loader.port()).map_err(LoaderError::Line));
        }
        call.terminal.say("Hard resetting via RTS pin...");
        without_lines(self.loader.hard_reset())
    }
}

/// A sequence of `esptool.cfg`.
pub fn custom(text: &str) -> Result<Sequence, Fault> {
    let wrong = |error| Fault::Fatal(format!("Invalid custom reset sequence option format: {error}"));
    Sequence::custom(text).map_err(wrong)
}

/// A line without DTR and RTS leaves the chip as it is, as esptool does.
fn without_lines(reset: Result<(), LoaderError>) -> Result<(), Fault> {
    match reset {
        Err(LoaderError::Line(error)) if error.kind() == ErrorKind::Unsupported => Ok(()),
        other => other.map_err(failed),
    }
}

/// A failure of the loader as a fatal error.
pub fn failed(error: LoaderError) -> Fault {
    Fault::fatal(error)
}
