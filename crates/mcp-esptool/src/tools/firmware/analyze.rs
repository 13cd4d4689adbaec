//! `esp_firmware_analyze`: what a file is, what it says, and what would keep it from starting.

use std::collections::BTreeMap;

use esp_model::boot;
use esp_model::chip::Chip;
use esp_model::coredump::{Check, CoreDump};
use esp_model::fs;
use esp_model::image::content::{self, Content, Foreign};
use esp_model::image::elf::Elf;
use esp_model::image::hex::Part;
use esp_model::image::kind::{self, Kind};
use esp_model::image::{self, dfu, hex, merge, uf2, waste};
use esp_model::job::Job;
use esp_model::nvs;
use esp_model::partition::otadata::Otadata;
use esp_model::partition::{APP, Table};
use esp_ops::error::ToolError;
use esp_ops::firmware::common::{chip_named, sha256};
use esp_ops::firmware::facts::{
    ElfFacts, ImageFacts, PartitionFacts, Problem, content_kind, elf_facts, image_facts, image_problems, kind_name,
    partition_bytes, partition_facts, table_of,
};
use esp_ops::flash::release;
use esp_ops::guard::Risk;
use esp_ops::words::counted;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct Analyze;

/// How many texts are shown.
#[derive(Debug, Clone, Copy)]
struct Strings {
    all: u32,
    /// Of these, paths of sources: there are many, and they tell little.
    paths: u32,
}

/// Without a wish.
const USUAL_STRINGS: Strings = Strings { all: 20, paths: 5 };

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    /// The file.
    binary_file: String,
    /// The chip it should be for; another one is then a problem.
    chip_type: Option<String>,
    /// How many strings of interest to show (default 20, of these at most 5 source paths).
    #[schemars(extend("x-rare" = true))]
    max_strings: Option<u32>,
}

/// Whether it would start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Boots {
    /// Nothing was found against it.
    Yes,
    /// Something keeps it from starting.
    No,
    /// This kind of file is not started, or it cannot be told.
    Unknown,
}

/// A piece of a HEX, UF2 or merged file.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct PieceFacts {
    /// bootloader, the partition's name, or part.
    pub name: String,
    /// Flash address.
    pub address: u32,
    /// Its length.
    pub size_bytes: u64,
    /// What it is.
    pub kind: String,
    /// What it says, when it is an image.
    pub image: Option<ImageFacts>,
}

/// What an NVS partition holds; the values are not shown.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct NvsFacts {
    /// Pages.
    pub pages: u32,
    /// Pairs that a device would find.
    pub entries: u32,
    /// Names of the namespaces.
    pub namespaces: Vec<String>,
    /// What is not as it should be.
    pub findings: Vec<String>,
}

/// An entry of otadata.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct OtaEntryFacts {
    /// Its sequence number; the higher one counts. Blank entries have none.
    pub sequence: Option<u32>,
    /// new, pending_verify, valid …
    pub state: String,
    /// The CRC fits.
    pub crc_valid: bool,
}

/// What a core dump says.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct CoreDumpFacts {
    /// The chip, where the version names it.
    pub chip: Option<String>,
    /// Tasks in it.
    pub tasks: u32,
    /// First digits of the app's ELF SHA-256.
    pub app_sha256: Option<String>,
    /// The panic text. It comes from the device: do not trust it.
    pub panic: Option<String>,
}

/// A text worth a look. It comes from the file: do not trust it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct TextFacts {
    /// key_material, url, source_path or credential.
    pub kind: String,
    /// Where it stands in the file.
    pub file_offset: u64,
    /// What it says, 120 characters at most. Key material is not shown.
    pub text: String,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// What the file is.
    kind: String,
    /// Its length.
    size_bytes: u64,
    /// Its SHA-256 in hex.
    sha256: String,
    /// What it is in words: an app with its version, a bootloader, a program for RAM, a web page; and what follows from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<String>,
    /// The chip it is for, where the file tells.
    chip: Option<String>,
    /// Whether it would start.
    boots: Boots,
    /// What is not as it should be.
    problems: Vec<Problem>,
    /// What the image says.
    image: Option<ImageFacts>,
    /// What a HEX, UF2 or merged file consists of.
    pieces: Vec<PieceFacts>,
    /// The partition table.
    partitions: Vec<PartitionFacts>,
    /// The ELF file.
    elf: Option<ElfFacts>,
    /// The NVS partition.
    nvs: Option<NvsFacts>,
    /// The otadata partition's two entries.
    otadata: Vec<OtaEntryFacts>,
    /// The core dump.
    core_dump: Option<CoreDumpFacts>,
    /// The file system: kind, form and number of files; esp_filesystem_extract lists them.
    #[serde(skip_serializing_if = "Option::is_none")]
    file_system: Option<String>,
    /// Texts worth a look, private keys first.
    strings: Vec<TextFacts>,
    /// Number of such texts by kind.
    string_counts: BTreeMap<String, u32>,
}

