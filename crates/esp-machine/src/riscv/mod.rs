//! RV32IMC and RV32IMAC, with bit manipulation where a chip has it, in machine mode, as Espressif's cores have them.
//!
//! Source: the RISC-V specifications (unprivileged 20191213, privileged 1.11) and, for Espressif's own registers and
//! interrupts, ESP-IDF's `components/riscv` and the chips' technical reference manuals.

mod bits;
mod csr;
mod decode;
mod execute;
mod float;
mod loops;
mod waits;
mod zc;

use crate::chip::InterruptStyle;
use crate::cpu::{Cpu, Exit};
use crate::soc::Soc;
use crate::waits::Polls;
use decode::Op;

/// Decoded instructions of a frame, one slot a halfword.
type Decoded = Box<[Op; 2048]>;

/// Exceptions.
const FETCH_FAULT: u32 = 1;
const ILLEGAL: u32 = 2;
const BREAKPOINT: u32 = 3;
const LOAD_FAULT: u32 = 5;
const STORE_FAULT: u32 = 7;
const CALL: u32 = 11;

const MIE: u32 = 1 << 3;
const MPIE: u32 = 1 << 7;
const MPP: u32 = 3 << 11;

/// A core.
#[derive(Clone)]
pub struct RiscV {
    /// x0 … x31, and the sink of writes to x0.
    x: [u32; 64],
    pc: u32,
    cycles: u64,
    /// Cycles that passed idle.
    idle: u64,
    /// Cycle count at the last reset.
    started: u64,
    csr: csr::Csrs,
    /// Address reserved by LR.
    reserved: Option<u32>,
    atomics: bool,
    /// The extensions Zba, Zbb and Zbs.
    bits: bool,
    /// The extension F.
    floats: bool,
    float: float::Float,
    /// Hardware loops, and a vector unit.
    has_loops: bool,
    /// The extensions Zcb, Zcmp and Zcmt.
    short: bool,
    loops: loops::Loops,
    /// WFI was executed and nothing has been pending since.
    waiting: bool,
    decoded: Vec<Option<Decoded>>,
    breakpoints: Vec<u32>,
    /// The breakpoint at this address is passed over once: execution goes on from it.
    resume_at: Option<u32>,
    /// A debugger steps: no interrupt is taken.
    stepped: bool,
    /// Loops that wait for a time.
    polls: Polls,
}

impl std::fmt::Debug for RiscV {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RiscV(pc {:#010x}, {} cycles)", self.pc, self.cycles)
    }
}

impl RiscV {
    /// A core of this instruction set (`rv32imc`, `rv32imac_zb`, `rv32imafc` …).
    pub fn new(isa: &str, number: u32) -> Self {
        Self {
            x: [0; 64],
            pc: 0,
            cycles: 0,
            idle: 0,
            started: 0,
            csr: csr::Csrs::new(number),
            reserved: None,
            waiting: false,
            atomics: isa.split('_').next().unwrap_or_default().contains('a'),
            bits: isa.contains("_zb"),
            floats: isa.split('_').next().unwrap_or_default().contains('f'),
            float: float::Float::default(),
            short: isa.contains("_zc"),
            has_loops: isa.contains("_xesploop"),
            loops: loops::Loops::default(),
            decoded: Vec::new(),
            breakpoints: Vec::new(),
            resume_at: None,
            stepped: false,
            polls: Polls::default(),
        }
    }

    /// An exception at `pc`.
    fn trap(&mut self, cause: u32, pc: u32, value: u32) {
        self.csr.mepc = pc;
        self.csr.mtval = value;
        self.enter(cause | (u32::from(self.csr.clic) * (self.csr.mil() << 16)));
        self.pc = if self.csr.clic { self.csr.mtvec & !0x3f } else { self.csr.mtvec & !0xff };
        self.reserved = None;
    }

    fn enter(&mut self, cause: u32) {
        let status = self.csr.mstatus;
        // A CLIC keeps the previous privilege and enable in the cause as well.
        let kept = if self.csr.clic { 3 << 28 | (status & MIE) << 24 } else { 0 };
        self.csr.mcause = cause | kept;
        self.csr.mstatus = status & !(MIE | MPIE) | (status & MIE) << 4 | MPP;
    }

    /// Takes an interrupt when one is there and enabled.
    fn interrupt(&mut self, soc: &mut Soc) {
        if self.csr.mstatus & MIE == 0 {
            return;
        }
        let threshold = (self.csr.mintthresh & 0xff) as u8;
        let core = self.csr.hart as usize;
        let Some(offer) = soc.offered(core, self.csr.mil() as u8, threshold) else { return };
        self.csr.mepc = self.pc;
        self.csr.mtval = 0;
        self.reserved = None;
        self.waiting = false;
        if self.csr.clic {
            self.enter(1 << 31 | self.csr.mil() << 16 | offer.line);
            self.csr.set_mil(offer.level.into());
            self.pc = if offer.vectored {
                soc.memory.word(self.csr.mtvt.wrapping_add(4 * offer.line)).unwrap_or(0)
            } else {
                self.csr.mtvec & !0x3f
            };
        } else {
            self.enter(1 << 31 | offer.line);
            let vector = if self.csr.mtvec & 1 != 0 { 4 * offer.line } else { 0 };
            self.pc = (self.csr.mtvec & !0xff).wrapping_add(vector);
        }
    }

