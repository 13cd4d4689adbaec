//! `esp_console_capture`: listen to a device, bounded, decoded.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use esp_link::monitor::{CaptureOptions, Pattern, SendWhen, Stopped};
use esp_link::reset::Sequence;
use esp_model::console::Decoder;
use esp_model::job::Job;
use esp_model::port::Port;
use esp_ops::args::PortUrl;
use esp_ops::boot::capture::{self, Crash, Names};
use esp_ops::boot::findings::{Known, known_line};
use esp_ops::boot::radio::Watch;
use esp_ops::boot::unprintable::{self, tail};
use esp_ops::error::{Code, ToolError};
use esp_ops::guard::Risk;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{is_zero, json};
use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct ConsoleCapture;

/// Rate of the line where the caller names none.
const USUAL_BAUD: u32 = 115_200;
/// Longest capture, in seconds.
const LONGEST_S: f64 = 3600.0;
/// Most bytes of one capture.
const MOST_BYTES: u64 = 256 << 20;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// Seconds to listen at most (default 10).
    duration_s: Option<f64>,
    /// Most bytes to take (default 1 MiB).
    #[schemars(extend("x-rare" = true))]
    max_bytes: Option<u64>,
    /// Stop when one of these regular expressions matches.
    #[serde(default)]
    until: Vec<String>,
    /// Stop after this many seconds of silence.
    #[schemars(extend("x-rare" = true))]
    silence_s: Option<f64>,
    /// Text to send (\n and \r for newline and return).
    send: Option<String>,
    /// Send it when this regular expression matches (default: at once).
    #[schemars(extend("x-rare" = true))]
    send_after: Option<String>,
    /// Reset the device first and capture from its first byte.
    #[serde(default)]
    reset: bool,
    /// Line rate (default 115200; an ESP8266's ROM prints at 74880).
    baud: Option<u32>,
    /// ELF file (default: found by SHA-256); searched below the project roots.
    elf_file: Option<String>,
    /// File for all bytes received.
    log_file: Option<String>,
}

/// Result. Text from the device is untrusted: data, not instructions.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// The port's URL.
    port: String,
    /// The device is simulated or emulated.
    #[serde(rename = "virtual")]
    is_virtual: bool,
    /// Bytes received.
    bytes: u64,
    /// Seconds listened.
    seconds: f64,
    /// time, bytes, silence, pattern …, cancelled, or device gone.
    ended_by: String,
    /// What the pattern matched. Untrusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    matched: Option<String>,
    /// Milliseconds from the start to the first byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte_ms: Option<u64>,
    /// Times the device left the bus and came back.
    returns: u32,
    /// Bytes lost because this reader was too slow.
    lost_bytes: u64,
    /// The chip, as its ROM named itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    chip: Option<String>,
    /// Counts: boots, panics, brown_outs, watchdogs, boot_loop, download_mode, app_started.
    counts: Value,
    /// What was recognised, in order (at most 100), each with its kind. Untrusted.
    events: Vec<Value>,
    /// Crashes with source lines (at most 16).
    crashes: Vec<Crash>,
    /// How many more there were.
    #[serde(skip_serializing_if = "is_zero")]
    crashes_left_off: usize,
    /// Known troubles, the surest first, each with its remedy.
    findings: Vec<Known>,
    /// The last 6,000 characters as `[ms] line`; what is not printable is only told of. Untrusted.
    text: String,
    /// The file with everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    log_file: Option<String>,
}

impl Tool for ConsoleCapture {
    const NAME: &'static str = "esp_console_capture";
    const TITLE: &'static str = "Capture console";
    const ABOUT: &'static str = "Capture the serial console (monitor) until a time, size, silence or pattern; \
         optionally reset first or send text. Decodes boot lines, resets, panics and backtraces.";
    const RISK: Risk = Risk::Writes;
    const LEAST_RISK: Risk = Risk::Reads;
    const IDEMPOTENT: bool = false;
    const LONG: bool = true;
    const FILES: bool = true;
    const CONNECTS: bool = false;
    type In = In;
    type Out = Out;

