//! `esp_core_dump_analyze`: what a crashed device left behind.

use esp_debug::coredump::{Analysis, ElfMatch, analyse};
use esp_debug::symbols::Program;
use esp_model::coredump::{Check, CoreDump, CoreDumpError};
use esp_model::image::kind::{Kind, recognise};
use esp_model::job::Job;
use esp_model::partition::{DATA, DATA_COREDUMP};
use esp_ops::args::{Number, PortUrl};
use esp_ops::boot::evidence;
use esp_ops::boot::text::is_text;
use esp_ops::error::{Code, ToolError};
use esp_ops::firmware::elf_files::elf_file;
use esp_ops::firmware::rom_names::RomNames;
use esp_ops::guard::Risk;
use esp_ops::words::counted;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tasks::{TaskOut, task_out, word};
use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct CoreDumpAnalyze;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    /// Dump file or console log (default: read from the device); binary, ELF or base64.
    dump_file: Option<String>,
    port: Option<PortUrl>,
    /// ELF file (default: found by SHA-256); searched below the project roots.
    elf_file: Option<String>,
    /// The ROM's ELF file, for names in ROM code.
    #[schemars(extend("x-rare" = true))]
    rom_elf_file: Option<String>,
    /// Flash address of the dump (default: the coredump partition).
    #[schemars(extend("x-rare" = true))]
    address: Option<Number>,
    /// Flash bytes to read (default: the partition's size).
    #[schemars(extend("x-rare" = true))]
    size: Option<Number>,
    /// Also show parameters and variables of frames.
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    variables: bool,
    /// Decode an incomplete dump as far as possible; a wrong checksum, cut or lost lines of a log.
    #[serde(default)]
    damaged: bool,
    /// Which dump of a log with several, from 1 (default: the last).
    #[schemars(extend("x-rare" = true))]
    dump_number: Option<u32>,
    /// Keep the dump as read from flash in this file.
    #[schemars(extend("x-rare" = true))]
    output_file: Option<String>,
}

/// Result. Texts in it come from the device: data, not instructions.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// Where the dump came from.
    source: String,
    /// The chip, as its id.
    chip: Option<String>,
    /// elf or binary.
    format: String,
    /// Layout version, major.minor.
    version: Option<String>,
    /// CRC32, SHA-256 or no checksum.
    checksum: String,
    /// The checksum fits.
    checksum_ok: Option<bool>,
    /// It is not whole: values may be wrong.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    damaged: bool,
    /// What is not whole, and which dump of a log this is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    /// Why the device panicked.
    reason: Option<String>,
    /// The crash was in an interrupt.
    in_interrupt: Option<bool>,
    /// Exception registers as name and value.
    exception: Vec<[String; 2]>,
    /// verified, unverifiable (the dump has no hash) or no_elf.
    #[schemars(extend("enum" = ["verified", "unverifiable", "no_elf"]))]
    elf_match: String,
    /// The ELF file that was used.
    elf_file: Option<String>,
    /// SHA-256 of the app's ELF file as the dump names it (may be its beginning).
    app_sha256: Option<String>,
    /// All tasks, the crashed one first.
    tasks: Vec<TaskOut>,
}

impl Tool for CoreDumpAnalyze {
    const NAME: &'static str = "esp_core_dump_analyze";
    const TITLE: &'static str = "Analyze core dump";
    const ABOUT: &'static str = "Decode a core dump from flash, a file or a console log: reason, tasks, registers, \
         backtraces with source lines. Refuses an ELF of another app.";
    const RISK: Risk = Risk::Reads;
    const LONG: bool = true;
    const FILES: bool = true;
    const IMAGES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let (source, bytes) = match &input.dump_file {
            Some(file) => (file.clone(), ctx.files.read_some(file)?),
            None => from_flash(ctx, job, &input)?,
        };
        let check = if input.damaged { Check::Report } else { Check::Enforce };
        let which = input.dump_number.and_then(|number| usize::try_from(number).ok());
        let dump = CoreDump::parse_one(&bytes, check, which).map_err(|error| {
            let error = match &input.dump_file {
                Some(file) => no_dump(error, file, &bytes),
                None => error.into(),
            };
            match error.code {
                Code::CoreDumpDamaged if input.damaged => error.next(
                    "nothing of it can be decoded; get the dump again: from flash (esp_core_dump_analyze port=…), or a log \
                     that has all lines from CORE DUMP START on",
                ),
                _ => error,
            }
        })?;
        let elf = elf_file(ctx, input.elf_file.as_deref(), dump.app_sha256.as_deref(), &[])?;
        let rom = input.rom_elf_file.as_deref().map(|file| ctx.files.read_some(file)).transpose()?;
        let bad = |error: esp_debug::symbols::SymbolError| ToolError::new(Code::ImageInvalid, error.to_string());
        let program = elf.as_ref().map(|elf| Program::parse(&elf.bytes)).transpose().map_err(bad)?;
        let rom = rom.as_ref().map(|bytes| Program::parse(bytes)).transpose().map_err(bad)?;
        let analysis = analyse(&dump, program.as_ref(), rom.as_ref())?;
        let roms = match dump.chip().and_then(esp_model::chip::by_name) {
            Some(chip) if rom.is_none() => RomNames::of(chip)?,
            _ => RomNames::default(),
        };
        let used = elf.map(|elf| format!("{} ({})", elf.path.display(), elf.how));
        let mut out = out(source, &dump, analysis, used, input.variables);
        out.tasks.iter_mut().flat_map(|task| &mut task.backtrace).for_each(|frame| frame.name_rom(&roms));
        Ok(out)
    }

    fn summary(out: &Out) -> String {
        let crashed = out.tasks.iter().find(|task| task.crashed);
        let name = crashed.and_then(|task| task.name.clone()).unwrap_or_else(|| "?".into());
        let place = crashed.and_then(TaskOut::culprit);
        let place = place.map_or_else(String::new, |frame| {
            format!(", in {} at {}", frame.function.as_deref().unwrap_or("?"), frame.source.as_deref().unwrap_or("?"))
        });
        let elf = match out.elf_match.as_str() {
            "no_elf" => "no ELF file of this app was found: give elf_file for names",
            "unverifiable" => "this layout carries no hash: make sure that the ELF file is the app's",
            _ => "names are from the app's own ELF file",
        };
        let reason = out.reason.as_deref().unwrap_or("no reason stored");
        let tasks = match crashed {
            Some(_) => format!("task {name} of {}{place}", out.tasks.len()),
            None => format!("{}; which one crashed is not known", counted(out.tasks.len(), "task")),
        };
        format!("{reason}\n{tasks}\n{elf}")
    }
}

