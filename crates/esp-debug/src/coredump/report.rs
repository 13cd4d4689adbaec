//! What a dump says: tasks, backtraces with source lines, the crash.

use serde::Serialize;

use esp_model::chip::{self, Arch};
use esp_model::console::NULL_END;
use esp_model::coredump::{CoreDump, Registers, Task, TaskState, cause_name};

use super::Tcb;
use crate::symbols::{FoundBy, Frame, Memory, NullMember, Program, SourceLocation, StructLayout, Unwinder, Variable};

/// Why a dump cannot be explained with an ELF file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnalysisError {
    /// The ELF file is not the one of the app that crashed.
    #[error("the ELF file is not the crashed app's: its SHA-256 begins {elf}, the dump names {dump}")]
    ForeignElf {
        /// What the dump names.
        dump: String,
        /// The beginning of the file's own.
        elf: String,
    },
    /// The ELF file is for another instruction set.
    #[error("the ELF file is for another instruction set than the dump")]
    OtherArch,
}

/// How sure it is that the ELF file belongs to the dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ElfMatch {
    /// The SHA-256 fits.
    Verified,
    /// The dump's layout carries no hash: names may be wrong.
    Unverifiable,
    /// No ELF file was given.
    NoElf,
}

/// One line of a backtrace: a physical frame, or a function inlined in it.
#[derive(Debug, Clone, Serialize)]
pub struct FrameReport {
    /// Program counter, in hex. Frames inlined into the same call share it.
    pub pc: String,
    /// How the frame was found.
    pub found_by: FoundBy,
    /// Function, file and line.
    #[serde(flatten)]
    pub location: Option<SourceLocation>,
    /// Parameters and variables.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<Variable>,
}

