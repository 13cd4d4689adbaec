//! `esp_filesystem_extract`: the files in SPIFFS, LittleFS and FAT partitions, read only.

use esp_model::fs::{self, Entry, FileSystem};
use esp_model::job::Job;
use esp_model::partition::{DATA, Partition, Table};
use esp_ops::args::{Number, PortUrl};
use esp_ops::error::{Code, ToolError};
use esp_ops::guard::Risk;
use esp_ops::partition::on_device;
use esp_ops::session::device::Connected;
use esp_ops::words::counted;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct Extract;

/// Most files that a result lists.
const LISTED: usize = 200;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    /// Image of a partition or whole flash (default: read a device).
    image_file: Option<String>,
    port: Option<PortUrl>,
    /// Partition name (default: all with a file system).
    partition: Option<String>,
    /// Flash address of the table (default 0x8000).
    #[schemars(extend("x-rare" = true))]
    table_offset: Option<Number>,
    /// Folder for the files, one folder per file system (default: list only).
    output_dir: Option<String>,
}

/// A file or folder.
#[derive(Debug, Serialize, JsonSchema)]
pub struct FileOut {
    /// Its path. Untrusted.
    path: String,
    /// Its length; folders have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
}

/// A file system.
#[derive(Debug, Serialize, JsonSchema)]
pub struct FileSystemOut {
    /// The partition, or the file.
    name: String,
    /// SPIFFS, LittleFS or FAT.
    kind: String,
    /// FAT12, version, page size.
    form: String,
    /// On ESP-IDF's wear levelling.
    wear_levelled: bool,
    /// Bytes of a block.
    block_bytes: u32,
    /// Bytes that it covers.
    size_bytes: u64,
    /// Bytes free.
    free_bytes: Option<u64>,
    /// Volume label.
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    /// How many files.
    file_count: usize,
    /// Files and folders, the first 200.
    files: Vec<FileOut>,
    /// What is not as it should be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<String>,
    /// Where the files were copied to.
    #[serde(skip_serializing_if = "Option::is_none")]
    folder: Option<String>,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// The file systems.
    file_systems: Vec<FileSystemOut>,
    /// Data partitions in which none was recognised.
    not_recognised: Vec<String>,
}

impl Tool for Extract {
    const NAME: &'static str = "esp_filesystem_extract";
    const TITLE: &'static str = "List and extract files";
    const ABOUT: &'static str = "List and extract files of SPIFFS, LittleFS and FAT partitions (also wear-levelled) \
         from a device or an image. Never writes to them.";
    const RISK: Risk = Risk::Reads;
    const LONG: bool = true;
    const FILES: bool = true;
    const IMAGES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let images = match &input.image_file {
            Some(path) => from_file(ctx, path, &input)?,
            None => {
                let read = |connected: &mut Connected| from_device(connected, job, &input);
                ctx.with_device(input.port.as_ref(), job, read)?
            }
        };
        let mut out = Out { file_systems: Vec::new(), not_recognised: Vec::new() };
        for (name, image) in images {
            job.check()?;
            match fs::identify(&image) {
                Some(found) => out.file_systems.push(file_system(ctx, &input, name, &image, found)?),
                None => out.not_recognised.push(name),
            }
        }
        if out.file_systems.is_empty() {
            let looked = out.not_recognised.join(", ");
            let error = ToolError::new(Code::NoFileSystem, "no SPIFFS, LittleFS or FAT was recognised");
            return Err(error.seen("looked_at", looked));
        }
        Ok(out)
    }

    fn summary(out: &Out) -> String {
        let line = |found: &FileSystemOut| {
            let copied = found.folder.as_ref().map_or_else(String::new, |folder| format!(", copied to {folder}"));
            format!("{}: {} {}, {}{copied}", found.name, found.kind, found.form, counted(found.file_count, "file"))
        };
        out.file_systems.iter().take(3).map(line).collect::<Vec<_>>().join("\n")
    }
}

/// Names and bytes of what is to be looked at.
type Images = Vec<(String, Vec<u8>)>;

/// A partition's image, or those of the partitions in a flash image.
fn from_file(ctx: &Ctx, path: &str, input: &In) -> Result<Images, ToolError> {
    let bytes = ctx.files.read_some(path)?;
    let offset = esp_ops::args::table_offset(input.table_offset)? as usize;
    let sector = bytes.get(offset..offset.saturating_add(esp_model::partition::TABLE_LENGTH));
    let table =
        sector.filter(|sector| Table::is_binary(sector)).and_then(|sector| Table::from_binary(sector, true).ok());
    let Some(table) = table else { return Ok(vec![(path.to_owned(), bytes)]) };
    let part = |row: &Partition| {
        let start = row.offset as usize;
        let end = start.saturating_add(row.size as usize).min(bytes.len());
        (row.name.clone(), bytes.get(start..end).unwrap_or_default().to_vec())
    };
    Ok(wanted(&table, input)?.into_iter().map(part).collect())
}

