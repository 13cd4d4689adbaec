//! Flash encryption as the chips' hardware does it: the ESP32's tweaked AES, and XTS-AES of all later chips.
//!
//! Source: ESP-IDF documentation, "Flash Encryption" (each chip's), and the technical reference manuals' chapters on
//! external memory encryption.

use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use aes::{Aes128, Aes256, Block};
use sha2::{Digest, Sha256};
use xts_mode::Xts128;
use zeroize::Zeroizing;

use super::{Random, SecureError};

/// Default of the eFuse field FLASH_CRYPT_CONFIG: the address changes all bits of the key.
pub const FULL_TWEAK: u8 = 0xf;

/// Data and addresses come in units of this many bytes.
const UNIT: usize = 16;
/// The ESP32 changes its key every 32 bytes.
const ESP32_UNIT: u64 = 32;
/// The ESP32's tweak knows address bits up to 23.
const ESP32_REACH: u64 = 1 << 24;
/// XTS data unit: 1024 bits.
const XTS_UNIT: usize = 128;

/// A flash encryption key with its algorithm. Wiped when dropped; `Debug` does not show it.
pub struct FlashKey(Kind);

enum Kind {
    Esp32 { key: Zeroizing<[u8; 32]>, crypt_config: u8 },
    Xts128(Box<Xts128<Aes128>>),
    Xts256(Box<Xts128<Aes256>>),
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Plain to what stands in flash.
    Encrypt,
    /// What stands in flash to plain.
    Decrypt,
}

/// Kinds of key that can be generated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// 16 bytes, from which the chip derives an XTS-AES-128 key (SHA-256): ESP32-C2.
    Xts128Derived,
    /// 24 bytes: ESP32 with 3/4 coding.
    Esp32Coded,
    /// 32 bytes: ESP32, or XTS-AES-128.
    Bits256,
    /// 64 bytes: XTS-AES-256, two key blocks.
    Xts256,
}

impl KeyKind {
    /// Bytes of the key file.
    pub fn len(self) -> usize {
        match self {
            Self::Xts128Derived => 16,
            Self::Esp32Coded => 24,
            Self::Bits256 => 32,
            Self::Xts256 => 64,
        }
    }

    /// A key always has bytes.
    pub fn is_empty(self) -> bool {
        false
    }

    /// Makes a new key.
    pub fn generate(self, random: Random<'_>) -> Zeroizing<Vec<u8>> {
        let mut key = Zeroizing::new(vec![0; self.len()]);
        random(&mut key);
        key
    }
}

impl std::fmt::Debug for FlashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Kind::Esp32 { .. } => "FlashKey(ESP32 AES-256)",
            Kind::Xts128(_) => "FlashKey(XTS-AES-128)",
            Kind::Xts256(_) => "FlashKey(XTS-AES-256)",
        })
    }
}

/// A key file's bytes as the hardware sees them: 16 bytes are stretched by SHA-256, 24 as 3/4 coding does it.
pub(super) fn hardware_key(
    bytes: &[u8],
    wanted: &'static str,
    lengths: &[usize],
) -> Result<Zeroizing<Vec<u8>>, SecureError> {
    if !lengths.contains(&bytes.len()) {
        return Err(SecureError::KeyLength { found: bytes.len(), wanted });
    }
    let mut key = Zeroizing::new(bytes.to_vec());
    match bytes.len() {
        16 => *key = Sha256::digest(bytes).to_vec(),
        24 => key.extend_from_slice(bytes.get(8..16).unwrap_or_default()),
        _ => {}
    }
    Ok(key)
}

impl FlashKey {
    /// The ESP32's key: 32 bytes, or 24 with 3/4 coding. `crypt_config` is the eFuse FLASH_CRYPT_CONFIG (4 bits).
    pub fn esp32(bytes: &[u8], crypt_config: u8) -> Result<Self, SecureError> {
        let stretched = hardware_key(bytes, "24 or 32", &[24, 32])?;
        let mut key = Zeroizing::new([0; 32]);
        key.iter_mut().zip(stretched.iter()).for_each(|(to, from)| *to = *from);
        Ok(Self(Kind::Esp32 { key, crypt_config }))
    }

    /// The key of all later chips: 32 bytes (XTS-AES-128), 64 (XTS-AES-256), or 16 from which 32 are derived.
    pub fn xts(bytes: &[u8]) -> Result<Self, SecureError> {
        let key = hardware_key(bytes, "16, 32 or 64", &[16, 32, 64])?;
        let broken = |_| SecureError::Broken("key length");
        let (first, second) = key.split_at(key.len() / 2);
        Ok(Self(if key.len() == 32 {
            let part = |half: &[u8]| Aes128::new_from_slice(half).map_err(broken);
            Kind::Xts128(Box::new(Xts128::new(part(first)?, part(second)?)))
        } else {
            let part = |half: &[u8]| Aes256::new_from_slice(half).map_err(broken);
            Kind::Xts256(Box::new(Xts128::new(part(first)?, part(second)?)))
        }))
    }

