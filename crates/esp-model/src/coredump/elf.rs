//! The ELF core inside a dump: load segments, and notes with registers, version, panic text (`core_dump_elf.c`).

use object::LittleEndian as LE;
use object::elf::{
    EM_RISCV, EM_XTENSA, ET_CORE, FileHeader32, NT_PRSTATUS, NoteType, PT_LOAD, PT_NOTE, ProgramHeader32,
};
use object::read::elf::{FileHeader, ProgramHeader};

use super::registers::{self, Registers};
use super::task::{TaskState, is_fake};
use super::{Checksum, CoreDump, CoreDumpError, Format, Segment, Task, Version, le32};
use crate::chip::Arch;

/// Note types of ESP-IDF (`core_dump_elf.c`).
const NOTE_INFO: NoteType = NoteType(8266);
const NOTE_EXTRA: NoteType = NoteType(677);
const NOTE_TASK: NoteType = NoteType(678);
const NOTE_PANIC: NoteType = NoteType(679);
/// What stands for the handle of a crashed task that could not be saved.
const SKIPPED_TASK: u32 = 0xdead_beef;
/// Where the words of the extra note say "in an interrupt".
const ISR_XTENSA: usize = 37;
const ISR_RISCV: usize = 1;

/// What the notes say.
#[derive(Default)]
struct Notes {
    tasks: Vec<(u32, Registers)>,
    version: Option<Version>,
    app_sha256: Option<String>,
    revision: Option<u32>,
    panic: Option<String>,
    extra: Vec<u32>,
    flags: Vec<(u32, u32)>,
}

/// Decodes an ELF core. Version and revision come from the dump header where there is one. `whole`: nothing of it is known
/// to be missing, so that notes that contradict themselves are an error.
pub(super) fn decode(
    bytes: &[u8],
    checksum: Checksum,
    version: Option<Version>,
    chip_revision: Option<u32>,
    whole: bool,
) -> Result<CoreDump, CoreDumpError> {
    let header = FileHeader32::<LE>::parse(bytes).map_err(|_| CoreDumpError::NotACoreDump("no 32-bit ELF header"))?;
    if header.e_type(LE) != ET_CORE {
        return Err(CoreDumpError::NotACoreDump("an ELF file, but not a core file"));
    }
    let arch = match header.e_machine(LE) {
        EM_XTENSA => Arch::Xtensa,
        EM_RISCV => Arch::Riscv,
        _ => return Err(CoreDumpError::NotACoreDump("ELF core of another machine")),
    };
    let headers =
        header.program_headers(LE, bytes).map_err(|_| CoreDumpError::Malformed("program headers out of bounds"))?;
    let (mut notes, mut segments) = (Notes::default(), Vec::new());
    let mut held = 0usize;
    for program in headers {
        match program.p_type(LE) {
            PT_NOTE => match notes.read(arch, program, bytes) {
                Err(error) if whole => return Err(error),
                _ => {}
            },
            PT_LOAD => {
                let data = program
                    .data(LE, bytes)
                    .map_err(|()| CoreDumpError::Malformed("memory segment beyond the end of the dump"))?;
                // Overlapping headers could ask for the same bytes thousands of times.
                held += data.len();
                if held > 2 * bytes.len() {
                    return Err(CoreDumpError::Malformed("memory segments overlap"));
                }
                segments.push(Segment { address: program.p_vaddr(LE), bytes: data.to_vec() });
            }
            _ => {}
        }
    }
    let crashed_task = notes.extra.first().copied().filter(|task| *task != SKIPPED_TASK && *task != 0);
    let isr_at = if arch == Arch::Xtensa { ISR_XTENSA } else { ISR_RISCV };
    let in_isr = notes.extra.get(isr_at).map(|word| *word != 0);
    let tasks = tasks(notes.tasks, &notes.flags, &segments);
    let mut dump = CoreDump {
        format: Format::Elf,
        version: version.or(notes.version),
        arch,
        chip_revision: chip_revision.or(notes.revision),
        checksum,
        app_sha256: notes.app_sha256,
        panic_details: notes.panic,
        crashed_task,
        in_isr,
        exception: Vec::new(),
        tasks,
        segments,
        damage: Vec::new(),
    };
    dump.exception = match arch {
        Arch::Xtensa => registers::xtensa_exception(notes.extra.get(1..).unwrap_or_default()),
        Arch::Riscv => riscv_exception(&dump),
    };
    Ok(dump)
}

