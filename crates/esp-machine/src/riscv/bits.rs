//! Bit manipulation as newer cores have it: the extensions Zba (addresses), Zbb (basic) and Zbs (single bits).
//!
//! Source: RISC-V bit-manipulation extensions, version 1.0.0.

use super::decode::{Kind, Op, op};

/// Where the second operand is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Register,
    /// Five bits of the instruction.
    Amount,
    /// There is none.
    One,
}

type Apply = fn(u32, u32) -> u32;

/// What decides (`funct7`, or the upper twelve bits when there is one operand), `funct3`, and what is done.
const TABLE: [(Form, u32, u32, Apply); 29] = [
    (Form::Register, 0x10, 2, |a, b| (a << 1).wrapping_add(b)),
    (Form::Register, 0x10, 4, |a, b| (a << 2).wrapping_add(b)),
    (Form::Register, 0x10, 6, |a, b| (a << 3).wrapping_add(b)),
    (Form::Register, 0x20, 7, |a, b| a & !b),
    (Form::Register, 0x20, 6, |a, b| a | !b),
    (Form::Register, 0x20, 4, |a, b| !(a ^ b)),
    (Form::Register, 0x05, 4, |a, b| (a as i32).min(b as i32) as u32),
    (Form::Register, 0x05, 5, |a, b| a.min(b)),
    (Form::Register, 0x05, 6, |a, b| (a as i32).max(b as i32) as u32),
    (Form::Register, 0x05, 7, |a, b| a.max(b)),
    (Form::Register, 0x30, 1, |a, b| a.rotate_left(b & 31)),
    (Form::Register, 0x30, 5, rotate_right),
    (Form::Register, 0x24, 1, clear),
    (Form::Register, 0x24, 5, extract),
    (Form::Register, 0x34, 1, invert),
    (Form::Register, 0x14, 1, set),
    (Form::Amount, 0x30, 5, rotate_right),
    (Form::Amount, 0x24, 1, clear),
    (Form::Amount, 0x24, 5, extract),
    (Form::Amount, 0x34, 1, invert),
    (Form::Amount, 0x14, 1, set),
    (Form::One, 0x600, 1, |a, _| a.leading_zeros()),
    (Form::One, 0x601, 1, |a, _| a.trailing_zeros()),
    (Form::One, 0x602, 1, |a, _| a.count_ones()),
    (Form::One, 0x604, 1, |a, _| a as i8 as u32),
    (Form::One, 0x605, 1, |a, _| a as i16 as u32),
    (Form::One, 0x287, 5, |a, _| u32::from_le_bytes(a.to_le_bytes().map(|byte| if byte == 0 { 0 } else { 0xff }))),
    (Form::One, 0x698, 5, |a, _| a.swap_bytes()),
    // ZEXT.H stands among the instructions with two registers.
    (Form::Register, 0x04, 4, |a, _| a & 0xffff),
];

fn rotate_right(a: u32, b: u32) -> u32 {
    a.rotate_right(b & 31)
}

fn clear(a: u32, b: u32) -> u32 {
    a & !(1 << (b & 31))
}

fn extract(a: u32, b: u32) -> u32 {
    a >> (b & 31) & 1
}

fn invert(a: u32, b: u32) -> u32 {
    a ^ 1 << (b & 31)
}

fn set(a: u32, b: u32) -> u32 {
    a | 1 << (b & 31)
}

/// The instruction, when it is one of these.
pub fn decode(word: u32) -> Option<Op> {
    let funct3 = word >> 12 & 7;
    let fits = |(form, upper, third, _): &(Form, u32, u32, Apply)| {
        let (opcode, shift) = match form {
            Form::Register => (0x33, 25),
            Form::Amount => (0x13, 25),
            Form::One => (0x13, 20),
        };
        word & 0x7f == opcode && *third == funct3 && word >> shift == *upper
    };
    let index = TABLE.iter().position(fits)? as u32;
    let second = word >> 20 & 31;
    Some(op(Kind::Bits, word >> 7 & 31, word >> 15 & 31, second, index | second << 8, 4))
}

/// What comes of it; `second` is the register's content.
pub fn apply(op: Op, first: u32, second: u32) -> u32 {
    let Some((form, _, _, apply)) = TABLE.get((op.imm & 0xff) as usize) else { return 0 };
    apply(first, if *form == Form::Register { second } else { op.imm >> 8 })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Instructions as GNU as writes them, for a0, a1 and a2 (or 5), and what they give for two numbers.
    #[test]
    fn instructions_give_what_the_specification_says() {
        let cases: &[(u32, u32, u32, u32)] = &[
            (0x20c5_a533, 5, 100, 110),                 // sh1add
            (0x20c5_c533, 5, 100, 120),                 // sh2add
            (0x20c5_e533, 5, 100, 140),                 // sh3add
            (0x40c5_f533, 0xff, 0x0f, 0xf0),            // andn
            (0x40c5_e533, 0, 0xffff_fff0, 0xf),         // orn
            (0x40c5_c533, 0xff, 0xff, 0xffff_ffff),     // xnor
            (0x0ac5_c533, 0xffff_ffff, 1, 0xffff_ffff), // min
            (0x0ac5_d533, 0xffff_ffff, 1, 1),           // minu
            (0x0ac5_e533, 0xffff_ffff, 1, 1),           // max
            (0x0ac5_f533, 0xffff_ffff, 1, 0xffff_ffff), // maxu
            (0x60c5_9533, 0x8000_0001, 33, 3),          // rol
            (0x60c5_d533, 3, 1, 0x8000_0001),           // ror
            (0x48c5_9533, 0xff, 3, 0xf7),               // bclr
            (0x48c5_d533, 0x8, 3, 1),                   // bext
            (0x68c5_9533, 0x8, 3, 0),                   // binv
            (0x28c5_9533, 0, 31, 0x8000_0000),          // bset
            (0x6055_d513, 0x20, 0, 1),                  // rori 5
            (0x4855_9513, 0xff, 0, 0xdf),               // bclri 5
            (0x4855_d513, 0x20, 0, 1),                  // bexti 5
            (0x6855_9513, 0, 0, 0x20),                  // binvi 5
            (0x2855_9513, 0, 0, 0x20),                  // bseti 5
            (0x6005_9513, 1, 0, 31),                    // clz
            (0x6015_9513, 0, 0, 32),                    // ctz
            (0x6025_9513, 0xf0f0, 0, 8),                // cpop
            (0x6045_9513, 0x80, 0, 0xffff_ff80),        // sext.b
            (0x6055_9513, 0x8000, 0, 0xffff_8000),      // sext.h
            (0x2875_d513, 0x0100_0020, 0, 0xff00_00ff), // orc.b
            (0x6985_d513, 0x1234_5678, 0, 0x7856_3412), // rev8
            (0x0805_c533, 0x1234_5678, 0, 0x5678),      // zext.h
        ];
        assert_eq!(cases.len(), TABLE.len());
        for (word, first, second, wanted) in cases {
            let op = decode(*word).unwrap_or_else(|| panic!("{word:#010x} is not known"));
            assert_eq!((op.rd, op.rs1), (10, 11), "{word:#010x}");
            assert_eq!(apply(op, *first, *second), *wanted, "{word:#010x}");
        }
        // ADD, SUB, SRAI and MUL are none of them.
        for word in [0x00c5_8533, 0x40c5_8533, 0x4055_d513, 0x02c5_8533] {
            assert!(decode(word).is_none(), "{word:#010x}");
        }
    }
}
