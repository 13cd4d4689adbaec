//! `esp_security_audit`: how safe the chip is for what it is for.

use esp_link::Mode;
use esp_link::detect::SecurityInfo;
use esp_model::efuse::Efuses;
use esp_model::efuse::audit::{self as model, Action, Item, Level, State};
use esp_model::job::Job;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ctx::Ctx;
use crate::ops::args::PortUrl;
use crate::ops::efuse::pipeline::{self, Purpose};
use crate::ops::error::ToolError;
use crate::ops::guard::Risk;
use crate::ops::session::device::Connected;
use crate::ops::session::identity::Device;
use crate::tool::Tool;

/// The tool.
pub struct Audit;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// Rules to judge by (default production).
    #[serde(default = "production")]
    profile: Purpose,
}

fn production() -> Purpose {
    Purpose::Production
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// What the chip was judged for.
    profile: Purpose,
    /// The worst level.
    worst: LevelOut,
    /// One row per aspect.
    rows: Vec<Row>,
}

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
    /// In force; whether permanently cannot be told.
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

impl Tool for Audit {
    const NAME: &'static str = "esp_security_audit";
    const TITLE: &'static str = "Security audit";
    const ABOUT: &'static str = "Audit secure boot, flash encryption, key protection, JTAG, download mode and \
         anti-rollback: state, attack, remedy. What cannot be read is unknown.";
    const RISK: Risk = Risk::Reads;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        ctx.with_device(input.port.as_ref(), job, |connected| {
            let device = Device::read(connected, job)?;
            let flags = connected.loader.security_info(job).ok();
            let secure = connected.loader.mode() == Mode::SecureDownload;
            let efuses = if secure { None } else { Some(pipeline::read(connected, job)?) };
            let found = found(connected, efuses.as_ref(), flags.as_ref(), input.profile);
            let worst = found.iter().map(|row| row.level).max().unwrap_or(Level::Info);
            let rows = found.iter().map(show).collect();
            Ok(Out { device, profile: input.profile, worst: level(worst), rows })
        })
    }

    fn summary(out: &Out) -> String {
        let bad = out.rows.iter().filter(|row| row.level >= LevelOut::Warning);
        let bad: Vec<_> = bad.map(|row| format!("{}: {}", name(row.level), row.in_words())).collect();
        format!("{}\n{}", out.device, if bad.is_empty() { "no weakness found".into() } else { bad.join(", ") })
    }
}

impl Row {
    /// `jtag open`.
    pub fn in_words(&self) -> String {
        format!("{} {}", name(self.item), name(self.state))
    }
}

/// The name that an enumeration's value has in results.
fn name(value: impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_string)).unwrap_or_default()
}

/// The audit's rows for a product as results show them, without remedies: the same levels as the audit's default.
pub fn rows(connected: &Connected, efuses: Option<&Efuses>, info: Option<&SecurityInfo>) -> Vec<Row> {
    let found = found(connected, efuses, info, Purpose::Production);
    found.iter().map(|row| Row { remedy: None, attack: None, ..show(row) }).collect()
}

fn found(
    connected: &Connected,
    efuses: Option<&Efuses>,
    info: Option<&SecurityInfo>,
    profile: Purpose,
) -> Vec<model::Row> {
    let flags = info.map(|info| model::SecurityFlags { flags: info.flags, crypt_count: info.flash_crypt_count });
    let chip = connected.loader.chip();
    model::audit(chip, connected.loader.revision().unwrap_or(0), efuses, flags, profile.into())
}

fn show(row: &model::Row) -> Row {
    Row {
        item: item(row.item),
        state: state(row.state),
        level: level(row.level),
        evidence: row.evidence.clone(),
        attack: row.attack.map(str::to_string),
        remedy: row.remedy.as_ref().map(remedy),
    }
}

fn remedy(remedy: &model::Remedy) -> RemedyOut {
    let protect = |kind: &str, places: &[String]| {
        let burns: Vec<_> = places.iter().map(|place| json!({ "kind": kind, "efuse": place })).collect();
        ("esp_efuse_burn", json!({ "burns": burns }))
    };
    let (tool, parameters) = match &remedy.action {
        Action::Burn { efuse, value } => {
            ("esp_efuse_burn", json!({ "efuse_name": efuse, "value": value.to_string(), "profile": "production" }))
        }
        Action::ReadProtect(places) => protect("read_protect", places),
        Action::WriteProtect(places) => protect("write_protect", places),
        Action::EnableEncryption => (
            "esp_encryption_enable",
            json!({ "key_file": "KEY", "files": [{ "path": "BOOTLOADER", "address": "ADDRESS" }], "mode": "release" }),
        ),
        Action::FinishEncryption => ("esp_flash_encryption_configure", json!({ "mode": "release" })),
        Action::EnableSecureBoot => ("esp_secure_boot_enable", json!({ "key_file": "PEM", "profile": "production" })),
    };
    RemedyOut {
        text: remedy.text.clone(),
        tool: tool.into(),
        parameters,
        irreversible: remedy.irreversible,
        step: remedy.step,
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

fn level(level: Level) -> LevelOut {
    match level {
        Level::Good => LevelOut::Good,
        Level::Info => LevelOut::Info,
        Level::Warning => LevelOut::Warning,
        Level::Critical => LevelOut::Critical,
    }
}
