//! `esp_partition_flash`: a new partition table on a device, with a copy of the data that it cuts off.

use esp_model::job::Job;
use esp_model::partition::{self, Options, Subtypes, Table};
use esp_ops::args::{Number, PortUrl};
use esp_ops::error::ToolError;
use esp_ops::flash::keep::Copy;
use esp_ops::guard::Risk;
use esp_ops::partition::on_device;
use esp_ops::partition::rows::RowOut;
use esp_ops::session::identity::Device;
use esp_ops::words::counted;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct Flash;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// The table, binary or CSV.
    partition_file: String,
    /// Flash address of the table (default 0x8000).
    #[schemars(extend("x-rare" = true))]
    table_offset: Option<Number>,
    /// Folder for the copies (default: esp-backup/MAC).
    #[schemars(extend("x-rare" = true))]
    backup_dir: Option<String>,
    /// Make no copies: the data may be lost.
    #[serde(default)]
    no_backup: bool,
    /// Only report what would happen.
    #[serde(default)]
    dry_run: bool,
}

/// What becomes of a partition that is there now.
#[derive(Debug, Serialize, JsonSchema)]
pub struct FateOut {
    /// Its name.
    name: String,
    /// stays, resized, moved, replaced (its flash is used otherwise) or unreachable (its flash is not used any more).
    fate: String,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// Where the table was written.
    table_offset: u32,
    /// Size of the flash.
    flash_size_bytes: u32,
    /// The new partitions.
    partitions: Vec<RowOut>,
    /// What becomes of those that were there; empty when there was no table.
    before: Vec<FateOut>,
    /// Copies that were made.
    copies: Vec<Copy>,
    /// Something was written (false for dry_run).
    written: bool,
    /// It was compared on the chip afterwards; false where the loader cannot.
    verified: bool,
}

impl Tool for Flash {
    const NAME: &'static str = "esp_partition_flash";
    const TITLE: &'static str = "Write a partition table";
    const ABOUT: &'static str = "Write a partition table after checking it against the flash; reports which data is \
         kept, moved or lost, and first copies what would be lost to files.";
    const RISK: Risk = Risk::Destroys;
    const LONG: bool = true;
    const FILES: bool = true;
    const IMAGES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let table_offset = esp_ops::args::table_offset(input.table_offset)?;
        let bytes = ctx.files.read_some(&input.partition_file)?;
        let table = Table::read(&bytes, &Options { table_offset, ..Options::default() })?;
        ctx.with_device(input.port.as_ref(), job, |connected| {
            let device = Device::read(connected, job)?;
            on_device::refuse_encrypted(connected, job)?;
            let flash_size_bytes = connected.loader.attach_flash(job, None)?;
            on_device::check(&table, flash_size_bytes, table_offset)?;
            let old = on_device::read(connected, job, table_offset)?.table.unwrap_or_default();
            let mut copies = Vec::new();
            if !input.no_backup && !input.dry_run {
                let dir = input.backup_dir.as_deref();
                copies = on_device::keep_data(ctx, job, connected, &device, &old, &table, dir)?;
            }
            let mut verified = false;
            if !input.dry_run {
                // A binary file goes as it is: it may carry a signature or have no MD5 row.
                let mut sector = if Table::is_binary(&bytes) { bytes.clone() } else { table.to_binary(true)? };
                sector.resize(sector.len().max(partition::TABLE_SECTOR as usize), 0xff);
                verified = on_device::write(connected, job, vec![(table_offset, sector)])?;
            }
            let fate = |old: &partition::Partition| FateOut {
                name: old.name.clone(),
                fate: on_device::fate(old, &table).to_owned(),
            };
            Ok(Out {
                device,
                table_offset,
                flash_size_bytes,
                partitions: RowOut::of(&table, &Subtypes::default()),
                before: old.partitions.iter().map(fate).collect(),
                copies,
                written: !input.dry_run,
                verified,
            })
        })
    }

    fn summary(out: &Out) -> String {
        let lost: Vec<String> = out
            .before
            .iter()
            .filter(|old| old.fate != "stays")
            .map(|old| format!("{} {}", old.name, old.fate))
            .collect();
        let lost = if lost.is_empty() { "nothing is lost".to_owned() } else { lost.join(", ") };
        let done = if out.written { "written" } else { "would be written" };
        let (count, copies) = (counted(out.partitions.len(), "partition"), counted(out.copies.len(), "copy"));
        format!("{}\ntable of {count} {done} at {:#x}: {lost}; {copies}", out.device, out.table_offset)
    }
}
