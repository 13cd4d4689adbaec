//! `esp_symbols`: addresses to functions and lines, and back.

use esp_debug::symbols::Program;
use esp_model::chip::{self, Chip};
use esp_model::console;
use esp_model::job::Job;
use esp_ops::boot::capture::Names;
use esp_ops::error::{Code, ToolError};
use esp_ops::firmware::rom_names::RomNames;
use esp_ops::guard::Risk;
use esp_ops::words::counted;
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::json;
use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct Symbols;

/// Most addresses in one call.
const MOST: usize = 256;
/// Bits of a return address on Xtensa that the windowed call uses for itself.
const WINDOW_BITS: u32 = 0x3fff_ffff;
const CODE_REGION: u32 = 0x4000_0000;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    /// Addresses, or any text that has some (a line of a backtrace).
    #[serde(default)]
    addresses: Vec<String>,
    /// Functions or variables whose address is wanted.
    #[serde(default)]
    names: Vec<String>,
    /// The app's ELF file. Without it only ROM functions and memory regions are known.
    elf_file: Option<String>,
    /// The chip, such as esp32c3, for ROM functions and memory regions.
    chip: Option<String>,
}

/// An address and what is there.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct AddressOut {
    /// The address.
    address: String,
    /// Function, or object with the distance from its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<String>,
    /// File and line.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// Functions that it was inlined into, innermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    inlined_into: Vec<String>,
    /// elf or rom: who knows the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// What kind of memory it is: flash, ram, rom …
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<String>,
}

/// A name and its address.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct NameOut {
    /// The name.
    name: String,
    /// Its address, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// Its size in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u32>,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// The addresses in the order given.
    addresses: Vec<AddressOut>,
    /// The names in the order given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<NameOut>,
    /// How many addresses have a function.
    known_count: usize,
    /// SHA-256 of the ELF file, to compare with the one that the device printed.
    #[serde(skip_serializing_if = "Option::is_none")]
    elf_sha256: Option<String>,
    /// The ROMs whose names were used: one for each revision of the chip that has its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    roms: Vec<String>,
}

impl Tool for Symbols {
    const NAME: &'static str = "esp_symbols";
    const TITLE: &'static str = "Resolve addresses";
    const ABOUT: &'static str = "Resolve code addresses to function, file and line (addr2line) with an ELF file, or \
         names to addresses. For whole logs use esp_log_decode.";
    const RISK: Risk = Risk::Reads;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, _: &Job, input: In) -> Result<Out, ToolError> {
        let wanted = addresses(&input)?;
        let mut names = Names::new(ctx, input.elf_file.as_deref(), &[]);
        let elf = match &input.elf_file {
            Some(_) => names.file(None)?,
            None => None,
        };
        let bad = |error: esp_debug::symbols::SymbolError| ToolError::new(Code::ElfInvalid, error.to_string());
        let program = elf.map(|elf| Program::parse(&elf.bytes)).transpose().map_err(bad)?;
        let chip = input.chip.as_deref().map(named_chip).transpose()?;
        let roms = chip.map_or_else(|| Ok(RomNames::default()), RomNames::of)?;
        if program.is_none() && chip.is_none() {
            return Err(ToolError::new(Code::MissingParameter, "there is nothing to look names up in").next(
                "give elf_file (the app's .elf), or chip for ROM functions; esp_log_decode finds ELF files by hash",
            ));
        }
        let look = Look { program: program.as_ref(), roms: &roms, chip };
        let found: Vec<AddressOut> = wanted.into_iter().map(|address| look.up(address)).collect();
        Ok(Out {
            known_count: found.iter().filter(|one| one.function.is_some()).count(),
            addresses: found,
            names: input.names.iter().map(|name| look.name(name)).collect(),
            elf_sha256: program.as_ref().map(|program| program.sha256().to_owned()),
            roms: roms.names(),
        })
    }

    fn summary(out: &Out) -> String {
        let known = format!("{} of {} resolved", out.known_count, counted(out.addresses.len(), "address"));
        match out.names.is_empty() {
            true => known,
            false => {
                let found = out.names.iter().filter(|name| name.address.is_some()).count();
                format!("{known}; {found} of {} names found", out.names.len())
            }
        }
    }
}

