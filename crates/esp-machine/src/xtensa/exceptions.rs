//! Exceptions, interrupts, the timers and debug exceptions.

use crate::cpu::Fault;
use crate::memory::READ;
use crate::soc::Soc;

use super::{EXCM, Xtensa};

/// What ends an instruction early. The numbers are EXCCAUSE's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Trap {
    Illegal = 0,
    Syscall = 1,
    /// An access of less than a word to memory of the instruction bus, or a store to memory that is only read.
    LoadStoreError = 3,
    Interrupt = 4,
    Alloca = 5,
    DivideByZero = 6,
    Alignment = 9,
    FetchProhibited = 20,
    LoadProhibited = 28,
    StoreProhibited = 29,
    /// Coprocessor 0: the floating-point unit.
    NoFloat = 32,
    /// Coprocessor 3: the vector unit.
    NoVector = 35,
    /// DBREAK: not an EXCCAUSE but a debug exception; see DEBUGCAUSE.
    Watch = 64,
}

/// PS.INTLEVEL of debug exceptions, and the highest level.
const DEBUG_LEVEL: u32 = 6;
const NMI_LEVEL: u32 = 7;
/// While PS.EXCM is set, interrupts up to this level wait.
const EXCM_LEVEL: u32 = 3;

/// Lines by level, from `core-isa.h` of ESP-IDF (the same in all of Espressif's cores).
const LEVELS: [u32; 8] = [0, 0x0006_37ff, 0x0038_0000, 0x28c0_8800, 0x5300_0000, 0x8401_0000, 0, 1 << 14];
/// Lines of the three timers.
const TIMERS: [u32; 3] = [6, 15, 16];
/// Lines that software raises.
const SOFTWARE: u32 = 1 << 7 | 1 << 29;
/// Lines that keep an edge until it is cleared.
const EDGES: u32 = 1 << 10 | 1 << 14 | 1 << 22 | 1 << 28 | 1 << 30;

/// DEBUGCAUSE.
pub(super) const CAUSE_IBREAK: u32 = 1 << 1;
pub(super) const CAUSE_DBREAK: u32 = 1 << 2;
pub(super) const CAUSE_BREAK: u32 = 1 << 3;
pub(super) const CAUSE_BREAK_NARROW: u32 = 1 << 4;

/// State of interrupts and timers.
#[derive(Debug, Clone, Default)]
pub struct Interrupts {
    /// INTENABLE.
    pub enable: u32,
    /// Raised by software, by a timer, or kept after an edge.
    latched: u32,
    /// As the matrix drove the lines when last looked at.
    lines: u32,
    /// CCOMPARE.
    pub compare: [u32; 3],
    /// At which cycle each timer matches next.
    match_at: [u64; 3],
}

impl Xtensa {
    /// CCOUNT.
    pub(super) fn count(&self) -> u32 {
        (self.cycles as u32).wrapping_sub(self.count_base)
    }

    /// Sets it: the timers match at other times.
    pub(super) fn set_count(&mut self, value: u32) {
        self.count_base = (self.cycles as u32).wrapping_sub(value);
        for index in 0..3 {
            self.schedule(index);
        }
        self.attention = true;
    }

    fn schedule(&mut self, index: usize) {
        let distance = self.interrupts.compare[index].wrapping_sub(self.count());
        let distance = if distance == 0 { 1 << 32 } else { u64::from(distance) };
        self.interrupts.match_at[index] = self.cycles + distance;
    }

    /// Sets a timer; that also ends its interrupt.
    pub(super) fn set_compare(&mut self, index: usize, value: u32) {
        self.interrupts.compare[index] = value;
        self.interrupts.latched &= !(1 << TIMERS[index]);
        self.schedule(index);
        self.attention = true;
    }

    /// After a reset.
    pub(super) fn reset_interrupts(&mut self) {
        self.interrupts = Interrupts::default();
        for index in 0..3 {
            self.schedule(index);
        }
    }

    /// The lines, after a look at timers and matrix.
    pub(super) fn look(&mut self, soc: &mut Soc) -> u32 {
        for (index, line) in TIMERS.iter().enumerate() {
            if self.cycles >= self.interrupts.match_at[index] {
                self.interrupts.latched |= 1 << line;
                self.interrupts.match_at[index] += 1 << 32;
            }
        }
        let lines = soc.lines(self.number);
        self.interrupts.latched |= lines & !self.interrupts.lines & EDGES;
        self.interrupts.lines = lines;
        self.raised()
    }

    /// INTERRUPT.
    pub(super) fn raised(&self) -> u32 {
        const INTERNAL: u32 = SOFTWARE | 1 << 6 | 1 << 15 | 1 << 16 | 1 << 11;
        self.interrupts.latched | self.interrupts.lines & !(EDGES | INTERNAL)
    }

    /// INTSET.
    pub(super) fn raise(&mut self, lines: u32) {
        self.interrupts.latched |= lines & SOFTWARE;
        self.attention = true;
    }

