//! NVS encryption: XTS-AES-256 over each entry, and the partition that holds its keys.

use aes::Aes256;
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::{ENTRY, FIRST_ENTRY, PAGE};
use crate::crc::rom_crc32;

/// Size of a key partition in bytes.
pub const KEYS_LENGTH: usize = 4096;
/// Both keys in bytes; their CRC follows.
const KEYS: usize = 64;

/// The two keys of an encrypted NVS partition.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    data: [u8; 32],
    tweak: [u8; 32],
}

/// Keys cannot be used. The texts never hold key bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// Too short.
    #[error("{0} bytes of NVS keys; 64 are needed")]
    Short(usize),
    /// The CRC is wrong.
    #[error("the CRC of the NVS keys is wrong")]
    Crc,
    /// XTS needs two different keys.
    #[error("both NVS keys are the same")]
    Same,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(..)")
    }
}

impl Keys {
    /// Reads the first 64 bytes. Like the reference generator, it does not look at the CRC.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeysError> {
        let (Some(data), Some(tweak)) = (bytes.first_chunk::<32>(), bytes.get(32..).and_then(|b| b.first_chunk()))
        else {
            return Err(KeysError::Short(bytes.len()));
        };
        if data == tweak { Err(KeysError::Same) } else { Ok(Self { data: *data, tweak: *tweak }) }
    }

    /// Reads a key partition and checks its CRC, as a device does.
    pub fn from_partition(bytes: &[u8]) -> Result<Self, KeysError> {
        let keys = Self::from_bytes(bytes)?;
        let crc = bytes.get(KEYS..).and_then(|rest| rest.first_chunk()).map(|crc| u32::from_le_bytes(*crc));
        if crc == Some(keys.crc()) { Ok(keys) } else { Err(KeysError::Crc) }
    }

    /// The keys that a device derives from its HMAC eFuse key (the HMAC scheme of NVS encryption).
    pub fn from_hmac_key(key: &[u8]) -> Result<Self, KeysError> {
        let derive = |seed: [u8; 4]| {
            // HMAC takes keys of any length.
            let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key).map_err(|_| KeysError::Short(0))?;
            mac.update(&seed.repeat(8));
            let digest: [u8; 32] = mac.finalize().into_bytes().into();
            Ok(digest)
        };
        let (data, tweak) = (derive([0x5a, 0x5a, 0xbe, 0xae])?, derive([0xa5, 0xa5, 0xde, 0xce])?);
        Ok(Self { data, tweak })
    }

    fn crc(&self) -> u32 {
        rom_crc32(&[self.data, self.tweak].concat())
    }

    /// The key partition: keys, CRC, 0xFF.
    pub fn partition(&self) -> Vec<u8> {
        let mut out = [self.data, self.tweak].concat();
        out.extend_from_slice(&self.crc().to_le_bytes());
        out.resize(KEYS_LENGTH, 0xff);
        out
    }

    pub(super) fn cipher(&self) -> Cipher {
        Cipher { data: Aes256::new(&self.data.into()), tweak: Aes256::new(&self.tweak.into()) }
    }
}

/// The expanded keys.
pub(super) struct Cipher {
    data: Aes256,
    tweak: Aes256,
}

impl Cipher {
    /// Encrypts one entry at this address in the partition.
    pub fn encrypt(&self, entry: &mut [u8; ENTRY], address: u32) {
        self.run(entry, address, |block| self.data.encrypt_block(block.into()));
    }

    /// Decrypts one entry at this address in the partition.
    pub fn decrypt(&self, entry: &mut [u8; ENTRY], address: u32) {
        self.run(entry, address, |block| self.data.decrypt_block(block.into()));
    }

    fn run(&self, entry: &mut [u8; ENTRY], address: u32, mut cipher: impl FnMut(&mut [u8; 16])) {
        let mut tweak = [0; 16];
        tweak[..4].copy_from_slice(&address.to_le_bytes());
        self.tweak.encrypt_block((&mut tweak).into());
        for block in entry.as_chunks_mut::<16>().0 {
            mix(block, &tweak);
            cipher(block);
            mix(block, &tweak);
            tweak = double(tweak);
        }
    }
}

fn mix(block: &mut [u8; 16], tweak: &[u8; 16]) {
    block.iter_mut().zip(tweak).for_each(|(a, b)| *a ^= b);
}

/// Multiplies by x in GF(2^128) as XTS orders it.
fn double(tweak: [u8; 16]) -> [u8; 16] {
    let number = u128::from_le_bytes(tweak);
    let carry = if number >> 127 == 0 { 0 } else { 0x87 };
    ((number << 1) ^ carry).to_le_bytes()
}

/// Address of an entry in the partition, as the tweak has it.
pub(super) fn entry_address(page: usize, slot: usize) -> u32 {
    (page * PAGE + FIRST_ENTRY + slot * ENTRY) as u32
}

/// Decrypts a whole image. Headers and state bitmaps are never encrypted, blank entries stay blank.
pub fn decrypt(image: &[u8], keys: &Keys) -> Vec<u8> {
    let cipher = keys.cipher();
    each_entry(image, |entry, address| cipher.decrypt(entry, address))
}

/// Encrypts a whole image that is not encrypted.
pub fn encrypt(image: &[u8], keys: &Keys) -> Vec<u8> {
    let cipher = keys.cipher();
    each_entry(image, |entry, address| cipher.encrypt(entry, address))
}

fn each_entry(image: &[u8], run: impl Fn(&mut [u8; ENTRY], u32)) -> Vec<u8> {
    let mut out = image.to_vec();
    for (number, page) in out.chunks_mut(PAGE).enumerate() {
        let Some(entries) = page.get_mut(FIRST_ENTRY..) else { continue };
        for (slot, entry) in entries.as_chunks_mut::<ENTRY>().0.iter_mut().enumerate() {
            if *entry != [0xff; ENTRY] {
                run(entry, entry_address(number, slot));
            }
        }
    }
    out
}