    fn pending(&self, soc: &Soc) -> bool {
        soc.offered(self.csr.hart as usize, self.csr.mil() as u8, (self.csr.mintthresh & 0xff) as u8).is_some()
    }

    fn mret(&mut self) {
        let status = self.csr.mstatus;
        self.csr.mstatus = status & !MIE | (status & MPIE) >> 4 | MPIE;
        if self.csr.clic {
            self.csr.set_mil(self.csr.mcause >> 16 & 0xff);
        }
        self.pc = self.csr.mepc & !1;
    }

    /// Loops are armed, and one instruction was executed.
    fn after(&mut self, page: &[Op; 2048], at: u32) {
        let length = page[(at >> 1) as usize & 0x7ff].length();
        if length != 0 && self.pc == at.wrapping_add(length) {
            self.end_of_loop(at);
        }
    }

    fn take_page(&mut self, frame: u32) -> Decoded {
        let index = frame as usize;
        if self.decoded.len() <= index {
            self.decoded.resize(index + 1, None);
        }
        self.decoded.get_mut(index).and_then(Option::take).unwrap_or_else(blank)
    }
}

/// GDB numbers the control and status registers behind the floating-point ones.
fn csr_of(number: usize) -> Option<u32> {
    number.checked_sub(65).filter(|csr| *csr < 4096).map(|csr| csr as u32)
}

fn blank() -> Decoded {
    let page = vec![Op::UNDECODED; 2048].into_boxed_slice();
    // The length is right by construction; the array form spares a check for each instruction.
    page.try_into().unwrap_or_else(|_| Box::new([Op::UNDECODED; 2048]))
}

impl Cpu for RiscV {
    fn reset(&mut self, entry: u32) {
        self.x = [0; 64];
        self.pc = entry;
        self.started = self.cycles;
        self.csr = csr::Csrs::new(self.csr.hart);
        self.float = float::Float::default();
        self.loops = loops::Loops::default();
        self.reserved = None;
        self.waiting = false;
        self.polls = Polls::default();
    }

    fn run(&mut self, soc: &mut Soc, budget: u64) -> Exit {
        let end = self.cycles.saturating_add(budget);
        soc.shared.stop = false;
        self.csr.clic = soc.board.interrupts.style == InterruptStyle::Clic;
        let before = self.pc;
        if !self.stepped {
            self.interrupt(soc);
            // The other core may have stored there since.
            self.reserved = None;
        }
        if self.pc != before {
            self.polls.stop(self.cycles);
        } else if self.polls.due && self.loops.are_armed() {
            self.polls = Polls::default();
        } else if self.polls.due {
            self.pass_rounds(soc);
        }
        if self.polls.left > 0 && self.cycles < end {
            let passed = self.polls.left.min(end - self.cycles);
            self.polls.left -= passed;
            self.skip(passed);
            return Exit::Budget;
        }
        // Pending is enough, taken or not.
        self.waiting = self.waiting && !self.pending(soc);
        if self.waiting {
            return Exit::Idle;
        }
        while self.cycles < end && !soc.shared.stop {
            let frame = match soc.code(self.pc) {
                Ok(frame) => frame,
                Err(_) => {
                    let pc = self.pc;
                    self.trap(FETCH_FAULT, pc, pc);
                    self.cycles += 1;
                    continue;
                }
            };
            let mut page = self.take_page(frame);
            let looping = self.loops.are_armed();
            let (at, end) = (self.pc, if looping { self.cycles + 1 } else { end });
            let exit = self.run_page(soc, &mut page, frame, end);
            if looping {
                self.after(&page, at);
            }
            if let Some(slot) = self.decoded.get_mut(frame as usize) {
                *slot = Some(page);
            }
            if let Some(exit) = exit {
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
        self.waiting && !self.pending(soc)
    }

    fn skip(&mut self, cycles: u64) {
        self.idle = self.idle.saturating_add(cycles);
        self.cycles = self.cycles.saturating_add(cycles);
    }

    fn next_timer(&self) -> Option<u64> {
        None
    }

    fn pc(&self) -> u32 {
        self.pc
    }

    fn set_pc(&mut self, pc: u32) {
        self.pc = pc;
        self.waiting = false;
        self.resume_at = None;
        self.polls = Polls::default();
    }

    fn register(&self, number: usize) -> Option<u32> {
        match number {
            0 => Some(0),
            1..=31 => self.x.get(number).copied(),
            32 => Some(self.pc),
            33..=64 if self.floats => self.float.f.get(number - 33).copied(),
            _ => self.read_csr(csr_of(number)?),
        }
    }

    fn set_register(&mut self, number: usize, value: u32) -> bool {
        match number {
            1..=31 => self.x[number] = value,
            32 => self.set_pc(value),
            0 => {}
            33..=64 if self.floats => self.float.f[number - 33] = value,
            _ => match csr_of(number) {
                Some(csr) => self.write_csr(csr, value),
                None => return false,
            },
        }
        true
    }

    fn overwritten(&mut self, place: u32) {
        let (frame, half) = ((place / 4096) as usize, (place % 4096 / 2) as usize);
        if let Some(Some(page)) = self.decoded.get_mut(frame) {
            page[half] = Op::UNDECODED;
            // An instruction of four bytes may begin before it.
            page[half.saturating_sub(1)] = Op::UNDECODED;
        }
    }

    fn set_breakpoints(&mut self, addresses: &[u32]) {
        self.breakpoints = addresses.to_vec();
        self.resume_at = None;
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
    }
}
