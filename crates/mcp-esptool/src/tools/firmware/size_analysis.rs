//! `esp_size_analysis`: what a build occupies, and what changed since another one.

use std::collections::BTreeMap;

use esp_model::chip;
use esp_model::image::size::{self, Level, Sizes, diff, treemap};
use esp_model::job::Job;
use esp_ops::args::Number;
use esp_ops::error::{Code, ToolError};
use esp_ops::firmware::common::{chip_named, stem};
use esp_ops::guard::Risk;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::{Picture, Tool};

/// The tool.
pub struct SizeAnalysis;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    /// The linked program (optional with map_file, as after a failed link).
    elf_file: Option<String>,
    /// The linker's map (default: the .map beside the ELF file).
    map_file: Option<String>,
    /// Another build to compare with; its ELF file (its map is searched beside it) or its map.
    diff: Option<String>,
    /// The chip; needed only without a map.
    chip_type: Option<String>,
    /// Size of the app partition: does the image fit?
    #[schemars(extend("x-rare" = true))]
    partition_size: Option<Number>,
    /// How many archives, objects and symbols to show (default 15).
    #[schemars(extend("x-rare" = true))]
    top: Option<u32>,
    /// Treemap picture to write (.svg or .png).
    treemap_file: Option<String>,
    /// Show the treemap in the answer.
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    show_treemap: bool,
    /// File for everything as JSON.
    #[schemars(extend("x-rare" = true))]
    json_file: Option<String>,
}

/// A memory.
#[derive(Debug, Serialize, JsonSchema)]
pub struct MemoryFacts {
    /// Bytes in use.
    used_bytes: u64,
    /// Bytes there are; absent where the linker's number is not a limit (flash, external RAM).
    total_bytes: Option<u64>,
    /// Bytes left; below 0 when too much is in use.
    free_bytes: Option<i64>,
    /// flash, ram or external_ram.
    kind: &'static str,
    /// By section.
    sections: BTreeMap<String, u64>,
}

/// A memory into which more was put than it holds.
#[derive(Debug, Serialize, JsonSchema)]
pub struct OverflowFacts {
    /// The memory.
    memory: String,
    /// Bytes too many.
    overflow_bytes: u64,
    /// The largest object files in it, as archive:object.
    largest: Vec<Share>,
}

/// Something and its bytes.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Share {
    /// Its name.
    name: String,
    /// Its bytes.
    size_bytes: u64,
}

/// What changed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ChangeFacts {
    /// Its name.
    name: String,
    /// Bytes in the other build; 0: it was not there.
    before_bytes: u64,
    /// Bytes in this build; 0: it is gone.
    after_bytes: u64,
}

/// The difference to another build.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DiffFacts {
    /// Bytes of the other build's image.
    image_bytes_before: u64,
    /// By memory.
    memory: Vec<ChangeFacts>,
    /// By archive, the largest changes first.
    archives: Vec<ChangeFacts>,
    /// By object file, the largest changes first.
    objects: Vec<ChangeFacts>,
    /// By symbol, the largest changes first.
    symbols: Vec<ChangeFacts>,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// The chip.
    chip: String,
    /// The map that was used; without one there are no archives and no totals.
    map_file: Option<String>,
    /// Bytes of the sections that make up the image.
    image_bytes: u64,
    /// By memory.
    memory: BTreeMap<String, MemoryFacts>,
    /// Memories that hold too much: why a link fails.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    overflows: Vec<OverflowFacts>,
    /// Bytes of the app partition that the image leaves; below 0 when it does not fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    partition_free_bytes: Option<i64>,
    /// What must be known to read the numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    /// The largest archives.
    archives: Vec<Share>,
    /// The largest object files, as archive:object.
    objects: Vec<Share>,
    /// The largest symbols, as archive:object:symbol.
    symbols: Vec<Share>,
    /// Compared with the other build.
    diff: Option<DiffFacts>,
    /// Files that were written.
    files: Vec<String>,
    #[serde(skip)]
    #[schemars(skip)]
    picture: Option<Vec<u8>>,
}

/// Pixels of the picture.
const SIZE: (u32, u32) = (1200, 800);

