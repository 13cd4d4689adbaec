//! The codes of errors: one for each table of `hints.toml`, made by the build script. A code that has no table there does not compile.

use std::fmt;

use serde::{Serialize, Serializer};

/// What a code asks of the program, where it has to decide by an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The call itself is wrong: a parameter.
    Usage,
    /// What was given to work on is wrong: files, images, recipes, identities.
    Input,
    /// The connection: another attempt may help.
    Line,
    /// The device, or what is on it.
    Device,
    /// It is not allowed.
    Policy,
    /// The caller asked to stop.
    Cancelled,
    /// This program is wrong.
    Internal,
}

include!(concat!(env!("OUT_DIR"), "/codes.rs"));

impl Code {
    /// After it a loader may be in the middle of something: the next call connects anew.
    pub fn ends_session(self) -> bool {
        matches!(self.class(), Class::Line | Class::Cancelled | Class::Internal)
    }

    /// It ends a call that would have burned eFuses: what matters is that none was burned.
    pub fn is_of_burning(self) -> bool {
        matches!(self, Self::BurnNotAllowed | Self::BurnImpossible | Self::BurnRefused | Self::BurnStale)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl From<Code> for serde_json::Value {
    fn from(code: Code) -> Self {
        code.as_str().into()
    }
}
