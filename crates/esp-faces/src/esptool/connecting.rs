//! From the options before the command to a loader that answers.

use std::time::Duration;

use esp_link::connect::{Attempt, Report};
use esp_link::options::{Before, ROM_BAUD, StubSource};
use esp_link::port::{self, OpenOptions, PortError, PortUrl, scan};
use esp_link::reset::Sequence;
use esp_link::{ConnectError, ConnectOptions, Loader};
use esp_model::job::Job;
use esp_model::port::Port;

use super::config::Config;
use super::options;
use super::progress::Meter;
use super::session::custom;
use super::trace::Shown;
use crate::command::Call;
use crate::fault::Fault;
use crate::text;

const TROUBLESHOOTING: &str = "https://docs.espressif.com/projects/esptool/en/latest/troubleshooting.html";
/// Attempts to connect when none are given.
const ATTEMPTS: u32 = 7;
/// Attempts that stand for "without end".
const ENDLESS: u32 = 100_000;
/// Between two attempts to open a port; a dot is shown at every tenth.
const PAUSE: Duration = Duration::from_millis(100);
/// A dot for each SYNC of an attempt that nobody answered.
pub const DOTS: &str = ".....";

/// How the options and the settings file want to connect.
pub struct Wanted<'a> {
    /// The call with its options.
    pub call: &'a Call<'a>,
    /// `esptool.cfg`.
    pub config: &'a Config,
    /// Where the stub comes from.
    pub stub: StubSource,
    /// Reports progress.
    pub job: &'a Job,
    /// Shows it.
    pub meter: &'a Meter,
}

/// Connects to the port that is named, or to the first that answers. Returns the port's name, too.
pub fn connect(wanted: &Wanted<'_>) -> Result<(Loader, String, Report), Fault> {
    let call = wanted.call;
    let options = ConnectOptions { stub: wanted.stub.clone(), ..connect_options(call, wanted.config)? };
    let attempts = open_attempts(wanted.config)?;
    let name = named_port(call);
    if attempts != 1 && (name.is_none() || options.expect.is_none()) {
        call.terminal.warn(
            "The ESPTOOL_OPEN_PORT_ATTEMPTS (open_port_attempts) option can only be used with --port and --chip arguments.",
        );
    }
    let Some(name) = name else { return first_that_answers(wanted, &options) };
    call.terminal.say(format_args!("Serial port {name}:"));
    let (loader, report) = match attempts {
        1 => connect_to(wanted, &name, &options)?,
        _ if options.expect.is_none() => connect_to(wanted, &name, &options)?,
        _ => connect_with_patience(wanted, &name, &options, attempts)?,
    };
    Ok((loader, name, report))
}

/// How often the port is tried, also while it is not there; 0: without end.
fn open_attempts(config: &Config) -> Result<u64, Fault> {
    let variable = std::env::var("ESPTOOL_OPEN_PORT_ATTEMPTS").ok();
    match variable.as_deref().or(config.get("open_port_attempts")).map(str::parse) {
        None => Ok(1),
        Some(Ok(count)) => Ok(count),
        Some(Err(_)) => Err(Fault::fatal("Invalid value for ESPTOOL_OPEN_PORT_ATTEMPTS.")),
    }
}

/// Tries again while the port cannot be opened or nobody answers.
fn connect_with_patience(
    wanted: &Wanted<'_>,
    name: &str,
    options: &ConnectOptions,
    attempts: u64,
) -> Result<(Loader, Report), Fault> {
    let terminal = wanted.call.terminal;
    for tried in 1.. {
        let port = open(wanted.call, name, options);
        if tried > 1 && port.is_ok() {
            terminal.say("");
        }
        match port.and_then(|port| speak(wanted, port, options)) {
            Err(Fault::Fatal(text)) if tried != attempts => {
                if tried == 1 {
                    terminal.say(&text);
                    terminal.piece("Retrying failed connection");
                }
                if tried % 10 == 0 {
                    terminal.piece(".");
                }
            }
            other => return other,
        }
        std::thread::sleep(PAUSE);
    }
    Err(Fault::Exit(2))
}

/// An environment variable that says something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn named_port(call: &Call<'_>) -> Option<String> {
    let given = call.option("port").map(str::to_string);
    given.or_else(|| variable("ESPTOOL_PORT")).or_else(|| variable("ESPPORT"))
}

fn connect_options(call: &Call<'_>, config: &Config) -> Result<ConnectOptions, Fault> {
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
    Ok(ConnectOptions { before, attempts, baud, expect: options::optional_chip(call), ..ConnectOptions::default() })
}

/// Tries the serial ports of this computer, the last one first.
fn first_that_answers(wanted: &Wanted<'_>, options: &ConnectOptions) -> Result<(Loader, String, Report), Fault> {
    let call = wanted.call;
    check_filters(call)?;
    let mut found = scan::scan();
    found.retain(|port| filtered(call, port));
    call.terminal.say(format_args!("Found {} serial ports...", found.len()));
    // Where nothing is known behind a port, a device on USB goes first.
    found.sort_by_key(|port| (port.usb.is_some(), port.path.clone()));
    let options = ConnectOptions { attempts: options.attempts.min(ATTEMPTS), ..options.clone() };
    for port in found.iter().rev() {
        call.terminal.say(format_args!("Serial port {}:", port.path));
        match connect_to(wanted, &port.path, &options) {
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

fn connect_to(wanted: &Wanted<'_>, name: &str, options: &ConnectOptions) -> Result<(Loader, Report), Fault> {
    let port = open(wanted.call, name, options)?;
    speak(wanted, port, options)
}

fn open(call: &Call<'_>, name: &str, options: &ConnectOptions) -> Result<Box<dyn Port>, Fault> {
    let unreachable = |error: PortError| {
        Fault::Fatal(format!("Could not open {name}, the port is busy or doesn't exist.\n({error})\n"))
    };
    let url: PortUrl = name.parse().map_err(|error| unreachable(PortError::Url(error)))?;
    call.host.allows_port(&url).map_err(|error| Fault::Fatal(format!("Could not open {name}: {error}")))?;
    let opened = port::open_with(&url, &OpenOptions::default(), |url| call.host.open_virtual(url));
    let port = opened.map_err(unreachable)?;
    // A socket has none, and whoever uses one knows.
    let resets = !matches!(options.before, Before::NoReset) && !name.contains("://");
    if resets && !port.info().modem_lines && !port.info().is_virtual {
        call.terminal.warn(format_args!(
            "Chip was NOT reset. Setting RTS/DTR lines is not supported for port '{name}'. Set --before and --after \
             arguments to 'no-reset' and switch to bootloader manually to avoid this warning."
        ));
    }
    Ok(if call.switch("trace") { Box::new(Shown::new(port, call.terminal.clone())) } else { port })
}

/// Connects over an open port.
fn speak(wanted: &Wanted<'_>, port: Box<dyn Port>, options: &ConnectOptions) -> Result<(Loader, Report), Fault> {
    let terminal = wanted.call.terminal;
    terminal.piece("Connecting...");
    wanted.meter.connecting();
    let connected = Loader::connect(port, options, wanted.job);
    wanted.meter.end();
    if matches!(connected, Err(ConnectError::NoSync { .. })) {
        terminal.piece(DOTS);
    }
    terminal.say("");
    if let (Ok((loader, _)), None) = (&connected, options.expect) {
        terminal.say(format_args!("Detecting chip type... {}", loader.chip().name));
    }
    connected.map_err(|error| not_connected(options, &error))
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
