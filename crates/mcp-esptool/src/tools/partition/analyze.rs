//! `esp_partition_analyze`: the partitions of a device, what they hold, gaps, and advice.

use esp_model::job::Job;
use esp_model::partition::{self, Options, Partition, Table};
use esp_ops::args::{Number, PortUrl};
use esp_ops::error::ToolError;
use esp_ops::guard::Risk;
use esp_ops::partition::content::{self, Content};
use esp_ops::partition::on_device;
use esp_ops::session::identity::Device;
use esp_ops::words::counted;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct Analyze;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// Flash address of the table (default 0x8000).
    #[schemars(extend("x-rare" = true))]
    table_offset: Option<Number>,
}

/// A range of flash.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Range {
    /// First address.
    offset: u32,
    /// Length.
    size_bytes: u32,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// Where the table stands.
    table_offset: u32,
    /// Size of the flash.
    flash_size_bytes: u32,
    /// The partitions.
    partitions: Vec<Content>,
    /// Flash behind the table that no partition uses.
    gaps: Vec<Range>,
    /// ota, factory_only, none: which updates the layout allows.
    updates: String,
    /// Rules that the table breaks, and what could be better.
    advice: Vec<String>,
}

impl Tool for Analyze {
    const NAME: &'static str = "esp_partition_analyze";
    const TITLE: &'static str = "Analyse the partitions";
    const ABOUT: &'static str = "Analyze the device's partitions: fit, gaps, alignment, OTA layout, content of \
         each, advice.";
    const RISK: Risk = Risk::Reads;
    const LONG: bool = true;
    const IMAGES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let table_offset = esp_ops::args::table_offset(input.table_offset)?;
        ctx.with_device(input.port.as_ref(), job, |connected| {
            let device = Device::read(connected, job)?;
            let flash_size_bytes = connected.loader.attach_flash(job, None)?;
            let table = on_device::read(connected, job, table_offset)?.into_table(table_offset)?;
            let mut partitions = Vec::new();
            for (index, partition) in table.partitions.iter().enumerate() {
                job.progress(index as u64, table.partitions.len() as u64, format!("reading {}", partition.name));
                partitions.push(content::content(connected, job, partition, &table, flash_size_bytes)?);
            }
            let gaps = gaps(&table, table_offset, flash_size_bytes);
            let updates = updates(&table).to_owned();
            let advice = advice(&table, table_offset, flash_size_bytes, &partitions, &gaps);
            Ok(Out { device, table_offset, flash_size_bytes, partitions, gaps, updates, advice })
        })
    }

    fn summary(out: &Out) -> String {
        let blank = out.partitions.iter().filter(|partition| partition.content == "blank").count();
        let first = out.advice.first().map_or_else(String::new, |advice| format!("\n{advice}"));
        let (count, gaps) = (out.partitions.len(), out.gaps.len());
        format!(
            "{}\n{} ({blank} blank), {}, updates: {}{first}",
            out.device,
            counted(count, "partition"),
            counted(gaps, "gap"),
            out.updates
        )
    }
}

fn gaps(table: &Table, table_offset: u32, flash_size: u32) -> Vec<Range> {
    let mut sorted: Vec<&Partition> = table.partitions.iter().filter(|partition| !partition.is_primary()).collect();
    sorted.sort_by_key(|partition| partition.offset);
    let mut at = u64::from(table_offset) + u64::from(partition::TABLE_SECTOR);
    let mut out = Vec::new();
    let mut gap = |from: u64, to: u64| {
        if let (Ok(offset), Ok(size_bytes)) = (u32::try_from(from), u32::try_from(to.saturating_sub(from)))
            && size_bytes > 0
        {
            out.push(Range { offset, size_bytes });
        }
    };
    for partition in sorted {
        gap(at, partition.offset.into());
        at = at.max(partition.end());
    }
    gap(at, flash_size.into());
    out
}

fn updates(table: &Table) -> &'static str {
    let otadata = table.find_kind(partition::DATA, partition::DATA_OTA).is_some();
    match table.ota_slots().len() {
        2.. if otadata => "ota",
        0 if table.find_kind(partition::APP, partition::APP_FACTORY).is_some() => "factory_only",
        _ => "none",
    }
}

fn advice(table: &Table, table_offset: u32, flash_size: u32, contents: &[Content], gaps: &[Range]) -> Vec<String> {
    let mut out = Vec::new();
    let options = Options { flash_size: flash_size.into(), table_offset, ..Options::default() };
    if let Err(error) = table.check(&options) {
        out.push(format!("the table breaks a rule: {error}"));
    }
    out.extend(table.warnings(&options).iter().map(ToString::to_string));
    let slots = table.ota_slots();
    if !slots.is_empty() && table.find_kind(partition::DATA, partition::DATA_OTA).is_none() {
        out.push("there are OTA slots, but no otadata: no update can be selected".into());
    }
    if slots.len() == 1 {
        out.push("one OTA slot alone cannot be updated while it runs".into());
    }
    if let (Some(least), Some(most)) = (slots.iter().map(|p| p.size).min(), slots.iter().map(|p| p.size).max())
        && least != most
    {
        out.push(format!("OTA slots differ in size: an app above {least:#x} bytes does not fit all"));
    }
    if table.find_kind(partition::DATA, partition::DATA_NVS).is_none() {
        out.push("there is no NVS: Wi-Fi and many libraries need one".into());
    }
    if table.find_kind(partition::APP, partition::APP_FACTORY).is_none()
        && contents.iter().filter(|c| c.row.kind == "app").all(|c| c.content == "blank")
    {
        out.push("no app partition holds an app: the device cannot start".into());
    }
    let unused: u64 = gaps.iter().map(|gap| u64::from(gap.size_bytes)).sum();
    if unused >= 0x10_0000 {
        out.push(format!("{} KB of flash are in no partition", unused / 1024));
    }
    out
}
