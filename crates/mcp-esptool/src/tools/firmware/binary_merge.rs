//! `esp_binary_merge`: several files as one, and one as several.

use esp_model::chip::Chip;
use esp_model::image::hex::{self, Part};
use esp_model::image::{self, kind, merge, uf2};
use esp_model::job::Job;
use esp_model::partition;
use esp_ops::args::{FileAt, Number};
use esp_ops::error::{Code, ToolError};
use esp_ops::firmware::common::{Written, chip_named, flash_settings, word, write, write_parts};
use esp_ops::flash::belongs;
use esp_ops::flash::files::Piece;
use esp_ops::guard::Risk;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct BinaryMerge;

/// Formats of the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Bytes, gaps filled with 0xFF.
    #[default]
    Raw,
    /// Intel HEX, without gaps.
    Hex,
    /// UF2 blocks, without gaps.
    Uf2,
}

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    /// Files with their addresses; Intel HEX brings its own.
    #[serde(default)]
    files: Vec<FileAt>,
    /// Output file; with split_file the prefix of the parts (a folder when it ends in /).
    output_file: String,
    /// The chip (default: the one that the images name).
    #[schemars(extend("x-rare" = true))]
    chip_type: Option<String>,
    /// Output format (default raw).
    #[serde(default)]
    format: Format,
    /// Mode for the bootloader's header: qio, qout, dio, dout or keep (default).
    #[schemars(extend("x-rare" = true))]
    flash_mode: Option<String>,
    /// Frequency for the bootloader's header, or keep (default).
    #[schemars(extend("x-rare" = true))]
    flash_freq: Option<String>,
    /// Size for the bootloader's header, or keep (default).
    #[schemars(extend("x-rare" = true))]
    flash_size: Option<String>,
    /// Flash address of the output's first byte (default 0; raw only).
    #[schemars(extend("x-rare" = true))]
    target_offset: Option<Number>,
    /// Fill the output with 0xFF up to this flash address (raw only).
    #[schemars(extend("x-rare" = true))]
    pad_to_size: Option<Number>,
    /// Data bytes in a UF2 block, a multiple of 4 (default: as many as fit).
    #[schemars(extend("x-rare" = true))]
    chunk_size: Option<Number>,
    /// No MD5 in UF2 blocks.
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    md5_disable: bool,
    /// Merge also what does not belong there; an app at the bootloader address, an ELF, a damaged image.
    #[serde(default)]
    accept_wrong_place: bool,
    /// Instead of merging: split this merged file (raw, HEX or UF2).
    split_file: Option<String>,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// The chip, where it was needed or found.
    chip: Option<String>,
    /// What was written.
    files: Vec<Written>,
    /// What the flash settings came to: not_asked, not_an_image or done.
    flash_settings: String,
    /// Bytes that only fill gaps; 0 for HEX and UF2, which have none.
    filling_bytes: u64,
}

impl Tool for BinaryMerge {
    const NAME: &'static str = "esp_binary_merge";
    const TITLE: &'static str = "Merge binaries";
    const ABOUT: &'static str = "Merge binaries at their flash addresses into one raw, Intel HEX or UF2 file, byte \
         for byte as `esptool merge-bin`; refuses overlaps. split_file does the reverse.";
    const RISK: Risk = Risk::Reads;
    const FILES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        match &input.split_file {
            Some(path) if input.files.is_empty() => split(ctx, path, &input),
            Some(_) => Err(ToolError::new(Code::BadParameter, "give either files or split_file")),
            None => merge_files(ctx, job, &input),
        }
    }

    fn summary(out: &Out) -> String {
        let names = out.files.iter().map(|file| format!("{} ({} bytes)", file.path, file.size_bytes));
        format!("{}; {} bytes of filling", names.collect::<Vec<_>>().join(", "), out.filling_bytes)
    }
}

fn merge_files(ctx: &Ctx, job: &Job, input: &In) -> Result<Out, ToolError> {
    if input.files.is_empty() {
        return Err(ToolError::new(Code::MissingParameter, "there is nothing to merge: `files` is empty")
            .next("give files as [{\"path\": \"app.bin\", \"address\": \"0x10000\"}], or split_file"));
    }
    let (mut parts, mut sources): (Vec<Part>, Vec<String>) = (Vec::new(), Vec::new());
    for file in &input.files {
        job.check()?;
        let address = word("address", file.address)?;
        let found = merge::parts_of(address, ctx.files.read(&file.path)?);
        let found = found.map_err(|error| ToolError::from(error).seen("file", file.path.clone()))?;
        sources.extend(found.iter().map(|_| file.path.clone()));
        parts.extend(found);
    }
    let chip = match &input.chip_type {
        Some(name) => Some(chip_named(name)?),
        None => {
            parts.iter().find_map(|part| image::detect(&part.data).ok().filter(|_| image::parse(&part.data).is_ok()))
        }
    };
    let flash = flash_settings(input.flash_mode.as_deref(), input.flash_freq.as_deref(), input.flash_size.as_deref())?;
    let chip = chip.ok_or_else(|| {
        ToolError::new(Code::MissingParameter, "none of the files names its chip").next("give chip_type")
    })?;
    let signed =
        |part: &&Part| part.address == chip.flash.bootloader_offset && esp_ops::firmware::common::is_signed(&part.data);
    if !flash.is_keep() && parts.iter().any(|part| signed(&part)) {
        return Err(ToolError::new(Code::ImageSigned, "the bootloader is signed: its header cannot be changed"));
    }
    if !input.accept_wrong_place {
        let pieces: Vec<Piece> = sources
            .iter()
            .zip(&parts)
            .map(|(path, part)| Piece::new(path.as_str(), part.address, part.data.clone()))
            .collect();
        belongs::refuse_programs(&pieces)?;
        belongs::check(&pieces, chip, None)?;
    }
    let before = parts.iter().find(|part| part.address == chip.flash.bootloader_offset).cloned();
    let parts = merge::prepare(chip, parts, &flash)?;
    let settings = patch_result(chip, before, &flash)?;
    let data: u64 = parts.iter().map(|part| part.data.len() as u64).sum();
    let number = |name: &str, value: Option<Number>| value.map(|value| word(name, value)).transpose();
    let (target, pad) = (number("target_offset", input.target_offset)?, number("pad_to_size", input.pad_to_size)?);
    let file = match input.format {
        Format::Raw => {
            let start = target.unwrap_or(0);
            write_parts(ctx, &input.output_file, &merge::raw(&parts, start, pad)?, Some(start))?
        }
        Format::Hex => write(ctx, &input.output_file, merge::to_hex(&parts).as_bytes(), None)?,
        Format::Uf2 => {
            let chunk = number("chunk_size", input.chunk_size)?;
            let bytes = merge::to_uf2(chip, &parts, chunk, !input.md5_disable)?;
            write(ctx, &input.output_file, &bytes, None)?
        }
    };
    let filling = if input.format == Format::Raw { file.size_bytes - data } else { 0 };
    let files = vec![file];
    Ok(Out { chip: Some(chip.id.to_owned()), files, flash_settings: settings, filling_bytes: filling })
}

