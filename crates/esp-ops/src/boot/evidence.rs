//! What several of these tools say in the same words.

use esp_model::job::Job;
use esp_model::partition::{DEFAULT_TABLE_OFFSET, Partition, TABLE_LENGTH, Table};
use schemars::JsonSchema;
use serde::Serialize;

use crate::error::ToolError;
use crate::flash::keep;
use crate::session::device::Connected;

/// Something that cannot be measured from here.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct NotMeasurable {
    /// Always false.
    pub measurable: bool,
    /// What it is.
    pub what: String,
    /// Why not.
    pub why: String,
    /// How one could.
    pub how: String,
}

impl NotMeasurable {
    /// A statement of what cannot be measured, why, and how one could.
    pub fn new(what: &str, why: &str, how: &str) -> Self {
        Self { measurable: false, what: what.into(), why: why.into(), how: how.into() }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Finding {
    /// What was looked at.
    pub what: String,
    /// What was found; left out when it could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// ok, info, suspect, fail or unknown.
    #[schemars(extend("enum" = ["ok", "info", "suspect", "fail", "unknown"]))]
    pub verdict: &'static str,
    /// What it means, or why it is unknown.
    pub meaning: String,
}

impl Finding {
    /// Something that was found.
    pub fn new(what: &str, value: impl Into<String>, verdict: &'static str, meaning: impl Into<String>) -> Self {
        Self { what: what.into(), value: Some(value.into()), verdict, meaning: meaning.into() }
    }

    /// Something that could not be found out.
    pub fn unknown(what: &str, why: impl Into<String>) -> Self {
        Self { what: what.into(), value: None, verdict: "unknown", meaning: why.into() }
    }
}

/// The partition table, wherever it lies, or why there is none.
pub fn partition_table(connected: &mut Connected, job: &Job) -> Result<Result<Table, String>, ToolError> {
    let length = u32::try_from(TABLE_LENGTH).unwrap_or(0xc00);
    let bytes = connected.loader.read_flash_bytes(job, DEFAULT_TABLE_OFFSET, length)?;
    if Table::is_binary(&bytes) {
        return Ok(Table::from_binary(&bytes, true).map_err(|error| error.to_string()));
    }
    // Projects may move it: larger bootloaders need it higher.
    if let Some(found) = keep::table(connected, job, None)? {
        return Ok(Ok(found.table));
    }
    if bytes.iter().all(|byte| *byte == 0xff) {
        return Ok(Err(format!("flash is blank at {DEFAULT_TABLE_OFFSET:#x}")));
    }
    Ok(Err(format!("no partition table at {DEFAULT_TABLE_OFFSET:#x} or elsewhere (encrypted or none)")))
}

/// The first partition of this type and subtype.
pub fn partition(table: &Table, kind: u8, subtype: u8) -> Option<&Partition> {
    table.find_kind(kind, subtype)
}

/// The reset cause register, decoded. Connecting usually resets the chip, so that this is our own reset.
pub fn reset_cause(connected: &mut Connected, job: &Job) -> Result<Finding, ToolError> {
    let chip = connected.loader.chip();
    let Some(bits) = chip.boot.reset_cause else {
        return Ok(Finding::unknown("reset cause", "this chip has no register for it; see the ROM's boot line"));
    };
    let number = bits.of(connected.loader.read_reg(job, bits.register)?);
    let name = chip.boot.reset_name(number).unwrap_or("no known cause");
    let value = format!("{number:#x} ({name})");
    let note = "as it is now: the reset by which this program entered the loader has replaced what was there before; \
                the boot line on the console shows the true one";
    Ok(Finding::new("reset cause", value, "info", note))
}