    /// INTCLEAR.
    pub(super) fn clear(&mut self, lines: u32) {
        self.interrupts.latched &= !(lines & (SOFTWARE | EDGES));
        self.attention = true;
    }

    /// The cycle of the next match that would be an interrupt.
    pub(super) fn next_match(&self) -> u64 {
        let enabled = TIMERS.iter().zip(self.interrupts.match_at);
        let enabled = enabled.filter(|(line, _)| self.interrupts.enable >> **line & 1 != 0);
        enabled.map(|(_, at)| at).min().unwrap_or(u64::MAX)
    }

    /// PS.INTLEVEL as it counts.
    fn level(&self) -> u32 {
        let level = self.ps & 0xf;
        if self.ps & EXCM != 0 { level.max(EXCM_LEVEL) } else { level }
    }

    /// The highest level that has an interrupt to be taken.
    pub(super) fn pending_level(&self, raised: u32) -> Option<u32> {
        let ready = raised & (self.interrupts.enable | LEVELS[NMI_LEVEL as usize]);
        if ready == 0 {
            return None;
        }
        (self.level() + 1..=NMI_LEVEL).rev().find(|level| ready & LEVELS[*level as usize] != 0)
    }

    /// Takes an interrupt when one is there.
    pub(super) fn interrupt(&mut self, soc: &mut Soc) {
        let raised = self.look(soc);
        self.held_back = raised & (self.interrupts.enable | LEVELS[NMI_LEVEL as usize]) != 0;
        let Some(level) = self.pending_level(raised) else { return };
        self.waiting = false;
        match level {
            1 => self.trap(Trap::Interrupt, self.pc, None),
            NMI_LEVEL => {
                self.interrupts.latched &= !LEVELS[NMI_LEVEL as usize];
                self.enter_level(level, 0x2c0);
            }
            _ => self.enter_level(level, 0x180 + (level - 2) * 0x40),
        }
    }

    fn enter_level(&mut self, level: u32, vector: u32) {
        self.epc[level as usize & 7] = self.pc;
        self.eps[level as usize & 7] = self.ps;
        self.set_ps(self.ps & !0xf | level | EXCM);
        self.pc = self.vecbase.wrapping_add(vector);
    }

    /// A general exception of the instruction at `pc`.
    pub(super) fn trap(&mut self, trap: Trap, pc: u32, address: Option<u32>) {
        if trap == Trap::Watch {
            self.debug_exception(CAUSE_DBREAK, pc);
            return;
        }
        self.cause = u32::from(trap as u8);
        if let Some(address) = address {
            self.fault_address = address;
        }
        let vector = if self.ps & EXCM != 0 {
            self.depc = pc;
            0x3c0
        } else {
            self.epc[1] = pc;
            // PS.UM
            if self.ps & 1 << 5 != 0 { 0x340 } else { 0x300 }
        };
        self.set_ps(self.ps | EXCM);
        self.pc = self.vecbase.wrapping_add(vector);
    }

    /// A debug exception, unless one is being handled already; false then.
    pub(super) fn debug_exception(&mut self, cause: u32, pc: u32) -> bool {
        if self.level() >= DEBUG_LEVEL {
            return false;
        }
        self.debug_cause = cause;
        self.pc = pc;
        self.enter_level(DEBUG_LEVEL, 0x280);
        true
    }

    /// Whether IBREAK stops before this instruction.
    pub(super) fn instruction_breaks(&self, pc: u32) -> bool {
        (0..2).any(|index| self.ibreak_enable >> index & 1 != 0 && self.ibreak[index] == pc)
    }

    /// Whether DBREAK watches this access.
    #[cold]
    pub(super) fn data_breaks(&mut self, address: u32, store: bool) -> Result<(), Trap> {
        if self.level() >= DEBUG_LEVEL {
            return Ok(());
        }
        let watched = |index: usize| {
            let control = self.dbreak_control[index];
            let enabled = control >> if store { 31 } else { 30 } & 1 != 0;
            let mask = 0xffff_ffc0 | control & 0x3f;
            enabled && address & mask == self.dbreak[index] & mask
        };
        if (0..2).any(watched) { Err(Trap::Watch) } else { Ok(()) }
    }

    /// Sets PS.
    pub(super) fn set_ps(&mut self, value: u32) {
        self.ps = value & 0x0007_0f3f;
        self.update_room();
        // Interrupts that wait may be taken now; one that comes later ends the slice by itself.
        self.attention |= self.held_back;
    }

    /// Which exception an access that nothing answers is.
    pub(super) fn refused(&mut self, soc: &Soc, _fault: Fault, address: u32, store: bool) -> Trap {
        self.fault_address = address;
        match store {
            true if soc.memory.entry(address) & READ != 0 => Trap::LoadStoreError,
            true => Trap::StoreProhibited,
            false => Trap::LoadProhibited,
        }
    }

    /// An access that the instruction bus does not carry out: it has whole words only.
    #[cold]
    pub(super) fn not_a_word(&mut self, address: u32, size: u32) -> Trap {
        self.fault_address = address;
        if size == 4 { Trap::Alignment } else { Trap::LoadStoreError }
    }
}
