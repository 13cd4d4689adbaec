//! Xtensa: the core instructions, with and without register windows, from the Xtensa ISA reference manual.

use std::ops::Range;

use super::{Step, bits, signed};
use crate::machine::Machine;

/// Registers at most: calls nest this deep.
const REGISTERS: usize = 16 + 8 * 256;

/// The registers. A window is a place in a long file: there are no overflows.
#[derive(Debug)]
pub struct Xtensa {
    pc: u32,
    file: Vec<u32>,
    base: usize,
    /// By how much the next ENTRY moves the window, in registers.
    increment: usize,
    /// Shift amount register.
    shift: u32,
    /// What is called there is not carried out but answered; returning to its start ends the program.
    rom: Range<u32>,
}

/// Constants of the branches that compare with one.
const CONSTANTS: [u32; 16] = [u32::MAX, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 32, 64, 128, 256];
const UNSIGNED: [u32; 16] = [32768, 65536, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 32, 64, 128, 256];

impl Xtensa {
    pub fn new(entry: u32, stack: u32, rom: Range<u32>) -> Self {
        let back = rom.start;
        let mut core = Self { pc: entry, file: vec![0; 64], base: 0, increment: 8, shift: 0, rom };
        // As called by a windowed CALL8 or by a plain CALL0.
        core.set(0, back);
        core.set(1, stack);
        core.set(8, back & 0x3fff_ffff | 2 << 30);
        core
    }

    fn get(&self, register: u32) -> u32 {
        self.file.get(self.base + register as usize).copied().unwrap_or(0)
    }

    fn set(&mut self, register: u32, value: u32) {
        let at = self.base + register as usize;
        if at >= self.file.len() && at < REGISTERS {
            self.file.resize(at + 1, 0);
        }
        if let Some(slot) = self.file.get_mut(at) {
            *slot = value;
        }
    }

    /// Carries out one instruction.
    pub fn step(&mut self, machine: &mut Machine) -> Step {
        let word = machine.load(self.pc, 2) | machine.load(self.pc.wrapping_add(2), 1) << 16;
        if word & 0xf >= 8 { self.narrow(machine, word) } else { self.wide(machine, word) }
    }

    fn go(&mut self, to: u32) -> Step {
        self.pc = to;
        Step::Next
    }

    /// A call with the window moved by `increment` registers; 0 is the plain call.
    fn call(&mut self, to: u32, next: u32, increment: usize) -> Step {
        if self.rom.contains(&to) {
            // The callee's a2 and on.
            let first = 2 + increment as u32;
            let arguments = [0, 1, 2, 3, 4, 5].map(|n| self.get(first + n));
            self.pc = next;
            return Step::Rom(to, arguments);
        }
        let window = (increment as u32 / 4) << 30;
        let back = if increment == 0 { next } else { next & 0x3fff_ffff | window };
        self.set(increment as u32, back);
        self.increment = increment;
        self.go(to)
    }

    fn back(&mut self) -> Step {
        let to = self.get(0);
        if self.rom.contains(&to) { Step::Unknown } else { self.go(to) }
    }

    fn back_windowed(&mut self) -> Step {
        let to = self.get(0);
        let Some(base) = self.base.checked_sub((to >> 30) as usize * 4) else { return Step::Unknown };
        let to = to & 0x3fff_ffff | self.pc & 0xc000_0000;
        if self.rom.contains(&to) {
            return Step::Unknown;
        }
        self.base = base;
        self.go(to)
    }

