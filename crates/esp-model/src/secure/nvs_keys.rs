//! Keys of an encrypted NVS partition: two AES-256 keys, XTS data key and XTS tweak key.
//!
//! Formats: ESP-IDF documentation, "NVS Encryption"; `nvs_sec_provider` for the HMAC scheme.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{Random, SecureError};
use crate::crc::rom_crc32;

/// Bytes of both keys together.
pub const KEYS: usize = 64;
/// Bytes of a key partition's first sector, as the generator writes it.
pub const PARTITION: usize = 4096;

/// Seeds of the HMAC scheme, each repeated to 32 bytes.
const DATA_SEED: [u8; 4] = 0xaebe_5a5au32.to_le_bytes();
const TWEAK_SEED: [u8; 4] = 0xcede_a5a5u32.to_le_bytes();

/// Both keys, data key first. Wiped when dropped.
pub type NvsKeys = Zeroizing<[u8; KEYS]>;

/// Makes new keys.
pub fn generate(random: Random<'_>) -> NvsKeys {
    let mut keys = Zeroizing::new([0; KEYS]);
    random(keys.as_mut_slice());
    keys
}

/// The keys that a chip derives from the 32-byte key in its eFuse block of purpose `HMAC_UP`.
pub fn from_hmac_key(hmac_key: &[u8]) -> Result<NvsKeys, SecureError> {
    if hmac_key.len() != 32 {
        return Err(SecureError::KeyLength { found: hmac_key.len(), wanted: "32" });
    }
    let mut keys = Zeroizing::new([0; KEYS]);
    for (half, seed) in keys.chunks_exact_mut(32).zip([DATA_SEED, TWEAK_SEED]) {
        let mut mac = Hmac::<Sha256>::new_from_slice(hmac_key).map_err(|_| SecureError::Broken("HMAC key"))?;
        mac.update(&seed.repeat(8));
        half.copy_from_slice(&mac.finalize().into_bytes());
    }
    Ok(keys)
}

/// The content of an NVS key partition: keys, CRC-32, rest of the sector blank.
pub fn to_partition(keys: &NvsKeys) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(PARTITION));
    out.extend_from_slice(keys.as_slice());
    out.extend(rom_crc32(keys.as_slice()).to_le_bytes());
    out.resize(PARTITION, 0xff);
    out
}

/// The keys in an NVS key partition; `None` when blank or the CRC is wrong.
pub fn from_partition(bytes: &[u8]) -> Option<NvsKeys> {
    let (keys, rest) = bytes.split_first_chunk::<KEYS>()?;
    (rom_crc32(keys).to_le_bytes() == *rest.first_chunk::<4>()?).then(|| Zeroizing::new(*keys))
}
