//! The accelerator for elliptic curves: a point times a number, whether a point is on its curve, and arithmetic modulo the
//! curve's prime or order; P-192 and P-256, on some chips P-384.
//!
//! Numbers stand in memories of words, lowest first. A point in Jacobian coordinates comes out with Z = 1: the same point as on
//! silicon, but not the same three numbers.

use crypto_bigint::{BoxedUint, NonZero};
use esp_model::secure::{Scheme, curve};

use super::rsa::power;
use crate::chip::Peripheral;
use crate::device::{Ctx, Device};

const RAW: u32 = 0xc;
const STATUS: u32 = 0x10;
const ENABLE: u32 = 0x14;
const CLEAR: u32 = 0x18;
const CONF: u32 = 0x1c;
const K: u32 = 0x100;
/// The memories behind K, by their place: a point's coordinates, and those of one in Jacobian coordinates.
const X: u32 = 1;
const Y: u32 = 2;
const JACOBIAN: [u32; 3] = [3, 4, 5];

/// A curve's size in bytes, prime and order.
pub(super) struct Curve {
    pub scheme: Scheme,
    pub size: usize,
    prime: &'static str,
    order: &'static str,
}

/// By the value of the field that chooses.
pub(super) static CURVES: [Curve; 3] = [
    Curve {
        scheme: Scheme::EcdsaP192,
        size: 24,
        prime: "fffffffffffffffffffffffffffffffeffffffffffffffff",
        order: "ffffffffffffffffffffffff99def836146bc9b1b4d22831",
    },
    Curve {
        scheme: Scheme::EcdsaP256,
        size: 32,
        prime: "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff",
        order: "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
    },
    Curve {
        scheme: Scheme::EcdsaP384,
        size: 48,
        prime: "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000ffffffff",
        order: "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
    },
];

/// See the module.
#[derive(Debug, Clone)]
pub struct Ecc {
    source: u32,
    /// First bit of the mode and its mask, bits that choose the curve, and the bit that says that the point is on the curve.
    mode: u32,
    mode_mask: u32,
    curves: u32,
    verified: u32,
    /// Distance of the memories.
    step: u32,
    done: bool,
    on_curve: bool,
}

impl Ecc {
    pub fn new(it: &'static Peripheral) -> Self {
        Self {
            source: it.sources.first().copied().unwrap_or(u32::MAX),
            mode: it.number_or("mode_bit", 5),
            mode_mask: it.number_or("mode_mask", 7),
            curves: it.number_or("curve_mask", 1),
            verified: 1 << (it.number_or("verified_bit", 8) & 31),
            step: it.number_or("step", 0x20),
            done: false,
            on_curve: false,
        }
    }

    /// A number of the curve's size in one of the memories, highest byte first.
    fn number(&self, ctx: &mut Ctx<'_>, memory: u32, size: usize) -> Vec<u8> {
        let at = K + self.step * memory;
        let words = (0..size as u32 / 4).flat_map(|word| ctx.get(at + 4 * word).to_le_bytes());
        let mut bytes: Vec<u8> = words.collect();
        bytes.reverse();
        bytes
    }

    fn put(&self, ctx: &mut Ctx<'_>, memory: u32, number: &[u8]) {
        let bytes: Vec<u8> = number.iter().rev().copied().collect();
        super::aes::put(ctx, K + self.step * memory, &bytes);
    }

