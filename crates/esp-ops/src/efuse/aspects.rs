//! The state of a chip's security, aspect by aspect, as results show it.

use esp_link::detect::SecurityInfo;
use esp_model::efuse::Efuses;
use esp_model::efuse::audit::{self as model, Item, Level, State};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::efuse::pipeline::Purpose;
use crate::session::device::Connected;

/// One aspect of a chip's security.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Row {
    /// What it is about.
    pub item: ItemOut,
    /// Its state.
    pub state: StateOut,
    /// How bad that is for a product (for the profile, in an audit).
    pub level: LevelOut,
    /// What it rests on.
    pub evidence: String,
    /// What an attacker can do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attack: Option<String>,
    /// The way to a better state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<RemedyOut>,
}

/// The way to a better state.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RemedyOut {
    /// What to do.
    pub text: String,
    /// Tool to call.
    pub tool: String,
    /// Its parameters, without the port.
    pub parameters: Value,
    /// It cannot be undone.
    pub irreversible: bool,
    /// Place in the order of all remedies; lower ones first.
    pub step: u8,
}

/// Aspects: interfaces (`jtag`, `usb_jtag`, `download_mode`) and protections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ItemOut {
    /// Only signed firmware starts.
    SecureBoot,
    /// Digests of public keys.
    SecureBootKeys,
    /// Flash content is encrypted.
    FlashEncryption,
    /// Secret keys are hidden from software.
    KeyProtection,
    /// JTAG on the pins.
    Jtag,
    /// JTAG over USB.
    UsbJtag,
    /// The ROM loader.
    DownloadMode,
    /// Old versions are refused.
    AntiRollback,
}

/// States. An interface is open or closed, a protection is enabled or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StateOut {
    /// The chip does not have it.
    NotSupported,
    /// Cannot be read.
    Unknown,
    /// Anybody can use the interface.
    Open,
    /// Closed until software gives the right HMAC.
    ClosedUntilHmac,
    /// No eFuse opens it again.
    ClosedPermanently,
    /// Takes only the commands of secure download mode.
    SecureDownloadOnly,
    /// The protection is not in force.
    NotEnabled,
    /// In force, but can be undone or bypassed.
    EnabledDevelopment,
    /// In force; not known whether permanently.
    Enabled,
    /// In force, cannot be undone.
    EnabledPermanently,
    /// Software can read a secret key.
    KeyExposed,
    /// The eFuses contradict each other.
    Contradictory,
}

/// How bad a state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LevelOut {
    /// As it should be.
    Good,
    /// Nothing to do for this profile.
    Info,
    /// Should be better.
    Warning,
    /// Must be better.
    Critical,
}

impl Row {
    /// `jtag open`.
    pub fn in_words(&self) -> String {
        format!("{} {}", name(self.item), name(self.state))
    }
}

/// The name that an enumeration's value has in results.
pub fn name(value: impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_string)).unwrap_or_default()
}

/// The audit's rows for a product as results show them, without remedies: the same levels as the audit's default.
pub fn rows(connected: &Connected, efuses: Option<&Efuses>, info: Option<&SecurityInfo>) -> Vec<Row> {
    let found = found(connected, efuses, info, Purpose::Production);
    found.iter().map(|row| Row { attack: None, ..show(row) }).collect()
}

/// The rows for a purpose.
pub fn found(
    connected: &Connected,
    efuses: Option<&Efuses>,
    info: Option<&SecurityInfo>,
    profile: Purpose,
) -> Vec<model::Row> {
    let flags = info.map(|info| model::SecurityFlags { flags: info.flags, crypt_count: info.flash_crypt_count });
    let chip = connected.loader.chip();
    model::audit(chip, connected.loader.revision().unwrap_or(0), efuses, flags, profile.into())
}

/// A row without its remedy.
pub fn show(row: &model::Row) -> Row {
    Row {
        item: item(row.item),
        state: state(row.state),
        level: level(row.level),
        evidence: row.evidence.clone(),
        attack: row.attack.map(str::to_string),
        remedy: None,
    }
}

fn item(item: Item) -> ItemOut {
    match item {
        Item::SecureBoot => ItemOut::SecureBoot,
        Item::SecureBootKeys => ItemOut::SecureBootKeys,
        Item::FlashEncryption => ItemOut::FlashEncryption,
        Item::KeyProtection => ItemOut::KeyProtection,
        Item::Jtag => ItemOut::Jtag,
        Item::UsbJtag => ItemOut::UsbJtag,
        Item::DownloadMode => ItemOut::DownloadMode,
        Item::AntiRollback => ItemOut::AntiRollback,
    }
}

fn state(state: State) -> StateOut {
    match state {
        State::NotSupported => StateOut::NotSupported,
        State::Unknown => StateOut::Unknown,
        State::Open => StateOut::Open,
        State::ClosedUntilHmac => StateOut::ClosedUntilHmac,
        State::ClosedPermanently => StateOut::ClosedPermanently,
        State::SecureDownloadOnly => StateOut::SecureDownloadOnly,
        State::NotEnabled => StateOut::NotEnabled,
        State::EnabledDevelopment => StateOut::EnabledDevelopment,
        State::Enabled => StateOut::Enabled,
        State::EnabledPermanently => StateOut::EnabledPermanently,
        State::KeyExposed => StateOut::KeyExposed,
        State::Contradictory => StateOut::Contradictory,
    }
}

/// A level as results show it.
pub fn level(level: Level) -> LevelOut {
    match level {
        Level::Good => LevelOut::Good,
        Level::Info => LevelOut::Info,
        Level::Warning => LevelOut::Warning,
        Level::Critical => LevelOut::Critical,
    }
}
