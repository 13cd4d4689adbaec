//! A dump from which parts were lost, as lines of a console are: what is left is put back where it belongs.
//!
//! How much is missing is known (the header promises the length), where is not. But the layout has words that can be told:
//! program headers that follow each other, the heads of notes, the first word of a task's control block, which is the
//! address of its stack, and the program counter on that stack. Each is looked for where it belongs and a little earlier,
//! by as much as may have been lost. Between two of them that moved by different lengths bytes cannot be placed: these
//! become zeros, and are told.

use super::le32;

/// Bytes of the ELF header, behind which the program headers begin.
const ELF_HEADER: usize = 52;
const PROGRAM_HEADER: usize = 32;
const LOAD: u32 = 1;
const NOTE: u32 = 4;
/// Bytes of a note before its name.
const NOTE_HEAD: usize = 12;
/// Longest name of a note, in bytes.
const NOTE_NAME: usize = 24;
/// Type and place of the registers in a note of a task: `pr_pid` and `pr_reg` of ELF's `prstatus`.
const PRSTATUS: u32 = 1;
const PR_REG: usize = 72;

/// A dump whose parts lie where they belong.
pub(super) struct Realigned {
    /// As long as the header promises; what could not be placed is zeros.
    pub bytes: Vec<u8>,
    /// Offsets of what could not be placed, end excluded.
    pub lost: Vec<(usize, usize)>,
    /// The same as addresses of the device's memory.
    pub memory: Vec<(u32, u32)>,
}

struct Stream<'a> {
    have: &'a [u8],
    missing: usize,
    /// By how much bytes lie before their place here.
    shift: usize,
    /// All before this offset is decided.
    at: usize,
    out: Vec<u8>,
    lost: Vec<(usize, usize)>,
    /// What stands for lost heads, so that what follows is found: offset and words.
    stand_ins: Vec<(usize, Vec<u8>)>,
}

impl<'a> Stream<'a> {
    /// The bytes that would lie at an offset if so much was lost before them.
    fn moved(&self, offset: usize, shift: usize) -> Option<&'a [u8]> {
        self.have.get(offset.checked_sub(shift)?..)
    }

    /// Looks for what belongs at an offset; `len` of its bytes are taken.
    fn find(&mut self, offset: usize, len: usize, is_it: impl Fn(&[u8]) -> bool) -> bool {
        let fits = |shift: &usize| self.moved(offset, *shift).is_some_and(|bytes| bytes.len() >= len && is_it(bytes));
        let Some(shift) = (self.shift..=self.missing).find(fits) else { return false };
        self.place(offset, shift);
        let end = offset + len;
        self.copy(offset, end);
        true
    }

    /// The same without taking anything.
    fn is_there(&self, offset: usize, is_it: impl Fn(&[u8]) -> bool) -> bool {
        (self.shift..=self.missing).any(|shift| self.moved(offset, shift).is_some_and(&is_it))
    }

    fn stand_in(&mut self, offset: usize, words: &[usize]) {
        let words = words.iter().filter_map(|word| u32::try_from(*word).ok());
        self.stand_ins.push((offset, words.flat_map(u32::to_le_bytes).collect()));
    }

    /// All up to this offset is decided: placed, or lost.
    fn place(&mut self, offset: usize, shift: usize) {
        if offset > self.at {
            if shift == self.shift {
                self.copy(self.at, offset);
            } else {
                self.lost.push((self.at, offset));
            }
        }
        (self.at, self.shift) = (offset.max(self.at), shift);
    }

    fn copy(&mut self, from: usize, to: usize) {
        let Some(bytes) = self.moved(from, self.shift).map(|bytes| bytes.get(..to - from).unwrap_or(bytes)) else {
            return;
        };
        if let Some(room) = self.out.get_mut(from..from + bytes.len()) {
            room.copy_from_slice(bytes);
        }
        self.at = self.at.max(to);
    }

    /// What is left behind the last thing that could be told: where less was lost than is missing, the end was.
    fn finish(mut self) -> (Vec<u8>, Vec<(usize, usize)>) {
        let total = self.out.len();
        let end = if self.shift < self.missing { self.have.len() + self.shift } else { total };
        if end > self.at {
            self.copy(self.at, end.min(total));
        }
        if end < total {
            self.lost.push((end, total));
        }
        for (at, bytes) in self.stand_ins {
            if let Some(room) = self.out.get_mut(at..at + bytes.len()) {
                room.copy_from_slice(&bytes);
            }
        }
        (self.out, self.lost)
    }

    fn word(&self, at: usize) -> Option<u32> {
        self.out.get(at..).and_then(le32)
    }
}

