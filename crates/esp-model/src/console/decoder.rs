//! The state that spans lines.

use std::time::Duration;

use serde::Serialize;

use super::event::millis;
use super::panic::MAX_STACK_LINES;
use super::parse::{backtrace, bracketed, decimal_after, hex_after, log_line, lone_address, registers, stack_line};
use super::{Boot, Event, Line, Lines, Panic, ResetKind, Watchdog};
use crate::chip::{self, Chip};

/// Boots this close together, in milliseconds, count as one loop.
const LOOP_GAP_MS: u64 = 15_000;
/// This many boots in a row make a boot loop.
const LOOP_BOOTS: usize = 3;
/// Most events kept.
const MAX_EVENTS: usize = 10_000;
/// Most addresses kept of a chain that is printed line by line.
const MAX_CHAIN: usize = 128;
/// Most lines kept as details of one panic.
const MAX_DETAILS: usize = 16;

/// Decodes a console as it comes.
#[derive(Debug, Default)]
pub struct Decoder {
    lines: Lines,
    chip: Option<&'static Chip>,
    /// What was begun and may have more lines to come.
    open: Open,
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
        Self { chip, ..Self::default() }
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

    fn push(&mut self, event: Event) {
        if self.events.len() < MAX_EVENTS {
            self.events.push(event);
        }
    }

    fn close(&mut self) {
        match std::mem::take(&mut self.open) {
            Open::Nothing => {}
            Open::Panic(panic) => self.push(Event::Panic(panic)),
            Open::Watchdog(watchdog) => self.push(Event::TaskWatchdog(watchdog)),
            Open::CoreDump(at_ms) => self.push(Event::CoreDump { at_ms, complete: false }),
        }
    }