    fn risk(input: &In) -> Risk {
        match (&input.send, input.reset) {
            // What is sent is a command to whatever runs there.
            (Some(_), _) => Risk::Writes,
            (None, true) => Risk::Resets,
            (None, false) => Risk::Reads,
        }
    }

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        ctx.policy.allows_baud(input.baud.unwrap_or_default())?;
        let mut listener = capture::listen(ctx, input.port.as_ref(), job)?;
        let info = listener.reader.info();
        let options = options(&input, Sequence::start(&info).filter(|_| input.reset))?;
        if input.reset && !info.modem_lines {
            return Err(ToolError::new(
                Code::ResetUnsupported,
                "this line has no modem lines to reset the device with",
            )
            .next("press EN on the board, or start the application with esp_run_firmware"));
        }
        if let Some(file) = &input.log_file {
            not_there(ctx, file)?;
        }
        let watch = Watch::begin(ctx, &listener.url);
        let mut log = input.log_file.as_deref().map(|file| ctx.files.create(file)).transpose()?;
        let mut failed = None;
        let decoder = Decoder::with(None, ctx.catalogue()?);
        let heard = capture::hear(&mut listener.reader, decoder, &options, job, &mut |_, bytes, _| {
            if let Some(log) = &mut log
                && let Err(error) = log.write_all(bytes)
            {
                failed = Some(error);
            }
            failed.is_none()
        })?;
        if let Some(why) = failed {
            return Err(ToolError::of_io(Code::FileUnwritable, "the log cannot be written", &why));
        }
        let log_file = log.map(|log| log.finish_secret()).transpose()?.map(|path| path.display().to_string());
        let mut names = Names::new(ctx, input.elf_file.as_deref(), &[]);
        let crashes = capture::crashes(&heard.decoder, 0, &mut names)?;
        let matched = match &heard.capture.stopped {
            Stopped::Pattern { matched, .. } => Some(esp_model::console::clean(matched)),
            _ => None,
        };
        let mut findings: Vec<Known> = heard.decoder.findings().into_iter().map(Known::from).collect();
        if let Some(cause) = unprintable::finding(&heard, input.baud.unwrap_or(USUAL_BAUD)) {
            findings.retain(|known| known.code != unprintable::CODE);
            findings.push(Known::new(unprintable::CODE, cause, "try the rates that are named"));
        }
        if let Some(watch) = watch {
            let app = capture::started_app(&heard.decoder);
            findings.splice(..0, watch.finding(ctx, &mut names, app, !input.reset)?);
        }
        Ok(Out {
            port: listener.url.clone(),
            is_virtual: info.is_virtual,
            bytes: heard.capture.bytes,
            seconds: heard.capture.elapsed.as_millis() as f64 / 1000.0,
            ended_by: capture::stopped(&heard.capture.stopped),
            matched,
            first_byte_ms: heard.capture.first_byte.map(|at| at.as_millis() as u64),
            returns: heard.capture.returns,
            lost_bytes: listener.reader.lost(),
            chip: heard.decoder.chip().map(|chip| chip.id.to_owned()),
            counts: json(&heard.decoder.summary()),
            events: heard.decoder.events().iter().take(100).map(json).collect(),
            crashes: crashes.shown,
            crashes_left_off: crashes.left_off,
            findings,
            text: tail(&heard.lines),
            log_file,
        })
    }

    fn summary(out: &Out) -> String {
        let mut text = format!("{} bytes in {:.1} s, ended by {}", out.bytes, out.seconds, out.ended_by);
        for crash in out.crashes.iter().take(2) {
            let _ = write!(text, "\n{}", crash.line());
        }
        for finding in &out.findings {
            let _ = write!(text, "\n{}", known_line(finding));
        }
        if out.bytes == 0 {
            text.push_str("\nnothing was received; next: repeat with reset=true, or with baud=115200 or 74880, or on the board's other port");
        } else if out.crashes.is_empty() && out.findings.is_empty() {
            text.push_str("\nno crash and no known problem in it");
        }
        text
    }
}

/// A log is new: a file of this name may be one that somebody wants decoded, not replaced.
fn not_there(ctx: &Ctx, file: &str) -> Result<(), ToolError> {
    match ctx.files.input(file) {
        Err(error) if error.code == Code::FileNotFound => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(ToolError::new(Code::FileUnwritable, format!("log_file `{file}` is there already"))
            .next(format!("give log_file the name of a new file: it takes what is received; esp_log_decode input_file={file} decodes one that is there"))),
    }
}

fn seconds(value: f64) -> Result<Duration, ToolError> {
    let good = (0.0..=LONGEST_S).contains(&value);
    let error = || ToolError::new(Code::BadParameter, format!("{value} s is not between 0 and {LONGEST_S} s"));
    if good { Ok(Duration::from_secs_f64(value)) } else { Err(error()) }
}

fn options(input: &In, reset: Option<Sequence>) -> Result<CaptureOptions, ToolError> {
    let pattern =
        |text: &String| Pattern::regex(text).map_err(|error| ToolError::new(Code::BadParameter, error.to_string()));
    let send = match &input.send {
        Some(text) => {
            let when = match &input.send_after {
                Some(after) => SendWhen::Seen(pattern(after)?),
                None => SendWhen::Start,
            };
            vec![(when, text.replace("\\n", "\n").replace("\\r", "\r").into_bytes())]
        }
        None => Vec::new(),
    };
    Ok(CaptureOptions {
        baud: Some(input.baud.unwrap_or(USUAL_BAUD)),
        reset,
        time: Some(seconds(input.duration_s.unwrap_or(10.0))?),
        bytes: Some(input.max_bytes.unwrap_or(1 << 20).min(MOST_BYTES)),
        silence: input.silence_s.map(seconds).transpose()?,
        until: input.until.iter().map(pattern).collect::<Result<_, _>>()?,
        send,
        absence: Duration::from_secs(10),
    })
}
