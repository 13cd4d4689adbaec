//! Files whose bytes were settled when a recipe was read: what is exchanged on the disk later changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use esp_model::hex;
use sha2::{Digest, Sha256};

use super::Files;
use crate::error::{Code, ToolError};

/// What a file must hold, by the name it is read by.
pub type Pins = BTreeMap<String, Pin>;

/// What a file must hold.
#[derive(Debug, Clone)]
pub enum Pin {
    /// These bytes, which were read and compared already.
    Bytes(Arc<Vec<u8>>),
    /// Bytes with this SHA-256 (hex).
    Sha256(String),
    /// Nothing: the lock does not cover it.
    Uncovered,
}

impl Files {
    /// The same with files that are settled already.
    pub fn pinned(&self, pins: Arc<Pins>) -> Self {
        Self { pins, ..self.clone() }
    }

    /// The bytes of a file whose bytes are settled.
    pub(super) fn settled(&self, path: &str) -> Option<Vec<u8>> {
        match self.pins.get(path) {
            Some(Pin::Bytes(bytes)) => Some(bytes.as_ref().clone()),
            _ => None,
        }
    }

    /// Refuses bytes that are not those that the file is settled to.
    pub(super) fn compare(&self, path: &str, bytes: &[u8]) -> Result<(), ToolError> {
        let refused = |why: &str| Err(ToolError::new(Code::RecipeChanged, format!("`{path}` {why}")));
        match self.pins.get(path) {
            Some(Pin::Sha256(wanted)) if hex::encode(Sha256::digest(bytes)) != *wanted => {
                refused("is not the file that the recipe was locked to")
            }
            Some(Pin::Uncovered) => refused("was not there when the recipe was locked: its lock does not cover it"),
            _ => Ok(()),
        }
    }
}
