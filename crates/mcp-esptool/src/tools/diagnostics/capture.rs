//! One capture of a console: what the tool, the report and the terminal share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use esp_link::monitor::{self, Capture, CaptureOptions, SharedPort, SharedReader, Stopped};
use esp_model::chip::Chip;
use esp_model::console::{Decoder, Event, Line, Panic, explain};
use esp_model::job::Job;
use esp_model::port::Port;
use esp_model::symbols::{Program, SourceLocation};
use schemars::JsonSchema;
use serde::Serialize;

use super::elf_files::elf_file;
use crate::ctx::Ctx;
use crate::ctx::device::{Warm, mac_text};
use crate::ctx::sessions::Lease;
use crate::tools::args;
use crate::tools::error::ToolError;

/// A console that captures share: the device's lock goes with the last of them.
struct Console {
    port: SharedPort,
    /// The device's base MAC, where the first capture asked for it.
    mac: Option<String>,
    _lease: Mutex<Lease<Warm>>,
}

/// One slot for each port: who opens it holds the slot, so that the next one joins and does not find it busy.
type Consoles = HashMap<String, Arc<Mutex<Weak<Console>>>>;

/// Consoles in use in this process, by port URL.
fn consoles() -> MutexGuard<'static, Consoles> {
    static CONSOLES: OnceLock<Mutex<Consoles>> = OnceLock::new();
    CONSOLES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// The right to read a device's console.
pub struct Listener {
    /// What to read from.
    pub reader: SharedReader,
    /// The port's URL.
    pub url: String,
    console: Arc<Console>,
}

impl Listener {
    /// Another reader of the same console; what it writes goes to the device.
    pub fn another(&self) -> SharedReader {
        self.console.port.reader()
    }
}

/// Joins the captures of a device, or begins the first. A warm loader is left (it starts the application).
pub fn listen(ctx: &Ctx, port: Option<&args::PortUrl>, job: &Job) -> Result<Listener, ToolError> {
    let url = ctx.choose_port(port.map(|port| port.0.as_str()))?;
    let shown = url.to_string();
    let slot = Arc::clone(consoles().entry(shown.clone()).or_default());
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    let console = match slot.upgrade() {
        Some(console) => {
            if ctx.must_identify(&url) {
                may_join(ctx, &console)?;
            }
            console
        }
        None => {
            let mut mac = None;
            if ctx.must_identify(&url) {
                // Only a loader tells who the device is; leaving it starts the application again.
                let found = ctx.with_device(port, job, |connected| connected.identify(job))?;
                mac = found.map(|found| mac_text(&found.mac));
            }
            let (mut lease, url) = ctx.lease_port(port, job)?;
            drop(lease.warm.take());
            let port = SharedPort::new(ctx.ports.open(&url)?);
            let console = Arc::new(Console { port, mac, _lease: Mutex::new(lease) });
            *slot = Arc::downgrade(&console);
            console
        }
    };
    Ok(Listener { reader: console.port.reader(), url: shown, console })
}

/// Another capture has the console: who the device is cannot be asked again.
fn may_join(ctx: &Ctx, console: &Console) -> Result<(), ToolError> {
    match &console.mac {
        Some(mac) => ctx.policy.allows_mac(mac),
        None => Err(ToolError::new(
            "policy_refused",
            "the policy names devices by MAC, and this one cannot be identified while another capture listens",
        )),
    }
}

/// A panic with the names of an ELF file.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Crash {
    /// exception, abort, assert, error_check, stack_smash, stack_overflow, heap_corruption, interrupt_watchdog, task_watchdog …
    pub sort: String,
    /// The reason as printed. Untrusted.
    pub reason: String,
    /// The core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub core: Option<u32>,
    /// Milliseconds since the capture began.
    pub at_ms: u64,
    /// Further printed lines. Untrusted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
    /// Call chain, innermost first: `0x400d66b9 app_main main.c:20`.
    pub backtrace: Vec<String>,
    /// The device itself says that the chain is broken.
    pub backtrace_corrupted: bool,
    /// verified, unverifiable (no hash was printed), foreign (names withheld) or no_elf.
    pub elf_match: String,
}

/// What a capture shows.
pub struct Heard {
    /// The capture itself.
    pub capture: Capture,
    /// The decoder with its events.
    pub decoder: Decoder,
    /// Lines with their time.
    pub lines: Vec<Line>,
    /// The first bytes, as they came.
    pub head: Vec<u8>,
}

/// Most bytes kept of the beginning.
const HEAD: usize = 64;

/// Most lines kept of one capture.
const MOST_LINES: usize = 20_000;

/// Takes bytes as they come, with their time and the lines that they completed; `false` ends the capture.
pub type Raw<'r> = dyn FnMut(Duration, &[u8], &[Line]) -> bool + 'r;

/// Captures a shared console and decodes it. `raw` takes the bytes as they come.
pub fn run(
    listener: &mut Listener,
    options: &CaptureOptions,
    job: &Job,
    raw: &mut Raw<'_>,
) -> Result<Heard, ToolError> {
    hear(&mut listener.reader, None, options, job, raw)
}

