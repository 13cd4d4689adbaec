//! `esp_flash_backup`: the whole flash as files that can be put back, named by their content.

use esp_model::job::Job;
use esp_ops::args::{Number, PortUrl, table_offset};
use esp_ops::error::ToolError;
use esp_ops::flash::backup::{self, Backup as Out};
use esp_ops::guard::Risk;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct Backup;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// Folder of the backup. An older backup of the same device in it is updated.
    output_dir: String,
    /// Only these: partition names, `bootloader`, `partition-table`.
    partitions: Option<Vec<String>>,
    /// Flash address of the partition table (default: found).
    #[schemars(extend("x-rare" = true))]
    table_offset: Option<Number>,
}

impl Tool for Backup {
    const NAME: &'static str = "esp_flash_backup";
    const TITLE: &'static str = "Back up flash";
    const ABOUT: &'static str = "Back up the flash to a folder: partition table, partitions, gaps, eFuse summary, \
         manifest with SHA-256. Resumes after an interruption.";
    const RISK: Risk = Risk::Reads;
    const LONG: bool = true;
    const FILES: bool = true;
    const IMAGES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let offset = input.table_offset.map(|number| table_offset(Some(number))).transpose()?;
        let (dir, names) = (input.output_dir.as_str(), input.partitions.as_deref());
        ctx.with_device(input.port.as_ref(), job, |connected| backup::run(ctx, job, connected, dir, names, offset))
    }

    fn summary(out: &Out) -> String {
        let kept = out.resumed_bytes + out.unchanged_bytes;
        format!(
            "{}\n{} areas in {}: {} bytes read, {} blank, {kept} there already",
            out.device,
            out.areas.len(),
            out.manifest,
            out.read_bytes,
            out.blank_bytes
        )
    }
}
