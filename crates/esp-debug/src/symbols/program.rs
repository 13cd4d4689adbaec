//! An ELF file: its machine, memory, symbols and debug information.

use std::cell::OnceCell;

use addr2line::{Context, LookupResult};
use object::elf::{EM_RISCV, EM_XTENSA};
use object::read::elf::ElfFile32;
use object::{Object, ObjectSection, ObjectSegment, ObjectSymbol, SectionFlags, SymbolKind};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::Slice;
use super::unwind::CfiIndex;
use esp_model::chip::Arch;

/// Why a file cannot give names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SymbolError {
    /// Not a 32-bit little-endian ELF file.
    #[error("not a 32-bit little-endian ELF file")]
    NotElf,
    /// Neither Xtensa nor RISC-V.
    #[error("ELF file for another machine ({0:#x})")]
    Machine(u16),
}

/// Where an address lies in the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceLocation {
    /// Function, demangled. None when neither debug information nor symbols know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Source file as the compiler was given it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Line in it, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The function's body was inlined into the next location of the same address.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub inlined: bool,
    /// Offset of the function's entry in its unit of debug information.
    #[serde(skip)]
    pub(super) entry: Option<gimli::UnitOffset>,
}

struct Symbol<'a> {
    address: u32,
    size: u32,
    name: &'a str,
    /// Absolute symbols name ROM code: only exact hits and sized ranges count.
    absolute: bool,
}

