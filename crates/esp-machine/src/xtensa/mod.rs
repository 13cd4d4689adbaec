//! LX6 and LX7 cores.
//!
//! Source: "Xtensa Instruction Set Architecture Reference Manual" (Cadence), and ESP-IDF's `components/xtensa` for how
//! Espressif has configured the cores (`core-isa.h`).

mod decode;
mod exceptions;
mod execute;
mod fpu;
mod gdb;
mod kind;
mod mac16;
mod memory;
mod pie;
mod special;
mod waits;
mod window;

use crate::cpu::{Cpu, Exit};
use crate::soc::Soc;
use crate::waits::Polls;
use exceptions::{Interrupts, Trap};
use kind::{Op, Options};

/// Bits of PS: an exception is being handled; windows are checked.
const EXCM: u32 = 1 << 4;
const WOE: u32 = 1 << 18;

/// Decoded instructions of a frame, one slot a byte.
type Decoded = Box<[Op; 4096]>;

/// A core.
#[derive(Clone)]
pub struct Xtensa {
    /// All general registers; the window shows 16 of them.
    ar: [u32; 64],
    /// First register of the window.
    base: usize,
    /// Groups that can be named before a caller's registers are touched.
    room: u8,
    window_start: u16,
    pc: u32,
    ps: u32,
    cycles: u64,
    /// Cycles that passed idle.
    idle: u64,
    /// The inner loop ends at this cycle.
    limit: u64,
    /// Interrupts, PS or timers have changed: they are looked at before the next instruction.
    attention: bool,
    /// An enabled interrupt waits for a lower level.
    held_back: bool,
    /// WAITI has been executed.
    waiting: bool,
    loop_begin: u32,
    loop_end: u32,
    loop_count: u32,
    /// SAR.
    shift: u32,
    booleans: u32,
    /// SCOMPARE1.
    compare_value: u32,
    accumulator: i64,
    mac: [u32; 4],
    fr: [u32; 16],
    user: Box<[u32; 256]>,
    kept: Box<[u32; 256]>,
    epc: [u32; 8],
    eps: [u32; 8],
    excsave: [u32; 8],
    misc: [u32; 4],
    depc: u32,
    cause: u32,
    fault_address: u32,
    debug_cause: u32,
    ddr: u32,
    ibreak_enable: u32,
    ibreak: [u32; 2],
    dbreak: [u32; 2],
    dbreak_control: [u32; 2],
    coprocessors: u32,
    vecbase: u32,
    count_base: u32,
    interrupts: Interrupts,
    /// PRID.
    id: u32,
    config: [u32; 2],
    number: usize,
    options: Options,
    decoded: Vec<Option<Decoded>>,
    breakpoints: Vec<u32>,
    /// Breakpoints or IBREAK are set: every instruction's address is compared.
    watching: bool,
    /// DBREAK is set: every access' address is compared.
    watching_data: bool,
    /// The breakpoint at this address is passed over once: execution goes on from it.
    resume_at: Option<u32>,
    /// A debugger steps: no interrupt is taken.
    stepped: bool,
    /// Loops that wait for a time.
    polls: Polls,
}

impl std::fmt::Debug for Xtensa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Xtensa(pc {:#010x}, ps {:#x}, {} cycles)", self.pc, self.ps, self.cycles)
    }
}

/// PRID of the first and the second core: the ROM tells them apart by it.
const IDS: [u32; 2] = [0xcdcd, 0xabab];

impl Xtensa {
    /// A core of this instruction set: `lx6` or `lx7` and the optional parts it has (`loops mac16 s32c1i booleans float
    /// vector`).
    pub fn new(isa: &str, number: u32) -> Self {
        let mut core = Self {
            ar: [0; 64],
            base: 0,
            room: u8::MAX,
            window_start: 1,
            pc: 0,
            ps: 0x1f,
            cycles: 0,
            idle: 0,
            limit: 0,
            attention: false,
            held_back: false,
            waiting: false,
            loop_begin: 0,
            loop_end: 0,
            loop_count: 0,
            shift: 0,
            booleans: 0,
            compare_value: 0,
            accumulator: 0,
            mac: [0; 4],
            fr: [0; 16],
            user: Box::new([0; 256]),
            kept: Box::new([0; 256]),
            epc: [0; 8],
            eps: [0; 8],
            excsave: [0; 8],
            misc: [0; 4],
            depc: 0,
            cause: 0,
            fault_address: 0,
            debug_cause: 0,
            ddr: 0,
            ibreak_enable: 0,
            ibreak: [0; 2],
            dbreak: [0; 2],
            dbreak_control: [0; 2],
            // Programs compute with floats before their system has set it up (constructors of C++ objects), and that works.
            coprocessors: 0xff,
            vecbase: 0x4000_0000,
            count_base: 0,
            interrupts: Interrupts::default(),
            id: IDS[number as usize & 1],
            config: if isa.starts_with("lx6") { [0xc2bc_fffe, 0x1cc5_fe96] } else { [0xc2f0_fffe, 0x2309_f6a6] },
            number: number as usize,
            options: Options::new(isa),
            decoded: Vec::new(),
            breakpoints: Vec::new(),
            watching: false,
            watching_data: false,
            resume_at: None,
            stepped: false,
            polls: Polls::default(),
        };
        core.reset_interrupts();
        core
    }

    fn take_page(&mut self, frame: u32) -> Decoded {
        let index = frame as usize;
        if self.decoded.len() <= index {
            self.decoded.resize(index + 1, None);
        }
        self.decoded.get_mut(index).and_then(Option::take).unwrap_or_else(blank)
    }

