//! Panics as the console shows them, and what an ELF file makes of them.

use serde::Serialize;

use crate::chip::Arch;
use crate::coredump::{RISCV_NAMES, Registers, XTENSA_NAMES};
use crate::symbols::{FoundBy, Frame, Memory, Program, SourceLocation, Unwinder};

/// Everything a device printed about one crash. Untrusted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Panic {
    /// Milliseconds since the capture began.
    pub at_ms: u64,
    /// What sort: `exception`, `abort`, `assert`, `error_check`, `stack_smash`, `stack_overflow`, `interrupt_watchdog`,
    /// `task_watchdog`, `soft_watchdog` (ESP8266), `cache_error`, `memory_protection`, `heap_corruption`,
    /// `fatal_exception` (ESP8266), `rust_panic`, `zephyr_fatal`, `nuttx_assert`.
    pub sort: &'static str,
    /// The core it happened on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub core: Option<u32>,
    /// The reason as printed.
    pub reason: String,
    /// Further lines that explain it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
    /// Registers as printed, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub registers: Vec<(String, u32)>,
    /// Call chain as printed: program counter and stack pointer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub backtrace: Vec<(u32, u32)>,
    /// The device itself says that the chain is broken.
    pub backtrace_corrupted: bool,
    /// First hex digits of the SHA-256 of the app's ELF file, as printed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elf_sha256: Option<String>,
    /// What the hardware found: `load`, `store`, `fetch`, `illegal`, `zero_division`, `alignment`, `cache`, `debug`,
    /// `double`, `bus`, `breakpoint`; empty when it was none of these.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub fault: &'static str,
    /// Stack as printed (RISC-V, ESP8266): address and words.
    #[serde(skip)]
    pub stack: Vec<(u32, Vec<u32>)>,
}

/// Most stack lines kept of one panic.
pub(super) const MAX_STACK_LINES: usize = 1024;

/// One line of an explained call chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedFrame {
    /// Program counter, in hex.
    pub pc: String,
    /// How the frame was found; None when the device printed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found_by: Option<FoundBy>,
    /// Function, file and line.
    #[serde(flatten)]
    pub location: Option<SourceLocation>,
}

/// A panic with source lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExplainedPanic {
    /// Innermost first.
    pub backtrace: Vec<ExplainedFrame>,
    /// Where other addresses of the panic lie: `abort() was called at PC`, `RA`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<ExplainedFrame>,
}

impl Panic {
    /// The first of these registers that was printed, with the name it was printed with.
    pub fn register(&self, names: &[&str]) -> Option<(&str, u32)> {
        names.iter().find_map(|name| {
            let found = self.registers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
            Some((found.0.as_str(), found.1))
        })
    }

    /// The fault is about an address, so that EXCVADDR or MTVAL means something.
    pub fn has_address(&self) -> bool {
        matches!(self.fault, "load" | "store" | "fetch" | "alignment" | "bus")
    }
}

struct Stack(Vec<(u32, Vec<u8>)>);

impl Memory for Stack {
    fn read(&self, address: u32, len: usize) -> Option<&[u8]> {
        self.0.iter().find_map(|(start, bytes)| {
            let at = usize::try_from(address.checked_sub(*start)?).ok()?;
            bytes.get(at..at.checked_add(len)?)
        })
    }
}

/// Names for the addresses of a panic. Whether the file is the crashed app's is the caller's to check
/// ([`Program::is_app`] with [`Panic::elf_sha256`]).
pub fn explain(panic: &Panic, program: &Program<'_>) -> ExplainedPanic {
    let frames = if panic.backtrace.is_empty() {
        from_registers(panic, program)
    } else {
        let shown = panic.backtrace.iter().enumerate();
        shown.flat_map(|(i, (pc, _))| place(program, *pc, i == 0, None)).collect()
    };
    let lines = || std::iter::once(&panic.reason).chain(&panic.details);
    // `abort() was called at PC 0x…`; of an ESP8266: `last failed alloc call: 40209D4A(5744)`.
    let called_at = ["at PC ", "last failed alloc call", "last failed alloc caller"]
        .iter()
        .find_map(|mark| lines().find_map(|line| super::parse::hex_after(line.replace(':', " ").as_str(), mark)));
    let addresses = called_at.into_iter().flat_map(|pc| place(program, pc, true, None)).collect();
    ExplainedPanic { backtrace: frames, addresses }
}

