//! ELF files as material for images: sections or segments with contents and load addresses.
//!
//! Only 32-bit little-endian layouts exist for these chips. Lengths that lead out of the file are cut there, so that
//! the same files are accepted as by the reference; nothing is copied.

use std::ops::Range;

use object::LittleEndian as LE;
use object::elf::{
    self, EM_RISCV, EM_XTENSA, PT_LOAD, SHT_FINI_ARRAY, SHT_INIT_ARRAY, SHT_NOBITS, SHT_PREINIT_ARRAY, SHT_PROGBITS,
    SHT_STRTAB, SectionType,
};
use object::pod;

/// Types of sections that become part of an image.
const LOADED: [SectionType; 4] = [SHT_PROGBITS, SHT_INIT_ARRAY, SHT_FINI_ARRAY, SHT_PREINIT_ARRAY];

type FileHeader = elf::FileHeader32<LE>;
type SectionHeader = elf::SectionHeader32<LE>;
type ProgramHeader = elf::ProgramHeader32<LE>;

/// Why bytes cannot be used as an ELF file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// Shorter than a file header.
    #[error("no valid ELF header: the file is too short")]
    Header,
    /// Other first bytes.
    #[error("not an ELF file")]
    Magic,
    /// Another machine.
    #[error("not an Xtensa or RISC-V ELF file (e_machine {0:#06x})")]
    Machine(u16),
    /// Section headers of another size.
    #[error("section headers of {0} bytes, 40 are expected")]
    SectionHeaderSize(u16),
    /// No section headers.
    #[error("no section headers")]
    NoSections,
    /// Section headers outside the file.
    #[error("the section headers at {0:#x} are not in the file")]
    Sections(u32),
    /// Program headers outside the file.
    #[error("the program headers at {0:#x} are not in the file")]
    Segments(u32),
    /// The section with the names is not there.
    #[error("section {0}, which should hold the section names, does not exist")]
    Names(u16),
    /// A section's name is not in the names or not text.
    #[error("the name of section {0} is not readable")]
    Name(usize),
    /// Segments were asked for and there are none.
    #[error("no program headers")]
    NoSegments,
}

/// A section or segment with contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section<'a> {
    /// Its name; segments have none and are called `PHDR`.
    pub name: &'a str,
    /// Load address.
    pub addr: u32,
    /// Alignment in bytes, as the file says.
    pub align: u32,
    /// Its bytes.
    pub data: &'a [u8],
}

/// An ELF file.
#[derive(Debug)]
pub struct Elf<'a> {
    /// Address where the program starts.
    pub entry: u32,
    /// Sections with contents and an address, in file order.
    pub sections: Vec<Section<'a>>,
    /// Loadable segments with contents and an address; None without program headers.
    pub segments: Option<Vec<Section<'a>>>,
    /// The whole file.
    pub bytes: &'a [u8],
}

impl<'a> Elf<'a> {
    /// Reads the headers.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ElfError> {
        let (header, _) = pod::from_bytes::<FileHeader>(bytes).map_err(|()| ElfError::Header)?;
        if header.e_ident.magic != elf::ELFMAG {
            return Err(ElfError::Magic);
        }
        let machine = header.e_machine.get(LE);
        if machine != EM_XTENSA && machine != EM_RISCV {
            return Err(ElfError::Machine(machine.0));
        }
        if usize::from(header.e_shentsize.get(LE)) != size_of::<SectionHeader>() {
            return Err(ElfError::SectionHeaderSize(header.e_shentsize.get(LE)));
        }
        if header.e_shnum.get(LE) == 0 {
            return Err(ElfError::NoSections);
        }
        let sections = sections(bytes, header)?;
        Ok(Self { entry: header.e_entry.get(LE), sections, segments: segments(bytes, header)?, bytes })
    }

    /// The first section whose name contains `part`.
    pub fn section_containing(&self, part: &str) -> Option<&Section<'a>> {
        self.sections.iter().find(|section| section.name.contains(part))
    }
}

/// The parts of an ELF file that images are built from: headers, names, sections and segments with contents. Debug
/// information, which is most of many files, is not among them.
///
/// `read` gives the bytes of a range of the file. None: the file is odd, and only all of it can tell what is wrong.
pub fn needed(read: &mut dyn FnMut(Range<u64>) -> Option<Vec<u8>>) -> Option<Vec<Range<u64>>> {
    const HEADER: u64 = size_of::<FileHeader>() as u64;
    let range = |offset: u32, len: u32| u64::from(offset)..u64::from(offset) + u64::from(len);
    let head = read(0..HEADER)?;
    let (header, _) = pod::from_bytes::<FileHeader>(&head).ok()?;
    let sections = (header.e_shoff.get(LE), header.e_shnum.get(LE));
    let programs = (header.e_phoff.get(LE), header.e_phnum.get(LE));
    if header.e_ident.magic != elf::ELFMAG || usize::from(header.e_shentsize.get(LE)) != size_of::<SectionHeader>() {
        return None;
    }
    let table = range(sections.0, u32::from(sections.1) * size_of::<SectionHeader>() as u32);
    let bytes = read(table.clone())?;
    let mut out = vec![0..HEADER, table];
    let (headers, _) = pod::slice_from_bytes::<SectionHeader>(&bytes, usize::from(sections.1)).ok()?;
    for (index, section) in headers.iter().enumerate() {
        let names = index == usize::from(header.e_shstrndx.get(LE).0);
        if names || (section.sh_addr.get(LE) != 0 && section.sh_type.get(LE) != SHT_NOBITS) {
            out.push(range(section.sh_offset.get(LE), section.sh_size.get(LE)));
        }
    }
    let table = range(programs.0, u32::from(programs.1) * size_of::<ProgramHeader>() as u32);
    let bytes = read(table.clone())?;
    out.push(table);
    let (headers, _) = pod::slice_from_bytes::<ProgramHeader>(&bytes, usize::from(programs.1)).ok()?;
    let loaded = headers.iter().filter(|header| header.p_type.get(LE) == PT_LOAD && header.p_paddr.get(LE) != 0);
    out.extend(loaded.map(|header| range(header.p_offset.get(LE), header.p_filesz.get(LE))));
    Some(joined(out))
}

