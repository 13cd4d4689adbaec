//! `mcp-esptool monitor`, `share` and `replay`: a device's console, a board for others, and a recorded line, for people.

mod defmt;
mod keys;
pub mod monitor;
mod screen;
pub mod share;

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use esp_link::port::replay::Replay;
use esp_link::port::trace::{Event, Trace};
use esp_link::{ConnectOptions, Loader};
use esp_model::console::Decoder;
use esp_model::job::Job;
use esp_ops::config::Config;
use esp_ops::words::counted;

use crate::{doctor, documents, skills};

/// The text at an address that hints name.
pub fn resource(uri: &str, config: &Config) -> Result<String, String> {
    if uri == "esp://server" {
        return Ok(doctor::report(config));
    }
    let text = documents::read(uri).map(Into::into).or_else(|| skills::read(uri));
    text.ok_or_else(|| format!("there is no resource {uri}; esp://docs/index lists the documents"))
}

/// Plays a recorded line: says what is in it, then lets the client of today do what the client of then did.
pub fn replay(path: &Path, out: &mut dyn Write) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let trace = Trace::parse(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let told = describe(&trace);
    write!(out, "{told}").map_err(|error| error.to_string())?;
    if !trace.steps.iter().any(|step| matches!(step.event, Event::Wrote(_))) {
        return Ok(());
    }
    let port = Box::new(Replay::new(trace));
    let verdict = match Loader::connect(port, &ConnectOptions::default(), &Job::new()) {
        Ok((loader, report)) => {
            format!("connect: {} after {}", loader.chip().name, counted(report.attempts.len(), "attempt"))
        }
        Err(error) => format!("connect: {error}"),
    };
    writeln!(out, "{verdict}").map_err(|error| error.to_string())
}

/// What a trace holds, in a few lines.
fn describe(trace: &Trace) -> String {
    let (mut sent, mut received) = (0, 0);
    let mut decoder = Decoder::new(None);
    let mut failures = Vec::new();
    for step in &trace.steps {
        match &step.event {
            Event::Wrote(bytes) => sent += bytes.len(),
            Event::Read(bytes) => {
                received += bytes.len();
                decoder.feed(Duration::from_micros(step.at_us), bytes);
            }
            Event::Failed { text, .. } => failures.push(text.clone()),
            _ => {}
        }
    }
    decoder.finish();
    let seconds = trace.steps.last().map_or(0.0, |step| step.at_us as f64 / 1e6);
    let mut text = format!(
        "{}: {} events in {seconds:.3} s, {sent} bytes sent, {received} received\n",
        trace.url,
        trace.steps.len()
    );
    for event in decoder.events().iter().take(20) {
        let _ = writeln!(text, "  {}", serde_json::to_string(event).unwrap_or_default());
    }
    for failure in failures.iter().take(5) {
        let _ = writeln!(text, "  failed: {failure}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_described_and_played() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("line.trace");
        let boot: String =
            b"rst:0x1 (POWERON),boot:0xc (SPI_FAST_FLASH_BOOT)\r\n".iter().map(|b| format!("{b:02x}")).collect();
        std::fs::write(&path, format!("esp-trace 1 /dev/ttyUSB0\n10 < {boot}\n")).unwrap();
        let mut out = Vec::new();
        replay(&path, &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(out.contains("1 events") && out.contains("POWERON"), "{out}");
        std::fs::write(&path, "no trace").unwrap();
        assert!(replay(&path, &mut Vec::new()).is_err());
    }
}
