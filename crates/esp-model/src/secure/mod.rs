//! Secure boot and flash encryption on the host's side: keys, signatures, digests, encryption.
//!
//! Formats: ESP-IDF documentation, "Secure Boot V1/V2" and "Flash Encryption" of each chip. Everything that needs
//! randomness takes a [`Random`]; nothing here reads a clock or an entropy source.

pub mod block;
pub mod boot_v1;
pub mod boot_v2;
pub mod curve;
pub mod debug_certificate;
mod ecdsa;
pub mod flash_encryption;
mod keys;
pub mod nvs_keys;
mod rsa3072;
pub mod verifier;

pub use keys::{PrivateKey, PublicKey, Scheme};

/// A source of random bytes: fills the whole buffer with bytes fit for keys.
pub type Random<'a> = &'a mut dyn FnMut(&mut [u8]);

/// Bytes of a flash sector; a signature sector fills one.
pub const SECTOR: usize = 4096;

/// What can be wrong with keys, signatures and encrypted data.
///
/// No variant carries key bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecureError {
    /// The text holds no key of a supported kind.
    #[error("not a PEM key of a supported kind (RSA-3072, NIST P-192, P-256 or P-384)")]
    NotAKey,
    /// An RSA key of another size than 3072 bits.
    #[error("RSA key has {bits} bits, secure boot takes 3072")]
    RsaSize {
        /// The key's size.
        bits: usize,
    },
    /// The key is of a scheme that this operation does not take.
    #[error("{found} key where {wanted} is needed")]
    WrongScheme {
        /// What was given.
        found: Scheme,
        /// What the operation takes.
        wanted: Scheme,
    },
    /// Raw key bytes of a wrong length.
    #[error("key has {found} bytes, {wanted} are needed")]
    KeyLength {
        /// Bytes given.
        found: usize,
        /// Lengths that fit, as text.
        wanted: &'static str,
    },
    /// Content that must start or end at a boundary does not.
    #[error("{what} {value:#x} is not a multiple of {of}")]
    Alignment {
        /// What is misaligned.
        what: &'static str,
        /// Its value in bytes.
        value: u64,
        /// The boundary in bytes.
        of: u64,
    },
    /// An address that the ESP32's flash encryption cannot reach.
    #[error("address {0:#x} is beyond the 16 MB that this encryption reaches")]
    Address(u64),
    /// The data is too short to hold what is looked for.
    #[error("{found} bytes are too few, at least {wanted} are needed")]
    TooShort {
        /// Bytes given.
        found: usize,
        /// Bytes needed.
        wanted: usize,
    },
    /// More signatures than the sector's three places.
    #[error("{0} signature blocks do not fit, a signature sector holds 3")]
    TooManyBlocks(usize),
    /// There is nothing to sign with.
    #[error("no signing key")]
    NoKey,
    /// A signature made elsewhere does not fit the data and public key.
    #[error("the signature does not fit the data and public key")]
    BadSignature,
    /// Whoever holds the key did not sign.
    #[error("the signer: {0}")]
    Signer(String),
    /// The image's digest in a signature block differs from the image.
    #[error("signature block {0} was made for other content")]
    OtherContent(usize),
    /// No block carries a valid signature of this key.
    #[error("no signature block is signed by this key")]
    NotSignedByKey,
    /// Version word of a V1 signature is not 0.
    #[error("signature has version {0}, only 0 is known")]
    SignatureVersion(u32),
    /// The cryptographic library refused (a broken key).
    #[error("the key is broken: {0}")]
    Broken(&'static str),
}

#[cfg(test)]
mod tests;
