//! The lines of a crash: how one begins, and what belongs to it.

use std::sync::OnceLock;

use regex::Regex;

use super::catalogue::ascii;
use super::form;
use super::panic::{MAX_STACK_LINES, Panic};
use super::parse::{backtrace, bracketed, decimal_after, hex_after, log_line, lone_address, registers, stack_line};

/// Most addresses kept of a chain that is printed line by line.
pub(super) const MAX_CHAIN: usize = 128;
/// Most lines kept as details of one panic.
pub(super) const MAX_DETAILS: usize = 16;

/// First lines of crashes: what they contain, and what sort that is. The first that fits counts.
const BEGINNINGS: &[(&str, &str)] = &[
    ("abort() was called at PC", "abort"),
    ("ESP_ERROR_CHECK failed", "error_check"),
    ("assert failed:", "assert"),
    ("ASSERT_PARAM(", "assert"),
    ("Stack smashing protect failure", "stack_smash"),
    ("Stack smashing detected", "stack_smash"),
    ("A stack overflow in task", "stack_overflow"),
    ("Stack overflow detected", "stack_overflow"),
    ("CORRUPT HEAP:", "heap_corruption"),
    ("Fatal exception", "fatal_exception"),
    ("User exception (panic/abort/assert)", "abort"),
    ("Soft WDT reset", "soft_watchdog"),
    ("Detected a write to the stack guard value", "stack_overflow"),
    ("panicked at ", "rust_panic"),
    ("A panic occured ", "rust_panic"),
    ("A panic occurred ", "rust_panic"),
    ("***** PANIC *****", "abort"),
];

/// Words of a reason in small letters, and what the hardware found. The first that fits counts.
const FAULTS: &[(&str, &str)] = &[
    ("loadprohibit", "load"),
    ("load prohibited", "load"),
    ("load access fault", "load"),
    ("loadstoreerr", "bus"),
    ("load/store error", "bus"),
    ("storeprohibit", "store"),
    ("store prohibited", "store"),
    ("store access fault", "store"),
    ("store/amo access fault", "store"),
    ("instfetchprohibit", "fetch"),
    ("instrfetchprohibit", "fetch"),
    ("instrprohibit", "fetch"),
    ("inst fetch prohibited", "fetch"),
    ("instructionfetcherr", "fetch"),
    ("instrfetcherr", "fetch"),
    ("instfetcherr", "fetch"),
    ("inst fetch error", "fetch"),
    ("instruction access fault", "fetch"),
    ("illegalinst", "illegal"),
    ("illegal inst", "illegal"),
    ("integerdividebyzero", "zero_division"),
    ("divbyzero", "zero_division"),
    ("divide by zero", "zero_division"),
    ("alignment", "alignment"),
    ("misaligned", "alignment"),
    ("unhandled debug exception", "debug"),
    ("doubleexception", "double"),
    ("double exception", "double"),
    ("breakpoint", "breakpoint"),
    ("cache", "cache"),
];

/// EXCCAUSE of the Xtensa instruction set for crashes that print the number alone.
const CAUSES: &[(u32, &str)] = &[
    (0, "illegal"),
    (2, "fetch"),
    (3, "bus"),
    (6, "zero_division"),
    (9, "alignment"),
    (20, "fetch"),
    (28, "load"),
    (29, "store"),
];

/// MCAUSE of the RISC-V instruction set.
const RISCV_CAUSES: &[(u32, &str)] = &[
    (0, "alignment"),
    (1, "fetch"),
    (2, "illegal"),
    (3, "breakpoint"),
    (4, "alignment"),
    (5, "load"),
    (6, "alignment"),
    (7, "store"),
];

/// What the hardware found, by the number in EXCCAUSE or MCAUSE.
pub(super) fn fault_of_cause(register: &str, cause: u32) -> &'static str {
    let causes = if register.eq_ignore_ascii_case("MCAUSE") { RISCV_CAUSES } else { CAUSES };
    causes.iter().find(|(number, _)| *number == cause).map_or("", |(_, fault)| fault)
}

