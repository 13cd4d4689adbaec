//! The HMAC accelerator: HMAC-SHA256 with a key of the eFuses that software never sees.
//!
//! Software pads the message itself; the unit hashes the blocks as they come.

use sha2::block_api::compress256;

use super::aes::{bytes, put};
use crate::chip::Peripheral;
use crate::device::{Ctx, Device};

const START: u32 = 0x40;
const PURPOSE: u32 = 0x44;
const KEY: u32 = 0x48;
const CONFIGURED: u32 = 0x4c;
const BLOCK: u32 = 0x50;
const RESULT_READ: u32 = 0x5c;
const ERROR: u32 = 0x68;
const BUSY: u32 = 0x6c;
const MESSAGE: u32 = 0x80;
const RESULT: u32 = 0xc0;
const LAST_PADDED: u32 = 0xf0;
const ONE_BLOCK: u32 = 0xf4;
/// Purposes of a key: all that leads down to other units, and the one whose result software reads.
const ALL_DOWN: u32 = 5;
const UP: u32 = 8;
const SIGNATURE: u32 = 7;
/// The result for another unit is no longer there.
const FORGET_SIGNATURE: u32 = 0x64;
const SHA256: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

fn fold(state: [u32; 8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.chunks_exact_mut(4).zip(state).for_each(|(to, word)| to.copy_from_slice(&word.to_be_bytes()));
    out
}

/// The key's block with every byte changed by this one: where the inner and the outer hash begin.
pub(super) fn begin(key: &[u8; 32], change: u8) -> [u32; 8] {
    let mut block = [change; 64];
    block.iter_mut().zip(key).for_each(|(to, byte)| *to ^= byte);
    let mut state = SHA256;
    compress256(&mut state, &[block]);
    state
}

/// The outer hash over the inner one.
pub(super) fn finish(key: &[u8; 32], inner: [u32; 8]) -> [u8; 32] {
    let mut block = [0; 64];
    block.iter_mut().zip(fold(inner)).for_each(|(to, byte)| *to = byte);
    block[32] = 0x80;
    block[62..].copy_from_slice(&(96u16 * 8).to_be_bytes());
    let mut state = begin(key, 0x5c);
    compress256(&mut state, &[block]);
    fold(state)
}

/// What the signature unit decrypts by: the result for 32 bytes of ones.
fn for_signature(key: &[u8; 32]) -> [u8; 32] {
    let mut block = [0; 64];
    block[..32].fill(0xff);
    block[32] = 0x80;
    block[62..].copy_from_slice(&(96u16 * 8).to_be_bytes());
    let mut state = begin(key, 0x36);
    compress256(&mut state, &[block]);
    finish(key, state)
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Hmac {
    key: Option<[u8; 32]>,
    state: [u32; 8],
    error: bool,
}

impl Hmac {
    pub fn new(_it: &'static Peripheral) -> Self {
        Self { key: None, state: SHA256, error: false }
    }

    /// The key block, when it is there for this purpose.
    fn key(number: u32, purpose: u32, ctx: &mut Ctx<'_>) -> Option<[u8; 32]> {
        let efuse = &ctx.shared.efuse;
        let burned = efuse.number(&format!("KEY_PURPOSE_{number}"));
        let fits = burned == purpose || burned == ALL_DOWN && purpose != UP;
        let block = efuse.table().blocks.iter().find(|block| block.name == format!("BLOCK_KEY{number}"))?;
        let bytes = esp_model::efuse::bits::to_bytes(efuse.decoded().block(block.id));
        bytes.try_into().ok().filter(|_| fits)
    }

    fn configure(&mut self, ctx: &mut Ctx<'_>) {
        let (purpose, number) = (ctx.get(PURPOSE) & 0xf, ctx.get(KEY) & 7);
        self.key = Self::key(number, purpose, ctx);
        self.error = self.key.is_none();
        self.state = self.key.map_or(SHA256, |key| begin(&key, 0x36));
        if purpose == SIGNATURE {
            ctx.shared.signing_key = self.key.map(|key| for_signature(&key));
        }
    }

    fn block(&mut self, ctx: &mut Ctx<'_>, last: bool) {
        let Some(key) = self.key else { return };
        compress256(&mut self.state, &[bytes(ctx, MESSAGE)]);
        if last {
            put(ctx, RESULT, &finish(&key, self.state));
        }
    }
}

impl Device for Hmac {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        match offset {
            ERROR => self.error.into(),
            BUSY => 0,
            _ => ctx.read(offset),
        }
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        let set = value & 1 != 0;
        match offset {
            START | RESULT_READ if set => {
                (self.key, self.error) = (None, false);
                put(ctx, RESULT, &[0; 32]);
            }
            // They hold what software writes, though it cannot read them back on every chip.
            PURPOSE | KEY => ctx.put(offset, value),
            MESSAGE..RESULT => ctx.put(offset, value),
            CONFIGURED if set => self.configure(ctx),
            FORGET_SIGNATURE if set => ctx.shared.signing_key = None,
            BLOCK if set => self.block(ctx, false),
            LAST_PADDED | ONE_BLOCK if set => self.block(ctx, true),
            _ => ctx.store(offset, value),
        }
    }

    fn reset(&mut self, ctx: &mut Ctx<'_>, _whole: bool) {
        (self.key, self.error) = (None, false);
        ctx.shared.signing_key = None;
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}