    /// Encrypts or decrypts `data` in place as it stands at flash `address`. Both are multiples of 16 bytes.
    pub fn apply(&self, direction: Direction, address: u64, data: &mut [u8]) -> Result<(), SecureError> {
        aligned("address", address)?;
        aligned("length", data.len() as u64)?;
        match &self.0 {
            Kind::Esp32 { key, crypt_config } => esp32(key, *crypt_config, direction, address, data),
            Kind::Xts128(xts) => {
                xts_units(address, data, |unit, tweak| match direction {
                    Direction::Encrypt => xts.encrypt_sector(unit, tweak),
                    Direction::Decrypt => xts.decrypt_sector(unit, tweak),
                });
                Ok(())
            }
            Kind::Xts256(xts) => {
                xts_units(address, data, |unit, tweak| match direction {
                    Direction::Encrypt => xts.encrypt_sector(unit, tweak),
                    Direction::Decrypt => xts.decrypt_sector(unit, tweak),
                });
                Ok(())
            }
        }
    }

    /// A copy of `data`, encrypted. Data that is no multiple of 16 bytes is filled up with random bytes.
    pub fn encrypt_padded(&self, address: u64, data: &[u8], random: Random<'_>) -> Result<Vec<u8>, SecureError> {
        let mut out = data.to_vec();
        out.resize(data.len().next_multiple_of(UNIT), 0);
        random(out.get_mut(data.len()..).unwrap_or_default());
        self.apply(Direction::Encrypt, address, &mut out)?;
        Ok(out)
    }
}

fn aligned(what: &'static str, value: u64) -> Result<(), SecureError> {
    let of = UNIT as u64;
    if value.is_multiple_of(of) { Ok(()) } else { Err(SecureError::Alignment { what, value, of }) }
}

/// Walks the 128-byte units that `data` touches; the hardware sees their bytes in reverse order.
fn xts_units(address: u64, data: &mut [u8], mut unit_op: impl FnMut(&mut [u8], Array<u8, aes::cipher::consts::U16>)) {
    let mut rest = data;
    let mut address = address;
    while !rest.is_empty() {
        let skip = (address % XTS_UNIT as u64) as usize;
        let len = rest.len().min(XTS_UNIT - skip);
        let (part, tail) = rest.split_at_mut(len);
        let mut unit = [0; XTS_UNIT];
        let mut tweak = [0; 16];
        let base = (address - skip as u64) as u32;
        tweak.iter_mut().zip(base.to_le_bytes()).for_each(|(to, from)| *to = from);
        unit.iter_mut().rev().skip(skip).zip(part.iter()).for_each(|(to, from)| *to = *from);
        unit_op(&mut unit, tweak.into());
        part.iter_mut().zip(unit.iter().rev().skip(skip)).for_each(|(to, from)| *to = *from);
        address += len as u64;
        rest = tail;
    }
}

/// The ESP32: AES "used inverted" on reversed blocks, the key changed by address bits every 32 bytes.
fn esp32(
    key: &[u8; 32],
    crypt_config: u8,
    direction: Direction,
    address: u64,
    data: &mut [u8],
) -> Result<(), SecureError> {
    let end = address.saturating_add(data.len() as u64);
    if end > ESP32_REACH {
        return Err(SecureError::Address(end));
    }
    let masks = tweak_masks(crypt_config);
    let mut cipher = None;
    for (index, chunk) in data.chunks_exact_mut(UNIT).enumerate() {
        let at = address + (index * UNIT) as u64;
        if at.is_multiple_of(ESP32_UNIT) {
            cipher = None;
        }
        let cipher = cipher.get_or_insert_with(|| Aes256::new(&tweaked(key, &masks, at).into()));
        let mut block = Block::default();
        block.iter_mut().zip(chunk.iter().rev()).for_each(|(to, from)| *to = *from);
        match direction {
            Direction::Encrypt => cipher.decrypt_block(&mut block),
            Direction::Decrypt => cipher.encrypt_block(&mut block),
        }
        chunk.iter_mut().zip(block.iter().rev()).for_each(|(to, from)| *to = *from);
    }
    Ok(())
}

/// Lowest and highest address bit that the tweak uses.
const TWEAK_BITS: std::ops::RangeInclusive<u32> = 5..=23;

type Masks = [[u8; 32]; 19];

/// For each address bit the key bits that it flips.
///
/// The key, first byte first and highest bit first, falls into four ranges of 67, 65, 63 and 61 bits, which the bits of
/// FLASH_CRYPT_CONFIG switch on. Along each, address bits 23 down to 5 repeat; a range ends where its length says.
fn tweak_masks(crypt_config: u8) -> Masks {
    let mut masks = [[0; 32]; 19];
    let mut bit = 0;
    for (range, length) in [67u32, 65, 63, 61].into_iter().enumerate() {
        for place in 0..length {
            // Three full runs of 19, then the lowest bits of one.
            let address_bit = match place.checked_sub(3 * 19) {
                None => TWEAK_BITS.end() - place % 19,
                Some(last) => TWEAK_BITS.start() + (length - 3 * 19) - 1 - last,
            };
            if crypt_config & (1 << range) != 0
                && let Some(byte) =
                    masks.get_mut((address_bit - TWEAK_BITS.start()) as usize).and_then(|mask| mask.get_mut(bit / 8))
            {
                *byte |= 0x80 >> (bit % 8);
            }
            bit += 1;
        }
    }
    masks
}

fn tweaked(key: &[u8; 32], masks: &Masks, address: u64) -> [u8; 32] {
    let mut out = *key;
    for (bit, mask) in TWEAK_BITS.zip(masks) {
        if address & (1 << bit) != 0 {
            out.iter_mut().zip(mask).for_each(|(byte, flip)| *byte ^= flip);
        }
    }
    out
}