    fn line(&mut self, line: &Line) {
        let (text, at_ms) = (line.text.trim(), millis(line.at));
        if let Open::CoreDump(begun) = self.open {
            if text.contains("CORE DUMP END") {
                self.open = Open::Nothing;
                self.push(Event::CoreDump { at_ms: begun, complete: true });
                return;
            }
            if !text.contains("rst:") {
                return;
            }
        }
        if self.boot_line(text, at_ms) || self.panic_begins(text, at_ms) || self.continues(text) {
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
        let chip = chip.map(|chip| chip.id);
        self.push(Event::Boot(Boot { at_ms, chip, reset, reset_name, reset_kind, straps, mode, download }));
        true
    }

    /// The first line of a crash.
    fn panic_begins(&mut self, text: &str, at_ms: u64) -> bool {
        let Some(mut panic) = begin(text) else { return false };
        panic.at_ms = at_ms;
        // Abort, assertion and stack checks print their line before the panic handler prints its own.
        if let Open::Panic(open) = &mut self.open {
            let more = open.registers.is_empty() && open.backtrace.is_empty();
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

    /// Lines that belong to what is open.
    fn continues(&mut self, text: &str) -> bool {
        if let Open::Watchdog(watchdog) = &mut self.open {
            if watchdog_line(watchdog, text) {
                return true;
            }
            self.close();
        }
        let Open::Panic(panic) = &mut self.open else { return false };
        if text.starts_with("Rebooting") || text.starts_with("CPU halted") {
            self.close();
            return true;
        }
        panic_line(panic, text)
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
            if level == 'E'
                && matches!(tag, "boot" | "esp_image" | "flash_parts" | "secure_boot" | "flash_encrypt" | "spi_flash")
            {
                self.push(Event::StartFailure { at_ms, text: message.to_owned() });
            } else if let Some((what, value)) = start(tag, message) {
                self.push(Event::Start { at_ms, what, value });
            }
        }
    }
}

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

/// A crash that begins with this line.
fn begin(text: &str) -> Option<Panic> {
    let new = |sort, reason: String| Panic { sort, reason, ..Panic::default() };
    if text.contains("Guru Meditation Error") {
        let reason = bracketed(text, "panic'ed").unwrap_or_else(|| text.to_owned());
        let sort = if reason.contains("Interrupt wdt") {
            "interrupt_watchdog"
        } else if reason.contains("Cache") {
            "cache_error"
        } else if reason.contains("Stack protection") {
            "stack_overflow"
        } else {
            "exception"
        };
        return Some(Panic { core: decimal_after(text, "Core "), ..new(sort, reason) });
    }
    let sort = if text.contains("abort() was called at PC") {
        "abort"
    } else if text.starts_with("ESP_ERROR_CHECK failed") {
        "error_check"
    } else if text.starts_with("assert failed:") || (text.starts_with("assertion ") && text.contains(" failed:")) {
        "assert"
    } else if text.contains("Stack smashing protect failure") {
        "stack_smash"
    } else if text.contains("A stack overflow in task") {
        "stack_overflow"
    } else if text.starts_with("CORRUPT HEAP") {
        "heap_corruption"
    } else if text.starts_with("Fatal exception") || (text.starts_with("Exception (") && text.ends_with(':')) {
        "fatal_exception"
    } else if text.starts_with("User exception (panic/abort/assert)") {
        "abort"
    } else if text.starts_with("Soft WDT reset") {
        "soft_watchdog"
    } else if text.starts_with("Exception '") || text.starts_with("Exception occurred '") {
        "exception"
    } else if text.contains("panicked at ") {
        "rust_panic"
    } else {
        return None;
    };
    let registers = if sort == "exception" { registers(text) } else { Vec::new() };
    Some(Panic { core: decimal_after(text, "on core "), registers, ..new(sort, text.to_owned()) })
}

/// Takes a line that belongs to a crash.
fn panic_line(panic: &mut Panic, text: &str) -> bool {
    if text.starts_with("Backtrace:") {
        // A second core's chain, or one after a corrupted one, does not replace the first.
        if panic.backtrace.is_empty() {
            panic.backtrace = backtrace(text);
        }
        panic.backtrace_corrupted |= text.contains("CORRUPTED");
        return true;
    }
    if let Some(sha) = text.split_once("ELF file SHA256:").map(|(_, sha)| sha.trim()) {
        let digits: String = sha.chars().take_while(char::is_ascii_hexdigit).collect();
        panic.elf_sha256 = (!digits.is_empty()).then_some(digits);
        return true;
    }
    if let Some(pc) = (panic.sort == "rust_panic").then(|| lone_address(text)).flatten() {
        // esp-backtrace prints the chain as one address a line.
        if panic.backtrace.len() < MAX_CHAIN {
            panic.backtrace.push((pc, 0));
        }
        return true;
    }
    if tells_more(panic, text) {
        let is_mark = text.contains("register dump") || text.contains("stack>>>") || text.contains("<<<stack");
        if panic.details.len() < MAX_DETAILS && !is_mark {
            panic.details.push(text.to_owned());
        }
        return true;
    }
    if let Some(line) = stack_line(text) {
        if panic.stack.len() < MAX_STACK_LINES {
            panic.stack.push(line);
        }
        return true;
    }
    let found = registers(text);
    if !found.is_empty() {
        // Only the first core's registers: they are the crashed one's.
        let new = found.iter().all(|(name, _)| panic.registers.iter().all(|(known, _)| known != name));
        if new && panic.registers.len() < 64 {
            panic.registers.extend(found);
        }
        return true;
    }
    false
}

/// A line that explains a crash; a stack watch point names its sort too.
fn tells_more(panic: &mut Panic, text: &str) -> bool {
    const BEGINNINGS: [&str; 13] = [
        "Stack memory",
        "Debug exception reason",
        "Setting breakpoint",
        "Memory dump",
        "Exception was unhandled",
        // Stack protection and memory protection faults.
        "Detected in task",
        "Stack pointer:",
        "Stack bounds:",
        "memory type:",
        "Faulting address:",
        // ESP8266.
        ">>>stack>>>",
        "ctx:",
        "<<<stack<<<",
    ];
    const OF_CHECKS: [&str; 3] = ["file:", "func:", "expression:"];
    if text.contains("Stack canary watchpoint") {
        panic.sort = "stack_overflow";
    }
    text.contains("register dump")
        || BEGINNINGS.iter().any(|beginning| text.starts_with(beginning))
        || (panic.sort == "error_check" && OF_CHECKS.iter().any(|beginning| text.starts_with(beginning)))
        // Rust's panic message stands below the place where it happened.
        || (panic.sort == "rust_panic" && panic.details.is_empty() && panic.backtrace.is_empty() && log_line(text).is_none())
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
    message.starts_with("Tasks currently running")
        || message.starts_with("Print CPU")
        || message.starts_with("The following tasks")
        || (log_line(text).is_none() && panic_line(&mut watchdog.state, message))
}

/// What the bootloader and the app's start say of note.
fn start(tag: &str, message: &str) -> Option<(&'static str, String)> {
    let value = |mark: &str| message.split_once(mark).map(|(_, value)| value.trim().to_owned());
    match tag {
        "boot" if message.contains("2nd stage bootloader") => Some(("bootloader", message.to_owned())),
        "boot" if message.starts_with("chip revision:") => Some(("chip_revision", value("chip revision:")?)),
        "boot.esp32" | "boot" if message.starts_with("SPI Flash Size") => Some(("flash_size", value(":")?)),
        "boot" if message.starts_with("Loaded app from partition at offset") => Some(("app_offset", value("offset")?)),
        "cpu_start" if message.contains("Starting scheduler") || message.starts_with("Pro cpu start user code") => {
            Some(("app_started", message.to_owned()))
        }
        "main_task" if message.starts_with("Calling app_main") => Some(("app_started", message.to_owned())),
        "app_init" | "cpu_start" if message.starts_with("Project name:") => Some(("project", value(":")?)),
        "app_init" | "cpu_start" if message.starts_with("App version:") => Some(("version", value(":")?)),
        "app_init" | "cpu_start" if message.starts_with("ESP-IDF:") => Some(("idf", value(":")?)),
        "app_init" | "cpu_start" if message.starts_with("ELF file SHA256:") => {
            Some(("elf_sha256", value(":")?.trim_end_matches('.').to_owned()))
        }
        _ => None,
    }
}
