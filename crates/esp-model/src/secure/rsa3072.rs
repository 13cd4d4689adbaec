//! RSA-3072 with PSS padding as secure boot V2 uses it: SHA-256, MGF1 with SHA-256, 32 bytes of salt.

use std::convert::Infallible;

use rsa::pkcs1::{DecodeRsaPrivateKey, EncodeRsaPrivateKey, LineEnding};
use rsa::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePublicKey};
use rsa::rand_core::{TryCryptoRng, TryRng};
use rsa::sha2::Sha256;
use rsa::traits::PublicKeyParts;
use rsa::{BoxedUint, PrivateKey, Pss, PublicKey};
use zeroize::Zeroizing;

use super::{Random, SecureError};

/// Bytes of the modulus and of a signature.
pub(super) const BYTES: usize = 384;
const BITS: usize = BYTES * 8;
const SALT: usize = 32;

/// The caller's randomness in the form that the library takes.
struct Source<'a>(Random<'a>);

impl TryRng for Source<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        (self.0)(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        (self.0)(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, buffer: &mut [u8]) -> Result<(), Infallible> {
        (self.0)(buffer);
        Ok(())
    }
}

impl TryCryptoRng for Source<'_> {}

pub(super) fn generate(random: Random<'_>) -> Result<PrivateKey, SecureError> {
    PrivateKey::new(&mut Source(random), BITS).map_err(|_| SecureError::Broken("no key could be generated"))
}

fn sized<K: PublicKeyParts>(key: K) -> Result<K, SecureError> {
    let bits = key.n().bit_width_vartime() as usize;
    if bits == BITS { Ok(key) } else { Err(SecureError::RsaSize { bits }) }
}

pub(super) fn private_from_pem(text: &str) -> Option<Result<PrivateKey, SecureError>> {
    let key = PrivateKey::from_pkcs1_pem(text).ok().or_else(|| PrivateKey::from_pkcs8_pem(text).ok());
    key.map(sized)
}

pub(super) fn public_from_pem(text: &str) -> Option<Result<PublicKey, SecureError>> {
    PublicKey::from_public_key_pem(text).ok().map(sized)
}

pub(super) fn private_to_pem(key: &PrivateKey) -> Result<Zeroizing<String>, SecureError> {
    key.to_pkcs1_pem(LineEnding::LF).map_err(|_| SecureError::Broken("cannot be encoded"))
}

pub(super) fn public_to_pem(key: &PublicKey) -> Result<String, SecureError> {
    key.to_public_key_pem(LineEnding::LF).map_err(|_| SecureError::Broken("cannot be encoded"))
}

pub(super) fn sign(key: &PrivateKey, digest: &[u8], random: Random<'_>) -> Result<Vec<u8>, SecureError> {
    key.sign_with_rng(&mut Source(random), Pss::<Sha256>::new_blinded_with_salt(SALT), digest)
        .map_err(|_| SecureError::Broken("signing failed"))
}

pub(super) fn verify(key: &PublicKey, digest: &[u8], signature: &[u8]) -> bool {
    key.verify(Pss::<Sha256>::new_with_salt(SALT), digest, signature).is_ok()
}

/// The public key as it stands in a signature block: modulus, exponent, R² mod n and −n⁻¹ mod 2³², little-endian.
pub(super) fn encode_public(key: &PublicKey) -> Vec<u8> {
    let mut power = vec![0; 2 * BYTES];
    power.push(1);
    let square = BoxedUint::from_le_slice_vartime(&power).rem_vartime(key.n());
    let mut out = padded(key.n(), BYTES);
    out.extend(padded(key.e(), 4));
    out.extend(padded(&square, BYTES));
    out.extend(negative_inverse(out.first_chunk().map_or(1, |low| u32::from_le_bytes(*low))).to_le_bytes());
    out
}

/// The public key from the form in a signature block.
pub(super) fn decode_public(bytes: &[u8]) -> Result<PublicKey, SecureError> {
    let short = SecureError::TooShort { found: bytes.len(), wanted: BYTES + 4 };
    let (modulus, rest) = bytes.split_at_checked(BYTES).ok_or(short.clone())?;
    let exponent = rest.first_chunk::<4>().ok_or(short)?;
    let key = PublicKey::new(BoxedUint::from_le_slice_vartime(modulus), BoxedUint::from_le_slice_vartime(exponent));
    sized(key.map_err(|_| SecureError::Broken("modulus or exponent is out of range"))?)
}

/// The public key from big-endian numbers.
pub(super) fn from_numbers(modulus: &[u8], exponent: &[u8]) -> Result<PublicKey, SecureError> {
    let number = |bytes: &[u8]| BoxedUint::from_be_slice_vartime(bytes);
    let key = PublicKey::new(number(modulus), number(exponent));
    sized(key.map_err(|_| SecureError::Broken("modulus or exponent is out of range"))?)
}

fn padded(number: &BoxedUint, len: usize) -> Vec<u8> {
    let mut bytes = number.to_le_bytes_trimmed_vartime().into_vec();
    bytes.resize(len, 0);
    bytes
}

/// −n⁻¹ mod 2³² for odd n: each step doubles the number of right bits.
fn negative_inverse(n: u32) -> u32 {
    let mut inverse = n;
    for _ in 0..5 {
        inverse = inverse.wrapping_mul(2u32.wrapping_sub(n.wrapping_mul(inverse)));
    }
    inverse.wrapping_neg()
}