impl Tool for SizeAnalysis {
    const NAME: &'static str = "esp_size_analysis";
    const TITLE: &'static str = "Size analysis";
    const ABOUT: &'static str = "Analyze memory use of a build by region, section, archive, object and symbol (as \
         esp-idf-size). Compares two builds, draws a treemap.";
    const RISK: Risk = Risk::Reads;
    const FILES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let Build { sizes, map_file, mut notes } =
            load(ctx, input.elf_file.as_deref(), input.map_file.as_deref(), input.chip_type.as_deref())?;
        job.check()?;
        let top = input.top.unwrap_or(15) as usize;
        let other = match &input.diff {
            Some(path) => Some(load(ctx, Some(path), None, input.chip_type.as_deref())?.sizes),
            None => None,
        };
        let chip_differs = other.as_ref().filter(|other| other.chip != sizes.chip);
        notes
            .extend(chip_differs.map(|other| format!("the other build is for {}, not for {}", other.chip, sizes.chip)));
        let mut files = Vec::new();
        if let Some(path) = &input.treemap_file {
            let bytes = if path.to_ascii_lowercase().ends_with(".png") {
                treemap::png(&sizes, SIZE.0, SIZE.1)
            } else {
                treemap::svg(&sizes, SIZE.0, SIZE.1).into_bytes()
            };
            files.push(ctx.files.write(path, &bytes)?.display().to_string());
        }
        if let Some(path) = &input.json_file {
            let text = serde_json::to_vec_pretty(&sizes).map_err(|error| {
                ToolError::new(Code::Internal, format!("the sizes cannot be written as JSON: {error}"))
            })?;
            files.push(ctx.files.write(path, &text)?.display().to_string());
        }
        let largest = |level| sizes.largest(level, top).into_iter().map(Share::new).collect();
        Ok(Out {
            chip: sizes.chip.clone(),
            map_file,
            image_bytes: sizes.image_bytes,
            memory: memory_of(&sizes),
            overflows: overflows(&sizes, top),
            partition_free_bytes: input.partition_size.map(|size| size.0 as i64 - sizes.image_bytes as i64),
            notes,
            archives: largest(Level::Archive),
            objects: largest(Level::Object),
            symbols: largest(Level::Symbol),
            diff: other.map(|other| compare(&other, &sizes, top)),
            files,
            picture: input.show_treemap.then(|| treemap::png(&sizes, SIZE.0, SIZE.1)),
        })
    }

    fn summary(out: &Out) -> String {
        let memory = out.memory.iter().map(|(name, memory)| match memory.total_bytes {
            Some(total) => format!("{name} {} of {total}", memory.used_bytes),
            None => format!("{name} {}", memory.used_bytes),
        });
        let mut text =
            format!("{} image of {} bytes; {}", out.chip, out.image_bytes, memory.collect::<Vec<_>>().join(", "));
        for over in &out.overflows {
            let largest = over.largest.iter().take(3).map(|share| format!("{} {}", share.name, share.size_bytes));
            let largest = largest.collect::<Vec<_>>().join(", ");
            text += &format!("\n{} overflows by {} bytes; largest: {largest}", over.memory, over.overflow_bytes);
        }
        if let Some(free) = out.partition_free_bytes {
            text += &if free < 0 {
                format!("\nthe image is {} bytes too large for its partition", -free)
            } else {
                format!("\n{free} bytes of the partition are left")
            };
        }
        for note in &out.notes {
            text += &format!("\n{note}");
        }
        if let Some(diff) = &out.diff {
            let delta = out.image_bytes as i64 - diff.image_bytes_before as i64;
            text += &format!("\n{delta:+} bytes against the other build");
        }
        text
    }

    fn pictures(out: &Out) -> Vec<Picture> {
        out.picture.iter().map(|png| Picture { mime: "image/png", bytes: png.clone() }).collect()
    }
}

impl Share {
    /// Without the folders of a toolchain before an archive's name: they are long, and always the same.
    fn new((name, size_bytes): (String, u64)) -> Self {
        let (archive, rest) = name.split_at(name.find(':').unwrap_or(name.len()));
        let short = archive.rsplit(['/', '\\']).next().unwrap_or(archive);
        Self { name: format!("{short}{rest}"), size_bytes }
    }
}

fn memory_of(sizes: &Sizes) -> BTreeMap<String, MemoryFacts> {
    let types = chip::by_name(&sizes.chip).and_then(|chip| size::memory_types(chip).ok()).unwrap_or_default();
    let kind = |name: &str| match types.iter().find(|known| known.name == name) {
        Some(known) if known.flash => "flash",
        Some(known) if known.external_ram => "external_ram",
        _ => "ram",
    };
    sizes.memory.iter().map(|(name, memory)| (name.clone(), memory_facts(memory, kind(name)))).collect()
}

