//! Single precision.
//!
//! Division and roots are sequences of small steps that compilers emit as a whole (`DIV0.S`, `NEXP01.S`, `MADDN.S`,
//! `MKDADJ.S`, `ADDEXPM.S`, `DIVN.S` …). Their tables are not published; what the sequences compute is: `MKDADJ.S` and
//! `MKSADJ.S` hold the exact result here, `ADDEXPM.S` takes it over, and the other steps leave it alone.

use super::Xtensa;
use super::exceptions::Trap;
use super::kind::{Kind, Op};

impl Xtensa {
    /// Coprocessor 0 must be enabled: operating systems save its registers only for tasks that use it.
    #[inline(always)]
    pub(super) fn check_float(&self) -> Result<(), Trap> {
        if self.coprocessors & 1 == 0 { Err(Trap::NoFloat) } else { Ok(()) }
    }

    fn f(&self, number: u8) -> f32 {
        f32::from_bits(self.fr[number as usize & 15])
    }

    fn set_f(&mut self, number: u8, value: f32) {
        self.fr[number as usize & 15] = value.to_bits();
    }

    /// Adds up or subtracts as FCR says how to round; only the usual way (to nearest) is exact here.
    fn arithmetic(&mut self, op: &Op) {
        let (r, s, t) = (self.f(op.r), self.f(op.s), self.f(op.t));
        let value = match op.kind {
            Kind::AddS => s + t,
            Kind::SubS => s - t,
            Kind::MulS => s * t,
            Kind::MsubS => (-s).mul_add(t, r),
            _ => s.mul_add(t, r),
        };
        self.set_f(op.r, value);
    }

    /// Floating-point instructions other than loads and stores.
    pub(super) fn float(&mut self, op: &Op) -> Result<(), Trap> {
        use Kind::*;
        self.check_float()?;
        match op.kind {
            AddS | SubS | MulS | MaddS | MsubS | MaddnS => self.arithmetic(op),
            RoundS | TruncS | FloorS | CeilS | UtruncS => {
                let value = self.to_integer(op);
                self.set_a(op.r, value);
            }
            FloatS => self.set_f(op.r, scaled(f64::from(self.a(op.s) as i32), -op.imm)),
            UfloatS => self.set_f(op.r, scaled(f64::from(self.a(op.s)), -op.imm)),
            MovS => self.fr[op.r as usize & 15] = self.fr[op.s as usize & 15],
            AbsS => self.fr[op.r as usize & 15] = self.fr[op.s as usize & 15] & 0x7fff_ffff,
            NegS => self.fr[op.r as usize & 15] = self.fr[op.s as usize & 15] ^ 0x8000_0000,
            ConstS => {
                const VALUES: [f32; 4] = [0.0, 1.0, 2.0, 0.5];
                self.set_f(op.r, VALUES.get(op.s as usize).copied().unwrap_or(f32::NAN));
            }
            Rfr => {
                let value = self.fr[op.s as usize & 15];
                self.set_a(op.r, value);
            }
            Wfr => self.fr[op.r as usize & 15] = self.a(op.s),
            UnS | OeqS | UeqS | OltS | UltS | OleS | UleS => self.compare(op),
            MoveqzS | MovnezS | MovltzS | MovgezS | MovfS | MovtS => self.float_move(op),
            _ => self.assist(op),
        }
        Ok(())
    }

    /// The steps of divisions and roots; see the module.
    fn assist(&mut self, op: &Op) {
        let (old, value) = (self.f(op.r), self.f(op.s));
        match op.kind {
            Kind::Recip0S | Kind::Div0S => self.set_f(op.r, value.recip()),
            Kind::Rsqrt0S | Kind::Sqrt0S => self.set_f(op.r, value.sqrt().recip()),
            Kind::MkdadjS => self.set_f(op.r, value / old),
            Kind::MksadjS => self.set_f(op.r, value.sqrt()),
            Kind::AddexpmS => self.set_f(op.r, value),
            Kind::Nexp01S => self.set_f(op.r, -value),
            // ADDEXP.S and DIVN.S: nothing is left to do.
            _ => {}
        }
    }

    fn compare(&mut self, op: &Op) {
        let (s, t) = (self.f(op.s), self.f(op.t));
        let unordered = s.is_nan() || t.is_nan();
        let holds = match op.kind {
            Kind::UnS => unordered,
            Kind::OeqS => s == t,
            Kind::UeqS => unordered || s == t,
            Kind::OltS => s < t,
            Kind::UltS => unordered || s < t,
            Kind::OleS => s <= t,
            _ => unordered || s <= t,
        };
        self.set_boolean(op.r, holds);
    }

    fn float_move(&mut self, op: &Op) {
        let number = self.a(op.t) as i32;
        let moves = match op.kind {
            Kind::MoveqzS => number == 0,
            Kind::MovnezS => number != 0,
            Kind::MovltzS => number < 0,
            Kind::MovgezS => number >= 0,
            Kind::MovfS => !self.boolean(op.t),
            _ => self.boolean(op.t),
        };
        if moves {
            self.fr[op.r as usize & 15] = self.fr[op.s as usize & 15];
        }
    }

    fn to_integer(&self, op: &Op) -> u32 {
        let bits = self.fr[op.s as usize & 15];
        let value = f64::from(f32::from_bits(bits)) * f64::from(1u32 << (op.imm & 15));
        let rounded = match op.kind {
            Kind::RoundS => value.round_ties_even(),
            Kind::FloorS => value.floor(),
            Kind::CeilS => value.ceil(),
            _ => value.trunc(),
        };
        // Not a number counts as too large, by its sign; Rust's conversion keeps to the range.
        let negative = bits >> 31 != 0;
        match (op.kind, value.is_nan()) {
            (Kind::UtruncS, false) if rounded < 0.0 => rounded as i32 as u32,
            (Kind::UtruncS, false) => rounded as u32,
            (Kind::UtruncS, true) => {
                if negative {
                    0x8000_0000
                } else {
                    0xffff_ffff
                }
            }
            (_, true) => {
                if negative {
                    0x8000_0000
                } else {
                    0x7fff_ffff
                }
            }
            _ => rounded as i32 as u32,
        }
    }

    /// A boolean register.
    #[inline(always)]
    pub(super) fn boolean(&self, number: u8) -> bool {
        self.booleans >> (number & 15) & 1 != 0
    }

    /// Sets it.
    pub(super) fn set_boolean(&mut self, number: u8, value: bool) {
        let bit = 1 << (number & 15);
        self.booleans = if value { self.booleans | bit } else { self.booleans & !bit };
    }

    /// Instructions on booleans.
    pub(super) fn boolean_logic(&mut self, op: &Op) {
        let (s, t) = (self.boolean(op.s), self.boolean(op.t));
        let (target, value) = match op.kind {
            Kind::Andb => (op.r, s && t),
            Kind::Andbc => (op.r, s && !t),
            Kind::Orb => (op.r, s || t),
            Kind::Orbc => (op.r, s || !t),
            Kind::Xorb => (op.r, s != t),
            Kind::Any4 => (op.t, self.booleans >> (op.s & 12) & 0xf != 0),
            Kind::All4 => (op.t, self.booleans >> (op.s & 12) & 0xf == 0xf),
            Kind::Any8 => (op.t, self.booleans >> (op.s & 8) & 0xff != 0),
            _ => (op.t, self.booleans >> (op.s & 8) & 0xff == 0xff),
        };
        self.set_boolean(target, value);
    }
}

/// A number times a power of two, rounded once.
fn scaled(value: f64, power: i32) -> f32 {
    (value * f64::from(power).exp2()) as f32
}