/// What the hardware found, by the words of a reason or the number in it.
pub(super) fn fault_of(reason: &str) -> &'static str {
    let small = reason.to_ascii_lowercase();
    let named = FAULTS.iter().find(|(word, _)| small.contains(word)).map(|(_, fault)| *fault);
    let number = || {
        let number = decimal_after(reason, "xception (").or_else(|| decimal_after(reason, "Fatal exception "))?;
        CAUSES.iter().find(|(cause, _)| *cause == number).map(|(_, fault)| *fault)
    };
    named.or_else(number).unwrap_or_default()
}

/// A crash that begins with this line.
pub(super) fn begin(text: &str) -> Option<Panic> {
    // A log line may quote a crash of before; the panic handlers print bare lines.
    let is_guru = text.contains("Meditation Error") || panicked(text).is_some_and(|reason| names_a_cause(&reason));
    let quoted = log_line(text).is_some() && !is_guru;
    if is_guru {
        return Some(guru(text));
    }
    if let Some(panic) = form::begin(text) {
        return Some(panic);
    }
    if quoted {
        return None;
    }
    let classic = |text: &str| text.contains("assertion ") && text.contains(" failed:");
    let numbered = |text: &str| {
        let rest = text.strip_prefix("Exception (")?;
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        rest.get(end..)?.starts_with("):").then_some(())
    };
    let sort = if let Some((_, sort)) = BEGINNINGS.iter().find(|(mark, _)| text.contains(mark)) {
        sort
    } else if classic(text) {
        "assert"
    } else if numbered(text).is_some() {
        "fatal_exception"
    } else {
        return None;
    };
    // The words of an assertion name no fault of the hardware.
    let fault = if sort == "fatal_exception" { fault_of(text) } else { "" };
    Some(Panic { sort, fault, reason: text.to_owned(), core: decimal_after(text, "on core "), ..Panic::default() })
}

/// The sort of a crash that a panic handler's reason names.
pub(super) fn sort_of(reason: &str) -> &'static str {
    const SORTS: &[(&str, &str)] = &[
        ("interrupt w", "interrupt_watchdog"),
        ("task w", "task_watchdog"),
        ("soft wdt", "soft_watchdog"),
        ("hardware wdt", "hardware_watchdog"),
        ("cache", "cache_error"),
        ("stack protection", "stack_overflow"),
        ("memory protection", "memory_protection"),
        ("memprot", "memory_protection"),
        ("abort", "abort"),
    ];
    let small = reason.to_ascii_lowercase();
    SORTS.iter().find(|(word, _)| small.contains(word)).map_or("exception", |(_, sort)| sort)
}

/// The reason is one of a panic handler's: a fault of the hardware, or a sort of its own.
fn names_a_cause(reason: &str) -> bool {
    !fault_of(reason).is_empty() || sort_of(reason) != "exception"
}

/// What stands in brackets behind `panic'ed`; of that word the beginning may be cut off, and pages write its mark in many
/// ways.
fn panicked(text: &str) -> Option<String> {
    static PATTERN: OnceLock<Option<Regex>> = OnceLock::new();
    let pattern = PATTERN.get_or_init(|| Regex::new(&ascii(r"panic'ed +\(")).ok()).as_ref()?;
    let behind = text.get(pattern.find(text)?.end() - 1..)?;
    bracketed(behind, "")
}

/// A panic handler's first line that was cut or wrapped, made whole by the next line.
pub(super) fn completed(open: &Panic, text: &str) -> Option<Panic> {
    let begun = open.reason.contains("Meditation Error") && panicked(&open.reason).is_none();
    if !begun || log_line(text).is_some() {
        return None;
    }
    let whole = ["", " "].map(|glue| format!("{}{glue}{text}", open.reason));
    let whole = whole.iter().find(|whole| panicked(whole).is_some_and(|reason| names_a_cause(&reason)))?;
    Some(Panic { at_ms: open.at_ms, ..guru(whole) })
}

/// `Guru Meditation Error: Core  1 panic'ed (LoadProhibited)`, until 2017 `Guru Meditation Error of type
/// LoadProhibited occurred on core  1`.
fn guru(text: &str) -> Panic {
    let old = || text.split_once("of type ")?.1.split_once(" occurred").map(|(reason, _)| reason.to_owned());
    let reason = panicked(text).or_else(old).unwrap_or_else(|| text.to_owned());
    let core = decimal_after(text, "Core ").or_else(|| decimal_after(text, "core "));
    Panic { core, sort: sort_of(&reason), fault: fault_of(&reason), reason, ..Panic::default() }
}

