//! What an ELF file makes of a panic that a console showed.

use esp_model::chip::Arch;
use esp_model::console::Panic;
use esp_model::coredump::{RISCV_NAMES, Registers, XTENSA_NAMES};
use serde::Serialize;

use crate::symbols::{FoundBy, Frame, Memory, NullMember, Program, SourceLocation, Unwinder};

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
    let addresses = panic.called_at().into_iter().flat_map(|pc| place(program, pc, true, None)).collect();
    ExplainedPanic { backtrace: frames, addresses }
}

/// One address with all its inlined functions. `exact`: it is the instruction itself, not a return address.
fn place(program: &Program<'_>, pc: u32, exact: bool, found_by: Option<FoundBy>) -> Vec<ExplainedFrame> {
    let lookup = if exact { pc } else { pc.wrapping_sub(1) };
    let line = |location| ExplainedFrame { pc: format!("{pc:#010x}"), found_by, location };
    let found = program.locate(lookup);
    if found.is_empty() { vec![line(None)] } else { found.into_iter().map(|at| line(Some(at))).collect() }
}

/// Members of structures that an address a little behind a null pointer may mean, where the panic happened.
pub fn null_members(panic: &Panic, program: &Program<'_>, offset: u32) -> Vec<NullMember> {
    let Some(registers) = registers(panic, program.arch()) else { return Vec::new() };
    let memory = stack(panic);
    let programs = [program];
    let mut frames = Unwinder { programs: &programs, memory: &memory, rom: None }.unwind(&registers);
    // A register that was not printed is not known to be null.
    if let Some(first) = frames.first_mut() {
        let names = names(program.arch()).iter().map(|name| printed(panic, name));
        first.registers.iter_mut().zip(names).for_each(|(known, printed)| *known = printed);
    }
    program.null_members(&frames, &memory, offset)
}

/// The stack as the panic handler printed it.
fn stack(panic: &Panic) -> Stack {
    let bytes = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect();
    Stack(joined(panic.stack.iter().map(|(at, words)| (*at, bytes(words))).collect()))
}

/// Without a printed chain (RISC-V) the registers and the printed stack are unwound.
fn from_registers(panic: &Panic, program: &Program<'_>) -> Vec<ExplainedFrame> {
    let Some(registers) = registers(panic, program.arch()) else { return Vec::new() };
    let memory = stack(panic);
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

/// A register by its name in the instruction set.
fn printed(panic: &Panic, name: &str) -> Option<u32> {
    // The panic handler prints capitals, and s0 with its other name.
    let same = |found: &str| found.split('/').any(|part| part.eq_ignore_ascii_case(name));
    panic.registers.iter().find(|(found, _)| same(found)).map(|(_, value)| *value)
}

fn names(arch: Arch) -> &'static [&'static str] {
    match arch {
        Arch::Xtensa => &XTENSA_NAMES,
        Arch::Riscv => &RISCV_NAMES,
    }
}

fn registers(panic: &Panic, arch: Arch) -> Option<Registers> {
    let pc = match arch {
        Arch::Xtensa => printed(panic, "PC").or_else(|| printed(panic, "EPC1"))?,
        Arch::Riscv => printed(panic, "MEPC")?,
    };
    let general = names(arch).iter().map(|name| printed(panic, name).unwrap_or_default()).collect();
    Some(Registers { arch, pc, general, special: Vec::new() })
}
