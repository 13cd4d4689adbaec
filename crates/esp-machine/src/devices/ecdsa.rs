//! The signature unit for elliptic curves: signs digests with a key of the eFuses that software never sees, verifies signatures,
//! and tells the key's public point.
//!
//! Numbers stand in memories of words, lowest first. The digest is the one that software gives; the unit's own SHA is not there. A
//! signature with a random number is made as one without, from random bytes more (RFC 6979, 3.6).

use esp_model::secure::curve;

use super::aes::put;
use super::ecc::{CURVES, Curve};
use crate::chip::Peripheral;
use crate::device::{Ctx, Device};

const CONF: u32 = 4;
const RAW: u32 = 0xc;
const STATUS: u32 = 0x10;
const ENABLE: u32 = 0x14;
const CLEAR: u32 = 0x18;
const START: u32 = 0x1c;
const STATE: u32 = 0x20;
const RESULT: u32 = 0x24;
/// The first key block's number to the register that chooses.
const FIRST_KEY: u32 = 4;
/// The memories, by their place: signature, digest, point.
const R: u32 = 0;
const S: u32 = 1;
const Z: u32 = 2;
const X: u32 = 3;
const Y: u32 = 4;

/// What it waits for; the numbers are those of the state register.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Idle,
    Load,
    Get,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Ecdsa {
    source: u32,
    /// Bits that choose the curve, the bit that says that a signature is made without random bytes.
    curves: u32,
    deterministic: u32,
    /// The first memory, and their distance.
    memory: u32,
    step: u32,
    /// The eFuse controller's register that says where keys are, its first bit, and bits for each curve (0: one for all).
    key_at: u32,
    key_bit: u32,
    key_step: u32,
    stage: Stage,
    raw: u32,
    right: bool,
}

impl Ecdsa {
    pub fn new(it: &'static Peripheral) -> Self {
        Self {
            source: it.sources.first().copied().unwrap_or(u32::MAX),
            curves: it.number_or("curve_mask", 1),
            deterministic: 1 << (it.number_or("deterministic_bit", 5) & 31),
            memory: it.number_or("memory", 0x340),
            step: it.number_or("step", 0x20),
            key_at: it.number("key_at"),
            key_bit: it.number_or("key_bit", 16),
            key_step: it.number("key_step"),
            stage: Stage::Idle,
            raw: 0,
            right: false,
        }
    }

    fn curve(&self, ctx: &mut Ctx<'_>) -> Option<(usize, &'static Curve)> {
        let number = (ctx.get(CONF) >> 2 & self.curves) as usize;
        CURVES.get(number).map(|curve| (number, curve))
    }

    /// A number of the curve's size, highest byte first.
    fn number(&self, ctx: &mut Ctx<'_>, memory: u32, size: usize) -> Vec<u8> {
        let at = self.memory + self.step * memory;
        let words = (0..size as u32 / 4).flat_map(|word| ctx.get(at + 4 * word).to_le_bytes());
        let mut bytes: Vec<u8> = words.collect();
        bytes.reverse();
        bytes
    }

    fn leave(&self, ctx: &mut Ctx<'_>, memory: u32, number: &[u8]) {
        let bytes: Vec<u8> = number.iter().rev().copied().collect();
        put(ctx, self.memory + self.step * memory, &bytes);
    }

    /// A block's bytes, when its purpose is the curve's: the scalar, lowest byte first.
    fn block(ctx: &mut Ctx<'_>, number: u32, purposes: &[&str]) -> Option<Vec<u8>> {
        let efuse = &ctx.shared.efuse;
        let number = number.checked_sub(FIRST_KEY)?;
        let burned = efuse.number(&format!("KEY_PURPOSE_{number}"));
        let purpose = efuse.table().key_purposes.iter().find(|purpose| purpose.value.map(u32::from) == Some(burned))?;
        let block = efuse.table().blocks.iter().find(|block| block.name == format!("BLOCK_KEY{number}"))?;
        let bytes = esp_model::efuse::bits::to_bytes(efuse.decoded().block(block.id));
        purposes.contains(&purpose.name.as_str()).then_some(bytes)
    }

