//! `esp_flash_compare`: which partitions of two devices, images or backups differ, and how.

use std::fmt::Write as _;

use esp_link::flash::BLOCK;
use esp_model::image::AppDesc;
use esp_model::job::Job;
use esp_model::nvs;
use esp_model::partition::{self, APP, DATA, DATA_NVS, Partition};
use esp_ops::args::PortUrl;
use esp_ops::error::{Code, ToolError};
use esp_ops::flash::side::Side;
use esp_ops::guard::Risk;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct Compare;

/// Where an app's description stands in its image: behind the header and the first segment's header.
const APP_DESC: u32 = 32;
/// Bytes that hold an app's description.
const APP_DESC_LENGTH: u32 = 256;
/// Names of NVS keys that are listed.
const MOST_KEYS: usize = 12;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    /// Port URL, flash image file or backup folder (default: the only device).
    port: Option<PortUrl>,
    /// The other: port URL, flash image file or backup folder.
    other: String,
    /// Only these areas: partition names, `bootloader`, `partition-table`.
    partitions: Option<Vec<String>>,
}

/// What the comparison of an area says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum AreaVerdict {
    /// The same bytes.
    Same,
    /// Other bytes, or another place.
    Differs,
    /// Only the first side has it.
    OnlyFirst,
    /// Only the other side has it.
    OnlyOther,
    /// One side does not hold it.
    NotComparable,
}

impl AreaVerdict {
    fn words(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Differs => "differs",
            Self::OnlyFirst => "only first",
            Self::OnlyOther => "only other",
            Self::NotComparable => "not comparable",
        }
    }
}

/// An area on both sides.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct AreaOut {
    /// Partition, `bootloader`, `partition-table` or gap-ADDRESS.
    name: String,
    /// Address on the first side.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// Size on the first side.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<String>,
    /// What the comparison says.
    verdict: AreaVerdict,
    /// First byte that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_difference: Option<String>,
    /// How they differ: versions of apps, keys of NVS, blank sides, moved partitions.
    #[serde(skip_serializing_if = "String::is_empty")]
    how: String,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// The first side.
    first: String,
    /// The other side.
    other: String,
    /// Everything that was compared is the same.
    same: bool,
    /// How many areas are the same.
    same_count: usize,
    /// How many are not.
    different_count: usize,
    /// The areas that differ first, then the others.
    areas: Vec<AreaOut>,
}

impl Tool for Compare {
    const NAME: &'static str = "esp_flash_compare";
    const TITLE: &'static str = "Compare flash contents";
    const ABOUT: &'static str = "Compare two devices, flash images or backups: which partitions differ and how (app \
         versions, NVS keys). For single files use esp_flash_verify.";
    const RISK: Risk = Risk::Reads;
    const LONG: bool = true;
    const IMAGES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let mut first = Side::open(ctx, job, input.port.as_ref().map(ToString::to_string).as_deref())?;
        let mut other = Side::open(ctx, job, Some(&input.other))?;
        let bootloader = first.bootloader.or(other.bootloader);
        let size = first.size.min(other.size);
        let areas = partition::cover(
            first.table.as_ref().map(|(table, offset)| (table, *offset)),
            bootloader.unwrap_or(0),
            size,
        );
        let areas: Vec<Place> = areas.iter().map(Place::of).collect();
        let mut work = Work { ctx, job, first: &mut first, other: &mut other };
        let mut found = Vec::new();
        for (number, area) in areas.iter().enumerate() {
            if input.partitions.as_ref().is_some_and(|wanted| !wanted.contains(&area.name)) {
                continue;
            }
            job.progress(number as u64, areas.len() as u64, format!("comparing {}", area.name));
            found.push(work.area(area)?);
        }
        if input.partitions.is_none() {
            found.extend(only_other(&first, &other));
        }
        if found.is_empty() {
            let names = areas.iter().map(|area| area.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(ToolError::new(Code::UnknownPartition, "none of these areas is there").seen("areas", names));
        }
        found.sort_by_key(|area| area.verdict == AreaVerdict::Same);
        let same_count = found.iter().filter(|area| area.verdict == AreaVerdict::Same).count();
        Ok(Out {
            first: first.name,
            other: other.name,
            same: same_count == found.len(),
            same_count,
            different_count: found.len() - same_count,
            areas: found,
        })
    }

    fn summary(out: &Out) -> String {
        let Out { first, other, .. } = out;
        if out.same {
            return format!("{first} and {other}: all {} areas are the same", out.same_count);
        }
        let mut text = format!(
            "{first} and {other}: {} of {} areas differ",
            out.different_count,
            out.different_count + out.same_count
        );
        for area in out.areas.iter().filter(|area| area.verdict != AreaVerdict::Same).take(8) {
            let how = if area.how.is_empty() { String::new() } else { format!(": {}", area.how) };
            let _ = write!(text, "\n{} {}{how}", area.name, area.verdict.words());
        }
        text
    }
}

/// An area of the first side.
struct Place {
    name: String,
    address: u32,
    size: u32,
    partition: Option<Partition>,
}

impl Place {
    fn of(area: &partition::Area) -> Self {
        let partition = match area.kind {
            partition::AreaKind::Partition(partition) => Some(partition.clone()),
            _ => None,
        };
        Self { name: area.name.clone(), address: area.address, size: area.size, partition }
    }
}

