//! Why a command ended without success, and the exit code that says so.

use std::fmt::Display;
use std::io;

/// What went wrong.
#[derive(Debug)]
pub enum Fault {
    /// The command line is wrong: exit code 2, with the usage.
    Usage(String),
    /// The command failed: exit code 2, as esptool's `A fatal error occurred`.
    Fatal(String),
    /// The command said itself what is wrong: only the exit code is left.
    Exit(u8),
}

impl Fault {
    /// A failure with this text.
    pub fn fatal(text: impl Display) -> Self {
        Self::Fatal(text.to_string())
    }

    /// A value that an option or argument does not take. `name` is as the usage shows it.
    pub fn value(name: &str, text: impl Display) -> Self {
        Self::Usage(format!("Invalid value for '{name}': {text}"))
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Fatal(error.to_string())
    }
}
