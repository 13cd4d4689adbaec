//! The extension F: single precision, with all rounding modes and exception flags.
//!
//! Operands and results of one operation fit in a double and what that leaves over ([`Exact`]): rounding it once gives the right
//! result in every mode, whatever the host rounds like.
//!
//! Source: RISC-V unprivileged specification 20191213, chapters 11 and 16.

use super::RiscV;
use super::decode::{Kind, Op, op};

const INVALID: u32 = 1 << 4;
const BY_ZERO: u32 = 1 << 3;
const OVERFLOW: u32 = 1 << 2;
const UNDERFLOW: u32 = 1 << 1;
const INEXACT: u32 = 1;

/// The one NaN that operations give.
const NAN: u32 = 0x7fc0_0000;
/// MSTATUS.FS: off (0) to dirty (3).
pub(super) const FS: u32 = 3 << 13;

/// How to round: the values of `frm`.
const EVEN: u32 = 0;
const TO_ZERO: u32 = 1;
const DOWN: u32 = 2;
const UP: u32 = 3;
const AWAY: u32 = 4;

/// Registers and the control register's halves.
#[derive(Debug, Clone, Default)]
pub struct Float {
    pub f: [u32; 32],
    pub flags: u32,
    pub mode: u32,
}

/// An instruction of 4 bytes that only this extension has.
pub fn decode(word: u32) -> Option<Op> {
    let (rd, rs1, rs2) = (word >> 7 & 31, word >> 15 & 31, word >> 20 & 31);
    let single = word >> 25 & 3 == 0;
    Some(match (word & 0x7f, word >> 12 & 7) {
        (0x07, 2) => op(Kind::Flw, rd, rs1, 0, (word as i32 >> 20) as u32, 4),
        (0x27, 2) => op(Kind::Fsw, 0, rs1, rs2, (word as i32 >> 25 << 5) as u32 | rd, 4),
        (0x43 | 0x47 | 0x4b | 0x4f | 0x53, _) if single => op(Kind::Float, rd, rs1, rs2, word, 4),
        _ => return None,
    })
}

/// One of 2 bytes.
pub fn decode_short(half: u16) -> Option<Op> {
    let word = u32::from(half);
    let (low, high) = ((word >> 2 & 7) + 8, (word >> 7 & 7) + 8);
    let near = word << 1 & 0x40 | word >> 7 & 0x38 | word >> 4 & 4;
    Some(match (word & 3, word >> 13) {
        (0, 3) => op(Kind::Flw, low, high, 0, near, 2),
        (0, 7) => op(Kind::Fsw, 0, high, low, near, 2),
        (2, 3) => op(Kind::Flw, word >> 7 & 31, 2, 0, word << 4 & 0xc0 | word >> 7 & 0x20 | word >> 2 & 0x1c, 2),
        (2, 7) => op(Kind::Fsw, 0, 2, word >> 2 & 31, word >> 1 & 0xc0 | word >> 7 & 0x3c, 2),
        _ => return None,
    })
}

/// A finite result, not rounded: the sum of both. The second is smaller than half of the first one's last bit.
#[derive(Clone, Copy)]
struct Exact(f64, f64);

impl Exact {
    fn sum(a: f64, b: f64) -> Self {
        let sum = a + b;
        let part = sum - a;
        Self(sum, (a - (sum - part)) + (b - part))
    }

    /// Less (-1), equal or more (1) than a number.
    fn against(self, other: f64) -> f64 {
        let difference = self.0 - other;
        let decides = if difference == 0.0 { self.1 } else { difference };
        if decides == 0.0 { 0.0 } else { decides.signum() }
    }

    /// The next single-precision number in this mode; true when it is not the same.
    fn round(self, mode: u32) -> (f32, bool) {
        let near = self.0 as f32;
        if self.0 == 0.0 || !self.0.is_finite() {
            return (near, false);
        }
        let (low, high) = match self.against(near.into()) {
            side if side > 0.0 => (near, near.next_up()),
            side if side < 0.0 => (near.next_down(), near),
            _ => return (near, false),
        };
        let up = match mode {
            TO_ZERO => self.0 < 0.0,
            DOWN => false,
            UP => true,
            _ => match self.against(middle(low, high)) {
                side if side != 0.0 => side > 0.0,
                _ if mode == AWAY => self.0 > 0.0,
                _ => high.to_bits() & 1 == 0,
            },
        };
        (if up { high } else { low }, true)
    }
}

/// Half the way between neighbours; behind the largest number comes a power of two.
fn middle(low: f32, high: f32) -> f64 {
    const LIMIT: f64 = 340_282_366_920_938_463_463_374_607_431_768_211_456.0;
    let wide = |value: f32| if value.is_infinite() { LIMIT.copysign(value.into()) } else { value.into() };
    f64::midpoint(wide(low), wide(high))
}

fn is_signalling(bits: u32) -> bool {
    f32::from_bits(bits).is_nan() && bits & 0x40_0000 == 0
}

