//! OTA packages: what an update is for, how it is proved whole, and deltas that make it small.

pub mod delta;
pub mod manifest;

pub use manifest::{DeltaFacts, FORMAT, Manifest, Mismatch, SignatureFacts};

/// SHA-256 in hexadecimal digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::Digest;
    crate::hex::encode(sha2::Sha256::digest(bytes))
}
