//! From registers and stack to the chain of callers.
//!
//! Xtensa: the windowed ABI keeps each caller's registers below the callee's stack pointer. RISC-V: call frame
//! information of the ELF file first; where it has none (ROM code, no ELF) the frame pointer, then a search of the
//! stack for return addresses. Each frame says how it was found.

use gimli::{BaseAddresses, CfaRule, CieOrFde, DebugFrame, EhFrame, RegisterRule, UnwindContext, UnwindSection};
use serde::Serialize;

use super::{Program, Slice, xtensa};
use esp_model::chip::Arch;
use esp_model::coredump::Registers;

/// Deepest chain that is followed.
pub const MAX_FRAMES: usize = 96;
/// How far a stack is searched for a return address, in words.
const SCAN_WORDS: u32 = 512;

/// Memory of the device as far as it was saved.
pub trait Memory {
    /// `len` bytes at an address.
    fn read(&self, address: u32, len: usize) -> Option<&[u8]>;

    /// The little-endian word at an address.
    fn word(&self, address: u32) -> Option<u32> {
        Some(u32::from_le_bytes(self.read(address, 4)?.try_into().ok()?))
    }
}

/// How a frame was found; from certain to doubtful.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FoundBy {
    /// The task's own registers.
    Registers,
    /// The register window that was spilled to the stack (Xtensa).
    Window,
    /// Call frame information of the ELF file.
    CallFrameInfo,
    /// The return address register of a function without call frame information.
    ReturnAddress,
    /// The chain of frame pointers.
    FramePointer,
    /// A return address seen on the stack, whose own caller could be unwound.
    StackScan,
    /// A value on the stack that may be a return address into the ROM.
    StackScanUnverified,
}

/// One level of a call chain.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Program counter; a return address in all but the first frame.
    pub pc: u32,
    /// General registers by number, as far as they are known in this frame.
    pub registers: Vec<Option<u32>>,
    /// Canonical frame address (the caller's stack pointer), where known.
    pub cfa: Option<u32>,
    /// How it was found.
    pub found: FoundBy,
    /// First of its chain: `pc` is the instruction itself.
    pub first: bool,
}

impl Frame {
    /// The one in which the registers were saved.
    pub(super) fn innermost(start: &Registers) -> Self {
        let registers = start.general.iter().copied().map(Some).collect();
        Self { pc: start.pc, registers, cfa: None, found: FoundBy::Registers, first: true }
    }

    /// The address to look up: the call itself rather than what follows it.
    pub fn lookup(&self) -> u32 {
        if self.first { self.pc } else { self.pc.wrapping_sub(1) }
    }

    pub(super) fn register(&self, number: usize) -> Option<u32> {
        self.registers.get(number).copied().flatten()
    }
}

/// What a chain of callers is built from.
pub struct Unwinder<'u, 'p> {
    /// The app's ELF file first, then others (ROM).
    pub programs: &'u [&'u Program<'p>],
    /// Saved memory.
    pub memory: &'u dyn Memory,
    /// Addresses of the chip's ROM code, end excluded, for the doubtful frames.
    pub rom: Option<(u32, u32)>,
}

const RA: usize = 1;
const SP: usize = 2;
const S0: usize = 8;