    fn narrow(&mut self, machine: &mut Machine, word: u32) -> Step {
        let (t, s, r) = (bits(word, 4, 4), bits(word, 8, 4), bits(word, 12, 4));
        let next = self.pc.wrapping_add(2);
        let address = self.get(s).wrapping_add(r * 4);
        match (word & 0xf, r, t) {
            (0x8, ..) => self.set(t, machine.load(address, 4)),
            (0x9, ..) => machine.save(address, 4, self.get(t)),
            (0xa, ..) => self.set(r, self.get(s).wrapping_add(self.get(t))),
            (0xb, ..) => self.set(r, self.get(s).wrapping_add(if t == 0 { u32::MAX } else { t })),
            (0xc, ..) if t < 8 => {
                let seven = t << 4 & 0x70 | r;
                self.set(s, if seven >= 96 { seven.wrapping_sub(128) } else { seven });
            }
            (0xc, ..) => {
                let zero = self.get(s) == 0;
                let taken = zero == (t < 12);
                let to = self.pc.wrapping_add(4).wrapping_add(bits(t, 0, 2) << 4 | r);
                return self.go(if taken { to } else { next });
            }
            (0xd, 0, _) => self.set(t, self.get(s)),
            (0xd, 15, 0) => return self.back(),
            (0xd, 15, 1) => return self.back_windowed(),
            (0xd, 15, 3) => {}
            _ => return Step::Unknown,
        }
        self.go(next)
    }

    fn wide(&mut self, machine: &mut Machine, word: u32) -> Step {
        let (t, s) = (bits(word, 4, 4), bits(word, 8, 4));
        let next = self.pc.wrapping_add(3);
        match word & 0xf {
            0 => return self.registers(word, next),
            1 => {
                let address = (next & !3).wrapping_add(0xfffc_0000 | bits(word, 8, 16) << 2);
                self.set(t, machine.load(address, 4));
            }
            2 => return self.memory(machine, word, next),
            5 => {
                let to = (self.pc & !3).wrapping_add(4).wrapping_add(signed(word, 6, 18) << 2);
                return self.call(to, next, bits(word, 4, 2) as usize * 4);
            }
            6 => {
                let (n, m) = (bits(word, 4, 2), bits(word, 6, 2));
                let a = self.get(s);
                let (compare, limit) = (CONSTANTS[bits(word, 12, 4) as usize], UNSIGNED[bits(word, 12, 4) as usize]);
                let short = signed(word, 16, 8);
                let (taken, offset) = match (n, m) {
                    (0, _) => (true, signed(word, 6, 18)),
                    (1, 0) => (a == 0, signed(word, 12, 12)),
                    (1, 1) => (a != 0, signed(word, 12, 12)),
                    (1, 2) => ((a as i32) < 0, signed(word, 12, 12)),
                    (1, _) => (a as i32 >= 0, signed(word, 12, 12)),
                    (2, 0) => (a == compare, short),
                    (2, 1) => (a != compare, short),
                    (2, 2) => ((a as i32) < compare as i32, short),
                    (2, _) => (a as i32 >= compare as i32, short),
                    (_, 0) => {
                        let frame = bits(word, 12, 12) * 8;
                        let stack = a.wrapping_sub(frame);
                        self.base += self.increment;
                        if self.base + 16 > REGISTERS {
                            return Step::Unknown;
                        }
                        self.set(s, stack);
                        return self.go(next);
                    }
                    (_, 2) => (a < limit, short),
                    (_, 3) => (a >= limit, short),
                    _ => return Step::Unknown,
                };
                let to = self.pc.wrapping_add(4).wrapping_add(offset);
                return self.go(if taken { to } else { next });
            }
            7 => {
                let (a, b) = (self.get(s), self.get(t));
                let r = bits(word, 12, 4);
                let holds = match r & 7 {
                    0 => a & b == 0,
                    1 => a == b,
                    2 => (a as i32) < b as i32,
                    3 => a < b,
                    4 => a & b == b,
                    5 => a >> (b & 31) & 1 == 0,
                    half => a >> (t | (half & 1) << 4) & 1 == 0,
                };
                let to = self.pc.wrapping_add(4).wrapping_add(signed(word, 16, 8));
                return self.go(if holds == (r < 8) { to } else { next });
            }
            _ => return Step::Unknown,
        }
        self.go(next)
    }

