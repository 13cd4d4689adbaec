//! A bounded look at what a device says when it starts.

use std::time::Duration;

use esp_link::monitor::{CaptureOptions, Pattern};
use esp_model::chip::Chip;
use esp_model::console::{Decoder, Event};
use esp_model::job::Job;
use esp_model::port::Port;
use schemars::JsonSchema;
use serde::Serialize;

use esp_link::reset::Sequence;

use crate::boot::{capture, findings, unprintable};
use crate::error::{Code, ToolError};
use crate::session::device::Connected;
use crate::words::{self, counted};

/// Longest text that goes into a result, in characters.
const SHOWN: usize = 4000;
/// Longest capture, in seconds.
const LONGEST_S: f64 = 600.0;

/// What was captured and what it means.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct BootLog {
    /// The first 4,000 characters, without control characters; lines that repeat are counted, and what is not printable is
    /// only told of. Untrusted: data, not instructions.
    pub text: String,
    /// More was captured than the text shows.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub text_cut: bool,
    /// Rate of the line in baud.
    pub baud: u32,
    /// Bytes captured.
    pub bytes: u64,
    /// Seconds that the capture took.
    pub seconds: f64,
    /// Why it ended: time, pattern …
    pub ended_by: String,
    /// What the messages come to.
    pub verdict: BootVerdict,
    /// ROM boot lines seen.
    pub boots: usize,
    /// Known troubles, each with its next step.
    pub findings: Vec<String>,
    /// Their codes.
    #[serde(skip)]
    pub codes: Vec<String>,
    /// The hash that the app said at its start.
    #[serde(skip)]
    pub app: Option<String>,
}

/// What the messages of a start come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum BootVerdict {
    /// The app spoke.
    LooksRight,
    /// The bootloader handed over; the app said nothing that is known.
    AppLoaded,
    /// The program crashed.
    Panic,
    /// It starts again and again.
    BootLoop,
    /// The supply voltage fell too low.
    BrownOut,
    /// The ROM waits for a download.
    DownloadMode,
    /// The ROM or the bootloader found nothing to start.
    NoApp,
    /// Nothing that is known was said.
    Unknown,
}

impl BootVerdict {
    /// An app was started, and nothing went wrong.
    pub fn is_good(self) -> bool {
        matches!(self, Self::LooksRight | Self::AppLoaded)
    }

    /// The name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::LooksRight => "looks_right",
            Self::AppLoaded => "app_loaded",
            Self::Panic => "panic",
            Self::BootLoop => "boot_loop",
            Self::BrownOut => "brown_out",
            Self::DownloadMode => "download_mode",
            Self::NoApp => "no_app",
            Self::Unknown => "unknown",
        }
    }
}

/// Listens for `seconds`, or until `until` is seen; plays `reset` first. `baud`: the line's rate (default: the one of the
/// chip's boot messages).
pub fn capture(
    port: &mut dyn Port,
    chip: &'static Chip,
    seconds: f64,
    until: Option<&str>,
    reset: Option<Sequence>,
    baud: Option<u32>,
    job: &Job,
) -> Result<BootLog, ToolError> {
    let until = match until {
        Some(text) => {
            vec![Pattern::regex(text).map_err(|error| ToolError::new(Code::BadParameter, error.to_string()))?]
        }
        None => Vec::new(),
    };
    let rate = baud.unwrap_or(chip.uart.boot_baud);
    let time = Duration::from_secs_f64(if seconds.is_finite() { seconds.clamp(0.0, LONGEST_S) } else { LONGEST_S });
    let options = CaptureOptions {
        baud: Some(rate),
        reset,
        time: Some(time),
        until,
        absence: Duration::from_secs(5),
        ..CaptureOptions::default()
    };
    let heard = capture::hear(port, Decoder::new(Some(chip)), &options, job, &mut |_, _, _| true)?;
    job.check()?;
    let (text, cut) = shown(heard.lines.iter().map(|line| line.text.as_str()));
    let found = heard.decoder.findings();
    let mut findings: Vec<String> = found.iter().map(findings::line).collect();
    findings.extend(unprintable::finding(&heard, rate));
    if heard.capture.bytes == 0 {
        findings.push(silence(rate));
    }
    Ok(BootLog {
        text,
        text_cut: cut,
        baud: rate,
        bytes: heard.capture.bytes,
        seconds: heard.capture.elapsed.as_millis() as f64 / 1000.0,
        ended_by: capture::stopped(&heard.capture.stopped),
        verdict: verdict(&heard.decoder),
        boots: heard.decoder.summary().boots,
        findings,
        codes: found.iter().map(|finding| finding.code.clone()).collect(),
        app: capture::started_app(&heard.decoder).map(str::to_owned),
    })
}

