//! Which chip a linked program is for. The file does not say it: the memories that it is loaded into leave one chip or a
//! few, and among those the names of folders that its debug information and asserts hold (`…/port/esp32c6/…`) decide.

use super::elf::{Elf, Section};
use crate::chip::{self, Arch, Chip};

/// `e_machine` of RISC-V.
const RISCV: u16 = 243;
/// Where the header has `e_machine`.
const MACHINE: std::ops::Range<usize> = 18..20;

/// The chip, where exactly one is meant.
pub fn of(elf: &Elf<'_>) -> Option<&'static Chip> {
    let candidates: Vec<&'static Chip> = chip::all().iter().filter(|chip| fits(elf, chip)).collect();
    if let [only] = candidates.as_slice() {
        return Some(only);
    }
    let mut counts = vec![0_u32; candidates.len()];
    for (at, _) in elf.bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
        let rest = &elf.bytes[at + 1..];
        for (count, chip) in counts.iter_mut().zip(&candidates) {
            let is_folder = rest.strip_prefix(chip.id.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'/'));
            *count += u32::from(is_folder);
        }
    }
    let most = counts.iter().copied().max().filter(|most| *most > 0)?;
    let mut named = candidates.iter().zip(&counts).filter(|(_, count)| **count == most).map(|(chip, _)| *chip);
    named.next().filter(|_| named.next().is_none())
}

/// Everything is loaded into memories of this chip, some of it into its RAM for code.
fn fits(elf: &Elf<'_>, chip: &Chip) -> bool {
    let machine = elf.bytes.get(MACHINE).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    if (machine == Some(RISCV)) != (chip.arch == Arch::Riscv) {
        return false;
    }
    let is_in = |section: &Section<'_>, only: Option<&str>| {
        let (first, last) = (section.addr, section.addr.saturating_add(section.data.len() as u32).saturating_sub(1));
        let wanted = |name: &str| only.map_or(name != "PADDING" && !name.ends_with("_MASK"), |only| name == only);
        chip.memory.iter().filter(|region| wanted(region.name.as_str())).any(|region| {
            let range = region.start..region.end;
            range.contains(&first) && range.contains(&last)
        })
    };
    let loaded = || elf.sections.iter().filter(|section| !section.data.is_empty());
    loaded().all(|section| is_in(section, None)) && loaded().any(|section| is_in(section, Some("IRAM")))
}