/// A program header: where it puts how many bytes of the dump.
#[derive(Clone, Copy)]
struct Part {
    kind: u32,
    offset: usize,
    address: u32,
    len: usize,
}

/// Puts the bytes of a dump with an ELF core in it back. `core` is where the core begins, `total` how long the dump is.
pub(super) fn realigned(have: &[u8], core: usize, total: usize) -> Option<Realigned> {
    let missing = total.checked_sub(have.len()).filter(|missing| *missing > 0)?;
    have.get(core..)?.starts_with(b"\x7fELF").then_some(())?;
    let number = |at: usize| have.get(core + at..)?.first_chunk().map(|two| usize::from(u16::from_le_bytes(*two)));
    let count = number(44)?;
    let mut stream =
        Stream { have, missing, shift: 0, at: 0, out: vec![0; total], lost: Vec::new(), stand_ins: Vec::new() };
    let head = core + ELF_HEADER;
    stream.copy(0, head);
    let parts = parts(&mut stream, core, head, count);
    let mut counters = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let at = core + part.offset;
        match part.kind {
            NOTE => notes(&mut stream, at, at + part.len, &mut counters),
            _ => memory(&mut stream, at, part, parts.get(index + 1), &counters),
        }
    }
    let (bytes, lost) = stream.finish();
    let inside = |(from, to): &(usize, usize)| {
        let (from, to) = (*from, *to);
        parts.iter().filter(|part| part.kind == LOAD).filter_map(move |part| {
            let start = core + part.offset;
            let (from, to) = (from.max(start), to.min(start + part.len));
            let address = |at: usize| Some(part.address.wrapping_add(u32::try_from(at - start).ok()?));
            (from < to).then(|| Some((address(from)?, address(to)?))).flatten()
        })
    };
    let memory = lost.iter().flat_map(inside).collect();
    Some(Realigned { bytes, lost, memory })
}

/// The program headers that are there; each begins where the one before ends.
fn parts(stream: &mut Stream<'_>, core: usize, head: usize, count: usize) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let total = stream.out.len();
    let mut next = Some(ELF_HEADER + count * PROGRAM_HEADER);
    for index in 0..count {
        let (at, expected) = (head + index * PROGRAM_HEADER, next.take());
        let begin = parts.last().map_or(0, |part| part.offset + part.len);
        let fits = |bytes: &[u8]| {
            let Some(part) = part(bytes) else { return false };
            let follows = expected.map_or(part.offset >= begin, |expected| part.offset == expected);
            matches!(part.kind, LOAD | NOTE) && part.len > 0 && follows && core + part.offset + part.len <= total
        };
        if stream.find(at, PROGRAM_HEADER, fits)
            && let Some(part) = stream.out.get(at..).and_then(part)
        {
            next = Some(part.offset + part.len);
            let begin = parts.last().map_or(ELF_HEADER + count * PROGRAM_HEADER, |part| part.offset + part.len);
            if index == 1 && parts.is_empty() && part.offset > begin {
                // The first part holds the notes.
                let len = part.offset - begin;
                parts.push(Part { kind: NOTE, offset: begin, address: 0, len });
                stream.stand_in(head, &[4, begin, 0, 0, len, len, 6, 0]);
            }
            // The rest of a header may be another's: what counts was looked at.
            let address = usize::try_from(part.address).unwrap_or_default();
            stream.stand_in(
                at,
                &[
                    usize::try_from(part.kind).unwrap_or_default(),
                    part.offset,
                    address,
                    address,
                    part.len,
                    part.len,
                    6,
                    0,
                ],
            );
            parts.push(part);
        }
    }
    parts
}

fn part(bytes: &[u8]) -> Option<Part> {
    let word = |index: usize| bytes.get(index * 4..).and_then(le32);
    let (offset, len) = (usize::try_from(word(1)?).ok()?, usize::try_from(word(4)?).ok()?);
    Some(Part { kind: word(0)?, offset, address: word(2)?, len })
}

