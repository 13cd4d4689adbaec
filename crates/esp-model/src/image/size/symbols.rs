//! What size reports take from an ELF file.

use std::collections::BTreeMap;

use object::read::elf::ElfFile32;
use object::{Endianness, Object as _, ObjectSection as _, ObjectSymbol as _, SectionFlags, SymbolKind};

use super::SizeError;
use super::map::{Output, Symbol};

/// A section that occupies memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ElfSection {
    pub address: u64,
    pub len: u64,
    /// It has contents in the file.
    pub progbits: bool,
}

/// Sections and symbols of an ELF file.
#[derive(Debug)]
pub struct ElfFacts {
    pub(super) sections: BTreeMap<String, ElfSection>,
    /// Functions and objects by address.
    pub(super) symbols: Vec<Symbol>,
}

impl ElfFacts {
    pub(super) fn read(elf: &[u8]) -> Result<Self, SizeError> {
        let file = ElfFile32::<Endianness>::parse(elf).map_err(|error| SizeError::Elf(error.to_string()))?;
        let mut sections = BTreeMap::new();
        for section in file.sections() {
            let SectionFlags::Elf { sh_flags, .. } = section.flags() else { continue };
            let Ok(name) = section.name() else { continue };
            if section.size() == 0 || sh_flags.0 & object::elf::SHF_ALLOC.0 == 0 {
                continue;
            }
            let progbits = section.elf_section_header().sh_type.get(file.endian()) == object::elf::SHT_PROGBITS;
            let (address, len) = (section.address(), section.size());
            sections.insert(name.to_owned(), ElfSection { address, len, progbits });
        }
        let mut symbols: Vec<Symbol> = file
            .symbols()
            .filter(|symbol| matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Data) && symbol.size() > 0)
            .filter_map(|symbol| {
                let call = if symbol.kind() == SymbolKind::Text { "()" } else { "" };
                let name = format!("{}{call}", symbol.name().ok()?);
                Some(Symbol { name, address: symbol.address(), len: symbol.size() })
            })
            .collect();
        symbols.sort_by_key(|symbol| symbol.address);
        Ok(Self { sections, symbols })
    }
}

/// Gives every input section its symbols. Where the file has none for it, the input section stands for itself.
pub(super) fn assign(outputs: &mut [Output], elf: Option<&ElfFacts>) {
    let mut inputs: Vec<_> = outputs.iter_mut().flat_map(|output| &mut output.inputs).collect();
    inputs.sort_by_key(|input| input.address);
    let Some(elf) = elf else {
        for input in inputs {
            input.symbols = vec![Symbol { name: input.name.clone(), address: input.address, len: input.len }];
        }
        return;
    };
    let mut symbols = elf.symbols.iter().peekable();
    let last = inputs.len().saturating_sub(1);
    for (index, input) in inputs.into_iter().enumerate() {
        let end = input.address + input.len;
        while let Some(symbol) = symbols.next_if(|symbol| symbol.address < end) {
            // Symbols between input sections are the ROM's.
            if symbol.address >= input.address && symbol.address + symbol.len <= end {
                input.symbols.push(symbol.clone());
            }
        }
        if input.symbols.is_empty() && index != last && symbols.peek().is_some() {
            input.symbols.push(Symbol { name: input.name.clone(), address: input.address, len: input.len });
        }
    }
}