impl RiscV {
    /// Software has turned the registers on. They count as changed from now on.
    pub(super) fn float_on(&mut self) -> bool {
        let on = self.csr.mstatus & FS != 0;
        self.csr.mstatus |= if on { FS } else { 0 };
        on
    }

    fn single(&self, number: u32) -> u32 {
        self.float.f[number as usize & 31]
    }

    fn raise(&mut self, flags: u32) {
        self.float.flags |= flags;
    }

    /// Executes; false for what does not exist.
    pub(super) fn float(&mut self, word: u32) -> bool {
        let mode = match word >> 12 & 7 {
            7 => self.float.mode,
            mode => mode,
        };
        let (a, b) = (self.single(word >> 15), self.single(word >> 20));
        let done = match word & 0x7f {
            0x53 => return self.operation(word, mode, a, b),
            _ if mode > AWAY => return false,
            opcode => {
                let negative = if opcode >= 0x4b { 1 << 31 } else { 0 };
                let subtracts = if opcode == 0x47 || opcode == 0x4f { 1 << 31 } else { 0 };
                self.multiply_add(a ^ negative, b, self.single(word >> 27) ^ subtracts, mode)
            }
        };
        self.float.f[(word >> 7 & 31) as usize] = done;
        true
    }

    fn operation(&mut self, word: u32, mode: u32, a: u32, b: u32) -> bool {
        let (which, form, second) = (word >> 27, word >> 12 & 7, word >> 20 & 31);
        let sign = 1 << 31;
        let value = match (which, form) {
            (0x00..=0x03, _) if mode > AWAY => return false,
            (0x00, _) => self.add(a, b, mode),
            (0x01, _) => self.add(a, b ^ sign, mode),
            (0x02, _) => self.multiply(a, b, mode),
            (0x03, _) => self.divide(a, b, mode),
            (0x0b, _) if second == 0 && mode <= AWAY => self.root(a, mode),
            (0x04, 0) => a & !sign | b & sign,
            (0x04, 1) => a & !sign | !b & sign,
            (0x04, 2) => a ^ b & sign,
            (0x05, 0 | 1) => self.extreme(a, b, form == 1),
            (0x1a, _) if second < 2 && mode <= AWAY => {
                let source = self.x[(word >> 15 & 31) as usize];
                let value = if second == 0 { f64::from(source as i32) } else { f64::from(source) };
                self.rounded(Exact(value, 0.0), mode)
            }
            (0x1e, 0) if second == 0 => self.x[(word >> 15 & 31) as usize],
            _ => return self.for_integer_register(word, mode, a, b),
        };
        self.float.f[(word >> 7 & 31) as usize] = value;
        true
    }

    /// Those whose result goes to an integer register.
    fn for_integer_register(&mut self, word: u32, mode: u32, a: u32, b: u32) -> bool {
        let (which, form, second) = (word >> 27, word >> 12 & 7, word >> 20 & 31);
        let value = match (which, form) {
            (0x14, 0..=2) => self.compare(a, b, form),
            (0x18, _) if second < 2 && mode <= AWAY => self.integer(f32::from_bits(a), mode, second == 0),
            (0x1c, 0) if second == 0 => a,
            (0x1c, 1) if second == 0 => class(a),
            _ => return false,
        };
        if word >> 7 & 31 != 0 {
            self.x[(word >> 7 & 31) as usize] = value;
        }
        true
    }

    /// NaNs among the operands: the result is the usual one.
    fn not_a_number(&mut self, operands: &[u32]) -> bool {
        if operands.iter().any(|bits| is_signalling(*bits)) {
            self.raise(INVALID);
        }
        operands.iter().any(|bits| f32::from_bits(*bits).is_nan())
    }

    fn invalid(&mut self) -> u32 {
        self.raise(INVALID);
        NAN
    }

    fn rounded(&mut self, exact: Exact, mode: u32) -> u32 {
        const SCALE: f64 = 18_446_744_073_709_551_616.0;
        let (value, inexact) = exact.round(mode);
        if inexact {
            self.raise(INEXACT);
            // Two to the 128th and more does not fit, however it is rounded.
            if value.is_infinite() || exact.0.abs() >= middle(f32::INFINITY, f32::INFINITY) {
                self.raise(OVERFLOW);
            }
            // Small is what would be below the normal numbers with an exponent without limit.
            let free = Exact(exact.0 * SCALE, exact.1 * SCALE).round(mode).0;
            if f64::from(free.abs()) < f64::from(f32::MIN_POSITIVE) * SCALE {
                self.raise(UNDERFLOW);
            }
        }
        value.to_bits()
    }

    fn add(&mut self, a: u32, b: u32, mode: u32) -> u32 {
        if self.not_a_number(&[a, b]) {
            return NAN;
        }
        let (x, y) = (f64::from(f32::from_bits(a)), f64::from(f32::from_bits(b)));
        if x.is_infinite() || y.is_infinite() {
            return if (x + y).is_nan() { self.invalid() } else { ((x + y) as f32).to_bits() };
        }
        self.sum(x, y, mode)
    }

