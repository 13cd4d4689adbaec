//! One capture of a console: what the tool, the report and the terminal share.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use esp_debug::panic::{explain, null_members};
use esp_debug::symbols::{NullMember, Program, SourceLocation, is_abort_machinery};
use esp_link::monitor::{self, Capture, CaptureOptions, SharedPort, Stopped};
use esp_link::port::PortUrl;
use esp_model::chip::Chip;
use esp_model::console::{Decoder, Event, Line, NULL_END, Panic, Summary, numbers};
use esp_model::image::{elf::Elf, elf_chip};
use esp_model::job::Job;
use esp_model::mac::Mac;
use esp_model::port::Port;
use schemars::JsonSchema;
use serde::Serialize;

use crate::Call;
use crate::console::{self, ConsoleReader, HeardPort, Link};
use crate::error::{Code, ToolError};
use crate::firmware::elf_files::{ElfFile, elf_file};
use crate::session::device::Warm;
use crate::session::sessions::Lease;
use crate::words::short_paths;

/// A console that captures share: the device's lock goes with the last of them.
struct Console {
    port: SharedPort,
    /// The device's base MAC, where the first capture asked for it.
    mac: Option<Mac>,
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
    pub reader: Box<dyn HeardPort>,
    /// The port's URL.
    pub url: String,
    source: Source,
}

/// Where the bytes come from.
enum Source {
    /// A line that captures share as long as one of them runs.
    Captures(Arc<Console>),
    /// A console that lives.
    Console(Link),
}

impl Listener {
    /// Another reader of the same console; what it writes goes to the device.
    pub fn another(&self) -> Result<Box<dyn HeardPort>, ToolError> {
        Ok(match &self.source {
            Source::Captures(console) => Box::new(console.port.reader()),
            Source::Console(link) => Box::new(link.another().and_then(ConsoleReader::new).map_err(console::lost)?),
        })
    }
}

/// Joins the console or the captures of a device, or begins the first. A warm loader is left (it starts the
/// application).
pub fn listen(call: &Call, port: Option<&PortUrl>, job: &Job) -> Result<Listener, ToolError> {
    let url = call.find_port(port, job)?;
    let shown = url.to_string();
    if let Some(link) = call.consoles.find(&url) {
        call.may_read(&url, &link)?;
        return of_console(link);
    }
    let slot = Arc::clone(consoles().entry(shown.clone()).or_default());
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    let console = match slot.upgrade() {
        Some(console) => {
            if call.must_identify(&url) {
                may_join(call, &console)?;
            }
            console
        }
        None => {
            let mut mac = None;
            if call.must_identify(&url) {
                // Only a loader tells who the device is; leaving it starts the application again.
                let found = call.with_device(port, job, |connected| connected.identify(job))?;
                mac = found.map(|found| found.mac);
            }
            let (mut lease, url) = call.lease_port(port, job)?;
            drop(lease.warm.take());
            let port = SharedPort::new(call.ports.open(&url)?);
            let console = Arc::new(Console { port, mac, _lease: Mutex::new(lease) });
            *slot = Arc::downgrade(&console);
            console
        }
    };
    Ok(Listener { reader: Box::new(console.port.reader()), url: shown, source: Source::Captures(console) })
}

/// Listens to a console that lives, from now on.
pub fn of_console(link: Link) -> Result<Listener, ToolError> {
    let url = link.about().map_err(console::lost)?.url;
    let reader = link.another().and_then(ConsoleReader::new).map_err(console::lost)?;
    Ok(Listener { reader: Box::new(reader), url, source: Source::Console(link) })
}

