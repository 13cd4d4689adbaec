//! The line as it was recorded for the report.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use esp_link::monitor::CaptureOptions;
use esp_link::options::StubSource;
use esp_link::port::trace::{Event, Trace};
use esp_link::port::traced::Traced;
use esp_link::reset::Sequence;
use esp_link::{ConnectOptions, Loader};
use esp_model::console::Decoder;
use esp_model::job::Job;
use esp_model::port::Port;
use serde_json::{Value, json};

use crate::Call;
use crate::args::PortUrl;
use crate::boot::capture;
use crate::error::{Code, ToolError};
use crate::report::redact;
use crate::session::device::{Connected, Warm};

/// Where a trace is written while the port is somewhere else.
#[derive(Clone, Default)]
struct Tape(Arc<Mutex<Vec<u8>>>);

impl Write for Tape {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Tape {
    /// What was recorded, with secrets in received text overwritten.
    fn trace(&self) -> Result<Trace, ToolError> {
        let tape = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bad = |error: esp_link::port::trace::TraceError| ToolError::new(Code::Internal, error.to_string());
        let mut trace = Trace::parse(&String::from_utf8_lossy(&tape)).map_err(bad)?;
        hide_secrets(&mut trace);
        Ok(trace)
    }
}

/// A secret may have come in several pieces: all that was received is looked at as one text.
fn hide_secrets(trace: &mut Trace) {
    let mut all: Vec<u8> = Vec::new();
    for step in &trace.steps {
        if let Event::Read(bytes) = &step.event {
            all.extend(bytes);
        }
    }
    redact::bytes(&mut all);
    let mut rest = all.as_slice();
    for step in &mut trace.steps {
        if let Event::Read(bytes) = &mut step.event
            && let Some((own, later)) = rest.split_at_checked(bytes.len())
        {
            bytes.copy_from_slice(own);
            rest = later;
        }
    }
}

/// Connects anew, as the `replay` command does it, and records that. The connection is left for the next call.
pub fn connecting(call: &Call, port: Option<&PortUrl>, job: &Job) -> Result<Trace, ToolError> {
    let (mut lease, url) = call.lease_port(port, job)?;
    drop(lease.warm.take());
    let tape = Tape::default();
    let line = Traced::new(call.ports.open(&url)?, tape.clone());
    let mut options = ConnectOptions::default();
    if call.ports.emulation(&url).is_some_and(|emulation| !emulation.runs_stub) {
        options.stub = StubSource::None;
    }
    match Loader::connect(Box::new(line), &options, job) {
        Ok((loader, report)) => {
            let trace = tape.trace()?;
            let made_for = call.overrides.clone();
            let borrowed = None;
            let connected = Connected { loader, url, report, reset_at_end: true, image: None, made_for, borrowed };
            lease.keep(Warm::new(connected));
            Ok(trace)
        }
        // The record of a failure is worth most.
        Err(_) => tape.trace(),
    }
}

/// The console of the running application: its text, its trace, and what it comes to.
pub fn console(
    call: &Call,
    port: Option<&PortUrl>,
    seconds: f64,
    job: &Job,
) -> Result<(String, Trace, Value), ToolError> {
    let listener = capture::listen(call, port, job)?;
    let info = listener.reader.info();
    let options = CaptureOptions {
        baud: Some(115_200),
        reset: Sequence::start(&info),
        time: Some(Duration::from_secs_f64(seconds)),
        bytes: Some(4 << 20),
        absence: Duration::from_secs(10),
        ..CaptureOptions::default()
    };
    let tape = Tape::default();
    let mut line = Traced::new(listener.another()?, tape.clone());
    let heard = capture::hear(&mut line, Decoder::with(None, call.catalogue()?), &options, job, &mut |_, _, _| true)?;
    let log: String = heard.lines.iter().map(|line| format!("[{}] {}\n", line.at.as_millis(), line.text)).collect();
    let crashes = capture::crashes(&heard.decoder, 0, &mut capture::Names::new(call, None, &[]))?.shown;
    let summary = heard.decoder.summary();
    let quiet = capture::is_quiet(&summary);
    let facts = redact::value(
        json!({ "counts": summary, "quiet": quiet, "crashes": crashes, "findings": heard.decoder.findings() }),
    );
    Ok((redact::text(&log), tape.trace()?, facts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_pieces_is_hidden_and_the_trace_still_runs() {
        let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        let text = format!("esp-trace 1 u\n1 < {}\n2 > 00\n3 < {}\n", hex("wifi pass"), hex("word: hunter2\r\nok\r\n"));
        let mut trace = Trace::parse(&text).unwrap();
        hide_secrets(&mut trace);
        let shown = trace.to_string();
        assert!(!shown.contains(&hex("hunter2")) && shown.contains(&hex("\r\nok\r\n")), "{shown}");
        assert_eq!(Trace::parse(&shown).unwrap(), trace);
    }
}
