//! Linker regions and sections to memory types.

use super::map::{Input, MapFile, Output, Region, Symbol};
use super::symbols::{ElfFacts, assign};
use super::{Archive, Memory, MemoryType, Object, Section, SizeError, Sizes, memory_types};
use crate::chip::Chip;

/// A region, or a part of one, in one memory type.
struct Placed<'t> {
    origin: u64,
    len: u64,
    memory: &'t MemoryType,
}

impl Placed<'_> {
    fn end(&self) -> u64 {
        self.origin + self.len
    }

    fn holds(&self, address: u64) -> bool {
        (self.origin..self.end()).contains(&address)
    }
}

pub(super) fn place(chip: &Chip, map: MapFile, elf: Option<&ElfFacts>) -> Result<Sizes, SizeError> {
    let types = memory_types(chip)?;
    let mut placed = split_regions(&map.regions, &types);
    let mut outputs: Vec<Output> = map.outputs.into_iter().filter(|output| counts(output, elf)).collect();
    for output in &mut outputs {
        output.inputs.retain(|input| input.len != 0);
    }
    let image_bytes = image_bytes(&outputs, elf);
    assign(&mut outputs, elf);
    let outputs = split_outputs(outputs, &placed);

    let mut sizes = Sizes { chip: chip.id.to_owned(), image_bytes, memory: Default::default() };
    for memory in &types {
        let total_bytes = if memory.flash || memory.external_ram { 0 } else { total(memory, &placed) };
        sizes.memory.insert(memory.name.clone(), Memory { total_bytes, ..Memory::default() });
    }
    placed.sort_by_key(|region| region.origin);
    let external = types.iter().find(|memory| memory.external_ram);
    for output in outputs {
        enter(&mut sizes, output, &placed, external);
    }
    remove_unused(&mut sizes);
    Ok(sizes)
}

/// The region and memory of each address that the linker may use. A region may span several memories.
fn split_regions<'t>(regions: &[Region], types: &'t [MemoryType]) -> Vec<Placed<'t>> {
    let mut placed: Vec<Placed<'t>> = Vec::new();
    for region in regions {
        let (mut origin, mut len) = (region.origin, region.len);
        loop {
            let found = types.iter().find_map(|memory| view_of(memory, origin).map(|start| (memory, start)));
            let Some((memory, start)) = found else {
                // An empty region at the end of another one reserves nothing.
                break;
            };
            let used = len.min(u64::from(memory.len) - (origin - start));
            placed.push(Placed { origin, len: used, memory });
            (origin, len) = (origin + used, len - used);
            if len == 0 {
                break;
            }
        }
    }
    placed
}

/// Where the view on a memory begins that holds an address.
fn view_of(memory: &MemoryType, address: u64) -> Option<u64> {
    let views = [Some(memory.start), memory.alias];
    let holds = |start: &u64| (*start..*start + u64::from(memory.len)).contains(&address);
    views.into_iter().flatten().map(u64::from).find(holds)
}

