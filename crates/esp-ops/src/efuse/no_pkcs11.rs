//! Stands for `pkcs11.rs` in a build without it.

use std::path::Path;

use esp_model::secure::{PublicKey, Scheme, SecureError};
use zeroize::Zeroizing;

use crate::Call;
use crate::error::{Code, ToolError};

/// There is one only where somebody names it; it does nothing.
pub struct Module;

impl Module {
    /// Says that this program was built without PKCS#11.
    pub fn of(_: &Call) -> Result<Self, ToolError> {
        Err(ToolError::new(Code::NotInThisBuild, "this program was built without PKCS#11 (feature `pkcs11`)"))
    }

    /// A module that somebody at a terminal names.
    pub fn in_slot(_: &Path, _: u64, _: Zeroizing<String>) -> Self {
        Self
    }

    /// Says the same.
    pub fn sign(&self, _: &str, _: Scheme, _: &[u8]) -> Result<Vec<u8>, SecureError> {
        Err(none())
    }

    /// Says the same.
    pub fn public_key(&self, _: &str) -> Result<PublicKey, SecureError> {
        Err(none())
    }
}

fn none() -> SecureError {
    SecureError::Signer("this program was built without PKCS#11 (feature `pkcs11`)".into())
}