impl<'p> Unwinder<'_, 'p> {
    /// The chain of callers, innermost first.
    pub fn unwind(&self, start: &Registers) -> Vec<Frame> {
        if start.arch == Arch::Xtensa {
            return xtensa::unwind(start, self.memory);
        }
        let mut frame = Frame::innermost(start);
        let mut frames = Vec::new();
        while frames.len() < MAX_FRAMES {
            let step = self.caller(&frame);
            frame.cfa = step.cfa;
            let (pc, sp) = (frame.pc, frame.register(SP));
            frames.push(frame);
            match step.next {
                // The same place again means that the information does not lead on.
                Some(next) if next.pc > 1 && (next.pc != pc || next.register(SP) != sp) => frame = next,
                _ => break,
            }
        }
        frames
    }

    fn caller(&self, frame: &Frame) -> Step {
        if let Some(step) = self.by_cfi(frame) {
            return step;
        }
        let guess =
            self.by_return_register(frame).or_else(|| self.by_frame_pointer(frame)).or_else(|| self.by_scan(frame));
        Step { cfa: None, next: guess }
    }

    fn program_with_code(&self, address: u32) -> Option<&Program<'p>> {
        self.programs.iter().copied().find(|program| program.is_code(address))
    }

    /// One step by call frame information. None when there is none for this address.
    fn by_cfi(&self, frame: &Frame) -> Option<Step> {
        self.programs.iter().find_map(|program| program.step(frame, self.memory))
    }

    /// The innermost function has not saved `ra` yet, or the program counter is wild (a call through a bad pointer).
    fn by_return_register(&self, frame: &Frame) -> Option<Frame> {
        let ra = frame.register(RA).filter(|_| frame.first)?;
        self.follows_call(ra).then(|| Frame {
            pc: ra,
            registers: frame.registers.clone(),
            cfa: None,
            found: FoundBy::ReturnAddress,
            first: false,
        })
    }

    /// With frame pointers `s0` is the frame's top: `ra` and the caller's `s0` lie just below it.
    fn by_frame_pointer(&self, frame: &Frame) -> Option<Frame> {
        let (sp, top) = (frame.register(SP)?, frame.register(S0)?);
        if top <= sp || top.wrapping_sub(sp) > 0x1_0000 || top % 16 != 0 {
            return None;
        }
        let pc = self.memory.word(top.wrapping_sub(4)).filter(|pc| self.follows_call(*pc))?;
        let previous = self.memory.word(top.wrapping_sub(8))?;
        let mut next = Frame { pc, found: FoundBy::FramePointer, first: false, cfa: None, registers: vec![None; 32] };
        set(&mut next.registers, SP, Some(top));
        set(&mut next.registers, S0, Some(previous));
        Some(next)
    }

    /// Searches the stack upward for a return address whose own caller checks out.
    fn by_scan(&self, frame: &Frame) -> Option<Frame> {
        let sp = frame.register(SP)?;
        for slot in (0..SCAN_WORDS).map(|i| sp.wrapping_add(i * 4)) {
            let word = self.memory.word(slot)?;
            if word % 2 != 0 || word == frame.pc {
                continue;
            }
            let call = self.follows_call(word);
            if call && let Some(found) = self.frame_at(word, slot) {
                return Some(found);
            }
            // The ROM's own file names its code, but mostly without information to unwind it.
            let in_rom = self.rom.is_some_and(|(start, end)| (start..end).contains(&word)) && word > 0x400;
            if in_rom && (call || !self.sees_code(word.wrapping_sub(2))) {
                return Some(bare(word, slot.wrapping_add(4), FoundBy::StackScanUnverified));
            }
        }
        None
    }

    /// `word` is a return address if its frame, for one of the places its stack can begin, leads on.
    fn frame_at(&self, word: u32, slot: u32) -> Option<Frame> {
        (1..=12).map(|i| bare(word, slot.wrapping_add(i * 4), FoundBy::StackScan)).find(|frame| self.leads_on(frame))
    }

    /// The frame's callers check out: to the end of the task's chain, or for several levels.
    fn leads_on(&self, frame: &Frame) -> bool {
        const LEVELS: usize = 4;
        let mut frame = frame.clone();
        for level in 0..LEVELS {
            match self.by_cfi(&frame) {
                Some(Step { next: Some(next), .. }) if self.follows_call(next.pc) => frame = next,
                // The first function of a task has no return address, or a zero one.
                Some(Step { next, .. }) => return level > 0 && next.is_none_or(|next| next.pc == 0),
                None => return false,
            }
        }
        true
    }

    /// The instructions at this address are at hand.
    fn sees_code(&self, address: u32) -> bool {
        self.program_with_code(address).is_some_and(|program| program.read(address, 2).is_some())
    }

    /// The instruction before this address is a call, in code that we can see.
    fn follows_call(&self, address: u32) -> bool {
        let Some(program) = self.program_with_code(address.wrapping_sub(2)) else { return false };
        let half = |at: u32| {
            let bytes: [u8; 2] = program.read(at, 2)?.try_into().ok()?;
            Some(u16::from_le_bytes(bytes))
        };
        let (long, short) = (half(address.wrapping_sub(4)), half(address.wrapping_sub(2)));
        // jal ra / jalr ra, …: opcode in bits 0–6, rd in bits 7–11.
        let is_long = long.is_some_and(|low| matches!(low & 0x7f, 0x6f | 0x67) && (low >> 7) & 0x1f == 1);
        // c.jalr rs1: 1001 rs1 00000 10; c.jal: 001 … 01.
        let is_short =
            short.is_some_and(|code| (code & 0xf07f == 0x9002 && (code >> 7) & 0x1f != 0) || (code & 0xe003 == 0x2001));
        is_long || is_short
    }
}

/// Where one step led.
pub(super) struct Step {
    cfa: Option<u32>,
    next: Option<Frame>,
}

fn bare(pc: u32, sp: u32, found: FoundBy) -> Frame {
    let mut registers = vec![None; 32];
    set(&mut registers, SP, Some(sp));
    Frame { pc, registers, cfa: None, found, first: false }
}