/// Captures what comes from a port and decodes it. With the chip known its own boot messages are looked for.
pub fn hear(
    port: &mut dyn Port,
    chip: Option<&'static Chip>,
    options: &CaptureOptions,
    job: &Job,
    raw: &mut Raw<'_>,
) -> Result<Heard, ToolError> {
    let mut decoder = Decoder::new(chip);
    let (mut lines, mut head) = (Vec::new(), Vec::new());
    let total = options.time.map_or(0, |time| time.as_millis() as u64);
    let mut last_progress = 0;
    let result = monitor::capture(port, options, job, &mut |at, bytes| {
        let new = decoder.feed(at, bytes);
        head.extend(bytes.iter().take(HEAD.saturating_sub(head.len())));
        let keep = raw(at, bytes, &new);
        lines.extend(new);
        lines.truncate(MOST_LINES);
        let done = at.as_millis() as u64;
        if done > last_progress + 250 {
            last_progress = done;
            job.progress(done.min(total), total, "listening");
        }
        keep
    });
    let capture = result.map_err(|error| ToolError::new("port_lost", error.to_string()))?;
    lines.extend(decoder.finish());
    Ok(Heard { capture, decoder, lines, head })
}

/// Why a capture ended, in a word or two.
pub fn stopped(stopped: &Stopped) -> String {
    match stopped {
        Stopped::Time => "time".into(),
        Stopped::Bytes => "bytes".into(),
        Stopped::Silence => "silence".into(),
        Stopped::Pattern { pattern, .. } => format!("pattern {pattern}"),
        Stopped::Cancelled => "cancelled".into(),
        Stopped::Gone(why) => format!("device gone: {why}"),
    }
}

/// The crashes heard, with names where an ELF file is that app's; the first `known` events are passed over.
pub fn crashes(ctx: &Ctx, decoder: &Decoder, known: usize, named: Option<&str>) -> Result<Vec<Crash>, ToolError> {
    let panics = decoder.events().iter().skip(known).filter_map(|event| match event {
        Event::Panic(panic) => Some(Panic::clone(panic)),
        Event::TaskWatchdog(report) => Some(report.as_panic()),
        _ => None,
    });
    // The app may have said its hash at its start, or in the panic.
    let started = decoder.events().iter().find_map(|event| match event {
        Event::Start { what: "elf_sha256", value, .. } => Some(value.clone()),
        _ => None,
    });
    panics.take(16).map(|panic| crash(ctx, &panic, started.as_deref(), named)).collect()
}

fn crash(ctx: &Ctx, panic: &Panic, started: Option<&str>, named: Option<&str>) -> Result<Crash, ToolError> {
    let sha256 = panic.elf_sha256.as_deref().or(started);
    let elf = elf_file(ctx, named, sha256)?;
    let program = elf.as_ref().and_then(|elf| Program::parse(&elf.bytes).ok());
    let (elf_match, usable) = match (&program, sha256) {
        (None, _) => ("no_elf", false),
        (Some(program), Some(sha256)) if sha256.len() >= 8 && !program.is_app(sha256) => ("foreign", false),
        (Some(_), Some(sha256)) if sha256.len() >= 8 => ("verified", true),
        (Some(_), _) => ("unverifiable", true),
    };
    let backtrace = match program.filter(|_| usable) {
        Some(program) => {
            let explained = explain(panic, &program);
            explained
                .backtrace
                .iter()
                .chain(&explained.addresses)
                .map(|frame| line(&frame.pc, frame.location.as_ref()))
                .collect()
        }
        None => addresses(panic),
    };
    Ok(Crash {
        sort: panic.sort.into(),
        reason: panic.reason.clone(),
        core: panic.core,
        at_ms: panic.at_ms,
        details: panic.details.clone(),
        backtrace,
        backtrace_corrupted: panic.backtrace_corrupted,
        elf_match: elf_match.into(),
    })
}

/// The addresses as printed: the call chain, or where it happened and from where it was called.
fn addresses(panic: &Panic) -> Vec<String> {
    let chain: Vec<u32> = panic.backtrace.iter().map(|(pc, _)| *pc).collect();
    let registers = ["MEPC", "PC", "EPC1", "RA"]
        .iter()
        .filter_map(|name| panic.registers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)));
    let chain = if chain.is_empty() { registers.map(|(_, value)| *value).collect() } else { chain };
    chain.into_iter().map(|pc| format!("{pc:#010x}")).collect()
}

fn line(pc: &str, at: Option<&SourceLocation>) -> String {
    let Some(at) = at else { return pc.to_owned() };
    let place = at.file.as_ref().zip(at.line).map_or_else(String::new, |(file, line)| format!(" {file}:{line}"));
    let inlined = if at.inlined { " (inlined)" } else { "" };
    format!("{pc} {}{place}{inlined}", at.function.as_deref().unwrap_or("?"))
}
