//! eFuses by name, as people read them. Secrets are never shown.

use esp_model::efuse::{Efuses, Field, FieldValue, SECRET, Shown, hex};
use esp_model::job::Job;
use schemars::JsonSchema;
use serde::Serialize;

use crate::efuse::pipeline;
use crate::error::{Code, ToolError};
use crate::session::device::Connected;
use crate::words::counted;

/// A field.
#[derive(Debug, Serialize, JsonSchema)]
pub struct OneField {
    /// Its name.
    pub name: String,
    /// Block number.
    pub block: u8,
    /// Its value; secrets are not shown.
    pub value: String,
    /// What the value stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meaning: Option<String>,
    /// The bits, lowest byte first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_hex: Option<String>,
    /// Software can read it.
    pub readable: bool,
    /// It can still be burned.
    pub writeable: bool,
}

/// The blocks in which the chip reports errors.
pub fn errors(efuses: &Efuses) -> Vec<String> {
    let shown = |error: &esp_model::efuse::BlockError| {
        let lost = if error.fail { ", cannot be corrected" } else { "" };
        format!("block {}: {}{lost}", error.block, counted(error.count, "error"))
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
        match crate::nearest(name, table.fields.iter().map(|field| field.name.as_str())) {
            Some(near) => error.next(format!("did you mean {near}?")),
            None => error,
        }
    })
}

/// All fields that people look at; `active`: only those that are not 0, protected or faulty.
pub fn all(efuses: &Efuses, active: bool) -> Vec<OneField> {
    let fields = efuses.table.fields.iter().filter(|field| field.shown);
    let values = fields.map(|field| (field, efuses.value(field)));
    let notable = |value: &FieldValue| {
        !value.readable || !value.writeable || value.error || value.raw.iter().any(|byte| *byte != 0)
    };
    values.filter(|(_, value)| !active || notable(value)).map(|(field, value)| show(efuses, field, value)).collect()
}

/// One field.
pub fn one(efuses: &Efuses, field: &'static Field) -> OneField {
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
