//! `esp_flash_analyze`: what the flash is used for, as a list and as a picture.

use esp_link::flash::{BLOCK, SECTOR};
use esp_model::image::kind;
use esp_model::image::{self, Header};
use esp_model::job::Job;
use esp_model::partition::{Area, AreaKind, Table};
use esp_model::picture::{Picture as Drawing, flash_map, human};
use esp_ops::args::{Number, PortUrl};
use esp_ops::error::ToolError;
use esp_ops::flash::keep::{self, Found};
use esp_ops::flash::map::{kind_in_map, kind_of};
use esp_ops::guard::Risk;
use esp_ops::partition::content;
use esp_ops::session::device::Connected;
use esp_ops::session::identity::Device;
use esp_ops::words::counted;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::{Picture, Tool};

/// The tool.
pub struct Analyze;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// Flash address of the partition table (default: found).
    #[schemars(extend("x-rare" = true))]
    table_offset: Option<Number>,
    /// Picture to write (.svg or .png), in the order of addresses.
    picture_file: Option<String>,
    /// Show the picture in the answer.
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    show_picture: bool,
}

/// An area and what it holds.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct AreaOut {
    /// The partition's name, bootloader, partition-table or gap-ADDRESS.
    name: String,
    /// bootloader, partition_table, gap, or type/subtype.
    kind: String,
    /// First address.
    address: u32,
    /// Its length.
    size_bytes: u32,
    /// Bytes in sectors that are not blank; left out where the loader cannot tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    used_bytes: Option<u32>,
    /// Bits a byte of a sample: near 8 for encrypted or compressed data.
    #[serde(skip_serializing_if = "Option::is_none")]
    entropy_bits: Option<f64>,
    /// Bytes that the entropy was taken from.
    sampled_bytes: u32,
    /// blank, app, nvs, otadata, encrypted, a file system, unknown …
    content: String,
    /// More about it: version, entries, settings.
    about: String,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    /// Size of the flash.
    flash_size_bytes: u32,
    /// Where the partition table stands, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    table_offset: Option<u32>,
    /// Bytes in sectors that are not blank; left out where the loader cannot tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    used_bytes: Option<u64>,
    /// The areas, by address.
    areas: Vec<AreaOut>,
    /// The picture's file.
    #[serde(skip_serializing_if = "Option::is_none")]
    picture_file: Option<String>,
    #[serde(skip)]
    #[schemars(skip)]
    picture: Option<Vec<u8>>,
}

/// Sectors of an area that are read for its entropy, at most.
const SAMPLES: usize = 4;

impl Tool for Analyze {
    const NAME: &'static str = "esp_flash_analyze";
    const TITLE: &'static str = "Analyse flash";
    const ABOUT: &'static str = "Map flash usage: used and blank bytes, entropy and content (app version, NVS, \
         otadata, file system) of each partition and gap; also as a picture.";
    const RISK: Risk = Risk::Reads;
    const LONG: bool = true;
    const FILES: bool = true;
    const IMAGES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let table_offset = input.table_offset.map(|number| esp_ops::args::table_offset(Some(number))).transpose()?;
        let mut out = ctx.with_device(input.port.as_ref(), job, |connected| run(job, connected, table_offset))?;
        let map = map(&out);
        if let Some(path) = &input.picture_file {
            let svg = path.to_ascii_lowercase().ends_with(".svg");
            let bytes = if svg { map.svg().into_bytes() } else { map.png() };
            out.picture_file = Some(ctx.files.write(path, &bytes)?.display().to_string());
        }
        out.picture = input.show_picture.then(|| map.png());
        Ok(out)
    }

    fn summary(out: &Out) -> String {
        let used = out.used_bytes.map_or("unknown".into(), |used| format!("{} KB", used / 1024));
        let table = out.table_offset.map_or("no partition table".into(), |at| format!("table at {at:#x}"));
        let shown = |area: &&AreaOut| area.content != "blank";
        let areas: Vec<String> =
            out.areas.iter().filter(shown).map(|area| format!("{}: {}", area.name, area.content)).collect();
        format!("{}\n{used} of {} KB used, {table}\n{}", out.device, out.flash_size_bytes / 1024, areas.join("; "))
    }

    fn pictures(out: &Out) -> Vec<Picture> {
        out.picture.iter().map(|png| Picture { mime: "image/png", bytes: png.clone() }).collect()
    }
}

fn run(job: &Job, connected: &mut Connected, table_offset: Option<u32>) -> Result<Out, ToolError> {
    let device = Device::read(connected, job)?;
    let flash_size_bytes = connected.loader.attach_flash(job, None)?;
    let found = keep::table(connected, job, table_offset)?;
    let mut areas = Vec::new();
    for area in Found::areas(found.as_ref(), connected, flash_size_bytes) {
        job.progress(area.address.into(), flash_size_bytes.into(), format!("looking at {}", area.name));
        areas.push(look(job, connected, &area, found.as_ref().map(|found| &found.table), flash_size_bytes)?);
    }
    job.progress(flash_size_bytes.into(), flash_size_bytes.into(), "looked at");
    Ok(Out {
        device,
        flash_size_bytes,
        table_offset: found.map(|found| found.offset),
        used_bytes: areas.iter().map(|area| area.used_bytes.map(u64::from)).sum(),
        areas,
        picture_file: None,
        picture: None,
    })
}

