//! The 16-bit multiplier with its accumulator of 40 bits (MAC16).

use super::Xtensa;
use super::kind::{Kind, Op};

/// In `imm`: halves of the two operands, which of them are MAC registers, and the load that goes with it.
const FIRST_HIGH: i32 = 1;
const SECOND_HIGH: i32 = 2;
const FIRST_MAC: i32 = 4;
const SECOND_MAC: i32 = 8;
const INCREMENT: i32 = 16;
const DECREMENT: i32 = 32;

/// Fills in an instruction of this group.
pub fn decode(word: u32, op: Op) -> Op {
    let (op1, op2) = ((word >> 16 & 0xf) as i32, word >> 20 & 0xf);
    let halves = op1 & 3;
    let (first, second, load) = match op2 {
        0 => (FIRST_MAC, SECOND_MAC, INCREMENT),
        1 => (FIRST_MAC, SECOND_MAC, DECREMENT),
        2 => (FIRST_MAC, SECOND_MAC, 0),
        3 => (0, SECOND_MAC, 0),
        4 => (FIRST_MAC, 0, INCREMENT),
        5 => (FIRST_MAC, 0, DECREMENT),
        6 => (FIRST_MAC, 0, 0),
        7 => (0, 0, 0),
        8 | 9 if op1 == 0 && op.t == 0 => {
            let kind = if op2 == 8 { Kind::Ldinc } else { Kind::Lddec };
            return Op { kind, window: op.s / 4, ..op };
        }
        _ => return op,
    };
    let kind = match op1 >> 2 {
        0 if first | second == 0 => Kind::Umul,
        1 if load == 0 => Kind::Mul,
        2 => Kind::Mula,
        3 if load == 0 => Kind::Muls,
        _ => return op,
    };
    let mut window = 0;
    if first == 0 || load != 0 {
        window = op.s / 4;
    }
    if second == 0 {
        window = window.max(op.t / 4);
    }
    Op { kind, imm: halves | first | second | load, window, ..op }
}

impl Xtensa {
    /// Address and register of the load that goes with a multiplication: the new value of `a[s]` is the address.
    pub(super) fn mac_load(&self, op: &Op) -> Option<(u32, usize)> {
        let step = match op.kind {
            Kind::Ldinc => 4,
            Kind::Lddec => -4,
            _ if op.imm & INCREMENT != 0 => 4,
            _ if op.imm & DECREMENT != 0 => -4,
            _ => return None,
        };
        Some((self.a(op.s).wrapping_add_signed(step), op.r as usize & 3))
    }

    /// The multiplication.
    pub(super) fn multiply_accumulate(&mut self, op: &Op) {
        let first = if op.imm & FIRST_MAC != 0 { self.mac[op.r as usize >> 2 & 1] } else { self.a(op.s) };
        let second = if op.imm & SECOND_MAC != 0 { self.mac[2 + (op.t as usize >> 2 & 1)] } else { self.a(op.t) };
        let half = |word: u32, high: bool| if high { (word >> 16) as u16 } else { word as u16 };
        let first = half(first, op.imm & FIRST_HIGH != 0);
        let second = half(second, op.imm & SECOND_HIGH != 0);
        let signed = i64::from(first as i16) * i64::from(second as i16);
        let sum = match op.kind {
            // The accumulator's upper byte is cleared by the unsigned form, filled with the sign by the other.
            Kind::Umul => i64::from(u32::from(first) * u32::from(second)),
            Kind::Mul => signed,
            Kind::Mula => self.accumulator + signed,
            _ => self.accumulator - signed,
        };
        self.accumulator = sum << 24 >> 24;
    }
}
