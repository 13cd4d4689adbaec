//! `esp_security_audit`: how safe the chip is for what it is for.

use esp_link::Mode;
use esp_model::efuse::audit::{Action, Level, Remedy};
use esp_model::job::Job;
use esp_ops::args::PortUrl;
use esp_ops::efuse::aspects::{self, LevelOut, RemedyOut, Row, level, name};
use esp_ops::efuse::pipeline::{self, Purpose};
use esp_ops::error::ToolError;
use esp_ops::guard::Risk;
use esp_ops::session::identity::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::ctx::Ctx;
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
            let found = aspects::found(connected, efuses.as_ref(), flags.as_ref(), input.profile);
            let worst = found.iter().map(|row| row.level).max().unwrap_or(Level::Info);
            let rows =
                found.iter().map(|row| Row { remedy: row.remedy.as_ref().map(remedy), ..aspects::show(row) }).collect();
            Ok(Out { device, profile: input.profile, worst: level(worst), rows })
        })
    }

    fn summary(out: &Out) -> String {
        let bad = out.rows.iter().filter(|row| row.level >= LevelOut::Warning);
        let bad: Vec<_> = bad.map(|row| format!("{}: {}", name(row.level), row.in_words())).collect();
        format!("{}\n{}", out.device, if bad.is_empty() { "no weakness found".into() } else { bad.join(", ") })
    }
}

fn remedy(remedy: &Remedy) -> RemedyOut {
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