/// The addresses in what was given: numbers, or the first of each pair of a backtrace.
fn addresses(input: &In) -> Result<Vec<u32>, ToolError> {
    let internal = |error: regex::Error| ToolError::new(Code::Internal, error.to_string());
    // In `pc:sp` pairs the stack pointer is no code.
    let pattern = Regex::new(r"(?i)\b0x([0-9a-f]{1,8})(?::0x[0-9a-f]{1,8})?\b").map_err(internal)?;
    let mut found = Vec::new();
    for text in &input.addresses {
        let before = found.len();
        let hex = |digits: &str| u32::from_str_radix(digits, 16).ok();
        found.extend(pattern.captures_iter(text).filter_map(|capture| hex(capture.get(1)?.as_str())));
        if found.len() == before {
            found.extend(text.trim().parse::<u32>().ok().or_else(|| hex(text.trim())));
        }
        if found.len() == before {
            return Err(ToolError::new(Code::BadParameter, format!("`{text}` holds no address such as 0x400d1234")));
        }
    }
    if found.is_empty() && input.names.is_empty() {
        return Err(ToolError::new(Code::MissingParameter, "give addresses or names"));
    }
    if found.len() > MOST {
        return Err(ToolError::new(
            Code::BadParameter,
            format!("{} addresses exceed the limit of {MOST}", found.len()),
        ));
    }
    Ok(found)
}

struct Look<'a> {
    program: Option<&'a Program<'a>>,
    roms: &'a RomNames,
    chip: Option<&'static Chip>,
}

impl Look<'_> {
    fn up(&self, address: u32) -> AddressOut {
        let mut out = AddressOut {
            address: format!("{address:#010x}"),
            function: None,
            source: None,
            inlined_into: Vec::new(),
            from: None,
            memory: self.chip.map(|chip| word(&console::place(Some(chip), address))),
        };
        let Some((at, places)) = self.in_elf(address) else {
            self.not_in_elf(address, &mut out);
            return out;
        };
        out.address = format!("{at:#010x}");
        out.from = Some("elf".into());
        if let Some(first) = places.first() {
            out.function = first.function.clone();
            out.source = first.file.as_ref().zip(first.line).map(|(file, line)| format!("{file}:{line}"));
        }
        out.inlined_into = places.iter().skip(1).filter_map(|place| place.function.clone()).collect();
        out
    }

    /// Where the ELF file has it; a return address of a windowed call has the call's size in its upper bits.
    fn in_elf(&self, address: u32) -> Option<(u32, Vec<esp_debug::symbols::SourceLocation>)> {
        let program = self.program?;
        let locate = |address: u32| {
            let places = program.locate(address);
            places.first().and_then(|first| first.function.as_ref()).is_some().then_some((address, places))
        };
        locate(address).or_else(|| locate(address & WINDOW_BITS | CODE_REGION))
    }

    fn not_in_elf(&self, address: u32, out: &mut AddressOut) {
        if let Some(name) = self.roms.function(address) {
            (out.function, out.from) = (Some(name), Some("rom".into()));
        } else if let Some((name, offset)) = self.program.and_then(|program| program.object(address)) {
            (out.function, out.from) = (Some(format!("{name} + {offset}")), Some("elf".into()));
        }
    }

    fn name(&self, name: &str) -> NameOut {
        let in_elf = self.program.and_then(|program| program.address_of(name));
        let in_rom = || self.roms.address_of(name).map(|address| (address, 0));
        let found = in_elf.or_else(in_rom);
        NameOut {
            name: name.to_owned(),
            address: found.map(|(address, _)| format!("{address:#010x}")),
            size_bytes: found.map(|(_, size)| size).filter(|size| *size > 0),
        }
    }
}

/// The name of an enumeration's value in JSON.
fn word(value: &impl Serialize) -> String {
    json(value).as_str().unwrap_or("unknown").to_owned()
}

fn named_chip(name: &str) -> Result<&'static Chip, ToolError> {
    let unknown = || ToolError::new(Code::UnknownChip, format!("there is no chip `{name}`"));
    chip::by_name(name).ok_or_else(unknown)
}