    fn update_watching(&mut self) {
        self.watching = !self.breakpoints.is_empty() || self.ibreak_enable != 0;
        self.watching_data = self.dbreak_control.iter().any(|control| control >> 30 != 0);
    }

    /// Runs until a timer matches, something changes, or the budget is used.
    fn run_part(&mut self, soc: &mut Soc) -> Option<Exit> {
        while self.cycles < self.limit && !self.attention && !soc.shared.stop {
            let frame = match soc.code(self.pc) {
                Ok(frame) => frame,
                Err(_) => {
                    let pc = self.pc;
                    self.trap(Trap::FetchProhibited, pc, Some(pc));
                    self.cycles += 1;
                    continue;
                }
            };
            let mut page = self.take_page(frame);
            let exit = self.run_page(soc, &mut page, frame);
            if let Some(slot) = self.decoded.get_mut(frame as usize) {
                *slot = Some(page);
            }
            if exit.is_some() {
                return exit;
            }
        }
        None
    }
}

fn blank() -> Decoded {
    let page = vec![Op::UNDECODED; 4096].into_boxed_slice();
    // The length is right by construction; the array form spares a check for each instruction.
    page.try_into().unwrap_or_else(|_| Box::new([Op::UNDECODED; 4096]))
}

impl Cpu for Xtensa {
    fn reset(&mut self, entry: u32) {
        let isa_options = self.options;
        let fresh = Self::new("", self.number as u32);
        let old = std::mem::replace(self, fresh);
        self.options = isa_options;
        self.config = old.config;
        (self.cycles, self.idle) = (old.cycles, old.idle);
        self.count_base = old.cycles as u32;
        self.decoded = old.decoded;
        self.breakpoints = old.breakpoints;
        self.pc = entry;
        self.reset_interrupts();
        self.update_watching();
    }

    fn run(&mut self, soc: &mut Soc, budget: u64) -> Exit {
        let end = self.cycles.saturating_add(budget);
        soc.shared.stop = false;
        while self.cycles < end && !soc.shared.stop {
            let before = self.pc;
            if !self.stepped || self.waiting {
                self.interrupt(soc);
            }
            if self.waiting {
                return Exit::Idle;
            }
            if self.pc != before {
                self.polls.stop(self.cycles);
            } else if self.polls.due {
                self.pass_rounds(soc);
                continue;
            }
            self.attention = false;
            self.limit = end.min(self.next_match());
            if self.polls.left > 0 {
                self.pass();
                continue;
            }
            if let Some(exit) = self.run_part(soc) {
                return exit;
            }
        }
        Exit::Budget
    }

    fn cycles(&self) -> u64 {
        self.cycles
    }

    fn instructions(&self) -> u64 {
        self.cycles - self.idle
    }

    fn idles(&self) -> bool {
        self.waiting
    }

    fn stays_idle(&mut self, soc: &mut Soc) -> bool {
        self.waiting && {
            let raised = self.look(soc);
            self.pending_level(raised).is_none()
        }
    }

    fn skip(&mut self, cycles: u64) {
        self.idle = self.idle.saturating_add(cycles);
        self.cycles = self.cycles.saturating_add(cycles);
    }

    fn next_timer(&self) -> Option<u64> {
        let at = self.next_match();
        (at != u64::MAX).then(|| at.saturating_sub(self.cycles))
    }

    fn pc(&self) -> u32 {
        self.pc
    }

    fn set_pc(&mut self, pc: u32) {
        self.pc = pc;
        self.resume_at = None;
        self.polls = Polls::default();
    }

    /// As Espressif's GDB numbers them: `pc`, `ar0`…`ar63`, loops, SAR, windows, PS, and what the core's options add.
    fn register(&self, number: usize) -> Option<u32> {
        Some(match number {
            0 => self.pc,
            1..=64 => self.ar[number - 1],
            65 => self.loop_begin,
            66 => self.loop_end,
            67 => self.loop_count,
            68 => self.shift,
            69 => self.window_base(),
            70 => self.window_start.into(),
            71 | 72 => self.config[number - 71],
            73 => self.ps,
            _ => return self.extra(number),
        })
    }

    fn set_register(&mut self, number: usize, value: u32) -> bool {
        match number {
            0 => self.set_pc(value),
            1..=64 => self.ar[number - 1] = value,
            65 => self.loop_begin = value,
            66 => self.loop_end = value,
            67 => self.loop_count = value,
            68 => self.shift = value & 0x3f,
            69 => self.set_window_base(value),
            70 => {
                self.window_start = value as u16;
                self.update_room();
            }
            73 => self.set_ps(value),
            _ => return self.set_extra(number, value),
        }
        true
    }

    fn overwritten(&mut self, place: u32) {
        let (frame, byte) = ((place / 4096) as usize, (place % 4096) as usize);
        if let Some(Some(page)) = self.decoded.get_mut(frame) {
            // Instructions of up to four bytes may begin before it.
            page[byte.saturating_sub(3)..=byte + 1].fill(Op::UNDECODED);
        }
    }

    fn set_breakpoints(&mut self, addresses: &[u32]) {
        self.breakpoints = addresses.to_vec();
        self.resume_at = None;
        self.update_watching();
    }

    fn look_again(&mut self) {
        self.polls.stop(self.cycles);
    }

    fn begin_step(&mut self) {
        self.polls = Polls::default();
        self.stepped = true;
        self.resume_at = Some(self.pc);
    }

    fn end_step(&mut self) {
        self.stepped = false;
        self.resume_at = None;
        self.attention = true;
    }
}

#[cfg(test)]
mod tests;
