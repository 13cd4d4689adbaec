//! The lock at the end of a recipe: its own hash and those of its files.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// What a recipe was locked to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// SHA-256 of the text before the lock, hex.
    pub recipe: String,
    /// SHA-256 of each file, hex.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

/// Hex of the SHA-256.
pub fn sha256(bytes: &[u8]) -> String {
    esp_model::hex::encode(Sha256::digest(bytes))
}

/// The text before the line `[lock]`.
pub fn body(text: &str) -> &str {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if line.trim() == "[lock]" {
            return text.get(..at).unwrap_or(text);
        }
        at += line.len();
    }
    text
}

/// The text with a lock at its end, in place of an older one.
pub fn locked(text: &str, files: &BTreeMap<String, String>) -> String {
    let mut body = body(text).trim_end().to_owned();
    body.push_str("\n\n");
    let hash = sha256(body.as_bytes());
    let mut out = body;
    let _ = writeln!(out, "[lock]\nrecipe = \"{hash}\"\n\n[lock.files]");
    for (file, hash) in files {
        let _ = writeln!(out, "{} = \"{hash}\"", toml::Value::String(file.clone()));
    }
    out
}

impl Lock {
    /// What differs from the lock: the recipe, or files by name.
    pub fn differences(&self, text: &str, files: &BTreeMap<String, String>) -> Vec<String> {
        let mut out = Vec::new();
        if sha256(body(text).as_bytes()) != self.recipe {
            out.push("the recipe itself".to_owned());
        }
        let changed = files.iter().filter(|(file, hash)| self.files.get(*file) != Some(*hash));
        out.extend(changed.map(|(file, _)| file.clone()));
        out.extend(self.files.keys().filter(|file| !files.contains_key(*file)).cloned());
        out
    }
}