/// An ELF file of an app, a bootloader or a ROM.
pub struct Program<'a> {
    bytes: &'a [u8],
    arch: Arch,
    segments: Vec<(u32, &'a [u8])>,
    code: Vec<(u32, u32)>,
    symbols: Vec<Symbol<'a>>,
    context: Option<Context<Slice<'a>>>,
    pub(super) debug_frame: &'a [u8],
    pub(super) eh_frame: (u32, &'a [u8]),
    pub(super) cfi: OnceCell<CfiIndex<'a>>,
    sha256: OnceCell<String>,
}

impl<'a> Program<'a> {
    /// Reads the headers and symbols; debug information is read when it is asked for.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SymbolError> {
        let elf = ElfFile32::<object::LittleEndian>::parse(bytes).map_err(|_| SymbolError::NotElf)?;
        let arch = match object::read::elf::FileHeader::e_machine(elf.elf_header(), object::LittleEndian) {
            EM_XTENSA => Arch::Xtensa,
            EM_RISCV => Arch::Riscv,
            other => return Err(SymbolError::Machine(other.0)),
        };
        let section = |name: &str| {
            let found = elf.section_by_name(name)?;
            let plain = found.compressed_file_range().is_ok_and(|r| r.format == object::CompressionFormat::None);
            Some((u32::try_from(found.address()).ok()?, found.data().ok().filter(|_| plain)?))
        };
        let code = elf
            .sections()
            .filter(|s| matches!(s.flags(), SectionFlags::Elf { sh_flags, .. } if sh_flags.0 & object::elf::SHF_EXECINSTR.0 != 0))
            .filter_map(|s| Some((u32::try_from(s.address()).ok()?, u32::try_from(s.size()).ok()?)))
            .collect();
        let segments = elf
            .segments()
            .filter_map(|s| Some((u32::try_from(s.address()).ok()?, s.data().ok()?)))
            .filter(|(_, data)| !data.is_empty())
            .collect();
        let dwarf = gimli::Dwarf::load(|id| {
            let data = section(id.name()).map_or(&[][..], |(_, data)| data);
            Ok::<_, gimli::Error>(Slice::new(data, gimli::LittleEndian))
        });
        Ok(Self {
            bytes,
            arch,
            segments,
            code,
            symbols: symbols(&elf),
            context: dwarf.ok().and_then(|dwarf| Context::from_dwarf(dwarf).ok()),
            debug_frame: section(".debug_frame").map_or(&[][..], |(_, data)| data),
            eh_frame: section(".eh_frame").unwrap_or((0, &[])),
            cfi: OnceCell::new(),
            sha256: OnceCell::new(),
        })
    }

    /// Instruction set.
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// SHA-256 of the whole file, in hex: what the app descriptor and core dumps name.
    pub fn sha256(&self) -> &str {
        self.sha256.get_or_init(|| esp_model::hex::encode(Sha256::digest(self.bytes)))
    }

    /// The file carries this hash, given whole or as its first hex digits (at least 8).
    pub fn is_app(&self, sha256: &str) -> bool {
        let given = sha256.trim().to_ascii_lowercase();
        given.len() >= 8 && self.sha256().starts_with(&given)
    }

    /// Bytes that the file puts at an address.
    pub fn read(&self, address: u32, len: usize) -> Option<&'a [u8]> {
        self.segments.iter().find_map(|(start, data)| {
            let at = usize::try_from(address.checked_sub(*start)?).ok()?;
            data.get(at..at.checked_add(len)?)
        })
    }

    /// Address and size in bytes of each section with code.
    pub fn code(&self) -> &[(u32, u32)] {
        &self.code
    }

    /// The address lies in code of this file.
    pub fn is_code(&self, address: u32) -> bool {
        self.code.iter().any(|(start, size)| address.wrapping_sub(*start) < *size)
    }

    /// The symbol that covers an address, and the distance from its start.
    pub fn symbol(&self, address: u32) -> Option<(&'a str, u32)> {
        self.covering(address).map(|symbol| (symbol.name, address - symbol.address))
    }

    fn covering(&self, address: u32) -> Option<&Symbol<'a>> {
        let end = self.symbols.partition_point(|symbol| symbol.address <= address);
        let near = self.symbols.get(end.saturating_sub(8)..end)?;
        near.iter().rev().find(|symbol| {
            let offset = address - symbol.address;
            if symbol.size > 0 {
                return offset < symbol.size;
            }
            offset == 0 || (!symbol.absolute && self.is_code(address))
        })
    }

    /// The function or object that an address points into; constants that merely look like addresses do not count.
    pub fn object(&self, address: u32) -> Option<(&'a str, u32)> {
        self.covering(address).filter(|symbol| !symbol.absolute).map(|symbol| (symbol.name, address - symbol.address))
    }

    /// Address and size in bytes of a symbol.
    pub fn address_of(&self, name: &str) -> Option<(u32, u32)> {
        self.symbols.iter().find(|symbol| symbol.name == name).map(|symbol| (symbol.address, symbol.size))
    }

    /// Address and size of the functions with this name, mangled or as in the source (its last part is enough).
    pub(super) fn functions(&self, name: &str) -> Vec<(u32, u32)> {
        let is = |symbol: &&Symbol<'a>| {
            let source = || demangle(symbol.name);
            symbol.name == name
                || (symbol.name.len() > name.len() && {
                    let source = source();
                    let plain = source.split('(').next().unwrap_or_default();
                    plain == name || plain.strip_suffix(name).is_some_and(|before| before.ends_with("::"))
                })
        };
        let code = self.symbols.iter().filter(|symbol| self.is_code(symbol.address));
        code.filter(is).map(|symbol| (symbol.address, symbol.size)).collect()
    }

    /// Where lines of the source begin in this range: address, file, line.
    pub(super) fn lines(&self, start: u32, end: u32) -> Vec<(u32, String, u32)> {
        let found = self.context.as_ref().and_then(|it| it.find_location_range(start.into(), end.into()).ok());
        let line = |(address, _, at): (u64, u64, addr2line::Location<'_>)| {
            Some((u32::try_from(address).ok()?, at.file?.to_owned(), at.line?))
        };
        found.into_iter().flatten().filter_map(line).collect()
    }

    /// All places of the source that an instruction at `address` belongs to, innermost inlined function first.
    ///
    /// Give the address of the instruction itself; for a return address that is one byte before it.
    pub fn locate(&self, address: u32) -> Vec<SourceLocation> {
        let mut found = self.debug_info(address).unwrap_or_default();
        if let Some(last) = found.len().checked_sub(1) {
            found.iter_mut().take(last).for_each(|location| location.inlined = true);
        }
        let symbol = || self.symbol(address).map(|(name, _)| demangle(name));
        match found.as_mut_slice() {
            [only] if only.function.is_none() => only.function = symbol(),
            [] => found.extend(symbol().map(|name| SourceLocation {
                function: Some(name),
                file: None,
                line: None,
                inlined: false,
                entry: None,
            })),
            _ => {}
        }
        if let Some(first) = found.first_mut().filter(|first| first.line.is_none())
            && let Some((file, line)) = self.unit(address).and_then(|unit| super::lines::place(unit, address))
        {
            (first.file, first.line) = (Some(file), Some(line));
        }
        found
    }

    fn debug_info(&self, address: u32) -> Option<Vec<SourceLocation>> {
        let lookup = self.context.as_ref()?.find_frames(u64::from(address));
        let mut frames = output(lookup)?.ok()?;
        let mut found = Vec::new();
        while let Ok(Some(frame)) = frames.next() {
            let function = frame.function.and_then(|name| name.demangle().ok().map(|name| name.into_owned()));
            let (file, line) = frame.location.map_or((None, None), |at| (at.file.map(str::to_owned), at.line));
            if function.is_some() || file.is_some() {
                found.push(SourceLocation { function, file, line, inlined: false, entry: frame.dw_die_offset });
            }
        }
        Some(found)
    }

    /// The unit of debug information that an address belongs to.
    pub(super) fn unit(&self, address: u32) -> Option<gimli::UnitRef<'_, Slice<'a>>> {
        output(self.context.as_ref()?.find_dwarf_and_unit(u64::from(address)))?
    }
}

/// The result of a lookup that needs no other file (we never load split debug information).
fn output<L: addr2line::LookupContinuation>(lookup: LookupResult<L>) -> Option<L::Output> {
    match lookup {
        LookupResult::Output(output) => Some(output),
        LookupResult::Load { .. } => None,
    }
}

fn symbols<'a>(elf: &ElfFile32<'a, object::LittleEndian>) -> Vec<Symbol<'a>> {
    let mut symbols: Vec<Symbol<'a>> = elf
        .symbols()
        .filter(|symbol| !symbol.is_undefined())
        .filter(|symbol| !matches!(symbol.kind(), SymbolKind::Section | SymbolKind::File))
        .filter_map(|symbol| {
            let name = symbol
                .name()
                .ok()
                .filter(|name| !name.is_empty() && !name.starts_with('$') && !name.starts_with(".L"))?;
            let absolute = symbol.section() == object::SymbolSection::Absolute;
            Some(Symbol {
                address: u32::try_from(symbol.address()).ok()?,
                size: u32::try_from(symbol.size()).ok()?,
                name,
                absolute,
            })
        })
        .collect();
    symbols.sort_by_key(|symbol| symbol.address);
    symbols
}

fn demangle(name: &str) -> String {
    addr2line::demangle_auto(name.into(), None).into_owned()
}