/// Takes a line that belongs to a crash.
pub(super) fn panic_line(panic: &mut Panic, text: &str) -> bool {
    if form::take(panic, text) {
        return true;
    }
    if let Some(sha) = text.split_once("ELF file SHA256:").map(|(_, sha)| sha.trim()) {
        let digits: String = sha.chars().take_while(char::is_ascii_hexdigit).collect();
        // Arduino's builds print zeros: no hash at all.
        panic.elf_sha256 = digits.bytes().any(|digit| digit != b'0').then_some(digits);
        return true;
    }
    if let Some(pc) = (panic.sort == "rust_panic" || panic.sort == "exception").then(|| lone_address(text)).flatten() {
        // esp-backtrace prints the chain as one address a line.
        if panic.backtrace.len() < MAX_CHAIN {
            panic.backtrace.push((pc, 0));
        }
        return true;
    }
    if tells_more(panic, text) {
        let is_mark = text.contains("register dump") || text.contains("stack>>>") || text.contains("<<<stack");
        if panic.details.len() < MAX_DETAILS && !is_mark && !panic.details.iter().any(|known| known == text) {
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

/// Takes the whole text of a backtrace, wrapped lines joined.
pub(super) fn take_backtrace(panic: &mut Panic, text: &str) {
    // A second core's chain, or one after a corrupted one, does not replace the first.
    if panic.backtrace.is_empty() {
        panic.backtrace = backtrace(text);
    }
    panic.backtrace_corrupted |= text.contains("CORRUPTED");
}

/// A line that explains a crash; a stack watch point names its sort too.
fn tells_more(panic: &mut Panic, text: &str) -> bool {
    const BEGINNINGS: &[&str] = &[
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
        "Abort called",
        "Panic ",
        "Unhandled C++ exception",
        "last failed alloc call",
        "last failed alloc caller",
    ];
    const OF_CHECKS: &[&str] = &["file:", "func:", "expression:"];
    if text.contains("Stack canary watchpoint") {
        panic.sort = "stack_overflow";
    }
    text.contains("register dump")
        || BEGINNINGS.iter().any(|beginning| text.starts_with(beginning))
        || (panic.sort == "error_check" && OF_CHECKS.iter().any(|beginning| text.starts_with(beginning)))
        // Rust's panic message stands below the place where it happened.
        || (panic.sort == "rust_panic" && panic.details.is_empty() && panic.backtrace.is_empty() && log_line(text).is_none())
}

/// A crash in one line for the catalogue's `fact` patterns.
pub(super) fn fact(panic: &Panic, chip: Option<&crate::chip::Chip>) -> String {
    use super::address::{Place, place};
    let word = |found: Option<u32>| found.map_or("none", |address| place(chip, address).word());
    let pc = panic.register(&["PC", "MEPC", "EPC1"]).map(|(_, value)| value);
    let pc = pc.or_else(|| panic.backtrace.first().map(|(pc, _)| *pc));
    let address = panic.register(&["EXCVADDR", "MTVAL"]).map(|(_, value)| value).filter(|_| panic.has_address());
    // Where PC and the address fetched from are one, an illegal jump shows in PC alone.
    let null = address.is_some_and(|address| place(chip, address) == Place::Null);
    let offset = address.filter(|_| null).map_or_else(String::new, |offset| format!(" offset={offset}"));
    let sp = panic.register(&["SP", "A1"]).map(|(_, value)| value);
    let show =
        |name: &str, value: Option<u32>| value.map_or_else(String::new, |value| format!(" {name}={value:#010x}"));
    let called_at = hex_after(&panic.reason, "at PC ");
    let form = form::name(panic).map_or_else(String::new, |name| format!(" form={name}"));
    format!(
        "@panic sort={} fault={} place={} pc_place={} sp_place={}{offset}{}{}{} reason={:?}{form}",
        panic.sort,
        if panic.fault.is_empty() { "none" } else { panic.fault },
        word(address),
        word(pc),
        word(sp),
        show("address", address),
        show("pc", pc),
        show("called_at", called_at),
        panic.reason,
    )
}
