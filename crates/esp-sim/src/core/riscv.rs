//! RV32IMC, from the RISC-V unprivileged specification (version 20191213).

use std::ops::Range;

use super::{Step, bits, signed};
use crate::machine::Machine;

/// The seven lowest bits of an instruction.
mod opcode {
    pub const LOAD: u32 = 0x03;
    pub const MISC_MEM: u32 = 0x0f;
    pub const OP_IMM: u32 = 0x13;
    pub const AUIPC: u32 = 0x17;
    pub const STORE: u32 = 0x23;
    pub const OP: u32 = 0x33;
    pub const LUI: u32 = 0x37;
    pub const BRANCH: u32 = 0x63;
    pub const JALR: u32 = 0x67;
    pub const JAL: u32 = 0x6f;
}

/// The field `funct3`, by opcode.
mod function {
    pub const BEQ: u32 = 0;
    pub const BNE: u32 = 1;
    pub const BLT: u32 = 4;
    pub const BGE: u32 = 5;
    pub const BLTU: u32 = 6;
    pub const BGEU: u32 = 7;

    pub const LB: u32 = 0;
    pub const LH: u32 = 1;
    pub const LW: u32 = 2;
    pub const LBU: u32 = 4;
    pub const LHU: u32 = 5;

    pub const SB: u32 = 0;
    pub const SW: u32 = 2;

    /// SUB too.
    pub const ADD: u32 = 0;
    pub const SLL: u32 = 1;
    pub const SLT: u32 = 2;
    pub const SLTU: u32 = 3;
    pub const XOR: u32 = 4;
    /// SRL and SRA.
    pub const SR: u32 = 5;
    pub const OR: u32 = 6;

    pub const MUL: u32 = 0;
    pub const MULH: u32 = 1;
    pub const MULHSU: u32 = 2;
    pub const MULHU: u32 = 3;
    pub const DIV: u32 = 4;
    pub const DIVU: u32 = 5;
    pub const REM: u32 = 6;
}

/// The registers.
#[derive(Debug)]
pub struct RiscV {
    pc: u32,
    x: [u32; 32],
    /// What is called there is not carried out but answered; returning to its start ends the program.
    rom: Range<u32>,
}

/// First argument register.
const A0: usize = 10;

impl RiscV {
    pub fn new(entry: u32, stack: u32, rom: Range<u32>) -> Self {
        let mut x = [0; 32];
        (x[1], x[2]) = (rom.start, stack);
        Self { pc: entry, x, rom }
    }

    fn get(&self, register: u32) -> u32 {
        self.x.get(register as usize).copied().unwrap_or(0)
    }

    fn set(&mut self, register: u32, value: u32) {
        if let (Some(slot), true) = (self.x.get_mut(register as usize), register != 0) {
            *slot = value;
        }
    }

    /// Carries out one instruction.
    pub fn step(&mut self, machine: &mut Machine) -> Step {
        if self.rom.contains(&self.pc) {
            let mut arguments = [0; 6];
            arguments.copy_from_slice(&self.x[A0..A0 + 6]);
            let called = self.pc;
            self.pc = self.x[1];
            return Step::Rom(called, arguments);
        }
        let low = machine.load(self.pc, 2);
        let (word, length) = match low & 3 {
            3 => (low | machine.load(self.pc.wrapping_add(2), 2) << 16, 4),
            _ => match expand(low) {
                Some(word) => (word, 2),
                None => return Step::Unknown,
            },
        };
        self.execute(machine, word, length)
    }