fn from_device(connected: &mut Connected, job: &Job, input: &In) -> Result<Images, ToolError> {
    let offset = esp_ops::args::table_offset(input.table_offset)?;
    let table = on_device::read(connected, job, offset)?.into_table(offset)?;
    let mut images = Vec::new();
    for row in wanted(&table, input)? {
        // Most data partitions are none: the first bytes tell.
        let first = connected.loader.read_flash_bytes(job, row.offset, row.size.min(0x1_0000))?;
        if input.partition.is_none() && fs::peek(&first, row.size as usize).is_none() {
            images.push((row.name.clone(), Vec::new()));
            continue;
        }
        job.progress(0, 1, format!("reading {}", row.name));
        images.push((row.name.clone(), connected.loader.read_flash_bytes(job, row.offset, row.size)?));
    }
    Ok(images)
}

/// The named partition, or all data partitions.
fn wanted<'t>(table: &'t Table, input: &In) -> Result<Vec<&'t Partition>, ToolError> {
    match &input.partition {
        None => Ok(table.partitions.iter().filter(|row| row.kind == DATA && row.size > 0).collect()),
        Some(name) => {
            let known = || table.partitions.iter().map(|row| row.name.clone()).collect::<Vec<_>>().join(", ");
            let none = || {
                ToolError::new(Code::UnknownPartition, format!("there is no partition `{name}`")).seen("known", known())
            };
            Ok(vec![table.find(name).ok_or_else(none)?])
        }
    }
}

fn file_system(
    ctx: &Ctx,
    input: &In,
    name: String,
    image: &[u8],
    found: FileSystem,
) -> Result<FileSystemOut, ToolError> {
    let mut findings = found.findings;
    let folder = match &input.output_dir {
        Some(dir) => {
            let base = std::path::Path::new(&name).file_name().unwrap_or_default().to_string_lossy().into_owned();
            let folder = format!("{}/{}", dir.trim_end_matches('/'), safe(&base));
            Some(copy(ctx, &folder, image, &found.entries, &mut findings)?)
        }
        None => None,
    };
    let shown = |entry: &Entry| FileOut {
        path: esp_model::console::clean(entry.path.as_bytes()),
        size_bytes: (!entry.is_folder).then_some(entry.size),
    };
    Ok(FileSystemOut {
        name,
        kind: found.kind.name().into(),
        form: found.form,
        wear_levelled: found.wear_levelled,
        block_bytes: found.block_bytes,
        size_bytes: found.size_bytes,
        free_bytes: found.free_bytes,
        label: found.label.map(|label| esp_model::console::clean(label.as_bytes())),
        file_count: found.entries.iter().filter(|entry| !entry.is_folder).count(),
        files: found.entries.iter().take(LISTED).map(shown).collect(),
        findings,
        folder,
    })
}

/// Copies all files below `folder`. Names that this computer could misunderstand are changed, and that is said.
fn copy(
    ctx: &Ctx,
    folder: &str,
    image: &[u8],
    entries: &[Entry],
    findings: &mut Vec<String>,
) -> Result<String, ToolError> {
    let root = ctx.files.output_dir(folder)?;
    let mut taken = std::collections::BTreeSet::new();
    for entry in entries {
        let mut path = entry.path.split('/').filter(|part| !part.is_empty()).map(safe).collect::<Vec<_>>().join("/");
        if path.is_empty() {
            path.push('_');
        }
        while !taken.insert(path.to_lowercase()) {
            path.push('_');
        }
        if path != entry.path && findings.len() < 100 {
            findings.push(format!("{} is copied as {path}", esp_model::console::clean(entry.path.as_bytes())));
        }
        let target = format!("{folder}/{path}");
        if entry.is_folder {
            ctx.files.output_dir(&target)?;
        } else {
            ctx.files.keep(&target, &entry.read(image))?;
        }
    }
    Ok(root.display().to_string())
}

/// A part of a path that is a plain name everywhere.
fn safe(part: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "-_.+ ()[]~@,=".contains(c) { c } else { '_' };
    let name: String = part.chars().map(plain).take(120).collect();
    if name.trim_matches(['.', ' ']).is_empty() { "_".repeat(name.len().max(1)) } else { name }
}

#[cfg(test)]
mod tests {
    use super::safe;

    #[test]
    fn names_cannot_lead_out() {
        for (given, name) in
            [("..", "__"), (".", "_"), ("a:b", "a_b"), ("c\\d", "c_d"), ("ok.txt", "ok.txt"), ("\0", "_")]
        {
            assert_eq!(safe(given), name);
        }
    }
}