    fn sum(&mut self, x: f64, y: f64, mode: u32) -> u32 {
        let exact = Exact::sum(x, y);
        if exact.0 == 0.0 && x.is_sign_negative() != y.is_sign_negative() {
            return u32::from(mode == DOWN) << 31;
        }
        self.rounded(exact, mode)
    }

    fn multiply(&mut self, a: u32, b: u32, mode: u32) -> u32 {
        if self.not_a_number(&[a, b]) {
            return NAN;
        }
        // A double holds the product of two singles.
        let product = f64::from(f32::from_bits(a)) * f64::from(f32::from_bits(b));
        if product.is_nan() { self.invalid() } else { self.rounded(Exact(product, 0.0), mode) }
    }

    fn multiply_add(&mut self, a: u32, b: u32, c: u32, mode: u32) -> u32 {
        let product = f64::from(f32::from_bits(a)) * f64::from(f32::from_bits(b));
        let numbers = !f32::from_bits(a).is_nan() && !f32::from_bits(b).is_nan();
        if numbers && product.is_nan() {
            return self.invalid();
        }
        if self.not_a_number(&[a, b, c]) {
            return NAN;
        }
        let addend = f64::from(f32::from_bits(c));
        if product.is_infinite() || addend.is_infinite() {
            let sum = product + addend;
            return if sum.is_nan() { self.invalid() } else { (sum as f32).to_bits() };
        }
        self.sum(product, addend, mode)
    }

    fn divide(&mut self, a: u32, b: u32, mode: u32) -> u32 {
        if self.not_a_number(&[a, b]) {
            return NAN;
        }
        let (x, y) = (f64::from(f32::from_bits(a)), f64::from(f32::from_bits(b)));
        let quotient = x / y;
        if quotient.is_nan() {
            return self.invalid();
        }
        if y == 0.0 && x.is_finite() {
            self.raise(BY_ZERO);
        }
        if !quotient.is_finite() || y.is_infinite() {
            return (quotient as f32).to_bits();
        }
        let rest = (-quotient).mul_add(y, x) * y.signum();
        self.rounded(Exact(quotient, rest), mode)
    }

    fn root(&mut self, a: u32, mode: u32) -> u32 {
        if self.not_a_number(&[a]) {
            return NAN;
        }
        let x = f64::from(f32::from_bits(a));
        if x < 0.0 {
            return self.invalid();
        }
        let root = x.sqrt();
        if root == 0.0 || root.is_infinite() {
            return (root as f32).to_bits();
        }
        self.rounded(Exact(root, (-root).mul_add(root, x)), mode)
    }

    /// The smaller or the larger one; a NaN is passed over.
    fn extreme(&mut self, a: u32, b: u32, largest: bool) -> u32 {
        self.not_a_number(&[a, b]);
        let (x, y) = (f32::from_bits(a), f32::from_bits(b));
        match (x.is_nan(), y.is_nan()) {
            (true, true) => NAN,
            (true, false) => b,
            (false, true) => a,
            // The order of all numbers puts -0 before 0.
            _ if x.total_cmp(&y).is_lt() == largest => b,
            _ => a,
        }
    }

    /// FLE, FLT, FEQ.
    fn compare(&mut self, a: u32, b: u32, form: u32) -> u32 {
        let (x, y) = (f32::from_bits(a), f32::from_bits(b));
        let quiet = self.not_a_number(&[a, b]);
        if quiet && form != 2 {
            self.raise(INVALID);
        }
        u32::from(match form {
            0 => x <= y,
            1 => x < y,
            _ => x == y,
        })
    }

    fn integer(&mut self, value: f32, mode: u32, signed: bool) -> u32 {
        let exact = f64::from(value);
        let (least, most) =
            if signed { (f64::from(i32::MIN), f64::from(i32::MAX)) } else { (0.0, f64::from(u32::MAX)) };
        let whole = match mode {
            EVEN => exact.round_ties_even(),
            TO_ZERO => exact.trunc(),
            DOWN => exact.floor(),
            UP => exact.ceil(),
            _ => exact.round(),
        };
        if exact.is_nan() || whole < least || whole > most {
            self.raise(INVALID);
        } else if whole != exact {
            self.raise(INEXACT);
        }
        // A NaN becomes the largest number.
        let whole = if exact.is_nan() { most } else { whole.clamp(least, most) };
        if signed { whole as i32 as u32 } else { whole as u32 }
    }
}

/// FCLASS.
fn class(bits: u32) -> u32 {
    use std::num::FpCategory::*;
    let value = f32::from_bits(bits);
    let negative = value.is_sign_negative();
    let bit = match (value.classify(), negative) {
        (Infinite, true) => 0,
        (Normal, true) => 1,
        (Subnormal, true) => 2,
        (Zero, true) => 3,
        (Zero, false) => 4,
        (Subnormal, false) => 5,
        (Normal, false) => 6,
        (Infinite, false) => 7,
        (Nan, _) if is_signalling(bits) => 8,
        (Nan, _) => 9,
    };
    1 << bit
}
