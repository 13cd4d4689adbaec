//! Hardware loops of Espressif's cores (`esp.lp.…`), and what else these have in the opcodes for own instructions: a vector unit
//! (PIE), whose instructions are noticed but not carried out.
//!
//! A loop has a first and a last instruction and a count. When the last one is done and rounds are left, the first one follows.
//! Source: ESP-IDF's `riscv/csr_hwlp.h`, `vectors.S`, `portasm.S` and `rv_decode.c`; encodings as in the tests of Espressif's LLVM.

use super::decode::{Kind, Op, op};
use super::{ILLEGAL, RiscV};
use crate::cpu::Exit;
use crate::events::{Event, What};
use crate::soc::Soc;

/// Control registers: what an illegal instruction would have needed, the units' states, and the loops'.
const REASON: u32 = 0x7f0;
const LOOP_STATE: u32 = 0x7f1;
const VECTOR_STATE: u32 = 0x7f2;
const FIRST: u32 = 0x7c6;
const LAST: u32 = 0x7cb;
const FLOAT_IS_OFF: u32 = 1;
const LOOPS_ARE_OFF: u32 = 2;
const VECTOR_IS_OFF: u32 = 4;
const DIRTY: u32 = 3;

/// One of the two.
#[derive(Debug, Clone, Copy, Default)]
struct Loop {
    start: u32,
    end: u32,
    count: u32,
}

/// The units' registers.
#[derive(Debug, Clone, Default)]
pub struct Loops {
    state: u32,
    vector: u32,
    reason: u32,
    loops: [Loop; 2],
}

impl Loops {
    /// Some loop has rounds left.
    pub fn are_armed(&self) -> bool {
        self.state != 0 && self.loops.iter().any(|known| known.count != 0)
    }

    pub fn read(&self, number: u32) -> Option<u32> {
        Some(match number {
            REASON => self.reason,
            LOOP_STATE => self.state,
            VECTOR_STATE => self.vector,
            FIRST..=LAST => {
                let Loop { start, end, count } = self.loops[(number - FIRST) as usize / 3];
                [start, end, count][(number - FIRST) as usize % 3]
            }
            _ => return None,
        })
    }

    /// False when it is somebody else's.
    pub fn write(&mut self, number: u32, value: u32) -> bool {
        match number {
            REASON => self.reason = value,
            LOOP_STATE => self.state = value & DIRTY,
            VECTOR_STATE => self.vector = value & DIRTY,
            FIRST..=LAST => {
                let known = &mut self.loops[(number - FIRST) as usize / 3];
                *[&mut known.start, &mut known.end, &mut known.count][(number - FIRST) as usize % 3] = value;
                if self.state != 0 {
                    self.state = DIRTY;
                }
            }
            _ => return false,
        }
        true
    }
}

/// Instructions of loops, where a core has them.
pub fn decode(word: u32) -> Option<Op> {
    let is_loop = word & 0x7f == 0x2b && word >> 12 & 7 <= 5;
    is_loop.then(|| op(Kind::Loop, 0, word >> 15 & 31, 0, word, 4))
}

/// The opcodes of the vector unit (its few in the opcode of register arithmetic are not told apart).
fn is_vector(word: u32) -> bool {
    word & 0b001_1011 == 0b001_1011
}

impl RiscV {
    /// An instruction that is rarer than those of the inner loop, or none at all.
    #[inline(never)]
    pub(super) fn own_instruction(&mut self, soc: &mut Soc, op: Op) -> Option<Exit> {
        if op.kind == Kind::Zc {
            return self.several(soc, op.imm);
        }
        if op.kind != Kind::Loop || !self.set_loop(op.imm, self.pc) {
            return self.illegal(soc, op.imm);
        }
        self.cycles += 1;
        self.pc = self.pc.wrapping_add(4);
        None
    }

    /// What does not exist, or is off.
    #[cold]
    #[inline(never)]
    pub(super) fn illegal(&mut self, soc: &mut Soc, word: u32) -> Option<Exit> {
        let pc = self.pc;
        self.why_illegal(soc, word, pc, self.cycles);
        self.cycles += 1;
        self.trap(ILLEGAL, pc, word);
        None
    }

    /// Carries out what sets a loop up; false while loops are off.
    fn set_loop(&mut self, word: u32, pc: u32) -> bool {
        if self.loops.state == 0 {
            self.loops.reason = LOOPS_ARE_OFF;
            return false;
        }
        let (register, high) = (self.x[(word >> 15 & 31) as usize], word >> 20);
        // Of the one with an immediate count the end is in other bits.
        let near = 2 * (word >> 15 & 31 | (word >> 8 & 0xf) << 5);
        let far = pc.wrapping_add(2 * high);
        let known = &mut self.loops.loops[(word >> 7 & 1) as usize];
        let next = pc.wrapping_add(4);
        match word >> 12 & 7 {
            0 => known.start = far,
            1 => known.end = far,
            2 => known.count = register,
            3 => known.count = high,
            4 => *known = Loop { start: next, end: far, count: register },
            _ => *known = Loop { start: next, end: pc.wrapping_add(near), count: high },
        }
        self.loops.state = DIRTY;
        true
    }

    /// The instruction at this place is done and another one follows by itself: a loop may begin again.
    pub(super) fn end_of_loop(&mut self, done: u32) {
        // The inner loop is the first one; where both end together it has its rounds before the outer one.
        for known in &mut self.loops.loops {
            if known.end != done || known.count == 0 {
                continue;
            }
            known.count -= 1;
            if known.count != 0 {
                self.pc = known.start;
                return;
            }
        }
    }

    /// What the system is told of an illegal instruction; one of the vector unit is noted.
    fn why_illegal(&mut self, soc: &mut Soc, word: u32, pc: u32, cycles: u64) {
        if self.floats && super::float::decode(word).is_some() {
            self.loops.reason = FLOAT_IS_OFF;
        } else if self.has_loops && is_vector(word) {
            if self.loops.vector == 0 {
                self.loops.reason = VECTOR_IS_OFF;
                return;
            }
            let name = format!("instruction {word:#010x} of the vector unit");
            let what = What::Unmodelled { address: pc, name, pc, write: false };
            soc.shared.events.push(Event { time: soc.time(cycles), what });
        }
    }
}
