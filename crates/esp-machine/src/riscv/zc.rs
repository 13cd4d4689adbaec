//! Short instructions beyond C: Zcb (loads, stores and arithmetic of two bytes), Zcmp (several registers to and from the stack)
//! and Zcmt (jumps by a table).
//!
//! Source: RISC-V code size reduction, version 1.0.

use super::decode::{Kind, Op, op};
use super::{LOAD_FAULT, RiscV, STORE_FAULT, bits, decode};
use crate::cpu::Exit;
use crate::soc::Soc;

/// Registers: return address, stack, first arguments.
const RA: u8 = 1;
const SP: u8 = 2;
const A0: u8 = 10;
/// The table's address.
pub const TABLE: u32 = 0x17;
/// Saved registers in the order in which they lie below the stack's old top.
const SAVED: [u8; 13] = [27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 9, 8, RA];

/// An instruction that C leaves free.
pub fn decode_short(half: u16) -> Option<Op> {
    let word = u32::from(half);
    let field = |low: u32, count: u32| word >> low & ((1 << count) - 1);
    let (first, second) = (field(7, 3) + 8, field(2, 3) + 8);
    let (byte, half_at) = (field(6, 1) | field(5, 1) << 1, field(5, 1) << 1);
    let short = |kind, rd, rs1, rs2, imm| Some(op(kind, rd, rs1, rs2, imm, 2));
    match (field(10, 6), word & 3) {
        (0b10_0000, 0) => short(Kind::Lbu, second, first, 0, byte),
        (0b10_0001, 0) if field(6, 1) == 0 => short(Kind::Lhu, second, first, 0, half_at),
        (0b10_0001, 0) => short(Kind::Lh, second, first, 0, half_at),
        (0b10_0010, 0) => short(Kind::Sb, 0, first, second, byte),
        (0b10_0011, 0) if field(6, 1) == 0 => short(Kind::Sh, 0, first, second, half_at),
        (0b10_0111, 1) if field(5, 2) == 2 => short(Kind::Mul, first, first, second, 0),
        (0b10_0111, 1) if field(5, 2) == 3 => unary(first, field(2, 3)),
        (0b10_1000 | 0b10_1011 | 0b10_1110 | 0b10_1111, 2) => short(Kind::Zc, 0, 0, 0, word),
        _ => None,
    }
}

/// What has one operand: as its longer form.
fn unary(register: u32, which: u32) -> Option<Op> {
    let both = register << 7 | register << 15;
    let long = match which {
        // andi 0xff; sext.b; zext.h; sext.h; xori -1
        0 => decode::long(0x0ff0_7013 | both),
        1 => bits::decode(0x6040_1013 | both)?,
        2 => bits::decode(0x0800_4033 | both)?,
        3 => bits::decode(0x6050_1013 | both)?,
        5 => decode::long(0xfff0_4013 | both),
        _ => return None,
    };
    Some(Op { rs2: long.rs2 & 31 | 2 << 5, ..long })
}

/// The saved register with this number of three bits.
fn saved(number: u32) -> u8 {
    (if number < 2 { number + 8 } else { number + 16 }) as u8
}

impl RiscV {
    /// Carries an instruction of Zcmp or Zcmt out.
    #[inline(never)]
    pub(super) fn several(&mut self, soc: &mut Soc, half: u32) -> Option<Exit> {
        soc.cycle = self.cycles;
        soc.shared.pc = self.pc;
        let (first, second) = (saved(half >> 7 & 7), saved(half >> 2 & 7));
        let done = match (half >> 8 & 0xff, half >> 5 & 3) {
            (0xb8, _) => self.push(soc, half),
            (0xba | 0xbc | 0xbe, _) => self.pop(soc, half),
            (0xac..=0xaf, 1) => {
                self.x[first as usize] = self.x[A0 as usize];
                self.x[second as usize] = self.x[A0 as usize + 1];
                Ok(self.pc.wrapping_add(2))
            }
            (0xac..=0xaf, 3) => {
                let pair = [self.x[first as usize], self.x[second as usize]];
                self.x[A0 as usize..A0 as usize + 2].copy_from_slice(&pair);
                Ok(self.pc.wrapping_add(2))
            }
            (0xa0..=0xa3, _) => self.by_table(soc, half >> 2 & 0xff),
            _ => return self.illegal(soc, half),
        };
        self.cycles += 1;
        match done {
            Ok(next) => self.pc = next,
            Err((cause, address)) => self.trap(cause, self.pc, address),
        }
        None
    }

    /// How far the stack moves, and the registers that are saved, from the highest address on.
    fn list(half: u32) -> (u32, impl Iterator<Item = u8>) {
        let (list, more) = (half >> 4 & 0xf, half >> 2 & 3);
        // ra alone, ra and s0, … s9, then s11 as well.
        let count = if list == 15 { 13 } else { list.saturating_sub(3) };
        let adjust = (4 * count).next_multiple_of(16) + 16 * more;
        (adjust, SAVED.into_iter().skip(13 - count as usize))
    }

    fn push(&mut self, soc: &mut Soc, half: u32) -> Result<u32, (u32, u32)> {
        let (adjust, registers) = Self::list(half);
        let top = self.x[SP as usize];
        for (place, register) in (1..).zip(registers) {
            let (address, value) = (top.wrapping_sub(4 * place), self.x[register as usize]);
            if !soc.memory.store32(address, value) && soc.store(address, 4, value).is_err() {
                return Err((STORE_FAULT, address));
            }
        }
        self.x[SP as usize] = top.wrapping_sub(adjust);
        Ok(self.pc.wrapping_add(2))
    }

    fn pop(&mut self, soc: &mut Soc, half: u32) -> Result<u32, (u32, u32)> {
        let (adjust, registers) = Self::list(half);
        let top = self.x[SP as usize].wrapping_add(adjust);
        let mut loaded = [0; 13];
        let registers: Vec<u8> = registers.collect();
        for (place, value) in (1..).zip(loaded.iter_mut().take(registers.len())) {
            let address = top.wrapping_sub(4 * place);
            let word = soc.memory.load32(address).map_or_else(|| soc.load(address, 4), Ok);
            *value = word.map_err(|_| (LOAD_FAULT, address))?;
        }
        for (register, value) in registers.iter().zip(loaded) {
            self.x[*register as usize] = value;
        }
        self.x[SP as usize] = top;
        let kind = half >> 8 & 7;
        if kind == 4 {
            self.x[A0 as usize] = 0;
        }
        Ok(if kind == 2 { self.pc.wrapping_add(2) } else { self.x[RA as usize] & !1 })
    }

    fn by_table(&mut self, soc: &mut Soc, index: u32) -> Result<u32, (u32, u32)> {
        let address = (self.read_csr(TABLE).unwrap_or(0) & !0x3f).wrapping_add(4 * index);
        let word = soc.memory.load32(address).map_or_else(|| soc.load(address, 4), Ok);
        let target = word.map_err(|_| (LOAD_FAULT, address))?;
        if index >= 32 {
            self.x[RA as usize] = self.pc.wrapping_add(2);
        }
        Ok(target & !1)
    }
}