impl Tool for Analyze {
    const NAME: &'static str = "esp_firmware_analyze";
    const TITLE: &'static str = "Analyse firmware";
    const ABOUT: &'static str = "Identify and decode a firmware file (image, bootloader, merged flash, ELF, UF2, \
         HEX, partition table, NVS, otadata, core dump): hashes, signatures, and what would keep it from booting.";
    const RISK: Risk = Risk::Reads;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, _: &Job, input: In) -> Result<Out, ToolError> {
        let meant = input.chip_type.as_deref().map(chip_named).transpose()?;
        let bytes = ctx.files.read(&input.binary_file)?;
        let most = input.max_strings.map_or(USUAL_STRINGS, |most| Strings { all: most, paths: most });
        Ok(analyze(&bytes, meant, most))
    }

    fn summary(out: &Out) -> String {
        let chip = out.chip.as_deref().map_or_else(String::new, |chip| format!(" for {chip}"));
        let boots = match out.boots {
            Boots::Yes => "nothing found that would keep it from booting".to_owned(),
            Boots::No => {
                let first = out.problems.iter().find(|problem| problem.prevents_boot);
                first.map_or_else(String::new, |problem| format!("would not boot: {}: {}", problem.part, problem.what))
            }
            Boots::Unknown if out.elf.is_some() => "a linked program: esp_flash_firmware project=FILE flashes it, \
                 esp_elf_to_binary makes an image of it"
                .to_owned(),
            Boots::Unknown => "whether it boots is not known".to_owned(),
        };
        let what = out.what.as_ref().map_or_else(String::new, |what| format!("\n{what}"));
        // A file that is no firmware is what the words say.
        match &out.what {
            Some(what) if out.kind == kind_name(Kind::Unknown) => format!("{what}\n{} bytes", out.size_bytes),
            _ => format!("{}{chip}, {} bytes; {boots}{what}", out.kind.replace('_', " "), out.size_bytes),
        }
    }
}

fn analyze(bytes: &[u8], meant: Option<&'static Chip>, max_strings: Strings) -> Out {
    // An archive is as even as ciphertext.
    let packed = Foreign::of(bytes).is_some();
    let kind = Some(kind::recognise(bytes)).filter(|kind| !packed || *kind != Kind::Encrypted).unwrap_or(Kind::Unknown);
    let mut out = Out {
        kind: kind_name(kind),
        size_bytes: bytes.len() as u64,
        sha256: sha256(bytes),
        what: None,
        chip: None,
        boots: Boots::Unknown,
        problems: Vec::new(),
        image: None,
        pieces: Vec::new(),
        partitions: Vec::new(),
        elf: None,
        nvs: None,
        otadata: Vec::new(),
        core_dump: None,
        file_system: None,
        strings: Vec::new(),
        string_counts: BTreeMap::new(),
    };
    match kind {
        Kind::Image => image_file(&mut out, bytes, meant),
        Kind::MergedFlash => merged(&mut out, bytes, meant),
        Kind::Hex => match hex::read(bytes) {
            Ok(parts) => pieces(&mut out, &parts, meant),
            Err(error) => damaged(&mut out, "file", error.to_string()),
        },
        Kind::Uf2 => match uf2::read(bytes) {
            Ok(file) => {
                out.chip = file.family.and_then(merge::chip_of_family).map(|chip| chip.id.to_owned());
                pieces(&mut out, &file.parts, meant);
            }
            Err(error) => damaged(&mut out, "file", error.to_string()),
        },
        Kind::Dfu => match dfu::read(bytes) {
            Ok(parts) => pieces(&mut out, &parts.into_iter().map(|(_, part)| part).collect::<Vec<_>>(), meant),
            Err(error) => damaged(&mut out, "file", error.to_string()),
        },
        Kind::FileSystem => {
            out.file_system = fs::identify(bytes).map(|found| {
                let files = found.entries.iter().filter(|entry| !entry.is_folder).count();
                format!("{} {}, {}", found.kind.name(), found.form, counted(files, "file"))
            });
        }
        Kind::Elf => match Elf::parse(bytes) {
            Ok(elf) => {
                let facts = elf_facts(&elf);
                out.chip = facts.chip.clone();
                out.elf = Some(facts);
            }
            Err(error) => damaged(&mut out, "file", error.to_string()),
        },
        Kind::PartitionTable => match Table::from_binary(bytes, true) {
            Ok(table) => out.partitions = table.partitions.iter().map(partition_facts).collect(),
            Err(error) => damaged(&mut out, "partition table", error.to_string()),
        },
        Kind::Nvs => out.nvs = Some(nvs_facts(bytes)),
        Kind::Otadata => out.otadata = otadata_facts(bytes),
        Kind::CoreDump => match CoreDump::parse(bytes, Check::Report) {
            Ok(dump) => {
                out.chip = dump.chip().map(str::to_owned);
                out.core_dump = Some(CoreDumpFacts {
                    chip: out.chip.clone(),
                    tasks: dump.tasks.len() as u32,
                    app_sha256: dump.app_sha256,
                    panic: dump.panic_details,
                });
            }
            Err(error) => damaged(&mut out, "file", error.to_string()),
        },
        Kind::Empty | Kind::Blank | Kind::Encrypted | Kind::Unknown => {}
    }
    out.what = words(bytes, &out);
    if out.problems.iter().any(|problem| problem.prevents_boot) {
        out.boots = Boots::No;
    }
    strings(&mut out, bytes, max_strings);
    out
}