/// One address with all its inlined functions. `exact`: it is the instruction itself, not a return address.
fn place(program: &Program<'_>, pc: u32, exact: bool, found_by: Option<FoundBy>) -> Vec<ExplainedFrame> {
    let lookup = if exact { pc } else { pc.wrapping_sub(1) };
    let line = |location| ExplainedFrame { pc: format!("{pc:#010x}"), found_by, location };
    let found = program.locate(lookup);
    if found.is_empty() { vec![line(None)] } else { found.into_iter().map(|at| line(Some(at))).collect() }
}

/// Without a printed chain (RISC-V) the registers and the printed stack are unwound.
fn from_registers(panic: &Panic, program: &Program<'_>) -> Vec<ExplainedFrame> {
    let Some(registers) = registers(panic, program.arch()) else { return Vec::new() };
    let memory = Stack(
        panic
            .stack
            .iter()
            .map(|(at, words)| (*at, words.iter().flat_map(|word| word.to_le_bytes()).collect()))
            .collect(),
    );
    let memory = Stack(joined(memory.0));
    let programs = [program];
    let unwinder = Unwinder { programs: &programs, memory: &memory, rom: None };
    let show = |frame: &Frame| place(program, frame.pc, frame.first, Some(frame.found));
    let mut frames: Vec<ExplainedFrame> = unwinder.unwind(&registers).iter().flat_map(show).collect();
    if program.arch() == Arch::Xtensa {
        let words = panic.stack.iter().flat_map(|(_, words)| words);
        let calls = words.filter(|word| follows_a_call(program, **word)).take(MAX_SEEN);
        frames.extend(calls.flat_map(|word| place(program, *word, false, Some(FoundBy::StackScanUnverified))));
    }
    frames
}

/// Most return addresses taken from a printed stack.
const MAX_SEEN: usize = 64;

/// Without register windows (ESP8266) the stack alone holds the way back: an address behind a CALL0 or CALLX0 may be one
/// (Xtensa instruction set reference, both are three bytes).
fn follows_a_call(program: &Program<'_>, address: u32) -> bool {
    let Some(before) = address.checked_sub(3).filter(|_| program.is_code(address)) else { return false };
    match program.read(before, 3) {
        Some([first, ..]) if first & 0x3f == 0x05 => true,
        Some([0xc0, second, 0]) => *second < 0x10,
        _ => false,
    }
}

/// Lines of a stack dump that follow each other become one piece.
fn joined(lines: Vec<(u32, Vec<u8>)>) -> Vec<(u32, Vec<u8>)> {
    let mut pieces: Vec<(u32, Vec<u8>)> = Vec::new();
    for (at, bytes) in lines {
        match pieces.last_mut() {
            Some((start, piece)) if u32::try_from(piece.len()).is_ok_and(|len| start.wrapping_add(len) == at) => {
                piece.extend(bytes);
            }
            _ => pieces.push((at, bytes)),
        }
    }
    pieces
}

fn registers(panic: &Panic, arch: Arch) -> Option<Registers> {
    let printed = |name: &str| {
        // The panic handler prints capitals, and s0 with its other name.
        let same = |found: &str| found.split('/').any(|part| part.eq_ignore_ascii_case(name));
        panic.registers.iter().find(|(found, _)| same(found)).map(|(_, value)| *value)
    };
    let (pc, names): (u32, &[&str]) = match arch {
        Arch::Xtensa => (printed("PC").or_else(|| printed("EPC1"))?, &XTENSA_NAMES),
        Arch::Riscv => (printed("MEPC")?, &RISCV_NAMES),
    };
    let general = names.iter().map(|name| printed(name).unwrap_or_default()).collect();
    Some(Registers { arch, pc, general, special: Vec::new() })
}
