//! Secure boot V1 of the ESP32: app signatures (ECDSA P-256 at the file's end) and the bootloader's keyed digest.
//!
//! Format: ESP-IDF documentation, "Secure Boot V1".

use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes::{Aes256, Block};
use sha2::{Digest, Sha256, Sha512};
use zeroize::Zeroizing;

use super::flash_encryption::hardware_key;
use super::{PrivateKey, PublicKey, Scheme, SecureError};

/// Version word and `r‖s`.
const SIGNATURE: usize = 4 + 64;
/// Bytes of the random start of a bootloader digest.
pub const IV: usize = 128;
/// The secure boot engine reads this many bytes at a time.
const ENGINE_BLOCK: usize = 128;
/// Where the digest ends and the bootloader begins in the combined file.
const BOOTLOADER_AT: usize = 0x1000;
/// Byte of the image header that says that a SHA-256 follows the image.
const HASH_APPENDED_AT: usize = 23;

/// Appends an app signature. Deterministic: the same key and data give the same bytes.
pub fn sign(data: &[u8], key: &PrivateKey) -> Result<Vec<u8>, SecureError> {
    p256(key.scheme())?;
    // Curves need no randomness.
    let signature = key.sign(&Sha256::digest(data), &mut |_| ())?;
    Ok([data, &[0; 4], &signature].concat())
}

/// Appends an app signature `r‖s` that was made elsewhere, after checking it.
pub fn attach(data: &[u8], key: &PublicKey, signature: &[u8]) -> Result<Vec<u8>, SecureError> {
    p256(key.scheme())?;
    if !key.verify(&Sha256::digest(data), signature) {
        return Err(SecureError::BadSignature);
    }
    Ok([data, &[0; 4], signature].concat())
}

/// Verifies the signature at the end of a signed app.
pub fn verify(signed: &[u8], key: &PublicKey) -> Result<(), SecureError> {
    p256(key.scheme())?;
    let short = SecureError::TooShort { found: signed.len(), wanted: SIGNATURE };
    let at = signed.len().checked_sub(SIGNATURE).ok_or(short.clone())?;
    let (data, rest) = signed.split_at(at);
    let (version, signature) = rest.split_first_chunk::<4>().ok_or(short)?;
    match u32::from_le_bytes(*version) {
        0 if key.verify(&Sha256::digest(data), signature) => Ok(()),
        0 => Err(SecureError::BadSignature),
        other => Err(SecureError::SignatureVersion(other)),
    }
}

/// The public key as secure boot V1 compiles it into the bootloader: 64 bytes `x‖y`.
pub fn raw_public_key(key: &PublicKey) -> Result<&[u8], SecureError> {
    match key {
        PublicKey::Ecdsa(Scheme::EcdsaP256, xy) => Ok(xy),
        other => Err(SecureError::WrongScheme { found: other.scheme(), wanted: Scheme::EcdsaP256 }),
    }
}

fn p256(found: Scheme) -> Result<(), SecureError> {
    let wanted = Scheme::EcdsaP256;
    if found == wanted { Ok(()) } else { Err(SecureError::WrongScheme { found, wanted }) }
}

/// The digest that the ESP32's secure boot engine computes over a bootloader, and the bootloader as one file for
/// address 0: IV, digest, 0xFF up to 0x1000, then the bootloader.
///
/// `key` is the content of eFuse block 2 (32 bytes, or 24 with 3/4 coding). `iv` must be random in production, and of [`IV`] bytes for a ROM.
pub fn digest_bootloader(image: &[u8], key: &[u8], iv: &[u8]) -> Result<Vec<u8>, SecureError> {
    let key = hardware_key(key, "16, 24 or 32", &[16, 24, 32])?;
    let seen = as_the_engine_sees(image);
    let mut out = iv.to_vec();
    out.extend(engine_digest(&key, iv, &seen));
    out.resize(BOOTLOADER_AT, 0xff);
    out.extend(seen);
    Ok(out)
}

/// What the engine makes of these bytes, a vector in front of them included. `key` as for [`digest_bootloader`].
pub fn digest_of_blocks(key: &[u8], blocks: &[u8]) -> Result<Vec<u8>, SecureError> {
    Ok(engine_digest(&hardware_key(key, "16, 24 or 32", &[16, 24, 32])?, &[], blocks))
}

/// Whole 128-byte blocks. The engine does not read on to a SHA-256 that only spills into the next block.
fn as_the_engine_sees(image: &[u8]) -> Vec<u8> {
    let mut seen = image.to_vec();
    let spill = seen.len() % ENGINE_BLOCK;
    if image.get(HASH_APPENDED_AT) == Some(&1) && spill <= 32 {
        seen.truncate(image.len() - spill);
    }
    seen.resize(seen.len().next_multiple_of(ENGINE_BLOCK), 0xff);
    seen
}

/// AES-256 in ECB mode with reversed blocks, hashed by SHA-512; words come out byte-swapped.
fn engine_digest(key: &Zeroizing<Vec<u8>>, iv: &[u8], image: &[u8]) -> Vec<u8> {
    let Ok(cipher) = Aes256::new_from_slice(key) else { return Vec::new() };
    let mut hash = Sha512::new();
    for chunk in iv.chunks_exact(16).chain(image.chunks_exact(16)) {
        let mut block = Block::default();
        block.iter_mut().zip(chunk.iter().rev()).for_each(|(to, from)| *to = *from);
        cipher.encrypt_block(&mut block);
        // Reversed as a block, then each word turned back: words in reverse order.
        block.rchunks_exact(4).for_each(|word| hash.update(word));
    }
    hash.finalize().chunks_exact(4).flat_map(|word| word.iter().rev().copied().collect::<Vec<_>>()).collect()
}
