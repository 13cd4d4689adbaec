//! The digital signature unit: RSA with a private key that only this chip can decrypt, by a key that comes from the HMAC unit.
//!
//! As Espressif's tools encrypt it: AES-256-CBC over exponent, modulus and R² of the largest size, SHA-256 of these with M', length
//! and IV, then M', length and a padding of 8 bytes.

use sha2::{Digest as _, Sha256};

use super::aes::{Cipher, bytes};
use super::rsa::{number, power, put};
use crate::chip::Peripheral;
use crate::device::{Ctx, Device};

/// Memories: the encrypted key's parts, its end, IV, message, result.
const PARTS: [u32; 3] = [0, 0x200, 0x400];
const BOX: u32 = 0x600;
const IV: u32 = 0x630;
const X: u32 = 0x800;
const Z: u32 = 0xa00;
/// Registers.
const START: u32 = 0xe00;
const SIGN: u32 = 0xe04;
const FINISH: u32 = 0xe08;
const BUSY: u32 = 0xe0c;
const KEY_WRONG: u32 = 0xe10;
const CHECK: u32 = 0xe14;
const WRONG_DIGEST: u32 = 1;
const WRONG_PADDING: u32 = 2;

/// See the module.
#[derive(Debug, Clone)]
pub struct DigitalSignature {
    /// Bytes of the largest number.
    size: usize,
    started: bool,
    check: u32,
}

impl DigitalSignature {
    pub fn new(it: &'static Peripheral) -> Self {
        Self { size: it.number_or("bits", 4096) as usize / 8, started: false, check: 0 }
    }

    /// What the parts decrypt to, one behind the other.
    fn decrypted(&self, ctx: &mut Ctx<'_>, key: &[u8; 32]) -> Option<Vec<u8>> {
        let cipher = Cipher::new(key, 2)?;
        let mut chain: [u8; 16] = bytes(ctx, IV);
        let mut text = Vec::new();
        let places = PARTS.into_iter().map(|at| (at, self.size)).chain([(BOX, 48)]);
        for (at, length) in places {
            for offset in (0..length as u32).step_by(16) {
                let block: [u8; 16] = bytes(ctx, at + offset);
                let plain = cipher.apply(block, true);
                text.extend(plain.iter().zip(chain).map(|(byte, before)| byte ^ before));
                chain = block;
            }
        }
        Some(text)
    }

    fn sign(&mut self, ctx: &mut Ctx<'_>) {
        (0..128).for_each(|word| ctx.put(Z + 4 * word, 0));
        let key = ctx.shared.signing_key;
        let Some(text) = key.and_then(|key| self.decrypted(ctx, &key)) else { return };
        let (numbers, end) = text.split_at(3 * self.size);
        let (digest, rest) = end.split_at(32);
        let (values, padding) = rest.split_at(8);
        let iv: [u8; 16] = bytes(ctx, IV);
        let right = Sha256::new().chain_update(numbers).chain_update(values).chain_update(iv).finalize();
        self.check = if right[..] == *digest { 0 } else { WRONG_DIGEST };
        self.check |= if padding == [8; 8] { 0 } else { WRONG_PADDING };
        if self.check & WRONG_DIGEST != 0 {
            return;
        }
        let words = values.get(4..8).and_then(|word| word.try_into().ok()).map_or(0, u32::from_le_bytes);
        let words = (words & 0x7f).saturating_add(1).min(self.size as u32 / 4);
        let part = |index: usize| {
            let bytes = numbers.get(index * self.size..).and_then(|bytes| bytes.get(..4 * words as usize));
            crypto_bigint::BoxedUint::from_le_slice(bytes.unwrap_or_default(), 32 * words).ok()
        };
        if let (Some(exponent), Some(modulus)) = (part(0), part(1)) {
            let result = power(number(ctx, X, words), &exponent, modulus);
            put(ctx, Z, &result, words);
        }
    }
}

impl Device for DigitalSignature {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        match offset {
            // It waits for its key.
            BUSY => u32::from(self.started && ctx.shared.signing_key.is_none()),
            KEY_WRONG => 0,
            CHECK => self.check,
            _ => ctx.read(offset),
        }
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        let set = value & 1 != 0;
        match offset {
            START if set => (self.started, self.check) = (true, 0),
            SIGN if set && self.started => self.sign(ctx),
            FINISH if set => {
                self.started = false;
                // Nothing of the key stays.
                (0..START / 4).for_each(|word| ctx.put(4 * word, 0));
            }
            _ => ctx.put(offset, value),
        }
    }

    fn reset(&mut self, _ctx: &mut Ctx<'_>, _whole: bool) {
        (self.started, self.check) = (false, 0);
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}
