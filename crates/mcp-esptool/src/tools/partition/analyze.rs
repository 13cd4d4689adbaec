//! `esp_partition_analyze`: the partitions of a device, what they hold, gaps, and advice.

use esp_model::boot::FlashRead;
use esp_model::fs;
use esp_model::image::{self, kind};
use esp_model::job::Job;
use esp_model::nvs;
use esp_model::partition::otadata::{Otadata, Rules};
use esp_model::partition::{self, Options, Partition, Subtypes, Table};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::ops::args::{Number, PortUrl};
use crate::ops::error::ToolError;
use crate::ops::guard::Risk;
use crate::ops::partition::on_device;
use crate::ops::partition::rows::RowOut;
use crate::ops::session::device::Connected;
use crate::ops::session::identity::Device;
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

/// A partition and what it holds.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Content {
    #[serde(flatten)]
    row: RowOut,
    /// blank, app, nvs, otadata, file_system, encrypted, core_dump, unknown …
    pub(crate) content: String,
    /// More about it: an app's version, an NVS partition's entries, the slot that otadata selects.
    pub(crate) about: String,
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
        let table_offset = super::offset(input.table_offset)?;
        ctx.with_device(input.port.as_ref(), job, |connected| {
            let device = Device::read(connected, job)?;
            let flash_size_bytes = connected.loader.attach_flash(job, None)?;
            let table = on_device::read(connected, job, table_offset)?.into_table(table_offset)?;
            let mut partitions = Vec::new();
            for (index, partition) in table.partitions.iter().enumerate() {
                job.progress(index as u64, table.partitions.len() as u64, format!("reading {}", partition.name));
                partitions.push(content(connected, job, partition, &table, flash_size_bytes)?);
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
        format!("{}\n{count} partitions ({blank} blank), {gaps} gaps, updates: {}{first}", out.device, out.updates)
    }
}

/// How much of a partition is looked at: enough for headers, NVS and otadata.
const LOOK: u32 = 0x1_0000;

/// What a partition holds.
pub(crate) fn content(
    connected: &mut Connected,
    job: &Job,
    partition: &Partition,
    table: &Table,
    flash_size: u32,
) -> Result<Content, ToolError> {
    let row = RowOut::new(partition, &Subtypes::default());
    let word = |content: &str, about: String| Content { row: row.clone(), content: content.into(), about };
    if partition.end() > u64::from(flash_size) || partition.size == 0 {
        return Ok(word("unknown", "it lies beyond the end of the flash".into()));
    }
    let app = partition.kind == partition::APP;
    let look = if app { 0x1000 } else { LOOK };
    let bytes = connected.loader.read_flash_bytes(job, partition.offset, partition.size.min(look))?;
    let whole = bytes.len() as u32 == partition.size;
    let nvs = partition.kind == partition::DATA && partition.subtype == partition::DATA_NVS;
    let otadata = partition.kind == partition::DATA && partition.subtype == partition::DATA_OTA;
    let file_system = fs::peek(&bytes, partition.size as usize).filter(|_| partition.kind == partition::DATA && !nvs);
    if let Some(kind) = file_system {
        return Ok(word("file_system", format!("{}; esp_filesystem_extract lists its files", kind.name())));
    }
    Ok(match kind::recognise(&bytes) {
        _ if otadata => {
            let slots = table.ota_slots().len() as u32;
            let factory = table.find_kind(partition::APP, partition::APP_FACTORY).is_some();
            let data = Otadata::read(&bytes);
            let decision = data.decide(Rules { slots, factory, rollback: false });
            let states = data.entries.map(|entry| format!("{} ({})", entry.sequence, entry.state.name()));
            word("otadata", format!("selects {:?}; sequences {}", decision.choice, states.join(", ")))
        }
        kind::Kind::Blank if whole => word("blank", String::new()),
        kind::Kind::Blank => word("blank", format!("the first {} KB are blank", bytes.len() / 1024)),
        kind::Kind::Image if app => word("app", app_about(&bytes)),
        _ if nvs => {
            let contents = nvs::read(&bytes);
            let worst = contents.worst().map_or_else(String::new, |finding| format!("; {finding}"));
            let kind = if contents.entries.is_empty() && !worst.is_empty() { "unknown" } else { "nvs" };
            let part = if whole { "" } else { " in the part that was read" };
            let free = contents.count(nvs::SlotState::Empty);
            word(kind, format!("{} entries{part}, room for {free} more{worst}", contents.entries.len()))
        }
        kind::Kind::Encrypted => word("encrypted", "bytes without structure: encrypted or compressed".into()),
        kind::Kind::CoreDump => word("core_dump", "esp_core_dump_analyze reads it".into()),
        other => word(&format!("{other:?}").to_lowercase(), String::new()),
    })
}

/// What the first sector of an app tells.
fn app_about(bytes: &[u8]) -> String {
    let mut head = [0; image::AppDesc::LEN];
    let app = bytes.read(32, &mut head).then(|| image::AppDesc::decode(&head)).flatten();
    let chip = image::detect(bytes).map(|chip| chip.name.clone()).unwrap_or_default();
    match app {
        Some(app) => format!("{} {} for {chip}, ESP-IDF {}", app.project_name, app.version, app.idf_version),
        None => format!("an image for {chip} without a description"),
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