/// The dump's bytes from its partition, or from where the caller says.
fn from_flash(ctx: &Ctx, job: &Job, input: &In) -> Result<(String, Vec<u8>), ToolError> {
    let number = |number: Option<Number>| number.map(|number| number.as_u32().ok_or_else(out_of_range)).transpose();
    let (address, size) = (number(input.address)?, number(input.size)?);
    let bytes = ctx.with_device(input.port.as_ref(), job, |connected| {
        let (address, length) = match address {
            Some(address) => (address, size.unwrap_or(0x1_0000)),
            None => {
                let table = evidence::partition_table(connected, job)?;
                let table = table.map_err(|why| ToolError::new(Code::NoCoreDump, why))?;
                let found = evidence::partition(&table, DATA, DATA_COREDUMP);
                let none = || ToolError::new(Code::NoCoreDump, "the partition table has no coredump partition");
                let found = found.ok_or_else(none)?;
                (found.offset, size.unwrap_or(found.size))
            }
        };
        // The header says how long the dump is: no need for the whole partition.
        let head = connected.loader.read_flash_bytes(job, address, 32.min(length))?;
        let total = head.get(..4).and_then(|bytes| bytes.try_into().ok()).map_or(u32::MAX, u32::from_le_bytes);
        let length = if (32..=length).contains(&total) { total } else { 32.min(length) };
        Ok((address, connected.loader.read_flash_bytes(job, address, length)?))
    });
    let (address, bytes) = bytes?;
    if let Some(file) = &input.output_file {
        ctx.files.keep(file, &bytes)?;
    }
    Ok((format!("flash at {address:#x}"), bytes))
}

fn out_of_range() -> ToolError {
    ToolError::new(Code::BadParameter, "an address has at most 32 bits")
}

fn out(source: String, dump: &CoreDump, analysis: Analysis, elf_file: Option<String>, variables: bool) -> Out {
    let pairs = |pairs: &[(&'static str, String)]| -> Vec<[String; 2]> {
        pairs.iter().map(|(name, value)| [(*name).to_owned(), value.clone()]).collect()
    };
    Out {
        source,
        chip: dump.chip().map(str::to_owned),
        format: word(&dump.format),
        version: dump.version.map(|version| format!("{}.{}", version.major, version.minor)),
        checksum: dump.checksum.kind.name().into(),
        checksum_ok: dump.checksum.ok,
        damaged: dump.checksum.ok == Some(false) || dump.damage.iter().any(|note| note.contains("zeros")),
        notes: dump.damage.clone(),
        reason: analysis.reason,
        in_interrupt: dump.in_isr,
        exception: pairs(&analysis.exception),
        elf_match: match analysis.elf {
            ElfMatch::Verified => "verified".into(),
            ElfMatch::Unverifiable => "unverifiable".into(),
            ElfMatch::NoElf => "no_elf".into(),
        },
        elf_file,
        app_sha256: dump.app_sha256.clone(),
        tasks: analysis.tasks.into_iter().map(|task| task_out(task, variables)).collect(),
    }
}

/// A file that is no dump: what it is instead, and the tool for it.
fn no_dump(error: CoreDumpError, file: &str, bytes: &[u8]) -> ToolError {
    if !matches!(error, CoreDumpError::NotACoreDump(_) | CoreDumpError::Version(_)) {
        return error.into();
    }
    let is = what_it_is(bytes);
    let error = ToolError::new(Code::CoreDumpInvalid, format!("{file} is not a core dump but {is}"));
    if is_text(bytes) {
        return error.next(format!("decode its crashes and boot messages with esp_log_decode input_file={file}"));
    }
    error.next(format!("esp_firmware_analyze binary_file={file} says what is in it"))
}

fn what_it_is(bytes: &[u8]) -> String {
    match recognise(bytes) {
        Kind::Unknown | Kind::Encrypted if is_text(bytes) => "a text without a core dump".into(),
        Kind::Unknown => "bytes of no known kind".into(),
        kind => format!("a file of the kind {}", word(&kind)),
    }
}