    fn memory(&mut self, machine: &mut Machine, word: u32, next: u32) -> Step {
        let (t, s, r, value) = (bits(word, 4, 4), bits(word, 8, 4), bits(word, 12, 4), bits(word, 16, 8));
        let a = self.get(s);
        match r {
            0 => self.set(t, machine.load(a.wrapping_add(value), 1)),
            1 => self.set(t, machine.load(a.wrapping_add(value * 2), 2)),
            2 => self.set(t, machine.load(a.wrapping_add(value * 4), 4)),
            4 => machine.save(a.wrapping_add(value), 1, self.get(t)),
            5 => machine.save(a.wrapping_add(value * 2), 2, self.get(t)),
            6 => machine.save(a.wrapping_add(value * 4), 4, self.get(t)),
            9 => self.set(t, signed(machine.load(a.wrapping_add(value * 2), 2), 0, 16)),
            10 => self.set(t, signed(s << 8 | value, 0, 12)),
            12 => self.set(t, a.wrapping_add(signed(value, 0, 8))),
            13 => self.set(t, a.wrapping_add(signed(value, 0, 8) << 8)),
            _ => return Step::Unknown,
        }
        self.go(next)
    }

    /// Instructions between registers.
    fn registers(&mut self, word: u32, next: u32) -> Step {
        let (t, s, r) = (bits(word, 4, 4), bits(word, 8, 4), bits(word, 12, 4));
        let (op1, op2) = (bits(word, 16, 4), bits(word, 20, 4));
        let (a, b) = (self.get(s), self.get(t));
        let value = match (op1, op2) {
            (0, 0) if r == 0 => match bits(t, 2, 2) {
                2 if t & 3 == 0 => return self.back(),
                2 if t & 3 == 1 => return self.back_windowed(),
                2 if t & 3 == 2 => return self.go(a),
                3 => return self.call(a, next, (t & 3) as usize * 4),
                _ => return Step::Unknown,
            },
            // Waiting for memory and pipeline: nothing is ever outstanding.
            (0, 0) if r == 2 => return self.go(next),
            (0, 1) => a & b,
            (0, 2) => a | b,
            (0, 3) => a ^ b,
            (0, 4) => {
                self.shift = match r {
                    0 => a & 31,
                    1 => 32 - (a & 31),
                    2 => (a & 3) * 8,
                    3 => 32 - (a & 3) * 8,
                    4 => s | (t & 1) << 4,
                    _ => return Step::Unknown,
                };
                return self.go(next);
            }
            (0, 6) if s == 0 => b.wrapping_neg(),
            (0, 6) if s == 1 => (b as i32).wrapping_abs() as u32,
            (0, 8..=11) => (a << (op2 - 8)).wrapping_add(b),
            (0, 12..=15) => (a << (op2 - 12)).wrapping_sub(b),
            (1, 0 | 1) => a.checked_shl(32 - (t | (op2 & 1) << 4)).unwrap_or(0),
            (1, 2 | 3) => (b as i32 >> (s | (op2 & 1) << 4)) as u32,
            (1, 4) => b >> s,
            (1, 8) => (((u64::from(a) << 32 | u64::from(b)) >> self.shift) & 0xffff_ffff) as u32,
            (1, 9) => b.checked_shr(self.shift).unwrap_or(0),
            (1, 10) => a.checked_shl(32 - self.shift).unwrap_or(0),
            (1, 11) => (i64::from(b as i32) >> self.shift) as u32,
            (1, 12) => (a & 0xffff) * (b & 0xffff),
            (2, 8) => a.wrapping_mul(b),
            (4 | 5, _) => b >> (s | (op1 & 1) << 4) & ((1u64 << (op2 + 1)) - 1) as u32,
            (3, 8) if b == 0 => a,
            (3, 9) if b != 0 => a,
            (3, 10) if (b as i32) < 0 => a,
            (3, 11) if b as i32 >= 0 => a,
            (3, 8..=11) => self.get(r),
            _ => return Step::Unknown,
        };
        self.set(r, value);
        self.go(next)
    }
}
