//! The state that spans lines.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::catalogue::Catalogue;
use super::crash::{self, MAX_DETAILS};
use super::event::millis;
use super::finding::{Collector, Finding};
use super::form;
use super::garbled::Garbled;
use super::parse::{self, bracketed, continues_backtrace, decimal_after, hex_after, join_backtrace, log_line};
use super::start::{self, Starts};
use super::{Boot, Event, Line, Lines, Panic, ResetKind, Watchdog, prefix};
use crate::chip::{self, Chip};

/// Boots this close together, in milliseconds, count as one loop.
const LOOP_GAP_MS: u64 = 15_000;
/// This many boots in a row make a boot loop.
const LOOP_BOOTS: usize = 3;
/// Most events kept.
const MAX_EVENTS: usize = 10_000;
/// Longest text of a backtrace, in bytes.
const MAX_BACKTRACE: usize = 8192;

/// Decodes a console as it comes.
#[derive(Debug)]
pub struct Decoder {
    lines: Lines,
    chip: Option<&'static Chip>,
    /// What was begun and may have more lines to come.
    open: Open,
    /// The backtrace that has begun.
    backtrace: Option<String>,
    starts: Starts,
    garbled: Garbled,
    findings: Collector,
    events: Vec<Event>,
}

#[derive(Debug, Default)]
enum Open {
    #[default]
    Nothing,
    Panic(Box<Panic>),
    Watchdog(Box<Watchdog>),
    CoreDump(u64),
}

/// What a capture shows at a glance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// ROM boot lines seen.
    pub boots: usize,
    /// Panics, aborts, assertions.
    pub panics: usize,
    /// Brown-outs: detector lines and resets.
    pub brown_outs: usize,
    /// Resets by a watchdog, and its reports.
    pub watchdogs: usize,
    /// The device resets again and again without getting anywhere.
    pub boot_loop: bool,
    /// The chip waits for a loader.
    pub download_mode: bool,
    /// The app's start was seen.
    pub app_started: bool,
}

impl Decoder {
    /// A decoder for this chip, or for any: the ROM's banner tells.
    pub fn new(chip: Option<&'static Chip>) -> Self {
        Self::with(chip, Arc::clone(Catalogue::builtin()))
    }

    /// A decoder that looks for the findings of this catalogue.
    pub fn with(chip: Option<&'static Chip>, catalogue: Arc<Catalogue>) -> Self {
        Self {
            lines: Lines::default(),
            chip,
            open: Open::default(),
            backtrace: None,
            starts: Starts::default(),
            garbled: Garbled::default(),
            findings: Collector::new(catalogue),
            events: Vec::new(),
        }
    }

    /// Takes bytes that came at `at`; gives the cleaned lines that they completed.
    pub fn feed(&mut self, at: Duration, bytes: &[u8]) -> Vec<Line> {
        let lines = self.lines.feed(at, bytes);
        for line in &lines {
            self.line(line);
        }
        lines
    }

    /// Ends the stream: what is open is closed.
    pub fn finish(&mut self) -> Option<Line> {
        let last = self.lines.take();
        if let Some(line) = &last {
            self.line(line);
        }
        self.close();
        self.starts.flush(self.chip, &mut self.findings);
        last
    }