/// Tasks with the state the device noted and the segment that holds their stack.
fn tasks(found: Vec<(u32, Registers)>, flags: &[(u32, u32)], segments: &[Segment]) -> Vec<Task> {
    let stack_of = |registers: &Registers| {
        let sp = registers.sp();
        segments.iter().map(|s| (s.address, u32::try_from(s.bytes.len()).unwrap_or(u32::MAX))).find(|(start, len)| {
            // A stack pointer at the very end belongs to an empty stack.
            sp.wrapping_sub(*start) <= *len
        })
    };
    let state_of = |tcb: u32, stack: Option<(u32, u32)>| {
        let noted = flags.iter().find(|(task, _)| *task == tcb).map_or(0, |(_, flags)| *flags);
        TaskState {
            tcb_corrupted: noted & 1 != 0 || is_fake(tcb),
            stack_corrupted: noted & 2 != 0 || stack.is_some_and(|(start, _)| is_fake(start)),
        }
    };
    let with_state = |(tcb, registers): (u32, Registers)| {
        let stack = stack_of(&registers);
        Task { tcb, state: state_of(tcb, stack), stack, registers }
    };
    found.into_iter().map(with_state).collect()
}

impl Notes {
    fn read(&mut self, arch: Arch, program: &ProgramHeader32<LE>, bytes: &[u8]) -> Result<(), CoreDumpError> {
        const BAD: CoreDumpError = CoreDumpError::Malformed("note beyond the end of its segment");
        let Some(mut notes) = program.notes(LE, bytes).map_err(|_| BAD)? else { return Ok(()) };
        while let Some(note) = notes.next().map_err(|_| BAD)? {
            let data = note.desc();
            match note.n_type(LE) {
                NT_PRSTATUS if note.name() == b"CORE" => {
                    self.tasks.extend(registers::from_prstatus(arch, data));
                }
                NOTE_INFO if note.name() == b"ESP_CHIP_REV" => self.revision = le32(data),
                NOTE_INFO => {
                    self.version = le32(data).map(Version::from_word);
                    self.app_sha256 = data.get(4..).map(printable).filter(|text| !text.is_empty());
                }
                NOTE_EXTRA => self.extra = data.chunks_exact(4).filter_map(le32).collect(),
                NOTE_TASK => {
                    let words: Vec<u32> = data.chunks_exact(4).filter_map(le32).collect();
                    if let [_, flags, tcb, ..] = words.as_slice() {
                        self.flags.push((*tcb, *flags));
                    }
                }
                NOTE_PANIC => self.panic = Some(printable(data)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Text up to its terminator; control characters of a device never pass.
fn printable(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default());
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// `mcause` and its neighbours behind the registers in the exception frame (`rvruntime-frames.h`).
fn riscv_exception(dump: &CoreDump) -> Vec<(&'static str, u32)> {
    let crashed = dump.crashed_task;
    let task = dump.tasks.iter().find(|task| Some(task.tcb) == crashed).or(dump.tasks.first());
    let Some(frame) = task.and_then(|task| dump.exception_frame(&task.registers)) else { return Vec::new() };
    let names = ["mstatus", "mtvec", "mcause", "mtval", "mhartid"];
    (32u32..).zip(names).filter_map(|(at, name)| Some((name, dump.word(frame.wrapping_add(at * 4))?))).collect()
}