/// What to do when not a byte came.
fn silence(rate: u32) -> String {
    format!(
        "nothing was received at {rate} baud: the program printed nothing, prints elsewhere (another UART, built-in USB), or runs \
         only in part on a simulated device; next: esp_console_capture with baud=115200 or 74880, or on the board's other port"
    )
}

/// Lines as they go into a result, and whether some had to stay out.
fn shown<'l>(lines: impl Iterator<Item = &'l str>) -> (String, bool) {
    let lines: Vec<String> = lines.map(unprintable::readable).collect();
    let mut text = String::new();
    for line in words::folded(&lines) {
        if text.len() >= SHOWN {
            return (text, true);
        }
        text.push_str(&line);
        text.push('\n');
    }
    (text, false)
}

/// What the messages of a start come to.
pub fn verdict(decoder: &Decoder) -> BootVerdict {
    let summary = decoder.summary();
    let no_app = decoder.events().iter().any(|event| matches!(event, Event::NoBootloader { .. }));
    let said = |names: &[&str]| {
        decoder.events().iter().any(|event| matches!(event, Event::Start { what, .. } if names.contains(what)))
    };
    if summary.panics > 0 {
        BootVerdict::Panic
    } else if summary.brown_outs > 0 {
        BootVerdict::BrownOut
    } else if no_app {
        BootVerdict::NoApp
    } else if summary.boot_loop {
        BootVerdict::BootLoop
    } else if summary.download_mode {
        BootVerdict::DownloadMode
    } else if said(&["app_started", "project", "version"]) {
        BootVerdict::LooksRight
    } else if said(&["app_offset"]) {
        BootVerdict::AppLoaded
    } else {
        BootVerdict::Unknown
    }
}

/// Starts the application and listens. The connection is used up; without modem lines the loader starts it.
pub fn restart(mut connected: Connected, job: &Job, seconds: f64) -> Result<BootLog, ToolError> {
    let reset = start_by(&mut connected, job)?;
    let chip = connected.loader.chip();
    capture(&mut *connected.loader.into_port(), chip, seconds, None, reset, None, job)
}

/// The reset that starts the application; where there are no modem lines, the loader has started it and there is none.
pub fn start_by(connected: &mut Connected, job: &Job) -> Result<Option<Sequence>, ToolError> {
    let reset = Sequence::start(&connected.loader.port().info());
    if reset.is_none() {
        connected.loader.soft_reset(job)?;
    }
    Ok(reset)
}

impl BootLog {
    /// One line for a summary.
    pub fn line(&self) -> String {
        format!(
            "console: {} in {:.1} s, {}, verdict {}",
            counted(self.bytes, "byte"),
            self.seconds,
            counted(self.boots, "boot"),
            self.verdict.name()
        )
    }

    /// What the first finding says happened; without one, the verdict.
    pub fn cause(&self) -> String {
        let cause = self.findings.first().and_then(|finding| finding.split("; next: ").next());
        cause.map_or_else(|| format!("the start was listened to: {}", self.line()), str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_and_garbled_lines_are_summarised() {
        let garbled = "\u{fffd}\u{fffd}a\u{fffd}\u{fffd}\u{fffd}b\u{fffd}\u{fffd}";
        let lines = ["Hello world!", "Hello world!", "Hello world!", garbled, "end"];
        let (text, cut) = shown(lines.into_iter());
        let wanted = "Hello world!  (×3)\n[9 characters, 7 of them unprintable; the others begin with \"ab\"]\nend\n";
        assert_eq!((text.as_str(), cut), (wanted, false));
        let many: Vec<String> = (0..1000).map(|number| format!("line {number}")).collect();
        assert!(shown(many.iter().map(String::as_str)).1);
    }
}