    fn execute(&mut self, machine: &mut Machine, word: u32, length: u32) -> Step {
        let next = self.pc.wrapping_add(length);
        let (rd, funct3, rs1, rs2) = (bits(word, 7, 5), bits(word, 12, 3), bits(word, 15, 5), bits(word, 20, 5));
        let (a, b, immediate) = (self.get(rs1), self.get(rs2), signed(word, 20, 12));
        let mut to = next;
        match word & 0x7f {
            opcode::LUI => self.set(rd, word & 0xffff_f000),
            opcode::AUIPC => self.set(rd, self.pc.wrapping_add(word & 0xffff_f000)),
            opcode::JAL => {
                self.set(rd, next);
                to = self.pc.wrapping_add(jump_offset(word));
            }
            opcode::JALR => {
                to = a.wrapping_add(immediate) & !1;
                self.set(rd, next);
            }
            opcode::BRANCH => {
                let taken = match funct3 {
                    function::BEQ => a == b,
                    function::BNE => a != b,
                    function::BLT => (a as i32) < b as i32,
                    function::BGE => a as i32 >= b as i32,
                    function::BLTU => a < b,
                    function::BGEU => a >= b,
                    _ => return Step::Unknown,
                };
                if taken {
                    to = self.pc.wrapping_add(branch_offset(word));
                }
            }
            opcode::LOAD => {
                let address = a.wrapping_add(immediate);
                let value = match funct3 {
                    function::LB => signed(machine.load(address, 1), 0, 8),
                    function::LH => signed(machine.load(address, 2), 0, 16),
                    function::LW => machine.load(address, 4),
                    function::LBU => machine.load(address, 1),
                    function::LHU => machine.load(address, 2),
                    _ => return Step::Unknown,
                };
                self.set(rd, value);
            }
            opcode::STORE => {
                let offset = signed(word, 25, 7) << 5 | rd;
                match funct3 {
                    function::SB..=function::SW => machine.save(a.wrapping_add(offset), 1 << funct3, b),
                    _ => return Step::Unknown,
                }
            }
            opcode::OP_IMM => {
                match arithmetic(funct3, word >> 25, a, immediate, matches!(funct3, function::SLL | function::SR)) {
                    Some(value) => self.set(rd, value),
                    None => return Step::Unknown,
                }
            }
            opcode::OP if word >> 25 == 1 => self.set(rd, multiply(funct3, a, b)),
            opcode::OP => match arithmetic(funct3, word >> 25, a, b, true) {
                Some(value) => self.set(rd, value),
                None => return Step::Unknown,
            },
            // FENCE: there is one master only.
            opcode::MISC_MEM => {}
            _ => return Step::Unknown,
        }
        self.pc = to;
        Step::Next
    }
}

/// `with_high`: the seven highest bits choose between two operations.
fn arithmetic(funct3: u32, high: u32, a: u32, b: u32, with_high: bool) -> Option<u32> {
    let other = with_high && high == 0x20;
    if with_high && !matches!(high, 0 | 0x20) {
        return None;
    }
    Some(match funct3 {
        function::ADD if other => a.wrapping_sub(b),
        function::ADD => a.wrapping_add(b),
        function::SLL => a.wrapping_shl(b),
        function::SLT => u32::from((a as i32) < b as i32),
        function::SLTU => u32::from(a < b),
        function::XOR => a ^ b,
        function::SR if other => (a as i32).wrapping_shr(b) as u32,
        function::SR => a.wrapping_shr(b),
        function::OR => a | b,
        _ => a & b,
    })
}

fn multiply(funct3: u32, a: u32, b: u32) -> u32 {
    let (sa, sb) = (a as i32, b as i32);
    match funct3 {
        function::MUL => a.wrapping_mul(b),
        function::MULH => ((i64::from(sa) * i64::from(sb)) >> 32) as u32,
        function::MULHSU => ((i64::from(sa) * i64::from(b)) >> 32) as u32,
        function::MULHU => ((u64::from(a) * u64::from(b)) >> 32) as u32,
        function::DIV if b == 0 => u32::MAX,
        function::DIV => sa.wrapping_div(sb) as u32,
        function::DIVU => a.checked_div(b).unwrap_or(u32::MAX),
        function::REM if b == 0 => a,
        function::REM => sa.wrapping_rem(sb) as u32,
        _ => a.checked_rem(b).unwrap_or(a),
    }
}

fn jump_offset(word: u32) -> u32 {
    signed(word, 31, 1) << 20 | bits(word, 12, 8) << 12 | bits(word, 20, 1) << 11 | bits(word, 21, 10) << 1
}

fn branch_offset(word: u32) -> u32 {
    signed(word, 31, 1) << 12 | bits(word, 7, 1) << 11 | bits(word, 25, 6) << 5 | bits(word, 8, 4) << 1
}