fn patch_result(chip: &'static Chip, before: Option<Part>, flash: &merge::FlashSettings) -> Result<String, ToolError> {
    let Some(mut part) = before else { return Ok(String::from("not_asked")) };
    let patched = merge::set_flash(chip, part.address, &mut part.data, flash)?;
    Ok(match patched {
        merge::Patched::NotAsked => "not_asked",
        merge::Patched::NotAnImage => "not_an_image",
        merge::Patched::Done => "done",
    }
    .to_owned())
}

fn split(ctx: &Ctx, path: &str, input: &In) -> Result<Out, ToolError> {
    let bytes = ctx.files.read_some(path)?;
    let damaged = |error: String| ToolError::new(Code::FileDamaged, error).seen("file", path);
    let mut chip = None;
    let mut named: Vec<(String, Part)> = Vec::new();
    let parts = match kind::recognise(&bytes) {
        kind::Kind::Hex => hex::read(&bytes).map_err(|error| damaged(error.to_string()))?,
        kind::Kind::Uf2 => {
            let file = uf2::read(&bytes).map_err(|error| damaged(error.to_string()))?;
            chip = file.family.and_then(merge::chip_of_family);
            file.parts
        }
        kind::Kind::MergedFlash => {
            if let Some(layout) = kind::flash_layout(&bytes) {
                chip = Some(layout.chip);
                named = esp_ops::firmware::facts::flash_parts(&layout, &bytes);
                whole_sectors(&mut named, layout.base(), &bytes);
                between(&named, layout.base(), &bytes)
            } else {
                merge::split_blank(0, &bytes)
            }
        }
        _ => {
            let start = input.target_offset.map(|number| word("target_offset", number)).transpose()?;
            merge::split_blank(start.unwrap_or(0), &bytes)
        }
    };
    named.extend(parts.into_iter().map(|part| (String::from("part"), part)));
    if named.is_empty() {
        return Err(ToolError::new(Code::NothingToDo, format!("`{path}` holds nothing but filling")));
    }
    let mut files = Vec::new();
    for (name, part) in &named {
        let output = format!("{}{name}-{:#x}.bin", input.output_file, part.address);
        files.push(write(ctx, &output, &part.data, Some(part.address))?);
    }
    let data: u64 = named.iter().map(|(_, part)| part.data.len() as u64).sum();
    let raw = !matches!(kind::recognise(&bytes), kind::Kind::Hex | kind::Kind::Uf2);
    let filling_bytes = if raw { (bytes.len() as u64).saturating_sub(data) } else { 0 };
    let chip = chip.map(|chip| chip.id.to_owned());
    Ok(Out { chip, files, flash_settings: String::from("not_asked"), filling_bytes })
}

/// Data that is no image gets the length that its makers give it: a table 0xC00 bytes, the rest whole sectors.
fn whole_sectors(named: &mut [(String, Part)], base: u32, bytes: &[u8]) {
    for (name, part) in named.iter_mut().filter(|(_, part)| image::parse(&part.data).is_err()) {
        let unit = if name == "partition-table" { partition::TABLE_LENGTH } else { partition::TABLE_SECTOR as usize };
        let at = part.address.saturating_sub(base) as usize;
        let end = at.saturating_add(part.data.len().next_multiple_of(unit)).min(bytes.len());
        part.data = bytes.get(at..end).unwrap_or_default().to_vec();
    }
}

/// What lies outside of the bootloader, the table and the partitions.
fn between(named: &[(String, Part)], base: u32, bytes: &[u8]) -> Vec<Part> {
    let place = |address: u64| address.saturating_sub(u64::from(base)).min(bytes.len() as u64) as usize;
    let mut known: Vec<_> = named.iter().map(|(_, part)| (place(part.address.into()), place(part.end()))).collect();
    known.sort_unstable();
    known.push((bytes.len(), bytes.len()));
    let (mut parts, mut at) = (Vec::new(), 0);
    for (from, to) in known {
        let gap = bytes.get(at..from).unwrap_or_default();
        parts.extend(merge::split_blank(base + at as u32, gap));
        at = at.max(to);
    }
    parts
}