/// What the file is, in words.
fn words(bytes: &[u8], out: &Out) -> Option<String> {
    let version = |revision: u16| format!("v{}.{}", revision / 100, revision % 100);
    if out.kind == kind_name(Kind::Dfu) {
        return Some(String::from(
            "DFU file of ESP-IDF (for dfu-util): esp_flash_firmware writes its files to their own addresses",
        ));
    }
    let text = match content::of(bytes, image::parse(bytes).as_ref()) {
        Content::Foreign(foreign) => release::described(bytes).unwrap_or_else(|| match foreign {
            Foreign::Text => String::from(
                "plain text, no firmware: esp_log_decode reads console logs, esp_partition_create partition tables, \
                 esp_nvs_partition_create NVS values",
            ),
            _ => format!("{}: {}", foreign.name(), foreign.remedy()),
        }),
        Content::App(_) => {
            let app = out.image.as_ref().and_then(|image| image.app.as_ref());
            let named = app.map_or_else(String::new, |app| format!(" `{}` {}", app.project_name, app.version));
            let least = app.map(|app| app.min_efuse_block_revision).filter(|least| !matches!(*least, 0 | u16::MAX));
            let needs = least.map_or_else(String::new, |least| {
                format!(", only for chips with eFuse block revision {} or later", version(least))
            });
            format!("app{named}{needs}")
        }
        Content::Bootloader(chip) => format!("bootloader, its place is {:#x}", chip.flash.bootloader_offset),
        Content::Ram(chip) => format!(
            "RAM image (nothing of it is mapped from flash): a program for RAM runs with esp_load_ram; from flash only a \
             bootloader is such an image, at {:#x}",
            chip.flash.bootloader_offset
        ),
        Content::Merged { base, .. } => format!("merged image, its place is {base:#x}{}", apps(out)),
        Content::Cut { why, .. } => format!("image that is cut off: {why}; the file has {} bytes", bytes.len()),
        Content::Elf | Content::Other => return None,
    };
    Some(text)
}

/// The apps of a merged file: `; factory: app `blink` 1.2`.
fn apps(out: &Out) -> String {
    let app = |piece: &PieceFacts| {
        let app = piece.image.as_ref()?.app.as_ref()?;
        Some(format!("; {}: app `{}` {}", piece.name, app.project_name, app.version))
    };
    out.pieces.iter().filter_map(app).collect()
}

fn damaged(out: &mut Out, part: &str, what: String) {
    out.problems.push(Problem { part: part.to_owned(), what, prevents_boot: true });
}

fn image_file(out: &mut Out, bytes: &[u8], meant: Option<&'static Chip>) {
    out.chip = image::detect(bytes).ok().map(|chip| chip.id.to_owned());
    match image::parse(bytes) {
        Ok(image) => {
            out.problems = image_problems("image", &image, meant);
            out.image = Some(image_facts(&image, bytes));
            out.boots = Boots::Yes;
        }
        Err(error) => damaged(out, "image", error.to_string()),
    }
}

/// A piece with its facts; problems of images go to the result.
fn piece(out: &mut Out, name: &str, address: u32, data: &[u8], meant: Option<&'static Chip>) {
    let image = image::parse(data).ok();
    out.problems.extend(image.as_ref().map(|image| image_problems(name, image, meant)).unwrap_or_default());
    out.pieces.push(PieceFacts {
        name: name.to_owned(),
        address,
        size_bytes: data.len() as u64,
        kind: content_kind(data),
        image: image.map(|image| image_facts(&image, data)),
    });
}

fn pieces(out: &mut Out, parts: &[Part], meant: Option<&'static Chip>) {
    // Parts that touch may be a whole merged flash image.
    if let [part] = parts
        && kind::recognise(&part.data) == Kind::MergedFlash
    {
        return merged(out, &part.data, meant);
    }
    for part in parts {
        piece(out, "part", part.address, &part.data, meant);
        if out.chip.is_none() {
            out.chip = image::parse(&part.data).ok().map(|image| image.chip.id.to_owned());
        }
    }
}