/// One task.
#[derive(Debug, Clone, Serialize)]
pub struct TaskReport {
    /// Its handle, in hex.
    pub tcb: String,
    /// It is the one that crashed.
    pub crashed: bool,
    /// Name, priority and stack.
    #[serde(flatten)]
    pub info: Tcb,
    /// What is wrong with it.
    #[serde(flatten)]
    pub state: TaskState,
    /// Registers, in hex.
    pub registers: Vec<(&'static str, String)>,
    /// Innermost first.
    pub backtrace: Vec<FrameReport>,
}

/// All that a dump says.
#[derive(Debug, Clone, Serialize)]
pub struct Analysis {
    /// The ELF file and the dump.
    pub elf: ElfMatch,
    /// The panic text; for an exception its cause. Untrusted.
    pub reason: Option<String>,
    /// Exception registers, in hex; causes with their names.
    pub exception: Vec<(&'static str, String)>,
    /// All tasks, the crashed one first.
    pub tasks: Vec<TaskReport>,
}

/// Explains a dump. `program` is the app's ELF file, `rom` the ROM's where there is one.
pub fn analyse<'p>(
    dump: &CoreDump,
    program: Option<&Program<'p>>,
    rom: Option<&Program<'p>>,
) -> Result<Analysis, AnalysisError> {
    let elf = match (program, &dump.app_sha256) {
        (None, _) => ElfMatch::NoElf,
        (Some(program), _) if program.arch() != dump.arch => return Err(AnalysisError::OtherArch),
        (Some(_), None) => ElfMatch::Unverifiable,
        (Some(program), Some(named)) if program.is_app(named) => ElfMatch::Verified,
        (Some(program), Some(named)) => {
            let own = program.sha256();
            let elf = own.get(..named.len().clamp(8, own.len())).unwrap_or(own).to_owned();
            return Err(AnalysisError::ForeignElf { dump: named.clone(), elf });
        }
    };
    let layout = program.and_then(|program| program.struct_layout("tskTaskControlBlock", "vTaskSwitchContext"));
    let programs: Vec<&Program<'p>> = program.into_iter().chain(rom).collect();
    let image = Image { dump, programs: &programs };
    let unwinder = Unwinder { programs: &programs, memory: &image, rom: rom_range(dump) };
    let tasks = dump.tasks.iter().map(|task| explain(dump, task, layout.as_ref(), &unwinder)).collect();
    let exception = exception(dump, program, &unwinder);
    Ok(Analysis { elf, reason: reason(dump), exception, tasks })
}

fn rom_range(dump: &CoreDump) -> Option<(u32, u32)> {
    let chip = chip::by_name(dump.chip()?)?;
    chip.memory.iter().find(|region| region.name == "IROM_MASK").map(|region| (region.start, region.end))
}

/// The dump's memory, and behind it the constant parts of the ELF files.
struct Image<'d, 'p> {
    dump: &'d CoreDump,
    programs: &'d [&'d Program<'p>],
}

impl Memory for Image<'_, '_> {
    fn read(&self, address: u32, len: usize) -> Option<&[u8]> {
        let saved = self.dump.read(address, len);
        saved.or_else(|| self.programs.iter().find_map(|program| program.read(address, len)))
    }
}

fn explain(dump: &CoreDump, task: &Task, layout: Option<&StructLayout>, unwinder: &Unwinder<'_, '_>) -> TaskReport {
    let report = task_report(task.tcb, &task.registers, layout, unwinder);
    TaskReport { crashed: dump.crashed_task == Some(task.tcb), state: task.state, ..report }
}

/// What is known of a task with these registers.
pub(crate) fn task_report(
    tcb: u32,
    registers: &Registers,
    layout: Option<&StructLayout>,
    unwinder: &Unwinder<'_, '_>,
) -> TaskReport {
    TaskReport {
        tcb: format!("{tcb:#010x}"),
        crashed: false,
        info: Tcb::read(unwinder.memory, tcb, layout),
        state: TaskState::default(),
        registers: registers.named().map(|(name, value)| (name, format!("{value:#010x}"))).collect(),
        backtrace: backtrace(registers, unwinder),
    }
}

/// The chain of callers with source lines and variables, innermost first.
pub fn backtrace(registers: &Registers, unwinder: &Unwinder<'_, '_>) -> Vec<FrameReport> {
    let frames = unwinder.unwind(registers);
    (0..frames.len()).flat_map(|at| lines(frames.get(at..).unwrap_or_default(), unwinder)).collect()
}

/// The first frame and the functions inlined in it, innermost first; the other frames are its callers.
fn lines(frames: &[Frame], unwinder: &Unwinder<'_, '_>) -> Vec<FrameReport> {
    let Some(frame) = frames.first() else { return Vec::new() };
    let line = |location, variables| FrameReport {
        pc: format!("{:#010x}", frame.pc),
        found_by: frame.found,
        location,
        variables,
    };
    for program in unwinder.programs {
        let locations = program.locate(frame.lookup());
        if let Some(function) = locations.last() {
            let variables = |location| program.variables(location, function, frames, unwinder.memory);
            return locations.iter().map(|location| line(Some(location.clone()), variables(location))).collect();
        }
    }
    vec![line(None, Vec::new())]
}

fn reason(dump: &CoreDump) -> Option<String> {
    if let Some(text) = &dump.panic_details {
        return Some(text.clone());
    }
    let register = |name: &str| dump.exception.iter().find(|(found, _)| *found == name).map(|(_, value)| *value);
    let (cause, address) = match dump.arch {
        Arch::Xtensa => (register("exccause")?, register("excvaddr")),
        Arch::Riscv => (register("mcause")?, register("mtval")),
    };
    let at = address.map(|address| format!(" at address {address:#010x}")).unwrap_or_default();
    Some(format!("{}{at}", cause_name(dump.arch, cause)))
}

fn exception(
    dump: &CoreDump,
    program: Option<&Program<'_>>,
    unwinder: &Unwinder<'_, '_>,
) -> Vec<(&'static str, String)> {
    let register = |name: &str| dump.exception.iter().find(|(found, _)| *found == name).map(|(_, value)| *value);
    // The address counts only where the cause is about one.
    let about_address = match dump.arch {
        Arch::Xtensa => matches!(register("exccause"), Some(28 | 29)),
        Arch::Riscv => matches!(register("mcause"), Some(5 | 7)),
    };
    let behind_null = |offset: u32| {
        let task = dump.tasks.iter().find(|task| Some(task.tcb) == dump.crashed_task)?;
        let members = program?.null_members(&unwinder.unwind(&task.registers), unwinder.memory, offset);
        Some(NullMember::words(&members)).filter(|words| !words.is_empty())
    };
    let show = |(name, value): &(&'static str, u32)| {
        let text = match *name {
            "exccause" | "mcause" => format!("{value:#x} ({})", cause_name(dump.arch, *value)),
            "excvaddr" | "mtval" if about_address && *value < NULL_END => {
                let member = behind_null(*value).map_or_else(String::new, |words| format!(": {words}"));
                let what = if *value == 0 { "a null pointer" } else { "behind a null pointer" };
                format!("{value:#x} ({what}{member})")
            }
            _ => format!("{value:#x}"),
        };
        (*name, text)
    };
    dump.exception.iter().map(show).collect()
}
