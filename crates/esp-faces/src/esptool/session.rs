//! A connected chip: opened with the options before the command, reset when the command is done.

use std::io::ErrorKind;
use std::time::Duration;

use esp_link::connect::{Attempt, Report};
use esp_link::options::{Before, ROM_BAUD, StubSource};
use esp_link::port::traced::Traced;
use esp_link::port::{self, OpenOptions, PortError, PortUrl, scan};
use esp_link::reset::Sequence;
use esp_link::{ConnectError, ConnectOptions, Loader, LoaderError, Mode};
use esp_model::chip::ImageFormat;
use esp_model::hex;
use esp_model::job::Job;
use esp_model::port::Port;

use super::config::{self, Config};
use super::options;
use super::pins;
use super::progress::Meter;
use crate::command::Call;
use crate::fault::Fault;
use crate::text;

const TROUBLESHOOTING: &str = "https://docs.espressif.com/projects/esptool/en/latest/troubleshooting.html";
/// Attempts to connect when none are given.
const ATTEMPTS: u32 = 7;
/// Attempts that stand for "without end".
const ENDLESS: u32 = 100_000;

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
        let stub = if call.switch("no-stub") { StubSource::None } else { StubSource::BuiltIn };
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
        let connect = ConnectOptions { stub, ..connect_options(call, &config)? };
        let (loader, port, report) = match named_port(call) {
            Some(name) => {
                call.terminal.say(format_args!("Serial port {name}:"));
                let (loader, report) = connect_to(call, &name, &connect, &job, &meter)?;
                (loader, name, report)
            }
            None => first_that_answers(call, &connect, &job, &meter)?,
        };
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
            "watchdog-reset" if !self.is_locked() => {
                terminal.say("Hard resetting with a watchdog...");
                self.loader.watchdog_reset(&job).map_err(failed)
            }
            _ => self.hard_reset(call),
        }
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
fn custom(text: &str) -> Result<Sequence, Fault> {
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

fn named_port(call: &Call<'_>) -> Option<String> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let given = call.option("port").map(str::to_string);
    given.or_else(|| variable("ESPTOOL_PORT")).or_else(|| variable("ESPPORT"))
}

fn connect_options(call: &Call<'_>, config: &Config) -> Result<ConnectOptions, Fault> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let given = call.option("baud").map(str::to_string);
    let baud = given.or_else(|| variable("ESPTOOL_BAUD")).or_else(|| variable("ESPBAUD"));
    let baud = match baud.as_deref() {
        None => ROM_BAUD,
        Some(text) => text
            .parse()
            .map_err(|_| Fault::value("--baud' / '-b", format_args!("'{text}' is not a valid baud rate.")))?,
    };
    let attempts = call.option("connect-attempts").or(config.get("connect_attempts"));
    let attempts = match attempts.map(str::parse::<i64>) {
        None => ATTEMPTS,
        Some(Ok(count)) if count > 0 => u32::try_from(count).unwrap_or(ENDLESS),
        Some(Ok(_)) => ENDLESS,
        Some(Err(_)) => return Err(Fault::value("--connect-attempts", "not a valid integer.")),
    };
    let before = match call.option("before").unwrap_or_default() {
        "no-reset" | "no-reset-no-sync" => Before::NoReset,
        "usb-reset" => Before::Only(Sequence::usb_serial_jtag()),
        _ => match config.get("custom_reset_sequence") {
            Some(sequence) => Before::Only(custom(sequence)?),
            None => Before::Ladder,
        },
    };
    let stub = if call.switch("no-stub") { StubSource::None } else { StubSource::BuiltIn };
    Ok(ConnectOptions {
        before,
        attempts,
        baud,
        stub,
        expect: options::optional_chip(call),
        ..ConnectOptions::default()
    })
}

/// Tries the serial ports of this computer, the last one first.
fn first_that_answers(
    call: &Call<'_>,
    options: &ConnectOptions,
    job: &Job,
    meter: &Meter,
) -> Result<(Loader, String, Report), Fault> {
    check_filters(call)?;
    let mut found = scan::scan();
    found.retain(|port| filtered(call, port));
    call.terminal.say(format_args!("Found {} serial ports...", found.len()));
    // Where nothing is known behind a port, a device on USB goes first.
    found.sort_by_key(|port| (port.usb.is_some(), port.path.clone()));
    let options = ConnectOptions { attempts: options.attempts.min(ATTEMPTS), ..options.clone() };
    for port in found.iter().rev() {
        call.terminal.say(format_args!("Serial port {}:", port.path));
        match connect_to(call, &port.path, &options, job, meter) {
            Ok((loader, report)) => return Ok((loader, port.path.clone(), report)),
            Err(Fault::Fatal(text)) => call.terminal.say(format_args!("{} failed to connect: {text}", port.path)),
            Err(other) => return Err(other),
        }
    }
    Err(Fault::fatal(
        "Could not connect to an Espressif device on any of the available serial ports. Check that the device is \
         connected and in download mode, or name its port with --port.",
    ))
}

/// Filters that are not one.
fn check_filters(call: &Call<'_>) -> Result<(), Fault> {
    for filter in filters(call) {
        let Some((key, _)) = filter.split_once('=') else {
            return Err(Fault::Fatal(format!("Invalid port filter '{filter}'. Expected key=value.")));
        };
        if !["vid", "pid", "name", "serial"].contains(&key) {
            return Err(Fault::Fatal(format!("Unknown port filter key: {key}. Known are vid, pid, name, serial.")));
        }
    }
    Ok(())
}

fn filters<'a>(call: &'a Call<'_>) -> Vec<&'a str> {
    let filters = call.options.try_get_many::<String>("port-filter").ok().flatten();
    filters.into_iter().flatten().map(String::as_str).collect()
}

fn filtered(call: &Call<'_>, port: &scan::FoundPort) -> bool {
    let usb = port.usb.as_ref();
    let has = |text: Option<&String>, value: &str| {
        text.is_some_and(|text| text.to_lowercase().contains(&value.to_lowercase()))
    };
    filters(call).into_iter().filter_map(|filter| filter.split_once('=')).all(|(key, value)| {
        let number = text::integer(value);
        match key {
            "vid" => usb.is_some_and(|usb| Some(u64::from(usb.vid)) == number),
            "pid" => usb.is_some_and(|usb| Some(u64::from(usb.pid)) == number),
            "serial" => has(usb.and_then(|usb| usb.serial_number.as_ref()), value),
            _ => has(usb.and_then(|usb| usb.product.as_ref()), value),
        }
    })
}

fn connect_to(
    call: &Call<'_>,
    name: &str,
    options: &ConnectOptions,
    job: &Job,
    meter: &Meter,
) -> Result<(Loader, Report), Fault> {
    let unreachable = |error: PortError| {
        Fault::Fatal(format!("Could not open {name}, the port is busy or doesn't exist.\n({error})\n"))
    };
    let url: PortUrl = name.parse().map_err(|error| unreachable(PortError::Url(error)))?;
    call.host.allows_port(&url).map_err(|error| Fault::Fatal(format!("Could not open {name}: {error}")))?;
    let opened = port::open_with(&url, &OpenOptions::default(), |url| call.host.open_virtual(url));
    let port = traced(call, opened.map_err(unreachable)?);
    // A socket has none, and whoever uses one knows.
    let resets = !matches!(options.before, Before::NoReset) && !name.contains("://");
    if resets && !port.info().modem_lines && !port.info().is_virtual {
        call.terminal.warn(format_args!(
            "Chip was NOT reset. Setting RTS/DTR lines is not supported for port '{name}'. Set --before and --after \
             arguments to 'no-reset' and switch to bootloader manually to avoid this warning."
        ));
    }
    call.terminal.piece("Connecting...");
    meter.connecting();
    let connected = Loader::connect(port, options, job);
    meter.end();
    call.terminal.say("");
    if let (Ok((loader, _)), None) = (&connected, options.expect) {
        call.terminal.say(format_args!("Detecting chip type... {}", loader.chip().name));
    }
    connected.map_err(|error| not_connected(options, &error))
}

/// With `--trace`, what goes over the line is written to standard error, as `mcp-esptool replay` reads it.
fn traced(call: &Call<'_>, port: Box<dyn Port>) -> Box<dyn Port> {
    if call.switch("trace") { Box::new(Traced::new(port, std::io::stderr())) } else { port }
}

fn not_connected(options: &ConnectOptions, error: &ConnectError) -> Fault {
    let chip = options.expect.map_or("an Espressif device", |chip| &chip.name);
    match error {
        ConnectError::WrongChip { found, expected } => {
            Fault::Fatal(format!("This chip is {found}, not {expected}. Wrong chip argument?"))
        }
        ConnectError::NoSync { attempts } => {
            let why = why_no_sync(attempts);
            Fault::Fatal(format!(
                "Failed to connect to {chip}: {why}\nFor troubleshooting steps visit: {TROUBLESHOOTING}"
            ))
        }
        ConnectError::Loader { error, .. } => Fault::Fatal(format!("Failed to connect to {chip}: {error}")),
    }
}

/// What the attempts saw, in the texts that people search for.
fn why_no_sync(attempts: &[Attempt]) -> String {
    if attempts.iter().any(|attempt| attempt.waiting_for_download) {
        return "Download mode successfully detected, but getting no sync reply: The serial TX path seems to be down."
            .into();
    }
    if let Some(mode) = attempts.iter().rev().find_map(|attempt| attempt.boot_mode) {
        return format!("Wrong boot mode detected ({mode:#x})! The chip needs to be in download mode.");
    }
    match attempts.iter().rev().find_map(|attempt| attempt.seen.first()) {
        Some(byte) => format!("Invalid head of packet ({byte:#04x}): Possible serial noise or corruption."),
        None => "No serial data received.".into(),
    }
}