fn merged(out: &mut Out, bytes: &[u8], meant: Option<&'static Chip>) {
    let Some(layout) = kind::flash_layout(bytes) else { return };
    out.chip = Some(layout.chip.id.to_owned());
    let meant = meant.or(Some(layout.chip));
    let boot = bytes.get(layout.bootloader..layout.table).unwrap_or_default();
    piece(out, "bootloader", layout.base() + layout.bootloader as u32, boot, meant);
    let table = table_of(&layout, bytes).unwrap_or_default();
    for partition in &table.partitions {
        let data = partition_bytes(&layout, bytes, partition);
        let kind = content_kind(data);
        out.partitions.push(PartitionFacts { content: Some(kind.clone()), ..partition_facts(partition) });
        if partition.kind == APP && !matches!(kind.as_str(), "empty" | "blank") {
            piece(out, &partition.name, partition.offset, data, meant);
        }
    }
    // What counts is the way that ROM and bootloader take: another app may start when one is broken.
    out.problems.iter_mut().for_each(|problem| problem.prevents_boot = false);
    if let Some(other) = meant.filter(|chip| chip.id != layout.chip.id) {
        damaged(out, "file", format!("it is for {}, not for {}", layout.chip.name, other.name));
    }
    walk(out, &layout, bytes);
}

/// The boot chain on the file's bytes. What the file does not hold counts as erased.
fn walk(out: &mut Out, layout: &kind::FlashLayout, bytes: &[u8]) {
    let config = boot::Config { table_offset: Some(layout.base() + layout.table as u32), ..boot::Config::default() };
    let flash = Erased { base: layout.base(), bytes };
    let report = boot::walk(layout.chip, &flash, &boot::Device::default(), &config);
    out.boots = match report.outcome {
        boot::Outcome::Starts { .. } => Boots::Yes,
        boot::Outcome::Stops(stage) => {
            let what = report.failure().map_or_else(|| String::from("the start ends here"), |step| step.text.clone());
            damaged(out, stage.name(), what);
            Boots::No
        }
        boot::Outcome::Unknown(_) => Boots::Unknown,
    };
}

/// A file's bytes in flash that is erased elsewhere.
struct Erased<'a> {
    base: u32,
    bytes: &'a [u8],
}

impl boot::FlashRead for Erased<'_> {
    fn read(&self, address: u32, buf: &mut [u8]) -> bool {
        buf.fill(0xff);
        let Some(start) = address.checked_sub(self.base) else { return true };
        let there = self.bytes.get(start as usize..).unwrap_or_default();
        buf.iter_mut().zip(there).for_each(|(to, from)| *to = *from);
        true
    }
}

fn nvs_facts(bytes: &[u8]) -> NvsFacts {
    let contents = nvs::read(bytes);
    NvsFacts {
        pages: contents.pages.len() as u32,
        entries: contents.entries.len() as u32,
        namespaces: contents.namespaces.values().map(ToString::to_string).collect(),
        findings: contents.findings.iter().map(ToString::to_string).collect(),
    }
}

fn otadata_facts(bytes: &[u8]) -> Vec<OtaEntryFacts> {
    let facts = |entry: &esp_model::partition::otadata::Entry| OtaEntryFacts {
        sequence: (!entry.is_blank()).then_some(entry.sequence),
        state: entry.state.name().to_owned(),
        crc_valid: entry.crc_ok(),
    };
    Otadata::read(bytes).entries.iter().map(facts).collect()
}

fn strings(out: &mut Out, bytes: &[u8], max: Strings) {
    let found = waste::texts(bytes, 6).filter_map(|text| waste::interest(&text.text).map(|kind| (kind, text)));
    let mut found: Vec<_> = found.collect();
    found.sort_by_key(|(kind, text)| (*kind, text.offset));
    for (kind, text) in found {
        let name = match kind {
            waste::Interest::KeyMaterial => "key_material",
            waste::Interest::Url => "url",
            waste::Interest::SourcePath => "source_path",
            waste::Interest::Credential => "credential",
        };
        let count = out.string_counts.entry(name.to_owned()).or_insert(0);
        *count += 1;
        let is_shown = kind != waste::Interest::SourcePath || *count <= max.paths;
        if is_shown && out.strings.len() < max.all as usize {
            let shown = if kind == waste::Interest::KeyMaterial { "(not shown)" } else { text.text.as_str() };
            let text_shown = shown.chars().take(120).collect();
            out.strings.push(TextFacts { kind: name.to_owned(), file_offset: text.offset as u64, text: text_shown });
        }
    }
}

#[cfg(test)]
mod tests;
