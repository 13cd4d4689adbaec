//! `mcp-esptool monitor` and `mcp-esptool replay`: a device's console and a recorded line, for people.

use std::fmt::Write as _;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use esp_link::monitor::CaptureOptions;
use esp_link::port::replay::Replay;
use esp_link::port::trace::{Event, Trace};
use esp_link::reset::Sequence;
use esp_link::{ConnectOptions, Loader};
use esp_model::console::{Decoder, MAX_LINE, clean};
use esp_model::job::Job;
use esp_model::port::Port;

use crate::ctx::Ctx;
use crate::ops::args::PortUrl;
use crate::ops::boot::capture::{self, Crash, Names};
use crate::ops::boot::findings;
use crate::ops::config::Config;
use crate::ops::error::ToolError;
use crate::ops::guard::Risk;
use crate::ops::words::counted;
use crate::{doctor, documents, skills};

/// Arguments of `monitor`.
#[derive(Debug, clap::Args)]
pub struct MonitorArgs {
    /// Port or URL (default: the only device there is)
    port: Option<String>,
    /// Line rate
    #[arg(long, default_value_t = 115_200)]
    baud: u32,
    /// Reset the device first
    #[arg(long)]
    reset: bool,
    /// The app's ELF file, for names in crashes (default: searched by SHA-256 below the project roots)
    #[arg(long)]
    elf: Option<String>,
    /// Stop after this many seconds
    #[arg(long)]
    seconds: Option<f64>,
    /// Print the time of each line
    #[arg(long)]
    timestamps: bool,
}

/// Shows a device's console until Ctrl-C; what is typed goes to the device, line by line.
pub fn monitor(ctx: &Ctx, args: &MonitorArgs, job: &Job) -> Result<(), ToolError> {
    let ctx = ctx.for_tool("monitor", false);
    let port = args.port.clone().map(PortUrl);
    if args.reset {
        ctx.policy.allows_command("monitor --reset", Risk::Resets, false)?;
    }
    let mut listener = capture::listen(&ctx, port.as_ref(), job)?;
    let info = listener.reader.info();
    eprintln!("listening to {} at {} baud; Ctrl-C ends", listener.url, args.baud);
    match ctx.policy.allows_command("typing to the device", Risk::Writes, false) {
        Ok(()) => forward_typing(listener.another()),
        Err(refused) => eprintln!("{}", refused.message),
    }
    let options = CaptureOptions {
        baud: Some(args.baud),
        reset: Sequence::start(&info).filter(|_| args.reset),
        time: args.seconds.filter(|seconds| (0.0..=1e9).contains(seconds)).map(Duration::from_secs_f64),
        absence: Duration::from_secs(3600),
        ..CaptureOptions::default()
    };
    // A decoder of its own, so that a crash is explained when it happens and not at the end.
    let mut decoder = Decoder::with(None, ctx.catalogue()?);
    let mut names = Names::new(&ctx, args.elf.as_deref(), &[]);
    let mut explained = 0;
    let mut screen = Screen::new(args.timestamps);
    let heard = capture::run(&mut listener, &options, job, &mut |at, bytes, _| {
        let mut text = screen.take(at, bytes);
        decoder.feed(at, bytes);
        let known = decoder.events().len();
        if known > explained {
            let crashes = capture::crashes(&decoder, explained, &mut names).unwrap_or_default();
            crashes.shown.iter().for_each(|crash| text.push_str(&crash_text(crash)));
            explained = known;
        }
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
    })?;
    decoder.finish();
    decoder.findings().iter().for_each(|finding| eprintln!("{}", findings::line(finding)));
    eprintln!("{} bytes, ended by {}", heard.capture.bytes, capture::stopped(&heard.capture.stopped));
    Ok(())
}

/// How to read the resource that an error names, on a terminal.
pub fn where_resources_are(error: &ToolError) -> &'static str {
    match error.next_step.contains("esp://") {
        true => "(`mcp-esptool resource esp://…` prints a resource)\n",
        false => "",
    }
}

/// The text at an address that hints name.
pub fn resource(uri: &str, config: &Config) -> Result<String, String> {
    if uri == "esp://server" {
        return Ok(doctor::report(config));
    }
    let text = documents::read(uri).map(Into::into).or_else(|| skills::read(uri));
    text.ok_or_else(|| format!("there is no resource {uri}; esp://docs/index lists the documents"))
}

/// What a person sees: cleaned text as it comes, so that a prompt without a line end is there to be answered.
struct Screen {
    timestamps: bool,
    /// The line that has not ended.
    line: Vec<u8>,
    /// Its characters that were shown already.
    shown: usize,
}

impl Screen {
    fn new(timestamps: bool) -> Self {
        Self { timestamps, line: Vec::new(), shown: 0 }
    }

    /// Takes bytes; gives what is to be written.
    fn take(&mut self, at: Duration, bytes: &[u8]) -> String {
        let mut text = String::new();
        for byte in bytes {
            let ends = matches!(byte, b'\n' | b'\r');
            if !ends {
                self.line.push(*byte);
            }
            if ends || self.line.len() >= MAX_LINE {
                self.show(at, &mut text);
                if self.shown > 0 {
                    text.push('\n');
                }
                self.line.clear();
                self.shown = 0;
            }
        }
        // A character of several bytes is shown when all of it is there.
        let rest = match std::str::from_utf8(&self.line) {
            Err(error) if error.error_len().is_none() => self.line.split_off(error.valid_up_to()),
            _ => Vec::new(),
        };
        self.show(at, &mut text);
        self.line.extend(rest);
        text
    }

    /// Adds what has become visible of the line.
    fn show(&mut self, at: Duration, text: &mut String) {
        let line = clean(&self.line);
        let new = line.chars().count().saturating_sub(self.shown);
        if new > 0 && self.shown == 0 && self.timestamps {
            let _ = write!(text, "[{:>8}] ", at.as_millis());
        }
        text.extend(line.chars().skip(self.shown));
        self.shown += new;
    }
}

/// Sends what is typed. The thread ends with the process.
fn forward_typing(mut port: impl Port + 'static) {
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if port.write(format!("{line}\r\n").as_bytes()).is_err() {
                return;
            }
        }
    });
}

fn crash_text(crash: &Crash) -> String {
    let mut text = format!("--- {}: {} (ELF file: {})\n", crash.sort, crash.reason, crash.elf_match);
    for line in crash.backtrace.iter().chain(&crash.numbers) {
        let _ = writeln!(text, "---   {line}");
    }
    text
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
    fn a_prompt_is_shown_before_its_line_ends() {
        let mut screen = Screen::new(true);
        let at = |ms| Duration::from_millis(ms);
        assert_eq!(screen.take(at(5), b"\x1b[32mesp"), "[       5] esp");
        assert_eq!(screen.take(at(6), b"> \x1b[0"), "> ");
        assert_eq!(screen.take(at(7), b"mhelp \xc3"), "help ");
        assert_eq!(screen.take(at(8), b"\xa4\r\n\r\nok\n"), "\u{e4}\n[       8] ok\n");
        let long = screen.take(at(9), &[b'a'; 5000]);
        assert_eq!((long.matches('a').count(), long.lines().count()), (5000, 2));
    }

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