    /// All events so far that are complete.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The chip, as given or as its ROM named itself.
    pub fn chip(&self) -> Option<&'static Chip> {
        self.chip
    }

    /// What the events amount to.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        let mut boots: Vec<u64> = Vec::new();
        for event in &self.events {
            match event {
                Event::Boot(boot) => {
                    summary.boots += 1;
                    summary.brown_outs += usize::from(boot.reset_kind == ResetKind::BrownOut);
                    summary.watchdogs += usize::from(boot.reset_kind == ResetKind::Watchdog);
                    if boot.download {
                        summary.download_mode = true;
                        boots.clear();
                        continue;
                    }
                    if boots.last().is_some_and(|last| boot.at_ms.saturating_sub(*last) > LOOP_GAP_MS) {
                        boots.clear();
                    }
                    boots.push(boot.at_ms);
                    summary.boot_loop |= boots.len() >= LOOP_BOOTS;
                }
                Event::Panic(panic) => {
                    summary.panics += 1;
                    summary.watchdogs += usize::from(panic.sort.ends_with("watchdog"));
                }
                Event::BrownOut { .. } => summary.brown_outs += 1,
                Event::TaskWatchdog(_) => summary.watchdogs += 1,
                Event::DownloadMode { .. } => summary.download_mode = true,
                Event::Start { what: "app_started", .. } => summary.app_started = true,
                _ => {}
            }
        }
        summary
    }

    /// Known troubles that were seen, the surest first.
    pub fn findings(&self) -> Vec<Finding> {
        self.findings.findings(self.chip)
    }

    fn push(&mut self, event: Event) {
        if self.events.len() < MAX_EVENTS {
            self.events.push(event);
        }
    }

    fn close(&mut self) {
        self.close_backtrace();
        match std::mem::take(&mut self.open) {
            Open::Nothing => {}
            Open::Panic(panic) => {
                self.findings.fact(&crash::fact(&panic, self.chip), &panic.reason, panic.at_ms);
                self.push(Event::Panic(panic));
            }
            Open::Watchdog(watchdog) => {
                let (late, running) = (watchdog.late.join(", "), watchdog.running.join(", "));
                let fact = format!("@task_watchdog late={late:?} running={running:?}");
                self.findings.fact(&fact, &watchdog.as_panic().reason, watchdog.at_ms);
                self.push(Event::TaskWatchdog(watchdog));
            }
            Open::CoreDump(at_ms) => self.push(Event::CoreDump { at_ms, complete: false }),
        }
    }

    fn line(&mut self, line: &Line) {
        let (text, at_ms) = (prefix::bare(&line.text), millis(line.at));
        if text.is_empty() || prefix::is_the_monitors(text) {
            return;
        }
        if let Open::CoreDump(begun) = self.open {
            if text.contains("CORE DUMP END") {
                self.open = Open::Nothing;
                self.push(Event::CoreDump { at_ms: begun, complete: true });
                return;
            }
            // Other lines may come in between.
            if text.len() > 8 && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=')) {
                return;
            }
        }
        if self.garbled.take(text, &mut self.findings, at_ms) {
            return;
        }
        self.findings.line(text, at_ms);
        if self.boot_line(text, at_ms) {
            return;
        }
        self.follow(text, at_ms);
        if self.panic_begins(text, at_ms) || self.continues(text, at_ms) {
            return;
        }
        self.plain(text, at_ms);
    }

    /// Lines of the ROM.
    fn boot_line(&mut self, text: &str, at_ms: u64) -> bool {
        if let Some(found) = by_banner(text) {
            self.close();
            self.chip = Some(found);
        }
        let boot = if let Some(reset) = hex_after(text, "rst:0x") {
            Some((reset, bracketed(text, "rst:0x"), hex_after(text, "boot:0x"), bracketed(text, "boot:0x")))
        } else {
            // ESP8266: `ets Jan  8 2013,rst cause:2, boot mode:(3,6)`.
            let reset = decimal_after(text, "rst cause:");
            self.chip = reset.and_then(|_| by_line("rst cause:")).or(self.chip);
            reset.map(|reset| (reset, None, decimal_after(text, "boot mode:("), None))
        };
        let Some((reset, printed, straps, mode)) = boot else { return false };
        self.close();
        self.starts.flush(self.chip, &mut self.findings);
        let chip = self.chip;
        let known = || chip.and_then(|chip| chip.boot.reset_names.get(&reset.to_string()).cloned());
        let reset_name = printed.or_else(known);
        let straps = straps.unwrap_or_default();
        let download = match (&mode, chip) {
            (Some(mode), _) => mode.contains("DOWNLOAD"),
            (None, Some(chip)) => straps == chip.boot.download_strap,
            (None, None) => false,
        };
        let reset_kind = reset_name.as_deref().map_or(ResetKind::Other, ResetKind::of_name);
        let (chip, before) = (chip.map(|chip| chip.id), self.starts.stage());
        let boot = Boot { at_ms, chip, reset, reset_name, reset_kind, straps, mode, download, saved_pc: None, before };
        self.starts.begin(&boot, text);
        self.push(Event::Boot(boot));
        true
    }

    /// How far the start has come.
    fn follow(&mut self, text: &str, at_ms: u64) {
        if let Some(pc) = hex_after(text, "Saved PC:") {
            self.starts.saved_pc(pc);
            if let Some(Event::Boot(boot)) = self.events.last_mut() {
                boot.saved_pc = Some(pc);
            }
            return;
        }
        if let Some(named) = start::names_chip(text) {
            self.chip = self.chip.or(Some(named));
        }
        self.starts.flush(self.chip, &mut self.findings);
        self.starts.line(text, at_ms, self.chip, &mut self.findings);
    }

    /// The first line of a crash.
    fn panic_begins(&mut self, text: &str, at_ms: u64) -> bool {
        if let Open::Panic(open) = &mut self.open {
            if let Some(whole) = crash::completed(open, text) {
                **open = whole;
                return true;
            }
            // Some forms have lines that begin a crash of their own elsewhere.
            if form::take(open, text) {
                return true;
            }
        }
        let Some(mut panic) = crash::begin(text) else { return false };
        if matches!(panic.sort, "fatal_exception" | "soft_watchdog") {
            self.chip = self.chip.or_else(|| by_line("rst cause:"));
        }
        panic.at_ms = at_ms;
        // Abort, assertion and stack checks print their line before the panic handler prints its own.
        if let Open::Panic(open) = &mut self.open {
            let more = open.registers.is_empty() && open.backtrace.is_empty() && self.backtrace.is_none();
            if more && open.sort == "rust_panic" && panic.sort == "exception" {
                // An exception handler that panics names itself first.
                panic.details.insert(0, std::mem::take(&mut open.reason));
                self.open = Open::Panic(Box::new(panic));
                return true;
            }
            if more && open.details.len() < MAX_DETAILS {
                open.core = open.core.or(panic.core);
                open.details.push(text.to_owned());
                return true;
            }
        }
        self.close();
        self.open = Open::Panic(Box::new(panic));
        true
    }

    /// A backtrace whose lines may go on.
    fn backtrace(&mut self, text: &str) -> bool {
        if let Some(begun) = &mut self.backtrace {
            if continues_backtrace(text) && begun.len() < MAX_BACKTRACE {
                join_backtrace(begun, text);
                return true;
            }
            self.close_backtrace();
        }
        let Some(at) = text.find("Backtrace:") else { return false };
        self.backtrace = Some(text.get(at..).unwrap_or_default().to_owned());
        true
    }

    fn close_backtrace(&mut self) {
        let Some(text) = self.backtrace.take() else { return };
        match &mut self.open {
            Open::Panic(panic) => crash::take_backtrace(panic, &text),
            Open::Watchdog(watchdog) => crash::take_backtrace(&mut watchdog.state, &text),
            Open::Nothing | Open::CoreDump(_) => {}
        }
    }

    /// Lines that belong to what is open.
    fn continues(&mut self, text: &str, at_ms: u64) -> bool {
        if matches!(self.open, Open::Panic(_) | Open::Watchdog(_)) && self.backtrace(text) {
            return true;
        }
        if let Open::Watchdog(watchdog) = &mut self.open {
            if watchdog_line(watchdog, text) {
                return true;
            }
            self.close();
        }
        let Open::Panic(panic) = &mut self.open else {
            return self.without_reason(text, at_ms);
        };
        if text.starts_with("Rebooting") || text.starts_with("CPU halted") {
            self.close();
            return true;
        }
        if text.starts_with(">>>stack>>>") {
            self.chip = self.chip.or_else(|| by_line("rst cause:"));
        }
        crash::panic_line(panic, text)
    }

    /// Registers or a backtrace whose reason was cut off before them: of a log that begins in the middle.
    fn without_reason(&mut self, text: &str, at_ms: u64) -> bool {
        let is_dump =
            text.ends_with("register dump:") || text.starts_with("epc1=0x") || text.starts_with(">>>stack>>>");
        if !is_dump && (!text.starts_with("Backtrace:") || parse::backtrace(text).is_empty()) {
            return false;
        }
        let what = if is_dump { "registers" } else { "backtrace" };
        let reason = format!("{what} without a reason");
        let core = parse::decimal_after(text, "Core ");
        let mut panic = Panic { at_ms, sort: "unknown", reason, core, ..Panic::default() };
        crash::panic_line(&mut panic, text);
        self.open = Open::Panic(Box::new(panic));
        is_dump || self.backtrace(text)
    }

    fn plain(&mut self, text: &str, at_ms: u64) {
        if text.contains("CORE DUMP START") {
            self.close();
            self.open = Open::CoreDump(at_ms);
        } else if text.contains("Brownout detector was triggered") {
            self.push(Event::BrownOut { at_ms });
        } else if text.contains("Task watchdog got triggered") {
            self.close();
            self.open = Open::Watchdog(Box::new(Watchdog { at_ms, ..Watchdog::default() }));
        } else if text.starts_with("waiting for download") || text.contains("wait usb download") {
            self.push(Event::DownloadMode { at_ms });
        } else if text.starts_with("Download boot modes disabled") {
            self.push(Event::DownloadDisabled { at_ms });
        } else if text.starts_with("invalid header:")
            || text.starts_with("flash read err")
            || text.starts_with("csum err")
        {
            self.push(Event::NoBootloader { at_ms, text: text.to_owned() });
        } else if let Some((level, tag, message)) = log_line(text) {
            if level == 'E' && START_TAGS.contains(&tag.split('.').next().unwrap_or(tag)) {
                self.push(Event::StartFailure { at_ms, text: message.to_owned() });
            } else if let Some((what, value)) = start::said(tag, message) {
                self.push(Event::Start { at_ms, what, value });
            }
        }
    }
}

