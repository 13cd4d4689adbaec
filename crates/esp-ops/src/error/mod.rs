//! What goes out when a call fails: a stable code, what happened, what was seen, what to do next.
//!
//! Domain crates say what happened; the advice is here, in `hints.toml`.

mod code;
mod ledger;
mod link;
mod model;
mod nvs;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use esp_model::job::Cancelled;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::code::{Class, Code};
pub use self::link::attempt_text;

/// What is known of the flash after a call that failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FlashState {
    /// Not one byte was changed.
    #[default]
    Unchanged,
    /// Some of it was erased or written; the evidence says how far.
    Partial,
    /// Everything was written; something after that failed.
    Written,
    /// It cannot be told.
    Unknown,
}

/// A failed call.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ToolError {
    /// What happened, for programs; stable.
    pub code: Code,
    /// What happened.
    pub message: String,
    /// What was seen: bytes, registers, names.
    pub evidence: Map<String, Value>,
    /// What to do next.
    pub next_step: String,
    /// The device was talked to.
    pub device_touched: bool,
    /// The state of the device's flash.
    pub flash_state: FlashState,
}

impl std::error::Error for ToolError {}

impl ToolError {
    /// An error with the catalogue's next step for `code`.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let next_step = hint(code.as_str()).map_or_else(String::new, |hint| hint.next.clone());
        Self {
            code,
            message: visible(&message.into()),
            evidence: Map::new(),
            next_step,
            device_touched: false,
            flash_state: FlashState::Unchanged,
        }
    }

    /// An error of the file system. A full disk has a code of its own: nothing is wrong with the file.
    pub fn of_io(code: Code, what: impl fmt::Display, error: &std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        let full = matches!(error.kind(), StorageFull | QuotaExceeded);
        Self::new(if full { Code::DiskFull } else { code }, format!("{what}: {error}"))
    }

    /// Adds something that was seen.
    #[must_use]
    pub fn seen(mut self, what: &str, value: impl Into<Value>) -> Self {
        self.evidence.insert(what.into(), value.into());
        self
    }

    /// A better next step than the catalogue's.
    #[must_use]
    pub fn next(mut self, step: impl Into<String>) -> Self {
        self.next_step = step.into();
        self
    }

    /// The device was talked to, and this is its flash's state.
    #[must_use]
    pub fn touched(mut self, flash: FlashState) -> Self {
        self.device_touched = true;
        self.flash_state = flash;
        self
    }
}

/// The text with control characters written out: names and quoted lines come from files and devices, and must not
/// command the terminal that shows them.
fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\t' => shown.push(letter),
            _ if letter.is_control() => shown.extend(letter.escape_default()),
            _ => shown.push(letter),
        }
    }
    shown
}

/// What was seen, readable: entries of a list below each other, an object's fields on one line.
fn readable(value: &Value) -> String {
    match value {
        Value::String(text) => visible(text),
        Value::Array(items) => items.iter().map(|item| format!("\n- {}", readable(item))).collect(),
        Value::Object(fields) => {
            let one_line = |value: &Value| match value {
                Value::Array(items) => items.iter().map(readable).collect::<Vec<_>>().join(" and "),
                other => readable(other),
            };
            fields.iter().map(|(name, value)| format!("{name} {}", one_line(value))).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// The whole error as text, as a client's model reads it.
impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: {}", self.code, self.message)?;
        for (what, value) in self.evidence.iter().filter(|(_, value)| !value.is_null()) {
            let seen = readable(value);
            write!(f, "\nseen: {what}:{}{seen}", if seen.starts_with('\n') { "" } else { " " })?;
        }
        if !self.next_step.is_empty() {
            write!(f, "\nnext: {}", self.next_step)?;
        }
        if !self.device_touched {
            return write!(f, "\ndevice: not touched");
        }
        let flash = match self.flash_state {
            FlashState::Unchanged if self.code.is_of_burning() => {
                return write!(f, "\ndevice: only read, no eFuse burned");
            }
            FlashState::Unchanged => "unchanged",
            FlashState::Partial => "partly written",
            FlashState::Written => "written",
            FlashState::Unknown => "in an unknown state",
        };
        write!(f, "\ndevice: connected, flash {flash}")
    }
}

impl From<Cancelled> for ToolError {
    fn from(_: Cancelled) -> Self {
        Self::new(Code::Cancelled, "the call was cancelled")
    }
}

/// One row of the catalogue.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hint {
    /// The diagnosis it belongs to, such as `CONN-01`, if it is one.
    pub id: Option<String>,
    /// What the program does about it; the build script reads it, see [`Class`].
    #[serde(rename = "class")]
    _class: String,
    /// What it means.
    pub about: String,
    /// Likely causes, most likely first.
    #[serde(default)]
    pub causes: Vec<String>,
    /// What to do next.
    pub next: String,
    /// The same for a person at a terminal, where that differs.
    pub terminal: Option<String>,
}

/// All codes with their hints, in the order of their names.
pub fn hints() -> &'static BTreeMap<String, Hint> {
    static HINTS: OnceLock<BTreeMap<String, Hint>> = OnceLock::new();
    HINTS.get_or_init(|| {
        toml::from_str(include_str!("../../hints.toml")).unwrap_or_else(|error| {
            tracing::error!("hints.toml: {error}");
            BTreeMap::new()
        })
    })
}

impl ToolError {
    /// What is known of its code.
    pub fn hint(&self) -> Option<&'static Hint> {
        hint(self.code.as_str())
    }
}

/// What was recognised, for a result that is no failure: `BOOT-01 no_bootloader: what it means; next: …`.
pub fn finding(code: &str) -> String {
    let Some(hint) = hint(code) else { return code.to_owned() };
    let id = hint.id.as_deref().map_or(String::new(), |id| format!("{id} "));
    let causes = hint.causes.join(", ");
    let causes = if causes.is_empty() { causes } else { format!("; likely: {causes}") };
    format!("{id}{code}: {}{causes}; next: {}", hint.about, hint.next)
}

/// The hint for a code.
pub fn hint(code: &str) -> Option<&'static Hint> {
    hints().get(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn control_characters_never_reach_a_terminal() {
        let error = ToolError::new(Code::Internal, "a \u{1b}[2J b\nc").seen("line", "\u{1b}]0;x\u{7}");
        let text = error.to_string();
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}') && text.contains("b\nc"), "{text:?}");
    }

    #[test]
    fn the_catalogue_is_readable_and_complete() {
        let read: BTreeMap<String, Hint> = toml::from_str(include_str!("../../hints.toml")).unwrap();
        assert!(read.len() > 40);
        for (code, hint) in &read {
            assert!(!hint.about.is_empty() && !hint.next.is_empty(), "{code}");
        }
    }

    #[test]
    fn the_text_says_what_to_do_and_that_nothing_was_touched() {
        let error = ToolError::new(Code::Cancelled, "the call was cancelled").seen("after", "4 blocks");
        let text = error.to_string();
        assert!(text.starts_with("error[cancelled]: "), "{text}");
        assert!(text.contains("seen: after: 4 blocks") && text.ends_with("device: not touched"), "{text}");
        assert!(error.clone().touched(FlashState::Partial).to_string().ends_with("partly written"));
        let burn = ToolError::new(Code::BurnRefused, "no").touched(FlashState::Unchanged);
        let burn = burn.seen("findings", serde_json::json!([{"rule": 8, "severity": "deny"}])).to_string();
        assert!(burn.contains("seen: findings:\n- rule 8, severity deny\n"), "{burn}");
        assert!(burn.ends_with("device: only read, no eFuse burned"), "{burn}");
    }
}
