//! The first chip's accelerator for large numbers: as [`super::rsa`], with numbers of whole 512 bits and a modular product
//! that software makes of two Montgomery products.

use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, ConcatenatingMul as _, Odd};

use super::rsa::{M, X, Y, Z, number, power, put};
use crate::chip::Peripheral;
use crate::device::{Ctx, Device};

const POWER_MODE: u32 = 0x804;
const POWER_START: u32 = 0x808;
const PRODUCT_MODE: u32 = 0x80c;
const PRODUCT_START: u32 = 0x810;
const DONE: u32 = 0x814;
const CLEAN: u32 = 0x818;
/// Words that one step of a mode stands for.
const STEP: u32 = 16;
/// From this mode on the product is a plain one.
const PLAIN: u32 = 8;

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

    /// Z = X · Z · R⁻¹ mod M, R being one bit longer than the memory's numbers.
    fn montgomery(ctx: &mut Ctx<'_>, words: u32) {
        let [x, z, m] = [X, Z, M].map(|at| number(ctx, at, words));
        let answer = Odd::new(m).into_option().map_or_else(BoxedUint::zero, |modulus| {
            let (x, z) = (x.rem_vartime(modulus.as_nz_ref()), z.rem_vartime(modulus.as_nz_ref()));
            let params = BoxedMontyParams::new_vartime(modulus);
            // Both taken as they are already in Montgomery's form: their product in that form is what the unit gives.
            BoxedMontyForm::from_montgomery(x, &params)
                .mul(&BoxedMontyForm::from_montgomery(z, &params))
                .to_montgomery()
        });
        put(ctx, Z, &answer, words);
    }

    /// Y's number stands in the upper half of Z's place, the result in all of it.
    fn plain(ctx: &mut Ctx<'_>, words: u32) {
        let half = words / 2;
        let (x, y) = (number(ctx, X, half), number(ctx, Z + 4 * half, half));
        put(ctx, Z, &x.concatenating_mul(&y), words);
    }

    fn update(&self, ctx: &mut Ctx<'_>) {
        ctx.shared.source(self.source, self.done);
    }
}

impl Device for Rsa {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        match offset {
            DONE => self.done.into(),
            CLEAN => 1,
            _ => ctx.get(offset),
        }
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        match offset {
            POWER_START if value & 1 != 0 => {
                let words = STEP * ((ctx.get(POWER_MODE) & 7) + 1);
                let [x, y, m] = [X, Y, M].map(|at| number(ctx, at, words));
                put(ctx, Z, &power(x, &y, m), words);
                self.done = true;
            }
            PRODUCT_START if value & 1 != 0 => {
                let mode = ctx.get(PRODUCT_MODE) & 0xf;
                if mode < PLAIN {
                    Self::montgomery(ctx, STEP * (mode + 1));
                } else {
                    Self::plain(ctx, STEP * (mode - PLAIN + 1));
                }
                self.done = true;
            }
            DONE => self.done &= value & 1 == 0,
            _ => ctx.put(offset, value),
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
