//! Stands for `pkcs11.rs` in a build without it.

use esp_model::secure::{Scheme, SecureError};

use crate::Call;
use crate::error::{Code, ToolError};

/// There is never one.
pub enum Module {}

impl Module {
    /// Says that this program was built without PKCS#11.
    pub fn of(_: &Call) -> Result<Self, ToolError> {
        Err(ToolError::new(Code::NotInThisBuild, "this program was built without PKCS#11 (feature `pkcs11`)"))
    }

    /// Is never called: there is no module.
    pub fn sign(&self, _: &str, _: Scheme, _: &[u8]) -> Result<Vec<u8>, SecureError> {
        match *self {}
    }
}
