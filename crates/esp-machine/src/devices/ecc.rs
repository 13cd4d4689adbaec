//! The accelerator for elliptic curves: a point times a number, and whether a point is on its curve; P-192 and P-256.
//!
//! Numbers stand in memories of words, lowest first.

use esp_model::secure::{Scheme, curve};

use super::aes::{bytes, put};
use crate::chip::Peripheral;
use crate::device::{Ctx, Device};

const RAW: u32 = 0xc;
const STATUS: u32 = 0x10;
const ENABLE: u32 = 0x14;
const CLEAR: u32 = 0x18;
const CONF: u32 = 0x1c;
const K: u32 = 0x100;
const X: u32 = 0x120;
const Y: u32 = 0x140;

/// See the module.
#[derive(Debug, Clone)]
pub struct Ecc {
    source: u32,
    /// First bit of the mode, and the bit that says that the point is on the curve.
    mode: u32,
    verified: u32,
    done: bool,
    on_curve: bool,
}

impl Ecc {
    pub fn new(it: &'static Peripheral) -> Self {
        Self {
            source: it.sources.first().copied().unwrap_or(u32::MAX),
            mode: it.number_or("mode_bit", 5),
            verified: 1 << (it.number_or("verified_bit", 8) & 31),
            done: false,
            on_curve: false,
        }
    }

    /// A number of the curve's size, highest byte first.
    fn number(ctx: &mut Ctx<'_>, at: u32, size: usize) -> Vec<u8> {
        let bytes: [u8; 32] = bytes(ctx, at);
        bytes.into_iter().take(size).rev().collect()
    }

    fn start(&mut self, ctx: &mut Ctx<'_>, conf: u32) {
        let (size, curve) = if conf & 4 != 0 { (32, Scheme::EcdsaP256) } else { (24, Scheme::EcdsaP192) };
        let point = [Self::number(ctx, X, size), Self::number(ctx, Y, size)].concat();
        let mode = conf >> self.mode & 7;
        // 0: times k; 2: on the curve? 3: both.
        self.on_curve = matches!(mode, 2 | 3) && curve::contains(curve, &point);
        if mode == 0 || mode == 3 && self.on_curve {
            let product = curve::multiply(curve, &Self::number(ctx, K, size), &point);
            // The point at infinity, and what is no point, gives 0.
            let product = product.unwrap_or_else(|| vec![0; 2 * size]);
            for (at, half) in [X, Y].into_iter().zip(product.chunks(size)) {
                let bytes: Vec<u8> = half.iter().rev().copied().collect();
                put(ctx, at, &bytes);
            }
        }
        self.done = true;
    }

    fn update(&self, ctx: &mut Ctx<'_>) {
        let active = self.done && ctx.get(ENABLE) & 1 != 0;
        ctx.shared.source(self.source, active);
    }
}

impl Device for Ecc {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        match offset {
            RAW => self.done.into(),
            STATUS => u32::from(self.done) & ctx.get(ENABLE),
            CONF => ctx.read(offset) & !self.verified | if self.on_curve { self.verified } else { 0 },
            _ => ctx.read(offset),
        }
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        match offset {
            CLEAR => self.done &= value & 1 == 0,
            CONF => {
                ctx.store(offset, value);
                if value & 2 != 0 {
                    (self.done, self.on_curve) = (false, false);
                }
                if value & 1 != 0 {
                    self.start(ctx, value);
                }
            }
            _ => ctx.store(offset, value),
        }
        self.update(ctx);
    }

    fn reset(&mut self, ctx: &mut Ctx<'_>, _whole: bool) {
        (self.done, self.on_curve) = (false, false);
        self.update(ctx);
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}
