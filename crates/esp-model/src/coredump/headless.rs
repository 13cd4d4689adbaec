//! A dump whose beginning was lost: a monitor that came late, a file that was cut at the front.
//!
//! Behind the header of the dump and that of the ELF core lies the table of memory segments. Where enough of the table is
//! left, the core is put together again: each task's control block begins with the address of its stack, which is the next
//! segment, and that tells how many entries of the table are gone.

use super::{Checksum, CoreDump, Task, container, elf, le32};
use crate::chip::Arch;

/// Bytes of the ELF header and of an entry of the table.
const HEADER: usize = 52;
const ENTRY: usize = 32;
/// Where the table may begin in what is left.
const FIRST: usize = 512;
/// Entries that may be gone: two a task.
const MOST_LOST: usize = 128;
/// Longest segment.
const MOST_BYTES: u32 = 16 << 20;
const LOAD: u32 = 1;
const NOTE: u32 = 4;
/// `e_machine` by instruction set.
const MACHINES: [(Arch, u16); 2] = [(Arch::Xtensa, 94), (Arch::Riscv, 243)];

/// An entry of the table.
#[derive(Clone, Copy)]
struct Part {
    kind: u32,
    offset: usize,
    address: u32,
    len: usize,
}

/// What can be read of it.
pub(super) fn decode(bytes: &[u8]) -> Option<CoreDump> {
    let mut dump =
        whole_core(bytes).or_else(|| (0..FIRST.min(bytes.len())).step_by(4).find_map(|at| from_table(bytes, at)))?;
    let noted = dump.tasks.len();
    let found = container::from_stacks(&dump);
    dump.tasks.extend(found);
    if dump.tasks.is_empty() {
        return None;
    }
    dump.damage.push("the beginning is missing, and with it the header: nothing could be checked".into());
    if noted == 0 {
        dump.damage.push(
            "the list of tasks is missing: the registers are those on the tasks' stacks, and which task crashed is not known"
                .into(),
        );
    }
    Some(dump)
}

/// Only the header of the dump is gone.
fn whole_core(bytes: &[u8]) -> Option<CoreDump> {
    let at = bytes.windows(4).take(FIRST).position(|window| window == b"\x7fELF")?;
    elf::decode(bytes.get(at..)?, Checksum::none(), None, None, false).ok()
}

/// The table begins here, or what is left of it.
fn from_table(bytes: &[u8], at: usize) -> Option<CoreDump> {
    let parts = table(bytes, at);
    if parts.len() < 2 {
        return None;
    }
    let end = at + parts.len() * ENTRY;
    let score = |lost: usize| {
        let start = HEADER + (parts.len() + lost) * ENTRY;
        let first = |part: &Part| part.offset.checked_sub(start).and_then(|at| bytes.get(end + at..)).and_then(le32);
        let pairs = parts.windows(2).filter(|pair| pair[0].kind == LOAD && first(&pair[0]) == Some(pair[1].address));
        pairs.count()
    };
    let (best, lost) = (0..=MOST_LOST).map(|lost| (score(lost), std::cmp::Reverse(lost))).max()?;
    (best > 0).then(|| core(bytes, end, &parts, lost.0)).flatten()
}

/// The entries from here on that follow each other.
fn table(bytes: &[u8], at: usize) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for entry in bytes.get(at..).unwrap_or_default().chunks_exact(ENTRY) {
        let word = |index: usize| entry.get(index * 4..).and_then(le32).unwrap_or_default();
        let (kind, len) = (word(0), word(4));
        let part = Part { kind, offset: word(1) as usize, address: word(2), len: len as usize };
        let fits = matches!(kind, LOAD | NOTE) && (1..MOST_BYTES).contains(&len) && (kind == NOTE || word(5) == len);
        let follows = parts
            .last()
            .is_none_or(|last| part.offset >= last.offset + last.len && part.offset < last.offset + last.len + 4);
        if !fits || !follows || part.offset < HEADER {
            break;
        }
        parts.push(part);
    }
    parts
}

