//! `esp_efuse_read`: all eFuses by name.

use esp_model::efuse::{Efuses, Field, FieldValue, SECRET, Shown, hex};
use esp_model::job::Job;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::ops::args::PortUrl;
use crate::ops::efuse::pipeline;
use crate::ops::error::{Code, ToolError};
use crate::ops::guard::Risk;
use crate::ops::session::device::Connected;
use crate::ops::session::identity::Device;
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

/// A field.
#[derive(Debug, Serialize, JsonSchema)]
pub struct OneField {
    /// Its name.
    name: String,
    /// Block number.
    block: u8,
    /// Its value; secrets are not shown.
    value: String,
    /// What the value stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    meaning: Option<String>,
    /// The bits, lowest byte first.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_hex: Option<String>,
    /// Software can read it.
    readable: bool,
    /// It can still be burned.
    writeable: bool,
}

impl Tool for Read {
    const NAME: &'static str = "esp_efuse_read";
    const TITLE: &'static str = "Read eFuses";
    const ABOUT: &'static str =
        "Read the chip's eFuses by name: value, meaning, protection, coding errors. Keys are never shown.";
    const RISK: Risk = Risk::Reads;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        ctx.with_device(input.port.as_ref(), job, |connected| {
            let device = Device::read(connected, job)?;
            let efuses = pipeline::read(connected, job)?;
            let fields = match &input.efuse_name {
                Some(name) => vec![one(&efuses, field(&efuses, name)?)],
                None => all(&efuses, input.active),
            };
            Ok(Out { device, fields, errors: errors(&efuses) })
        })
    }

    fn summary(out: &Out) -> String {
        let faults = if out.errors.is_empty() { "no coding errors".into() } else { out.errors.join("; ") };
        match out.fields.as_slice() {
            [only] => format!("{}\n{} = {}", out.device, only.name, only.meaning.as_ref().unwrap_or(&only.value)),
            many => format!("{}\n{} fields, {faults}", out.device, many.len()),
        }
    }
}

/// The blocks in which the chip reports errors.
fn errors(efuses: &Efuses) -> Vec<String> {
    let shown = |error: &esp_model::efuse::BlockError| {
        let lost = if error.fail { ", cannot be corrected" } else { "" };
        format!("block {}: {} errors{lost}", error.block, error.count)
    };
    efuses.errors.iter().map(shown).collect()
}

/// All eFuses by name, for a file. Secrets are not in it.
pub fn summary(connected: &mut Connected, job: &Job) -> Result<serde_json::Value, ToolError> {
    let efuses = pipeline::read(connected, job)?;
    Ok(serde_json::json!({"fields": all(&efuses, false), "errors": errors(&efuses)}))
}

/// The field of this name, or an error that names the nearest.
pub fn field(efuses: &Efuses, name: &str) -> Result<&'static Field, ToolError> {
    let table = efuses.table;
    table.field(name).ok_or_else(|| {
        let error = ToolError::new(Code::UnknownEfuse, format!("this chip has no eFuse `{name}`"));
        match crate::ops::nearest(name, table.fields.iter().map(|field| field.name.as_str())) {
            Some(near) => error.next(format!("did you mean {near}?")),
            None => error,
        }
    })
}

fn all(efuses: &Efuses, active: bool) -> Vec<OneField> {
    let fields = efuses.table.fields.iter().filter(|field| field.shown);
    let values = fields.map(|field| (field, efuses.value(field)));
    let notable = |value: &FieldValue| {
        !value.readable || !value.writeable || value.error || value.raw.iter().any(|byte| *byte != 0)
    };
    values.filter(|(_, value)| !active || notable(value)).map(|(field, value)| show(efuses, field, value)).collect()
}

fn one(efuses: &Efuses, field: &'static Field) -> OneField {
    show(efuses, field, efuses.value(field))
}

fn show(efuses: &Efuses, field: &Field, value: FieldValue) -> OneField {
    let secret = efuses.holds_secret(field);
    let shown = match &value.value {
        Shown::Hidden => "hidden".to_string(),
        _ if secret => SECRET.into(),
        other => other.to_string(),
    };
    let raw_hex = (!secret && value.readable).then(|| hex(&value.raw, ' '));
    OneField {
        name: value.name.into(),
        block: value.block,
        value: shown,
        meaning: value.meaning.filter(|_| !secret),
        raw_hex,
        readable: value.readable,
        writeable: value.writeable,
    }
}