fn set(registers: &mut [Option<u32>], number: usize, value: Option<u32>) {
    if let Some(slot) = registers.get_mut(number) {
        *slot = value;
    }
}

/// Call frame information sorted by address.
#[derive(Default)]
pub(super) struct CfiIndex<'a> {
    debug: Vec<gimli::FrameDescriptionEntry<Slice<'a>>>,
    eh: Vec<gimli::FrameDescriptionEntry<Slice<'a>>>,
}

impl<'a> Program<'a> {
    fn index(&self) -> &CfiIndex<'a> {
        self.cfi.get_or_init(|| CfiIndex {
            debug: entries(&self.debug_section(), &BaseAddresses::default()),
            eh: entries(&self.eh_section(), &self.eh_bases()),
        })
    }

    fn debug_section(&self) -> DebugFrame<Slice<'a>> {
        let mut section = DebugFrame::new(self.debug_frame, gimli::LittleEndian);
        section.set_address_size(4);
        section
    }

    fn eh_section(&self) -> EhFrame<Slice<'a>> {
        let mut section = EhFrame::new(self.eh_frame.1, gimli::LittleEndian);
        section.set_address_size(4);
        section
    }

    fn eh_bases(&self) -> BaseAddresses {
        BaseAddresses::default().set_eh_frame(u64::from(self.eh_frame.0))
    }

    fn step(&self, frame: &Frame, memory: &dyn Memory) -> Option<Step> {
        let at = u64::from(frame.lookup());
        let index = self.index();
        if let Some(entry) = find(&index.debug, at) {
            return apply(&self.debug_section(), &BaseAddresses::default(), entry, frame, memory);
        }
        apply(&self.eh_section(), &self.eh_bases(), find(&index.eh, at)?, frame, memory)
    }
}

fn entries<'a, S: UnwindSection<Slice<'a>>>(
    section: &S,
    bases: &BaseAddresses,
) -> Vec<gimli::FrameDescriptionEntry<Slice<'a>>> {
    let mut found = Vec::new();
    let mut all = section.entries(bases);
    while let Ok(Some(entry)) = all.next() {
        if let CieOrFde::Fde(partial) = entry {
            found.extend(partial.parse(S::cie_from_offset).ok().filter(|entry| entry.len() > 0));
        }
    }
    found.sort_by_key(gimli::FrameDescriptionEntry::initial_address);
    found
}

fn find<'i, 'a>(
    entries: &'i [gimli::FrameDescriptionEntry<Slice<'a>>],
    address: u64,
) -> Option<&'i gimli::FrameDescriptionEntry<Slice<'a>>> {
    let end = entries.partition_point(|entry| entry.initial_address() <= address);
    entries.get(end.checked_sub(1)?).filter(|entry| entry.contains(address))
}

/// Restores the caller's registers by the rules of one entry.
fn apply<'a, S: UnwindSection<Slice<'a>>>(
    section: &S,
    bases: &BaseAddresses,
    entry: &gimli::FrameDescriptionEntry<Slice<'a>>,
    frame: &Frame,
    memory: &dyn Memory,
) -> Option<Step> {
    let mut context = UnwindContext::new();
    let row = entry.unwind_info_for_address(section, bases, &mut context, u64::from(frame.lookup())).ok()?;
    let CfaRule::RegisterAndOffset { register, offset } = row.cfa() else { return None };
    let cfa = add(frame.register(usize::from(register.0))?, *offset);
    let return_column = entry.cie().return_address_register();
    let mut registers = frame.registers.clone();
    // What a callee may clobber is not known in the caller (a0–a7, t0–t6).
    for number in (5..8).chain(10..18).chain(28..32) {
        set(&mut registers, number, None);
    }
    let mut ended = false;
    for (register, rule) in row.registers() {
        let value = match *rule {
            RegisterRule::Offset(offset) => memory.word(add(cfa, offset)),
            RegisterRule::ValOffset(offset) => Some(add(cfa, offset)),
            RegisterRule::Register(other) => frame.register(usize::from(other.0)),
            RegisterRule::SameValue => frame.register(usize::from(register.0)),
            RegisterRule::Undefined => {
                ended |= *register == return_column;
                None
            }
            _ => None,
        };
        set(&mut registers, usize::from(register.0), value);
    }
    set(&mut registers, SP, Some(cfa));
    let pc = registers.get(usize::from(return_column.0)).copied().flatten().filter(|_| !ended);
    let next = pc.map(|pc| Frame { pc, registers, cfa: None, found: FoundBy::CallFrameInfo, first: false });
    Some(Step { cfa: Some(cfa), next })
}

fn add(base: u32, offset: i64) -> u32 {
    // Addresses are 32 bit wide and wrap.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let offset = offset as u32;
    base.wrapping_add(offset)
}