/// A compressed instruction as the one it stands for.
fn expand(half: u32) -> Option<u32> {
    let (rd, rs2) = (bits(half, 7, 5), bits(half, 2, 5));
    // The registers of the short forms are x8 to x15.
    let (short1, short2) = (8 + bits(half, 7, 3), 8 + bits(half, 2, 3));
    let six = (signed(half, 12, 1) << 5 | bits(half, 2, 5)) & 0xfff;
    let shift = bits(half, 12, 1) << 5 | bits(half, 2, 5);
    let immediate = |value: u32, rs1: u32, function: u32, rd: u32, opcode: u32| {
        value << 20 | rs1 << 15 | function << 12 | rd << 7 | opcode
    };
    let store = |offset: u32, rs2: u32, rs1: u32| {
        offset >> 5 << 25 | rs2 << 20 | rs1 << 15 | 2 << 12 | (offset & 0x1f) << 7 | opcode::STORE
    };
    let register = |high: u32, rs2: u32, rs1: u32, function: u32, rd: u32| {
        high << 25 | rs2 << 20 | rs1 << 15 | function << 12 | rd << 7 | opcode::OP
    };
    Some(match (half & 3, bits(half, 13, 3)) {
        (_, _) if half == 0 => return None,
        (0, 0) => {
            let offset = bits(half, 11, 2) << 4 | bits(half, 7, 4) << 6 | bits(half, 6, 1) << 2 | bits(half, 5, 1) << 3;
            immediate(offset, 2, 0, short2, opcode::OP_IMM)
        }
        (0, 2 | 6) => {
            let offset = bits(half, 10, 3) << 3 | bits(half, 6, 1) << 2 | bits(half, 5, 1) << 6;
            match bits(half, 13, 3) {
                2 => immediate(offset, short1, 2, short2, opcode::LOAD),
                _ => store(offset, short2, short1),
            }
        }
        (1, 0) => immediate(six, rd, 0, rd, opcode::OP_IMM),
        (1, way @ (1 | 5)) => {
            let offset = signed(half, 12, 1) << 11
                | bits(half, 11, 1) << 4
                | bits(half, 9, 2) << 8
                | bits(half, 8, 1) << 10
                | bits(half, 7, 1) << 6
                | bits(half, 6, 1) << 7
                | bits(half, 3, 3) << 1
                | bits(half, 2, 1) << 5;
            let place = bits(offset, 20, 1) << 31
                | bits(offset, 1, 10) << 21
                | bits(offset, 11, 1) << 20
                | bits(offset, 12, 8) << 12;
            place | u32::from(way == 1) << 7 | opcode::JAL
        }
        (1, 2) => immediate(six, 0, 0, rd, opcode::OP_IMM),
        (1, 3) if rd == 2 => {
            let offset = signed(half, 12, 1) << 9
                | bits(half, 6, 1) << 4
                | bits(half, 5, 1) << 6
                | bits(half, 3, 2) << 7
                | bits(half, 2, 1) << 5;
            immediate(offset & 0xfff, 2, 0, 2, opcode::OP_IMM)
        }
        (1, 3) => (signed(half, 12, 1) << 17 | bits(half, 2, 5) << 12) | rd << 7 | opcode::LUI,
        (1, 4) => match (bits(half, 10, 2), bits(half, 12, 1), bits(half, 5, 2)) {
            (0, 0, _) => immediate(shift, short1, 5, short1, opcode::OP_IMM),
            (1, 0, _) => immediate(0x400 | shift, short1, 5, short1, opcode::OP_IMM),
            (2, _, _) => immediate(six, short1, 7, short1, opcode::OP_IMM),
            (3, 0, 0) => register(0x20, short2, short1, 0, short1),
            (3, 0, 1) => register(0, short2, short1, 4, short1),
            (3, 0, 2) => register(0, short2, short1, 6, short1),
            (3, 0, 3) => register(0, short2, short1, 7, short1),
            _ => return None,
        },
        (1, way) => {
            let offset = signed(half, 12, 1) << 8
                | bits(half, 10, 2) << 3
                | bits(half, 5, 2) << 6
                | bits(half, 3, 2) << 1
                | bits(half, 2, 1) << 5;
            let place = bits(offset, 12, 1) << 31
                | bits(offset, 5, 6) << 25
                | bits(offset, 1, 4) << 8
                | bits(offset, 11, 1) << 7;
            place | short1 << 15 | (way & 1) << 12 | opcode::BRANCH
        }
        (2, 0) if bits(half, 12, 1) == 0 => immediate(shift, rd, 1, rd, opcode::OP_IMM),
        (2, 2) => {
            let offset = bits(half, 12, 1) << 5 | bits(half, 4, 3) << 2 | bits(half, 2, 2) << 6;
            immediate(offset, 2, 2, rd, opcode::LOAD)
        }
        (2, 4) => match (bits(half, 12, 1), rd, rs2) {
            (0, 1.., 0) => immediate(0, rd, 0, 0, opcode::JALR),
            (0, _, _) => register(0, rs2, 0, 0, rd),
            (_, 1.., 0) => immediate(0, rd, 0, 1, opcode::JALR),
            (_, 1.., _) => register(0, rs2, rd, 0, rd),
            _ => return None,
        },
        (2, 6) => store(bits(half, 9, 4) << 2 | bits(half, 7, 2) << 6, rs2, 2),
        _ => return None,
    })
}