    /// The private number, highest byte first.
    fn key(&self, ctx: &mut Ctx<'_>, curve: usize, size: usize) -> Option<Vec<u8>> {
        let held = ctx.shared.efuse.read(self.key_at);
        let chosen = held.unwrap_or_else(|| ctx.get_at(self.key_at));
        let field = |index: u32| chosen >> (self.key_bit + index * self.key_step) & 0xf;
        let mut bytes = match curve {
            0 => Self::block(ctx, field(0), &["ECDSA_KEY_P192", "ECDSA_KEY"]),
            1 => Self::block(ctx, field(1), &["ECDSA_KEY_P256", "ECDSA_KEY"]),
            _ => {
                let low = Self::block(ctx, field(2), &["ECDSA_KEY_P384_L"])?;
                Some([low, Self::block(ctx, field(3), &["ECDSA_KEY_P384_H"])?].concat())
            }
        }?;
        bytes.truncate(size);
        bytes.reverse();
        Some(bytes)
    }

    fn calculate(&mut self, ctx: &mut Ctx<'_>) -> Stage {
        self.right = false;
        let Some((number, curve)) = self.curve(ctx) else { return Stage::Idle };
        let (scheme, size) = (curve.scheme, curve.size);
        let digest = self.number(ctx, Z, size);
        match ctx.get(CONF) & 3 {
            0 => {
                let point = [self.number(ctx, X, size), self.number(ctx, Y, size)].concat();
                let signature = [self.number(ctx, R, size), self.number(ctx, S, size)].concat();
                self.right = curve::verify(scheme, &point, &digest, &signature);
                return Stage::Idle;
            }
            1 => {
                let fixed = ctx.get(CONF) & self.deterministic != 0;
                let more: Vec<u8> =
                    if fixed { Vec::new() } else { (0..8).flat_map(|_| ctx.shared.random().to_le_bytes()).collect() };
                let key = self.key(ctx, number, size);
                let signature = key.and_then(|key| curve::sign(scheme, &key, &digest, &more));
                self.right = signature.is_some();
                self.put_pair(ctx, [R, S], signature, size);
            }
            _ => {
                let point = self.key(ctx, number, size).and_then(|key| curve::public(scheme, &key));
                self.right = point.is_some();
                self.put_pair(ctx, [X, Y], point, size);
            }
        }
        Stage::Get
    }

    /// Without a key there is nothing to read.
    fn put_pair(&self, ctx: &mut Ctx<'_>, memories: [u32; 2], pair: Option<Vec<u8>>, size: usize) {
        let pair = pair.unwrap_or_else(|| vec![0; 2 * size]);
        for (memory, half) in memories.into_iter().zip(pair.chunks(size)) {
            self.leave(ctx, memory, half);
        }
    }

    fn forget(&self, ctx: &mut Ctx<'_>) {
        (0..5 * self.step / 4).for_each(|word| ctx.put(self.memory + 4 * word, 0));
    }

    fn update(&self, ctx: &mut Ctx<'_>) {
        let active = self.raw & ctx.get(ENABLE) != 0;
        ctx.shared.source(self.source, active);
    }
}

impl Device for Ecdsa {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        match offset {
            RAW => self.raw,
            STATUS => self.raw & ctx.get(ENABLE),
            STATE => self.stage as u32,
            RESULT => self.right.into(),
            _ => ctx.read(offset),
        }
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        let commands = [value & 1 != 0, value & 2 != 0, value & 4 != 0];
        match (offset, self.stage, commands) {
            (START, Stage::Idle, [true, ..]) => {
                self.forget(ctx);
                (self.stage, self.raw) = (Stage::Load, self.raw | 1);
            }
            (START, Stage::Load, [_, true, _]) => (self.stage, self.raw) = (self.calculate(ctx), self.raw | 2),
            (START, Stage::Get, [.., true]) => {
                self.forget(ctx);
                (self.stage, self.raw) = (Stage::Idle, self.raw | 4);
            }
            (START, ..) => {}
            (CLEAR, ..) => self.raw &= !value,
            // Memories are read and written only while they are loaded or read out.
            (at, stage, _) if at >= self.memory => {
                if stage == Stage::Load {
                    ctx.put(offset, value);
                }
            }
            _ => ctx.store(offset, value),
        }
        self.update(ctx);
    }

    fn reset(&mut self, ctx: &mut Ctx<'_>, _whole: bool) {
        (self.stage, self.raw, self.right) = (Stage::Idle, 0, false);
        self.update(ctx);
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}