/// The same ranges in order, those that touch as one: what is named twice is read once.
fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    let mut out: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match out.last_mut().filter(|last| range.start <= last.end) {
            Some(last) => last.end = last.end.max(range.end),
            None => out.push(range),
        }
    }
    out
}

/// What is in the file from `offset` on, `len` bytes at most.
fn cut(bytes: &[u8], offset: u32, len: u32) -> &[u8] {
    let rest = bytes.get(offset as usize..).unwrap_or_default();
    rest.get(..len as usize).unwrap_or(rest)
}

fn sections<'a>(bytes: &'a [u8], header: &FileHeader) -> Result<Vec<Section<'a>>, ElfError> {
    let (offset, count) = (header.e_shoff.get(LE), usize::from(header.e_shnum.get(LE)));
    let table = bytes.get(offset as usize..).unwrap_or_default();
    let (headers, _) = pod::slice_from_bytes::<SectionHeader>(table, count).map_err(|()| ElfError::Sections(offset))?;

    let names_at = header.e_shstrndx.get(LE).0;
    let names = headers.get(usize::from(names_at)).ok_or(ElfError::Names(names_at))?;
    let names = cut(bytes, names.sh_offset.get(LE), names.sh_size.get(LE));

    let mut found = Vec::new();
    for (index, section) in headers.iter().enumerate() {
        let (addr, size, kind) = (section.sh_addr.get(LE), section.sh_size.get(LE), section.sh_type.get(LE));
        if addr == 0 || size == 0 {
            continue;
        }
        let loaded = LOADED.contains(&kind);
        if loaded || kind == SHT_NOBITS {
            let name = name(names, section.sh_name.get(LE)).ok_or(ElfError::Name(index))?;
            if loaded {
                let data = cut(bytes, section.sh_offset.get(LE), size);
                found.push(Section { name, addr, align: section.sh_addralign.get(LE), data });
            }
        }
    }
    Ok(found)
}

/// The types of sections with an address and a size that are neither contents of an image nor known not to be: they are
/// left out of it.
pub fn unknown_sections(bytes: &[u8]) -> Vec<u32> {
    let Ok((header, _)) = pod::from_bytes::<FileHeader>(bytes) else { return Vec::new() };
    let table = bytes.get(header.e_shoff.get(LE) as usize..).unwrap_or_default();
    let headers = pod::slice_from_bytes::<SectionHeader>(table, usize::from(header.e_shnum.get(LE)));
    let used = |section: &&SectionHeader| section.sh_addr.get(LE) != 0 && section.sh_size.get(LE) != 0;
    let known = |kind: &SectionType| LOADED.contains(kind) || [SHT_NOBITS, SHT_STRTAB].contains(kind);
    let headers = headers.map(|(headers, _)| headers).unwrap_or_default();
    headers
        .iter()
        .filter(used)
        .map(|section| section.sh_type.get(LE))
        .filter(|kind| !known(kind))
        .map(|kind| kind.0)
        .collect()
}

fn name(names: &[u8], at: u32) -> Option<&str> {
    let name = names.get(at as usize..)?;
    let end = name.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(name.get(..end)?).ok()
}

fn segments<'a>(bytes: &'a [u8], header: &FileHeader) -> Result<Option<Vec<Section<'a>>>, ElfError> {
    let (offset, count) = (header.e_phoff.get(LE), usize::from(header.e_phnum.get(LE)));
    if count == 0 {
        return Ok(None);
    }
    let table = bytes.get(offset as usize..).unwrap_or_default();
    let (headers, _) = pod::slice_from_bytes::<ProgramHeader>(table, count).map_err(|()| ElfError::Segments(offset))?;
    let segment = |header: &ProgramHeader| {
        let (addr, size) = (header.p_paddr.get(LE), header.p_filesz.get(LE));
        (header.p_type.get(LE) == PT_LOAD && addr != 0 && size > 0).then(|| Section {
            name: "PHDR",
            addr,
            align: header.p_align.get(LE),
            data: cut(bytes, header.p_offset.get(LE), size),
        })
    };
    Ok(Some(headers.iter().filter_map(segment).collect()))
}
