//! NVS encryption: XTS-AES-256 over each entry. Making and keeping keys is [`crate::secure::nvs_keys`].

use aes::Aes256;
use aes::cipher::KeyInit;
use xts_mode::Xts128;
use zeroize::Zeroizing;

use super::{ENTRY, FIRST_ENTRY, PAGE};
use crate::secure::nvs_keys::KEYS;

/// The two keys of an encrypted NVS partition. Wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys(Zeroizing<[u8; KEYS]>);

/// Keys cannot be used. The texts never hold key bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// Too short.
    #[error("{0} bytes of NVS keys; 64 are needed")]
    Short(usize),
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
    /// Takes the first 64 bytes: data key, then tweak key. Like the reference generator, it looks at nothing behind them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeysError> {
        let keys = bytes.first_chunk::<KEYS>().ok_or(KeysError::Short(bytes.len()))?;
        let (data, tweak) = keys.split_at(KEYS / 2);
        if data == tweak { Err(KeysError::Same) } else { Ok(Self(Zeroizing::new(*keys))) }
    }

    pub(super) fn cipher(&self) -> Cipher {
        let (data, tweak) = self.0.split_at(KEYS / 2);
        // Both halves have 32 bytes, the length of an AES-256 key.
        let expand = |key: &[u8]| Aes256::new(&std::array::from_fn(|i| key.get(i).copied().unwrap_or(0)).into());
        Cipher(Xts128::new(expand(data), expand(tweak)))
    }
}

/// The expanded keys.
pub(super) struct Cipher(Xts128<Aes256>);

impl Cipher {
    /// Encrypts one entry at this address in the partition.
    pub fn encrypt(&self, entry: &mut [u8; ENTRY], address: u32) {
        self.0.encrypt_sector(entry, u128::from(address).to_le_bytes().into());
    }

    /// Decrypts one entry at this address in the partition.
    pub fn decrypt(&self, entry: &mut [u8; ENTRY], address: u32) {
        self.0.decrypt_sector(entry, u128::from(address).to_le_bytes().into());
    }
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