fn overflows(sizes: &Sizes, top: usize) -> Vec<OverflowFacts> {
    let facts = |over: size::Overflow| OverflowFacts {
        memory: over.memory,
        overflow_bytes: over.bytes,
        largest: over.largest.into_iter().map(Share::new).collect(),
    };
    sizes.overflows(top).into_iter().map(facts).collect()
}

fn memory_facts(memory: &size::Memory, kind: &'static str) -> MemoryFacts {
    MemoryFacts {
        kind,
        used_bytes: memory.used_bytes,
        total_bytes: Some(memory.total_bytes).filter(|total| *total != 0),
        free_bytes: memory.free_bytes(),
        sections: memory.sections.iter().map(|(name, section)| (name.clone(), section.bytes)).collect(),
    }
}

/// The sizes of a build, the map that was used, and what must be known of them.
struct Build {
    sizes: Sizes,
    map_file: Option<String>,
    notes: Vec<String>,
}

fn load(ctx: &Ctx, elf: Option<&str>, map: Option<&str>, chip: Option<&str>) -> Result<Build, ToolError> {
    let is_map = |path: &str| path.to_ascii_lowercase().ends_with(".map");
    let (elf, map) = match (elf, map) {
        (Some(path), None) if is_map(path) => (None, Some(path.to_owned())),
        (Some(elf), None) => {
            let beside = format!("{}.map", stem(elf));
            (Some(elf), ctx.files.input(&beside).ok().map(|_| beside))
        }
        (elf, map) => (elf, map.map(str::to_owned)),
    };
    let Some(path) = map else {
        let Some(elf) = elf else {
            return Err(ToolError::new(Code::MissingParameter, "neither elf_file nor map_file is given"));
        };
        let name = chip.ok_or_else(|| {
            ToolError::new(Code::MissingParameter, format!("there is no map beside `{elf}`"))
                .next("give map_file, or chip_type for an analysis of the ELF file alone")
        })?;
        let sizes = size::from_elf(chip_named(name)?, &ctx.files.read_some(elf)?)?;
        return Ok(Build { sizes, map_file: None, notes: Vec::new() });
    };
    let text = ctx.files.read_text(&path)?;
    let bytes = elf.map(|elf| ctx.files.read_some(elf)).transpose()?;
    let sizes = size::from_map(&text, bytes.as_deref())?;
    let mut notes = Vec::new();
    if let Some(difference) = bytes.map(|bytes| size::other_build(&text, &bytes)).transpose()?.flatten() {
        notes.push(format!(
            "the map and the ELF file are of different builds: {difference}; symbols are not to be trusted"
        ));
    }
    notes.extend(shared_texts(&sizes));
    Ok(Build { sizes, map_file: Some(path), notes })
}

/// Whose numbers hold the texts of all: an archive seems to grow by them when the order of the link changes.
fn shared_texts(sizes: &Sizes) -> Option<String> {
    let shared = |(name, _): &(String, u64)| name.contains(".str1.");
    let all: Vec<(String, u64)> = sizes.largest(Level::Symbol, usize::MAX).into_iter().filter(shared).collect();
    let (name, bytes) = all.first()?;
    let total: u64 = all.iter().map(|(_, bytes)| bytes).sum();
    let file = Share::new((name.rsplit_once(':').map_or(name.as_str(), |(file, _)| file).to_owned(), *bytes));
    Some(format!(
        "texts that several object files share are kept once, {total} bytes in all; the linker counts them for the first \
         file that has them: {bytes} of them are in the number of {}",
        file.name
    ))
}

fn compare(before: &Sizes, after: &Sizes, top: usize) -> DiffFacts {
    let facts = |changes: Vec<diff::Change>| {
        let fact = |change: diff::Change| ChangeFacts {
            name: change.name,
            before_bytes: change.before_bytes,
            after_bytes: change.after_bytes,
        };
        changes.into_iter().take(top).map(fact).collect()
    };
    DiffFacts {
        image_bytes_before: before.image_bytes,
        memory: facts(diff::memory_changes(before, after)),
        archives: facts(diff::changes(before, after, Level::Archive)),
        objects: facts(diff::changes(before, after, Level::Object)),
        symbols: facts(diff::changes(before, after, Level::Symbol)),
    }
}
