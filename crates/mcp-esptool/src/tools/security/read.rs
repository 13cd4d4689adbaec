//! `esp_efuse_read`: all eFuses by name.

use esp_model::job::Job;
use esp_ops::args::PortUrl;
use esp_ops::efuse::pipeline;
use esp_ops::efuse::read::{self, OneField};
use esp_ops::error::ToolError;
use esp_ops::guard::Risk;
use esp_ops::session::identity::Device;
use esp_ops::words::counted;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct Read;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// Only this field, by name or alias.
    efuse_name: Option<String>,
    /// Only fields that are not 0, protected or faulty.
    #[serde(default)]
    active: bool,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// The fields.
    fields: Vec<OneField>,
    /// Blocks in which the chip reports errors.
    errors: Vec<String>,
}

impl Tool for Read {
    const NAME: &'static str = "esp_efuse_read";
    const TITLE: &'static str = "Read eFuses";
    const ABOUT: &'static str = "Read eFuses by name: value, meaning, protection, coding errors. Never shows keys.";
    const RISK: Risk = Risk::Reads;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        ctx.with_device(input.port.as_ref(), job, |connected| {
            let device = Device::read(connected, job)?;
            let efuses = pipeline::read(connected, job)?;
            let fields = match &input.efuse_name {
                Some(name) => vec![read::one(&efuses, read::field(&efuses, name)?)],
                None => read::all(&efuses, input.active),
            };
            Ok(Out { device, fields, errors: read::errors(&efuses) })
        })
    }

    fn summary(out: &Out) -> String {
        let faults = if out.errors.is_empty() { "no coding errors".into() } else { out.errors.join("; ") };
        match out.fields.as_slice() {
            [only] => format!("{}\n{} = {}", out.device, only.name, only.meaning.as_ref().unwrap_or(&only.value)),
            many => format!("{}\n{}, {faults}", out.device, counted(many.len(), "field")),
        }
    }
}