/// The notes of a part. Where the head of one is lost, it is taken to be as long as the one before: those of tasks are
/// alike.
fn notes(stream: &mut Stream<'_>, from: usize, end: usize, counters: &mut Vec<u32>) {
    let (mut at, mut usual) = (from, None);
    while at + NOTE_HEAD < end {
        if stream.find(at, NOTE_HEAD, |bytes| note_len(bytes).is_some_and(|len| at + len <= end + 4)) {
            counters.extend(counter(stream, at));
            let Some(len) = stream.out.get(at..).and_then(head_len) else { return };
            usual = Some(len);
            at += len;
            continue;
        }
        let next = |len: &usize| stream.is_there(at + len, |bytes| note_len(bytes) == Some(*len));
        let len = usual.filter(|len| at + len < end).or_else(|| (16..1024).step_by(4).find(next));
        let len = len.filter(|len| at + len < end).unwrap_or(end - at);
        if let Some(content) = len.checked_sub(NOTE_HEAD + 4) {
            stream.stand_in(at, &[4, content, 0]);
        }
        at += len;
    }
}

/// The program counter in a note of a task: the first of its registers.
fn counter(stream: &Stream<'_>, at: usize) -> Option<u32> {
    let name = stream.word(at).filter(|_| stream.word(at + 8) == Some(PRSTATUS))?;
    let register = at + NOTE_HEAD + usize::try_from(name).ok()?.next_multiple_of(4) + PR_REG;
    stream.moved(register, stream.shift).and_then(le32)
}

/// Length of a note that begins here: its head is one, and its name is text.
fn note_len(bytes: &[u8]) -> Option<usize> {
    let name = usize::try_from(le32(bytes)?).ok().filter(|len| (4..=NOTE_NAME).contains(len))?;
    let text = bytes.get(NOTE_HEAD..NOTE_HEAD + name)?;
    let is_name = |byte: &u8| byte.is_ascii_uppercase() || matches!(byte, b'_' | 0);
    (text.first() != Some(&0) && text.iter().all(is_name)).then(|| head_len(bytes)).flatten()
}

fn head_len(bytes: &[u8]) -> Option<usize> {
    let word = |at: usize| bytes.get(at..).and_then(le32).and_then(|len| usize::try_from(len).ok());
    let (name, content) = (word(0)?, word(4).filter(|len| *len < 0x1_0000)?);
    Some(NOTE_HEAD + name.next_multiple_of(4) + content.next_multiple_of(4))
}

/// Memory of a task: a control block, whose first word is the address of the stack behind it; or a stack, which begins
/// with the registers.
fn memory(stream: &mut Stream<'_>, at: usize, part: &Part, next: Option<&Part>, counters: &[u32]) {
    let low = |address: u32| address & 0x3fff_ffff;
    let stack = next.filter(|next| next.kind == LOAD).map(|next| next.address);
    let is_block = |bytes: &[u8]| stack.is_some() && le32(bytes) == stack;
    let is_counter =
        |word: Option<u32>| word.is_some_and(|word| word != 0 && counters.iter().any(|pc| low(*pc) == low(word)));
    // RISC-V saves the program counter first, Xtensa behind a word that says how to return.
    let is_stack = |bytes: &[u8]| is_counter(le32(bytes)) || is_counter(bytes.get(4..).and_then(le32));
    stream.find(at, 8.min(part.len), |bytes| is_block(bytes) || is_stack(bytes));
}

