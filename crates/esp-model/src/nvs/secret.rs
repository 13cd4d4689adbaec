//! Which values are shown only when somebody asks for them: passwords, keys, tokens and bytes.

use super::{Entry, Value};

/// Parts of names under which secrets are kept.
const SECRET_NAMES: [&str; 12] =
    ["psk", "pass", "pwd", "key", "token", "secret", "cert", "priv", "auth", "cred", "pmk", "salt"];

/// What stands in place of a secret.
pub const HIDDEN: &str = "(secret)";

/// A name under which a secret is usually kept.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|part| name.contains(part))
}

impl Value {
    /// A value that may be a secret under this key: by its name, or because nobody can tell what its bytes are.
    pub fn is_secret_under(&self, key: &str) -> bool {
        matches!(self, Self::RawText(_) | Self::Blob(_)) || is_secret_name(key)
    }
}

impl Entry {
    /// A value that may be a secret.
    pub fn is_secret(&self) -> bool {
        self.value.is_secret_under(&self.key)
    }
}