/// Another capture has the console: who the device is cannot be asked again.
fn may_join(call: &Call, console: &Console) -> Result<(), ToolError> {
    match console.mac {
        Some(mac) => call.policy.allows_mac(mac),
        None => Err(ToolError::new(
            Code::PolicyRefused,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
    /// The line's number in a log that was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Further printed lines. Untrusted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
    /// Call chain, innermost first: `0x400d66b9 app_main main.c:20`.
    pub backtrace: Vec<String>,
    /// The place that caused it: the first frame that is not the machinery of abort and panic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub culprit: Option<String>,
    /// The device itself says that the chain is broken.
    pub backtrace_corrupted: bool,
    /// What its registers tell, in words: `EXCVADDR 0x00000004: a null pointer, 4 bytes behind it …`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub numbers: Vec<String>,
    /// verified, unverifiable (no hash was printed), foreign (names withheld) or no_elf.
    #[schemars(extend("enum" = ["verified", "unverifiable", "foreign", "no_elf"]))]
    pub elf_match: String,
}

impl Crash {
    /// In one line: what it was, and the place to look at.
    pub fn line(&self) -> String {
        let place = self.culprit.as_ref().or(self.backtrace.first());
        let place = place.map_or_else(String::new, |place| format!(" at {}", short_paths(place)));
        format!("{}: {}{place}", self.sort, self.reason)
    }
}

/// Crashes, and how many there were.
#[derive(Debug, Default)]
pub struct Crashes {
    /// The first ones.
    pub shown: Vec<Crash>,
    /// How many more there were.
    pub left_off: usize,
}

/// Digits of a hash from which on it tells one app from another.
const MIN_HASH: usize = 8;
/// Most crashes explained of one capture.
const MOST_CRASHES: usize = 16;

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
    hear(&mut listener.reader, Decoder::new(None), options, job, raw)
}

/// Captures what comes from a port and decodes it with this decoder.
pub fn hear(
    port: &mut dyn Port,
    mut decoder: Decoder,
    options: &CaptureOptions,
    job: &Job,
    raw: &mut Raw<'_>,
) -> Result<Heard, ToolError> {
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
    let capture = result.map_err(|error| ToolError::new(Code::PortLost, error.to_string()))?;
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

/// Where names come from: a file that was named, or files found by the hash that a device printed.
pub struct Names<'c> {
    call: &'c Call,
    named: Vec<&'c str>,
    dirs: &'c [PathBuf],
    found: HashMap<Option<String>, Option<ElfFile>>,
}

impl<'c> Names<'c> {
    /// From this file, or found below the project roots and these folders.
    pub fn new(call: &'c Call, named: Option<&'c str>, dirs: &'c [PathBuf]) -> Self {
        Self { call, named: named.into_iter().collect(), dirs, found: HashMap::new() }
    }

    /// From these files, by the hash that the app printed; found below the project roots where none is named.
    pub fn among(call: &'c Call, named: &'c [String]) -> Self {
        Self { call, named: named.iter().map(String::as_str).collect(), dirs: &[], found: HashMap::new() }
    }

    /// The file for this hash; each is looked for once.
    pub fn file(&mut self, sha256: Option<&str>) -> Result<Option<&ElfFile>, ToolError> {
        let key = sha256.map(str::to_owned);
        if !self.found.contains_key(&key) {
            let file = self.look_for(sha256)?;
            self.found.insert(key.clone(), file);
        }
        Ok(self.found.get(&key).and_then(Option::as_ref))
    }

    /// Of several files, the one that is this app's; the first one where no hash tells.
    fn look_for(&self, sha256: Option<&str>) -> Result<Option<ElfFile>, ToolError> {
        let of = |named: Option<&str>| elf_file(self.call, named, sha256, self.dirs);
        let is_it = |file: &ElfFile| {
            let program = Program::parse(&file.bytes).ok();
            sha256.zip(program).is_some_and(|(sha256, program)| program.is_app(sha256))
        };
        let mut first = None;
        for named in &self.named {
            let file = of(Some(named))?;
            if self.named.len() == 1 || file.as_ref().is_some_and(is_it) {
                return Ok(file);
            }
            first = first.or(file);
        }
        if self.named.is_empty() { of(None) } else { Ok(first) }
    }
}

/// The hash that the app said at its start.
pub fn started_app(decoder: &Decoder) -> Option<&str> {
    decoder.events().iter().find_map(|event| match event {
        Event::Start { what: "elf_sha256", value, .. } => Some(value.as_str()),
        _ => None,
    })
}

/// The chip that the app's ELF file is linked for, where such a file is known and is the app's.
pub fn chip_of_elf(decoder: &Decoder, names: &mut Names<'_>) -> Result<Option<&'static Chip>, ToolError> {
    let crashed = decoder.events().iter().find_map(|event| match event {
        Event::Panic(panic) => panic.elf_sha256.as_deref(),
        _ => None,
    });
    let sha256 = crashed.or_else(|| started_app(decoder));
    let Some(file) = names.file(sha256)? else { return Ok(None) };
    let is_other = |sha256: &str| Program::parse(&file.bytes).is_ok_and(|program| !program.is_app(sha256));
    if sha256.is_some_and(|sha256| sha256.len() >= MIN_HASH && is_other(sha256)) {
        return Ok(None);
    }
    Ok(Elf::parse(&file.bytes).ok().and_then(|elf| elf_chip::of(&elf)))
}

/// The crashes heard, with names where an ELF file is that app's; the first `known` events are passed over.
pub fn crashes(decoder: &Decoder, known: usize, names: &mut Names<'_>) -> Result<Crashes, ToolError> {
    let panics: Vec<Panic> = decoder
        .events()
        .iter()
        .skip(known)
        .filter_map(|event| match event {
            Event::Panic(panic) => Some(Panic::clone(panic)),
            Event::TaskWatchdog(report) => Some(report.as_panic()),
            _ => None,
        })
        .collect();
    let started = started_app(decoder);
    let shown = panics.iter().take(MOST_CRASHES).map(|panic| crash(panic, decoder.chip(), started, names));
    Ok(Crashes { shown: shown.collect::<Result<_, _>>()?, left_off: panics.len().saturating_sub(MOST_CRASHES) })
}

fn crash(
    panic: &Panic,
    chip: Option<&'static Chip>,
    started: Option<&str>,
    names: &mut Names<'_>,
) -> Result<Crash, ToolError> {
    let sha256 = panic.elf_sha256.as_deref().or(started);
    let program = names.file(sha256)?.and_then(|elf| Program::parse(&elf.bytes).ok());
    let (elf_match, usable) = match (&program, sha256) {
        (None, _) => ("no_elf", false),
        (Some(program), Some(sha256)) if sha256.len() >= MIN_HASH && !program.is_app(sha256) => ("foreign", false),
        (Some(_), Some(sha256)) if sha256.len() >= MIN_HASH => ("verified", true),
        (Some(_), _) => ("unverifiable", true),
    };
    let program = program.filter(|_| usable);
    let (backtrace, culprit) = match &program {
        Some(program) => {
            let explained = explain(panic, program);
            let frames = explained.backtrace.iter().chain(&explained.addresses);
            let culprit = frames.clone().find_map(|frame| culprit_of(frame.location.as_ref()?));
            (frames.map(|frame| line(&frame.pc, frame.location.as_ref())).collect(), culprit)
        }
        None => (addresses(panic), None),
    };
    Ok(Crash {
        sort: panic.sort.into(),
        reason: panic.reason.clone(),
        core: panic.core,
        at_ms: Some(panic.at_ms),
        line: None,
        details: panic.details.clone(),
        backtrace,
        culprit,
        backtrace_corrupted: panic.backtrace_corrupted,
        numbers: told(panic, chip, program.as_ref()),
        elf_match: elf_match.into(),
    })
}

/// The place as `function file:line`, unless it only carries out an abort.
pub fn culprit_of(at: &SourceLocation) -> Option<String> {
    let function = at.function.as_deref()?;
    if is_abort_machinery(function) {
        return None;
    }
    Some(match (&at.file, at.line) {
        (Some(file), Some(line)) => format!("{function} {file}:{line}"),
        _ => function.to_owned(),
    })
}

/// The telling registers in words, with the object that an address points into.
fn told(panic: &Panic, chip: Option<&Chip>, program: Option<&Program<'_>>) -> Vec<String> {
    let inside = |value: u32| {
        let (name, offset) = program?.object(value)?;
        Some(format!(", {name} + {offset}"))
    };
    let behind_null = |value: u32| {
        let members = null_members(panic, program.filter(|_| value < NULL_END)?, value);
        Some(NullMember::words(&members)).filter(|words| !words.is_empty()).map(|words| format!(": {words}"))
    };
    let told = numbers(panic, chip);
    told.into_iter()
        .map(|number| {
            let known = || inside(number.value).or_else(|| behind_null(number.value));
            let object = if number.has_address { known().unwrap_or_default() } else { String::new() };
            format!("{} {:#010x}: {}{object}", number.register, number.value, number.meaning)
        })
        .collect()
}

/// One address with its function and line: `0x4200a4d1 spin_isr main.c:20`.
pub fn named_address(program: Option<&Program<'_>>, address: u32) -> String {
    let found = program.and_then(|program| program.locate(address).into_iter().next());
    line(&format!("{address:#010x}"), found.as_ref())
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

/// Nothing in a summary calls for attention.
pub fn is_quiet(summary: &Summary) -> bool {
    summary.panics == 0 && summary.brown_outs == 0 && summary.watchdogs == 0 && !summary.boot_loop
}