#[cfg(test)]
pub(super) mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::super::{Check, CoreDump};
    use super::*;

    const HEADER: usize = 24;
    const TASKS: u32 = 4;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Control block, stack, program counter of a task.
    fn places(task: u32) -> (u32, u32, u32) {
        (0x3fc8_e000 + task * 0x400, 0x3fc8_e200 + task * 0x400, 0x4200_1000 + task * 0x76)
    }

    /// A dump of four tasks of a RISC-V chip.
    pub(in super::super) fn dump() -> Vec<u8> {
        let (mut notes, mut memory) = (Vec::new(), Vec::new());
        for task in 0..TASKS {
            let (block, stack, pc) = places(task);
            let mut registers = vec![0; 24];
            registers.extend(words(&[block]));
            registers.resize(72, 0);
            registers.extend(words(&[pc]));
            registers.extend((1..32u32).flat_map(|i| if i == 2 { stack + 0x80 } else { task * 100 + i }.to_le_bytes()));
            registers.extend([0; 4]);
            notes.extend(words(&[8, registers.len() as u32, PRSTATUS]));
            notes.extend(b"CORE\0\0\0\0");
            notes.extend(registers);
            let mut control = words(&[stack, 7, 8, 9]);
            control.resize(0x154, task as u8 + 1);
            let mut saved = words(&[pc]);
            saved.resize(0xa0 + task as usize * 0x10, 0x11 * (task as u8 + 1));
            memory.extend([(block, control), (stack, saved)]);
        }
        let count = memory.len() + 1;
        let mut core = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        core.extend([4, 0, 0xf3, 0]);
        core.extend(words(&[1, 0, 52, 0, 0]));
        for half in [52, 32, count as u16, 0, 0, 0] {
            core.extend(half.to_le_bytes());
        }
        let mut at = (ELF_HEADER + count * PROGRAM_HEADER) as u32;
        core.extend(words(&[NOTE, at, 0, 0, notes.len() as u32, notes.len() as u32, 6, 0]));
        at += notes.len() as u32;
        for (address, bytes) in &memory {
            let len = bytes.len() as u32;
            core.extend(words(&[LOAD, at, *address, *address, len, len, 6, 0]));
            at += len;
        }
        core.extend(notes);
        core.extend(memory.into_iter().flat_map(|(_, bytes)| bytes));
        let total = (HEADER + core.len() + 4) as u32;
        let mut bytes = words(&[total, 0x0005_0102, 0, 0, 0, 101]);
        bytes.extend(core);
        let sum = crc32fast::hash(&bytes);
        bytes.extend(words(&[sum]));
        bytes
    }

    /// What is not said to be damaged is as it was; returns how many tasks are.
    fn sound(parsed: &CoreDump, whole: &CoreDump) -> usize {
        let mut sound = 0;
        for task in &parsed.tasks {
            let original = whole.tasks.iter().find(|one| one.tcb == task.tcb).unwrap();
            if task.state.tcb_corrupted
                || task.state.stack_corrupted
                || task.registers.general != original.registers.general
            {
                continue;
            }
            assert_eq!(task.registers.pc, original.registers.pc);
            assert_eq!(parsed.read(task.tcb, 0x154), whole.read(task.tcb, 0x154));
            let (stack, len) = original.stack.unwrap();
            assert_eq!(parsed.read(stack, len as usize), whole.read(stack, len as usize));
            sound += 1;
        }
        sound
    }

    #[test]
    fn a_lost_line_costs_one_task_and_the_others_are_as_they_were() {
        let bytes = dump();
        let whole = CoreDump::parse(&bytes, Check::Enforce).unwrap();
        assert_eq!(whole.tasks.len(), TASKS as usize);
        let lines: Vec<String> = bytes.chunks(48).map(|line| STANDARD.encode(line)).collect();
        // The first two hold the headers: without them nothing can be told.
        for lost in 2..lines.len() {
            let mut left = lines.clone();
            left.remove(lost);
            let text = format!("== CORE DUMP START ==\n{}\n== CORE DUMP END ==\n", left.join("\n"));
            assert!(CoreDump::parse(text.as_bytes(), Check::Enforce).is_err(), "{lost}");
            let parsed = CoreDump::parse(text.as_bytes(), Check::Report).unwrap();
            assert!(parsed.damage.iter().any(|note| note.contains("zeros")), "{lost}: {:?}", parsed.damage);
            let sound = sound(&parsed, &whole);
            assert!(sound >= TASKS as usize - 2, "{lost}: {sound} of {TASKS}, {:?}", parsed.damage);
        }
    }

    #[test]
    fn lines_lost_in_two_places_are_told_apart() {
        let bytes = dump();
        let whole = CoreDump::parse(&bytes, Check::Enforce).unwrap();
        let memory = HEADER + ELF_HEADER + 9 * PROGRAM_HEADER + TASKS as usize * (20 + 204);
        // Within the stack of the first task and within the control block of the third.
        let (first, third) = (memory + 0x154 + 0x40, memory + 2 * 0x154 + 0xa0 + 0xb0 + 0x60);
        let left = [&bytes[..first], &bytes[first + 48..third], &bytes[third + 96..]].concat();
        let parsed = CoreDump::parse(&left, Check::Report).unwrap();
        assert_eq!(sound(&parsed, &whole), 2, "{:?}", parsed.damage);
        assert_eq!(parsed.tasks.len(), TASKS as usize);
        let corrupted: Vec<bool> =
            parsed.tasks.iter().map(|task| task.state.tcb_corrupted || task.state.stack_corrupted).collect();
        assert_eq!(corrupted, [true, false, true, false]);
    }

    #[test]
    fn an_end_that_is_cut_is_said_to_be_missing() {
        let bytes = dump();
        let parsed = CoreDump::parse(&bytes[..bytes.len() - 100], Check::Report).unwrap();
        let whole = CoreDump::parse(&bytes, Check::Enforce).unwrap();
        assert_eq!(sound(&parsed, &whole), TASKS as usize - 1, "{:?}", parsed.damage);
    }
}
