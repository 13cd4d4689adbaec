//! The accelerator for large numbers ("RSA", "MPI"): modular exponentiation, modular and plain multiplication.
//!
//! The numbers stand in four memories of words, lowest first. What drivers prepare for the unit's own method (R² mod M in the
//! result's memory, M') is not needed here: the results are the same.

use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, ConcatenatingMul as _, NonZero, Odd};

use crate::chip::Peripheral;
use crate::device::{Ctx, Device};

pub(super) const M: u32 = 0;
pub(super) const Z: u32 = 0x200;
pub(super) const Y: u32 = 0x400;
pub(super) const X: u32 = 0x600;
const LENGTH: u32 = 0x804;
const IS_CLEAN: u32 = 0x808;
const MODEXP: u32 = 0x80c;
const MODMULT: u32 = 0x810;
const MULT: u32 = 0x814;
const IS_IDLE: u32 = 0x818;
const INT_CLEAR: u32 = 0x81c;
const INT_ENABLE: u32 = 0x82c;
/// Words of a memory.
const MOST: u32 = 128;

/// The number of so many words at this place.
pub(super) fn number(ctx: &mut Ctx<'_>, at: u32, words: u32) -> BoxedUint {
    let bytes: Vec<u8> = (0..words).flat_map(|index| ctx.get(at + 4 * index).to_le_bytes()).collect();
    BoxedUint::from_le_slice(&bytes, 32 * words).unwrap_or_else(|_| BoxedUint::zero())
}

/// Puts a number in so many words at this place.
pub(super) fn put(ctx: &mut Ctx<'_>, at: u32, number: &BoxedUint, words: u32) {
    let bytes = number.to_le_bytes();
    for index in 0..words {
        let mut word = [0; 4];
        let part = bytes.get(4 * index as usize..).unwrap_or_default();
        word.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
        ctx.put(at + 4 * index, u32::from_le_bytes(word));
    }
}

/// x to the power of y modulo m; 0 with an even modulus.
pub(super) fn power(x: BoxedUint, y: &BoxedUint, m: BoxedUint) -> BoxedUint {
    Odd::new(m).into_option().map_or_else(BoxedUint::zero, |modulus| {
        let x = x.rem_vartime(modulus.as_nz_ref());
        BoxedMontyForm::new(x, &BoxedMontyParams::new_vartime(modulus)).pow(y).retrieve()
    })
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Rsa {
    source: u32,
    done: bool,
}

impl Rsa {
    pub fn new(it: &'static Peripheral) -> Self {
        Self { source: it.sources.first().copied().unwrap_or(u32::MAX), done: false }
    }

    /// With a modulus that the unit cannot work with the result is 0.
    fn modular(ctx: &mut Ctx<'_>, words: u32, to_the_power: bool) {
        let [x, y, m] = [X, Y, M].map(|at| number(ctx, at, words));
        let answer = if to_the_power {
            power(x, &y, m)
        } else {
            NonZero::new(m).into_option().map_or_else(BoxedUint::zero, |modulus| {
                x.rem_vartime(&modulus).mul_mod(&y.rem_vartime(&modulus), &modulus)
            })
        };
        put(ctx, Z, &answer, words);
    }

    /// Y stands behind the place for the lower half of the result.
    fn multiply(ctx: &mut Ctx<'_>, words: u32) {
        let half = words / 2;
        let (x, y) = (number(ctx, X, half), number(ctx, Z + 4 * half, half));
        put(ctx, Z, &x.concatenating_mul(&y), words);
    }

    fn update(&mut self, ctx: &mut Ctx<'_>) {
        let active = self.done && ctx.get(INT_ENABLE) & 1 != 0;
        ctx.shared.source(self.source, active);
    }
}

impl Device for Rsa {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        match offset {
            IS_CLEAN | IS_IDLE => 1,
            _ => ctx.read(offset),
        }
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        let words = (ctx.get(LENGTH) & (MOST - 1)) + 1;
        match offset {
            MODEXP | MODMULT if value & 1 != 0 => Self::modular(ctx, words, offset == MODEXP),
            MULT if value & 1 != 0 => Self::multiply(ctx, words),
            _ => ctx.store(offset, value),
        }
        match offset {
            MODEXP | MODMULT | MULT => self.done |= value & 1 != 0,
            INT_CLEAR => self.done &= value & 1 == 0,
            _ => {}
        }
        self.update(ctx);
    }

    fn reset(&mut self, ctx: &mut Ctx<'_>, _whole: bool) {
        self.done = false;
        self.update(ctx);
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}
