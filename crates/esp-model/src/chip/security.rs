//! Secure boot and flash encryption.

use serde::Deserialize;

/// Secure boot and flash encryption.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Security {
    /// Secure boot schemes; several may be possible on one chip.
    #[serde(default)]
    pub secure_boot: Vec<SecureBoot>,
    /// Flash encryption, where the chip has it.
    pub flash_encryption: Option<FlashEncryption>,
    /// eFuse fields that lock the chip when all of a group are set.
    #[serde(default)]
    pub never_together: Vec<Vec<String>>,
}

/// A secure boot scheme.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecureBoot {
    /// What is signed and how.
    pub scheme: SecureBootScheme,
    /// eFuse field that enables it.
    pub enable: String,
    /// Number of public key digests.
    pub digests: u8,
    /// First chip revision (major × 100 + minor) that has it.
    #[serde(default)]
    pub min_revision: u16,
}

/// Secure boot schemes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecureBootScheme {
    /// Symmetric bootloader digest, ECDSA-signed apps (ESP32).
    V1,
    /// RSA-3072 PSS signature blocks.
    V2Rsa,
    /// ECDSA signature blocks.
    V2Ecdsa,
}

/// Flash encryption.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlashEncryption {
    /// Algorithm.
    pub cipher: FlashCipher,
    /// eFuse field whose number of set bits, when odd, turns it on.
    pub count: String,
    /// Possible key lengths in bits.
    pub key_bits: Vec<u16>,
    /// eFuse field that forbids the loader to encrypt what it writes.
    pub no_manual_encrypt: Option<String>,
}

/// Flash encryption algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlashCipher {
    /// AES-256 with an address tweak of the key (ESP32).
    Esp32Aes,
    /// XTS-AES.
    XtsAes,
}