/// Partitions that only the other side has.
fn only_other(first: &Side, other: &Side) -> Vec<AreaOut> {
    let (Some((own, _)), Some((table, _))) = (&first.table, &other.table) else { return Vec::new() };
    let missing = table.partitions.iter().filter(|one| own.find(&one.name).is_none());
    let out = |one: &Partition| AreaOut {
        name: one.name.clone(),
        address: None,
        size: None,
        verdict: AreaVerdict::OnlyOther,
        first_difference: None,
        how: format!("{:#x} bytes at {:#x}", one.size, one.offset),
    };
    missing.map(out).collect()
}

struct Work<'a> {
    ctx: &'a Ctx,
    job: &'a Job,
    first: &'a mut Side,
    other: &'a mut Side,
}

impl Work<'_> {
    fn area(&mut self, area: &Place) -> Result<AreaOut, ToolError> {
        let mut out = AreaOut {
            name: area.name.clone(),
            address: Some(format!("{:#x}", area.address)),
            size: Some(format!("{:#x}", area.size)),
            verdict: AreaVerdict::Same,
            first_difference: None,
            how: String::new(),
        };
        // A partition is compared with the one of its name, wherever that is.
        let table = self.other.table.as_ref().map(|(table, _)| table);
        let there = match (&area.partition, table) {
            (Some(partition), Some(table)) => match table.find(&partition.name) {
                Some(there) => (there.offset, there.size),
                None => {
                    out.verdict = AreaVerdict::OnlyFirst;
                    return Ok(out);
                }
            },
            _ => (area.address, area.size),
        };
        if there != (area.address, area.size) {
            out.how = format!("{:#x} bytes at {:#x} there", there.1, there.0);
            out.verdict = AreaVerdict::Differs;
        }
        let size = area.size.min(there.1);
        match self.difference(area.address, there.0, size)? {
            Difference::None => {}
            Difference::Unknown(why) => {
                out.verdict = AreaVerdict::NotComparable;
                out.how = why;
            }
            Difference::At { offset, blocks } => {
                out.verdict = AreaVerdict::Differs;
                out.first_difference = Some(format!("{:#x}", area.address + offset));
                if !out.how.is_empty() {
                    out.how += "; ";
                }
                out.how += &self.how(area, there.0, size, blocks)?;
            }
        }
        Ok(out)
    }

    /// Compares by digests of blocks; only a block that differs is read.
    fn difference(&mut self, here: u32, there: u32, size: u32) -> Result<Difference, ToolError> {
        let (mut first, mut blocks) = (None, 0);
        for offset in (0..size).step_by(BLOCK as usize) {
            self.job.check()?;
            let length = BLOCK.min(size - offset);
            let pair = (
                self.first.md5(self.ctx, self.job, here + offset, length)?,
                self.other.md5(self.ctx, self.job, there + offset, length)?,
            );
            let (Some(own), Some(other)) = pair else {
                let side = if pair.0.is_none() { &self.first.name } else { &self.other.name };
                return Ok(Difference::Unknown(format!("{side} does not hold it")));
            };
            if own == other {
                continue;
            }
            blocks += 1;
            if first.is_none() {
                let own = self.first.read(self.ctx, self.job, here + offset, length)?;
                let other = self.other.read(self.ctx, self.job, there + offset, length)?;
                let at = own.iter().zip(&other).position(|(own, other)| own != other).unwrap_or(0);
                first = Some(offset + at as u32);
            }
        }
        Ok(first.map_or(Difference::None, |offset| Difference::At { offset, blocks }))
    }

    /// What the difference means, by what the partition holds.
    fn how(&mut self, area: &Place, there: u32, size: u32, blocks: u32) -> Result<String, ToolError> {
        let total = size.div_ceil(BLOCK);
        let share = format!("{blocks} of {total} block{} of 64 KiB", if total == 1 { "" } else { "s" });
        let kind = area.partition.as_ref().map(|one| (one.kind, one.subtype));
        match kind {
            Some((APP, _)) if size > APP_DESC + APP_DESC_LENGTH => {
                let own = version(&self.first.read(self.ctx, self.job, area.address + APP_DESC, APP_DESC_LENGTH)?);
                let other = version(&self.other.read(self.ctx, self.job, there + APP_DESC, APP_DESC_LENGTH)?);
                Ok(format!("{own} here, {other} there; {share}"))
            }
            Some((DATA, DATA_NVS)) => {
                let own = nvs::read(&self.first.read(self.ctx, self.job, area.address, size)?);
                let other = nvs::read(&self.other.read(self.ctx, self.job, there, size)?);
                Ok(keys(&nvs::diff(&own, &other)))
            }
            _ => Ok(share),
        }
    }
}

enum Difference {
    None,
    At { offset: u32, blocks: u32 },
    Unknown(String),
}

/// An app's name and version, from the bytes of its description.
fn version(bytes: &[u8]) -> String {
    match AppDesc::decode(bytes) {
        Some(app) => format!("{} {}", app.project_name, app.version),
        None if bytes.iter().all(|byte| *byte == 0xff) => "blank".into(),
        None => "no app description".into(),
    }
}

/// Keys of NVS that differ; never their values.
fn keys(differences: &[nvs::Difference]) -> String {
    let name = |difference: &nvs::Difference| {
        let (entry, what) = match difference {
            nvs::Difference::Added(entry) => (entry, "added"),
            nvs::Difference::Removed(entry) => (entry, "removed"),
            nvs::Difference::Changed(_, entry) => (entry, "changed"),
        };
        format!("{}/{} {what}", entry.namespace, entry.key)
    };
    let listed: Vec<String> = differences.iter().take(MOST_KEYS).map(name).collect();
    match differences.len().saturating_sub(MOST_KEYS) {
        _ if listed.is_empty() => "the same values, stored differently (or encrypted)".into(),
        0 => listed.join(", "),
        more => format!("{}, {more} more", listed.join(", ")),
    }
}