/// Bytes that the regions of a memory cover, each byte once.
fn total(memory: &MemoryType, placed: &[Placed<'_>]) -> u64 {
    let shift = memory.alias.map_or(0, |alias| u64::from(memory.start.abs_diff(alias)));
    let mut own: Vec<&Placed<'_>> = Vec::new();
    for region in placed.iter().filter(|region| region.memory.name == memory.name) {
        let same = |other: &&Placed<'_>| other.origin.abs_diff(region.origin) == shift && other.len == region.len;
        if shift == 0 || !own.iter().any(same) {
            own.push(region);
        }
    }
    own.sort_by_key(|region| region.origin);
    let mut covered = 0;
    own.iter().fold(0, |sum, region| {
        let start = region.origin.max(covered);
        let end = region.end().max(covered);
        covered = end;
        sum + (end - start)
    })
}

/// The output section takes part: it has bytes, and it is one that the program sees.
fn counts(output: &Output, elf: Option<&ElfFacts>) -> bool {
    let name = output.name.as_str();
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    if output.len == 0 || ends(&["dummy", "reserved_for_iram", "noload"]) {
        return false;
    }
    match elf.filter(|elf| !elf.sections.is_empty()) {
        Some(elf) => elf.sections.contains_key(name),
        None => {
            ends(&[".text", ".data", ".bss", ".rodata", "noinit", ".vectors"])
                || name.contains(".flash")
                || name.contains(".eh_frame")
        }
    }
}

fn image_bytes(outputs: &[Output], elf: Option<&ElfFacts>) -> u64 {
    match elf.filter(|elf| !elf.sections.is_empty()) {
        Some(elf) => elf.sections.values().filter(|section| section.progbits).map(|section| section.len).sum(),
        None => {
            let in_image = |output: &&Output| !output.name.ends_with(".bss") && !output.name.ends_with("noinit");
            outputs.iter().filter(in_image).map(|output| output.len).sum()
        }
    }
}

/// Output sections that span several memories are cut. The last one comes first, like in the reference, where of two
/// parts with one name in one memory the later counts.
fn split_outputs(mut outputs: Vec<Output>, placed: &[Placed<'_>]) -> Vec<Output> {
    let mut done = Vec::new();
    while let Some(output) = outputs.pop() {
        let region = placed.iter().find(|region| region.holds(output.address));
        match region.filter(|region| output.address + output.len > region.end()) {
            Some(region) => {
                let (first, second) = cut_output(output, region.end());
                done.push(first);
                outputs.push(second);
            }
            None => done.push(output),
        }
    }
    done
}

fn cut_output(output: Output, at: u64) -> (Output, Output) {
    let len = at - output.address;
    let mut first = Output { name: output.name.clone(), address: output.address, len, inputs: Vec::new() };
    let mut second = Output { name: output.name, address: at, len: output.len - len, inputs: Vec::new() };
    for input in output.inputs {
        if input.address + input.len + input.fill <= at {
            first.inputs.push(input);
        } else if input.address > at {
            second.inputs.push(input);
        } else {
            let (before, after) = cut_input(input, at);
            first.inputs.push(before);
            second.inputs.push(after);
        }
    }
    (first, second)
}

fn cut_input(input: Input, at: u64) -> (Input, Input) {
    let len = (at - input.address).min(input.len);
    let fill = at - (input.address + len);
    let mut before = Input { len, fill, symbols: Vec::new(), ..input.clone() };
    let mut after = Input {
        address: at,
        len: input.len - len,
        fill: input.fill.saturating_sub(fill),
        symbols: Vec::new(),
        ..input.clone()
    };
    for symbol in input.symbols {
        if symbol.address + symbol.len <= at {
            before.symbols.push(symbol);
        } else if symbol.address > at {
            after.symbols.push(symbol);
        } else {
            let len = at - symbol.address;
            before.symbols.push(Symbol { len, ..symbol.clone() });
            after.symbols.push(Symbol { address: at, len: symbol.len - len, ..symbol });
        }
    }
    (before, after)
}

/// Names under which ESP-IDF's linker scripts put data to external RAM, whose addresses may be those of mapped flash.
const EXTERNAL_RAM: [&str; 2] = [".ext_ram.bss", ".ext_ram_noinit"];

fn enter(sizes: &mut Sizes, output: Output, placed: &[Placed<'_>], external: Option<&MemoryType>) {
    let is_external = EXTERNAL_RAM.iter().any(|name| output.name.starts_with(name));
    let (memory, name) = match external.filter(|_| is_external) {
        Some(memory) => (memory, output.name.clone()),
        None => match memory_at(placed, output.address) {
            Some((memory, true)) => (memory, output.name.clone()),
            Some((memory, false)) => (memory, format!("{}_overflow", output.name)),
            None => return,
        },
    };
    let section = Section { bytes: output.len, archives: archives(output.inputs) };
    let memory = sizes.memory.entry(memory.name.clone()).or_default();
    memory.used_bytes += section.bytes;
    memory.sections.insert(name, section);
}

/// The memory that holds an address; else the one before it (false: what stands there did not fit).
fn memory_at<'t>(placed: &[Placed<'t>], address: u64) -> Option<(&'t MemoryType, bool)> {
    let mut before = None;
    for region in placed {
        if region.holds(address) {
            return Some((region.memory, true));
        }
        if region.origin > address && before.is_some() {
            break;
        }
        before = Some((region.memory, false));
    }
    // Behind the last region nothing overflows: the section belongs to no memory.
    before.filter(|_| placed.last().is_some_and(|last| last.origin > address))
}

fn archives(inputs: Vec<Input>) -> std::collections::BTreeMap<String, Archive> {
    let mut archives = std::collections::BTreeMap::<String, Archive>::new();
    for input in inputs {
        let archive = archives.entry(input.archive).or_default();
        archive.bytes += input.len;
        let object: &mut Object = archive.objects.entry(input.object).or_default();
        object.bytes += input.len;
        for symbol in input.symbols {
            object.symbols.insert(symbol.name, symbol.len);
        }
    }
    archives
}

/// Drops memories without use and sections to which nothing contributes (marks and alignment).
fn remove_unused(sizes: &mut Sizes) {
    sizes.memory.retain(|_, memory| memory.used_bytes != 0);
    for memory in sizes.memory.values_mut() {
        memory.sections.retain(|_, section| !section.archives.is_empty());
        memory.used_bytes = memory.sections.values().map(|section| section.bytes).sum();
    }
}

/// Without a map: sections by their address, symbols without object files.
pub(super) fn place_elf(chip: &Chip, elf: &ElfFacts) -> Result<Sizes, SizeError> {
    const UNKNOWN: &str = "(no map)";
    let types = memory_types(chip)?;
    let mut sizes =
        Sizes { chip: chip.id.to_owned(), image_bytes: image_bytes(&[], Some(elf)), memory: Default::default() };
    for (name, section) in &elf.sections {
        let Some(memory) = types.iter().find(|memory| view_of(memory, section.address).is_some()) else { continue };
        let output = Output { name: name.clone(), address: section.address, len: section.len, inputs: Vec::new() };
        if !counts(&output, Some(elf)) {
            continue;
        }
        let within = section.address..section.address + section.len;
        let symbols = elf.symbols.iter().filter(|symbol| within.contains(&symbol.address)).cloned().collect();
        let input = Input {
            name: name.clone(),
            address: section.address,
            len: section.len,
            archive: UNKNOWN.to_owned(),
            object: UNKNOWN.to_owned(),
            symbols,
            ..Input::default()
        };
        let entry = sizes.memory.entry(memory.name.clone()).or_default();
        entry.used_bytes += section.len;
        entry.sections.insert(name.clone(), Section { bytes: section.len, archives: archives(vec![input]) });
    }
    Ok(sizes)
}