/// An ELF core from its table, of which the first entries are gone, and what follows it.
fn core(bytes: &[u8], end: usize, parts: &[Part], lost: usize) -> Option<CoreDump> {
    let count = parts.len() + lost;
    let total = parts.iter().map(|part| part.offset + part.len).max()?;
    let mut whole = vec![0; HEADER + lost * ENTRY];
    whole.extend(bytes.get(end - parts.len() * ENTRY..)?);
    let missing = total.saturating_sub(whole.len());
    if missing > bytes.len() {
        return None;
    }
    whole.resize(whole.len().max(total), 0);
    let decoded = MACHINES.iter().filter_map(|(_, machine)| {
        header(&mut whole, *machine, u16::try_from(count).ok()?);
        elf::decode(&whole, Checksum::none(), None, None, false).ok()
    });
    let mut dump = decoded.max_by_key(plausible)?;
    if missing > 0 {
        dump.damage.push(format!("{missing} bytes are missing at the end: they are zeros"));
    }
    Some(dump)
}

fn header(bytes: &mut [u8], machine: u16, entries: u16) {
    let mut put = |at: usize, value: &[u8]| {
        if let Some(room) = bytes.get_mut(at..at + value.len()) {
            room.copy_from_slice(value);
        }
    };
    put(0, b"\x7fELF\x01\x01\x01");
    put(16, &4_u16.to_le_bytes());
    put(18, &machine.to_le_bytes());
    put(20, &1_u32.to_le_bytes());
    put(28, &(HEADER as u32).to_le_bytes());
    put(40, &(HEADER as u16).to_le_bytes());
    put(42, &(ENTRY as u16).to_le_bytes());
    put(44, &entries.to_le_bytes());
}

/// Tasks whose registers make sense with this instruction set.
fn plausible(dump: &CoreDump) -> usize {
    let found = container::from_stacks(dump);
    dump.tasks.iter().chain(&found).filter(|task| is_sensible(task)).count()
}

/// A stack pointer that leads to the task's stack; the processor status of Xtensa, which is a small number.
fn is_sensible(task: &Task) -> bool {
    let registers = &task.registers;
    let on_stack = task.stack.is_some_and(|(start, len)| registers.sp().wrapping_sub(start) <= len);
    match registers.arch {
        Arch::Riscv => on_stack,
        Arch::Xtensa => registers.special.iter().any(|(name, value)| *name == "ps" && (1..0x10_0000).contains(value)),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::super::realign::tests::dump;
    use super::super::{Check, CoreDumpError};
    use super::*;

    /// Bytes before the table: the header of the dump and that of the core.
    const TABLE: usize = 24 + HEADER;

    fn counters(dump: &CoreDump) -> Vec<(u32, u32)> {
        let mut all: Vec<(u32, u32)> = dump.tasks.iter().map(|task| (task.tcb, task.registers.pc)).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn tasks_are_found_without_the_headers_and_parts_of_the_table() {
        let bytes = dump();
        let whole = counters(&CoreDump::parse(&bytes, Check::Enforce).unwrap());
        for (lost, tasks_lost) in [(8, 0), (24, 0), (28, 0), (TABLE, 0), (TABLE + ENTRY, 0), (TABLE + 3 * ENTRY, 1)] {
            let left = &bytes[lost..];
            // What begins with the core's own header is a core.
            if lost != 24 {
                assert_eq!(CoreDump::parse(left, Check::Enforce).err(), Some(CoreDumpError::Headless), "{lost}");
            }
            let found = CoreDump::parse(left, Check::Report).unwrap();
            assert_eq!(counters(&found), whole[tasks_lost..], "{lost}");
            assert_eq!(found.arch, Arch::Riscv, "{lost}");
        }
    }

    #[test]
    fn log_that_lost_its_first_lines_is_said_to_lack_the_header() {
        let bytes = dump();
        let lines: Vec<String> = bytes.chunks(48).skip(1).map(|line| STANDARD.encode(line)).collect();
        let text = |lines: &[String]| format!("== CORE DUMP START ==\n{}\n== CORE DUMP END ==\n", lines.join("\n"));
        let parse = |text: String, check| CoreDump::parse(text.as_bytes(), check);
        assert_eq!(parse(text(&lines), Check::Enforce).err(), Some(CoreDumpError::Headless));
        let found = parse(text(&lines), Check::Report).unwrap();
        assert!(found.damage.iter().any(|note| note.contains("header")), "{:?}", found.damage);
        assert_eq!(found.tasks.len(), 4);
        // Of this no table is left.
        assert_eq!(parse(text(&lines[20..]), Check::Report).err(), Some(CoreDumpError::Headless));
    }
}