    fn start(&mut self, ctx: &mut Ctx<'_>, conf: u32) {
        let Some(curve) = CURVES.get((conf >> 2 & self.curves) as usize) else { return };
        let (size, scheme) = (curve.size, curve.scheme);
        let mode = conf >> self.mode & self.mode_mask;
        let point = [self.number(ctx, X, size), self.number(ctx, Y, size)].concat();
        // 0: times k; 2: on the curve? 3: both; 4: times k, Jacobian; 5: plus the Jacobian point; 6: is that on the curve?
        // 7: on the curve, and times k, Jacobian.
        self.on_curve = matches!(mode, 2 | 3 | 7) && curve::contains(scheme, &point);
        match mode {
            0 | 4 => self.multiply(ctx, curve, &point, mode == 4),
            3 | 7 if self.on_curve => self.multiply(ctx, curve, &point, mode == 7),
            5 => self.add(ctx, curve, &point),
            6 => self.on_curve = self.jacobian(ctx, curve).is_some_and(|point| curve::contains(scheme, &point)),
            8..=11 => {
                // The base is chosen by the bit below the mode.
                let modulus = if conf >> (self.mode - 1) & 1 != 0 { curve.prime } else { curve.order };
                let numbers = [point.get(..size), point.get(size..)].map(Option::unwrap_or_default);
                if let Some(result) = arithmetic(mode, numbers, modulus) {
                    self.put(ctx, if mode < 10 { X } else { Y }, &result);
                }
            }
            _ => {}
        }
        self.done = true;
    }

    fn multiply(&self, ctx: &mut Ctx<'_>, curve: &Curve, point: &[u8], jacobian: bool) {
        let product = curve::multiply(curve.scheme, &self.number(ctx, 0, curve.size), point);
        self.leave(ctx, curve, product, jacobian);
    }

    /// The sum can be read in both forms.
    fn add(&self, ctx: &mut Ctx<'_>, curve: &Curve, point: &[u8]) {
        let other = self.jacobian(ctx, curve);
        let sum = other.and_then(|other| curve::add(curve.scheme, point, &other));
        self.leave(ctx, curve, sum.clone(), false);
        self.leave(ctx, curve, sum, true);
    }

    fn leave(&self, ctx: &mut Ctx<'_>, curve: &Curve, result: Option<Vec<u8>>, jacobian: bool) {
        // The point at infinity, and what is no point, gives 0.
        let there = result.is_some();
        let result = result.unwrap_or_else(|| vec![0; 2 * curve.size]);
        let memories = if jacobian { [JACOBIAN[0], JACOBIAN[1]] } else { [X, Y] };
        for (memory, half) in memories.into_iter().zip(result.chunks(curve.size)) {
            self.put(ctx, memory, half);
        }
        if jacobian {
            let mut one = vec![0; curve.size];
            if let Some(last) = one.last_mut() {
                *last = there.into();
            }
            self.put(ctx, JACOBIAN[2], &one);
        }
    }

    /// The point in Jacobian coordinates, as `x‖y`.
    fn jacobian(&self, ctx: &mut Ctx<'_>, curve: &Curve) -> Option<Vec<u8>> {
        let [x, y, z] = JACOBIAN.map(|memory| self.number(ctx, memory, curve.size));
        let divided = |number: &[u8], times: usize| {
            (0..times).try_fold(number.to_vec(), |number, _| arithmetic(11, [&number, &z], curve.prime))
        };
        Some([divided(&x, 2)?, divided(&y, 3)?].concat())
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

/// Sum, difference, product (modes 8 to 10) or quotient of two numbers modulo a prime, highest byte first.
fn arithmetic(mode: u32, numbers: [&[u8]; 2], prime: &str) -> Option<Vec<u8>> {
    let bits = 4 * prime.len() as u32;
    let prime = NonZero::new(BoxedUint::from_be_hex(prime, bits).into_option()?).into_option()?;
    let number = |bytes: &[u8]| Some(BoxedUint::from_be_slice(bytes, bits).ok()?.rem_vartime(&prime));
    let [a, b] = [number(numbers[0])?, number(numbers[1])?];
    let result = match mode {
        8 => a.add_mod(&b, &prime),
        9 => a.sub_mod(&b, &prime),
        10 => a.mul_mod(&b, &prime),
        _ => {
            // By Fermat: the inverse is the power of the prime less 2.
            let two = BoxedUint::from_be_slice(&[2], bits).ok()?;
            let inverse = power(b, &prime.wrapping_sub(&two), prime.clone().get());
            a.mul_mod(&inverse, &prime)
        }
    };
    Some(result.to_be_bytes().into_vec())
}
