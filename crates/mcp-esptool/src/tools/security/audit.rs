//! `esp_security_audit`: how safe the chip is for what it is for.

use esp_link::Mode;
use esp_link::detect::SecurityInfo;
use esp_model::efuse::Efuses;
use esp_model::efuse::audit::{self as model, Item, Level, State};
use esp_model::job::Job;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::ctx::device::Connected;
use crate::tool::{Risk, Tool};
use crate::tools::args::PortUrl;
use crate::tools::device::Device;
use crate::tools::error::ToolError;
use crate::tools::security::engine::{self, Purpose};

/// The tool.
pub struct Audit;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// What the chip is for; severities depend on it.
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
    worst: String,
    /// One row an aspect.
    rows: Vec<Row>,
}

/// One aspect of a chip's security.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Row {
    /// What it is about.
    pub item: String,
    /// `absent`, `unknown`, `off`, `development`, `enabled`, `soft_disabled`, `on`, `restricted` or `broken`.
    pub state: String,
    /// `good`, `info`, `warning` or `critical`.
    pub level: String,
    /// What it rests on.
    pub evidence: String,
}

impl Tool for Audit {
    const NAME: &'static str = "esp_security_audit";
    const TITLE: &'static str = "Security audit";
    const ABOUT: &'static str = "Judge secure boot, flash encryption, key protection, JTAG, download mode and \
        anti-rollback for a development or production profile. What cannot be read is unknown.";
    const RISK: Risk = Risk::Reads;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        ctx.with_device(input.port.as_ref(), job, |connected| {
            let device = Device::read(connected, job)?;
            let flags = connected.loader.security_info(job).ok();
            let secure = connected.loader.mode() == Mode::SecureDownload;
            let efuses = if secure { None } else { Some(engine::read(connected, job)?) };
            let found = found(connected, efuses.as_ref(), flags.as_ref(), input.profile);
            let worst = found.iter().map(|row| row.level).max().unwrap_or(Level::Info);
            let rows = found.iter().map(show).collect();
            Ok(Out { device, profile: input.profile, worst: level(worst).into(), rows })
        })
    }

    fn summary(out: &Out) -> String {
        let bad = out.rows.iter().filter(|row| matches!(row.level.as_str(), "warning" | "critical"));
        let bad: Vec<_> = bad.map(|row| format!("{}: {} ({})", row.level, row.item, row.state)).collect();
        format!("{}\n{}", out.device, if bad.is_empty() { "nothing to object".into() } else { bad.join(", ") })
    }
}

/// The audit's rows as results show them.
pub fn rows(connected: &Connected, efuses: Option<&Efuses>, info: Option<&SecurityInfo>, profile: Purpose) -> Vec<Row> {
    found(connected, efuses, info, profile).iter().map(show).collect()
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
        item: item(row.item).into(),
        state: state(row.state).into(),
        level: level(row.level).into(),
        evidence: row.evidence.clone(),
    }
}

fn item(item: Item) -> &'static str {
    match item {
        Item::SecureBoot => "secure_boot",
        Item::SecureBootKeys => "secure_boot_keys",
        Item::FlashEncryption => "flash_encryption",
        Item::KeyProtection => "key_protection",
        Item::Jtag => "jtag",
        Item::UsbJtag => "usb_jtag",
        Item::DownloadMode => "download_mode",
        Item::AntiRollback => "anti_rollback",
    }
}

fn state(state: State) -> &'static str {
    match state {
        State::Absent => "absent",
        State::Unknown => "unknown",
        State::Off => "off",
        State::Development => "development",
        State::Enabled => "enabled",
        State::SoftDisabled => "soft_disabled",
        State::On => "on",
        State::Restricted => "restricted",
        State::Broken => "broken",
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Good => "good",
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Critical => "critical",
    }
}
