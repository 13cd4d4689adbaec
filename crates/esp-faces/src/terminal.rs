//! Where the texts go: results to standard output, warnings and errors to standard error.

use std::cell::Cell;
use std::fmt::Display;
use std::io::{self, Write};

/// Both output streams with what the options say about them.
#[derive(Debug, Clone, Default)]
pub struct Terminal {
    silent: Cell<bool>,
}

impl Terminal {
    /// A terminal that prints nothing but errors.
    pub fn silent() -> Self {
        Self { silent: Cell::new(true) }
    }

    /// Nothing but errors is printed.
    pub fn is_silent(&self) -> bool {
        self.silent.get()
    }

    /// Prints nothing but errors from now on.
    pub fn silence(&self) {
        self.silent.set(true);
    }

    /// One line of the result.
    pub fn say(&self, text: impl Display) {
        if !self.silent.get() {
            // A closed pipe is the reader's wish.
            let _ = writeln!(io::stdout().lock(), "{text}");
        }
    }

    /// A piece of a line that the next piece follows, shown at once.
    pub fn piece(&self, text: impl Display) {
        if !self.silent.get() {
            let mut out = io::stdout().lock();
            let _ = write!(out, "{text}").and_then(|()| out.flush());
        }
    }

    /// A note on standard output.
    pub fn note(&self, text: impl Display) {
        self.say(format_args!("NOTE: {text}"));
    }

    /// A hint on standard output.
    pub fn hint(&self, text: impl Display) {
        self.say(format_args!("HINT: {text}"));
    }

    /// A warning on standard error.
    pub fn warn(&self, text: impl Display) {
        if !self.silent.get() {
            let _ = writeln!(io::stderr().lock(), "WARNING: {text}");
        }
    }

    /// A warning in a form of its own.
    pub fn plain_warning(&self, text: impl Display) {
        if !self.silent.get() {
            let _ = writeln!(io::stderr().lock(), "{text}");
        }
    }

    /// An error on standard error, also when silent.
    pub fn error(&self, text: impl Display) {
        let _ = io::stdout().flush();
        let _ = writeln!(io::stderr().lock(), "ERROR: {text}");
    }
}
