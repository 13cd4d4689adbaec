//! What is known of the device beyond its flash.

use crate::chip::SecureBootScheme;

/// State of the device. What is not known is `None`, and what depends on it is reported as unknown.
#[derive(Debug, Clone, Default)]
pub struct Device {
    /// Chip revision, major × 100 + minor.
    pub revision: Option<u16>,
    /// eFuse block revision, major × 100 + minor.
    pub block_revision: Option<u16>,
    /// An app's highest eFuse block revision does not count (`DISABLE_BLK_VERSION_MAJOR`).
    pub ignores_block_limit: bool,
    /// The chip decrypts what it reads from flash.
    pub encrypted: Option<bool>,
    /// The bytes to be walked are still encrypted.
    pub ciphertext: bool,
    /// Secure boot.
    pub secure_boot: Option<SecureBootState>,
    /// Secure version in the eFuses (number of set bits).
    pub secure_version: Option<u32>,
}

/// Secure boot as the eFuses have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecureBootState {
    /// None: not enabled.
    pub enabled: Option<Trust>,
}

/// Whose signatures count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// Scheme.
    pub scheme: SecureBootScheme,
    /// SHA-256 of the public keys that are trusted and not revoked, as much of it as the eFuses hold; empty when they
    /// cannot be read.
    pub digests: Vec<Vec<u8>>,
}

impl Trust {
    /// Images signed with the key of this digest are started.
    pub fn has(&self, key_digest: &[u8; 32]) -> bool {
        self.digests.iter().any(|digest| key_digest.starts_with(digest))
    }
}

/// How the bootloader was built, as far as the walk depends on it. Nothing of it can be read from flash.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Offset of the partition table. None: 0x8000, or the first sector after the bootloader that holds a table.
    pub table_offset: Option<u32>,
    /// `CONFIG_BOOTLOADER_APP_ROLLBACK_ENABLE`.
    pub rollback: bool,
    /// `CONFIG_BOOTLOADER_APP_ANTI_ROLLBACK`.
    pub anti_rollback: bool,
    /// The test app was asked for by a pin (`CONFIG_BOOTLOADER_APP_TEST`).
    pub test_app: bool,
}