/// Tags of the bootloader and of the start-up code: an error of theirs keeps the application from running.
const START_TAGS: [&str; 13] = [
    "boot",
    "boot_comm",
    "bootloader_flash",
    "cpu_start",
    "efuse",
    "esp_image",
    "flash_encrypt",
    "flash_parts",
    "octal_psram",
    "psram",
    "quad_psram",
    "secure_boot",
    "spi_flash",
];

/// The chip whose ROM begins its output so.
fn by_banner(text: &str) -> Option<&'static Chip> {
    // The name in it need not be the chip's own: the ESP32-C2 calls itself esp8684.
    let name = |text: &str| Some(text.trim().strip_prefix("ESP-ROM:")?.split(['-', '\r']).next()?.to_owned());
    if let Some(named) = name(text) {
        return chip::all().iter().find(|chip| name(&chip.boot.banner).as_ref() == Some(&named));
    }
    // ROMs before that print only the date they were built.
    text.starts_with("ets ").then(|| by_line("rst:")).flatten()
}

/// The chip whose ROM prints such a boot line behind a build date.
fn by_line(mark: &str) -> Option<&'static Chip> {
    chip::all().iter().find(|chip| chip.boot.banner.trim().starts_with("ets ") && chip.boot.line.contains(mark))
}

/// Takes a line of a task watchdog's report.
fn watchdog_line(watchdog: &mut Watchdog, text: &str) -> bool {
    let message = log_line(text).map_or(text, |(_, _, message)| message);
    if let Some(name) = message.strip_prefix("- ") {
        if watchdog.late.len() < MAX_DETAILS {
            watchdog.late.push(name.trim().to_owned());
        }
        return true;
    }
    if message.starts_with("CPU ") && message.contains(": ") {
        if watchdog.running.len() < MAX_DETAILS {
            watchdog.running.push(message.to_owned());
        }
        return true;
    }
    // Among them `Aborting.`, behind which the state of the task comes.
    let of_watchdog =
        log_line(text).is_some_and(|(_, tag, message)| tag == "task_wdt" && !message.contains("got triggered"));
    of_watchdog
        || message.starts_with("Tasks currently running")
        || message.starts_with("Print CPU")
        || message.starts_with("The following tasks")
        || (log_line(text).is_none() && crash::panic_line(&mut watchdog.state, message))
}