fn look(
    job: &Job,
    connected: &mut Connected,
    area: &Area,
    table: Option<&Table>,
    flash_size: u32,
) -> Result<AreaOut, ToolError> {
    let quiet = job.silent();
    let used = used_sectors(&quiet, connected, area)?;
    let mut out = AreaOut {
        name: area.name.clone(),
        kind: kind_of(area),
        address: area.address,
        size_bytes: area.size,
        used_bytes: used.as_ref().map(|used| used.len() as u32 * SECTOR),
        entropy_bits: None,
        sampled_bytes: 0,
        content: "blank".into(),
        about: String::new(),
    };
    if used.as_ref().is_some_and(Vec::is_empty) {
        return Ok(out);
    }
    let sample = sample(&quiet, connected, area, used.as_deref())?;
    out.sampled_bytes = sample.len() as u32;
    out.entropy_bits = Some((kind::entropy(&sample) * 100.0).round() / 100.0);
    (out.content, out.about) = match (area.kind, table) {
        (AreaKind::Partition(partition), Some(table)) => {
            let found = content::content(connected, &quiet, partition, table, flash_size)?;
            (found.content, found.about)
        }
        (AreaKind::Table, Some(table)) => ("partition_table".into(), counted(table.partitions.len(), "partition")),
        _ => other(&quiet, connected, area, used.as_deref())?,
    };
    Ok(out)
}

/// Addresses of the sectors that hold anything; `None` where the loader has no digest.
fn used_sectors(job: &Job, connected: &mut Connected, area: &Area) -> Result<Option<Vec<u32>>, ToolError> {
    let mut used = Vec::new();
    let mut at = area.address;
    while u64::from(at) < area.end() {
        job.check()?;
        let block = (BLOCK - at % BLOCK).min((area.end() - u64::from(at)) as u32);
        match connected.loader.is_blank(job, at, block)? {
            None => return Ok(None),
            Some(true) => {}
            Some(false) => {
                for sector in (at..at + block).step_by(SECTOR as usize) {
                    if connected.loader.is_blank(job, sector, SECTOR)? == Some(false) {
                        used.push(sector);
                    }
                }
            }
        }
        at += block;
    }
    Ok(Some(used))
}

/// A few sectors spread over what is in use.
fn sample(job: &Job, connected: &mut Connected, area: &Area, used: Option<&[u32]>) -> Result<Vec<u8>, ToolError> {
    let all: Vec<u32>;
    let sectors = match used {
        Some(used) => used,
        None => {
            all = (area.address..area.end().min(u32::MAX.into()) as u32).step_by(SECTOR as usize).collect();
            &all
        }
    };
    let step = sectors.len().div_ceil(SAMPLES).max(1);
    let mut bytes = Vec::new();
    for sector in sectors.iter().step_by(step) {
        bytes.extend(connected.loader.read_flash_bytes(job, *sector, SECTOR)?);
    }
    Ok(bytes)
}

/// What lies outside of partitions.
fn other(
    job: &Job,
    connected: &mut Connected,
    area: &Area,
    used: Option<&[u32]>,
) -> Result<(String, String), ToolError> {
    let first = used.and_then(|used| used.first().copied()).unwrap_or(area.address);
    let bytes = connected.loader.read_flash_bytes(job, first, SECTOR)?;
    let at = if first == area.address { String::new() } else { format!("from {first:#x} on") };
    let chip = connected.loader.chip();
    let header =
        Header::decode(&bytes).filter(|header| header.magic == image::MAGIC && first == chip.flash.bootloader_offset);
    if let Some(header) = header {
        let mode = header.mode().map_or("?", image::FlashMode::name);
        let (size, frequency) = (header.size_name(chip).unwrap_or("?"), header.frequency_name(chip).unwrap_or("?"));
        return Ok(("bootloader".into(), format!("flash {mode}, {frequency}, {size}")));
    }
    let kind = serde_json::to_value(kind::recognise(&bytes)).ok();
    Ok((kind.and_then(|kind| kind.as_str().map(str::to_owned)).unwrap_or_default(), at))
}

/// The picture: all areas in the order of their addresses.
fn map(out: &Out) -> Drawing {
    let about = |area: &AreaOut| match area.about.as_str() {
        "" => area.content.clone(),
        about => format!("{}, {about}", area.content),
    };
    let region = |area: &AreaOut| flash_map::Region {
        name: area.name.clone(),
        about: about(area),
        address: area.address,
        size: area.size_bytes,
        used: area.used_bytes,
        kind: kind_in_map(&area.kind),
    };
    let regions: Vec<_> = out.areas.iter().map(region).collect();
    let title = format!("{}, {} of flash", out.device.chip, human(out.flash_size_bytes.into()));
    flash_map::draw(&title, out.flash_size_bytes, &regions)
}
