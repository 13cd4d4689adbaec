//! Tasks and frames in a result, of a core dump or a stopped device.

use esp_debug::coredump::{FrameReport, TaskReport};
use esp_debug::symbols::is_abort_machinery;
use schemars::JsonSchema;
use serde::Serialize;

use esp_ops::firmware::rom_names::RomNames;

/// One task.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TaskOut {
    /// Name, untrusted.
    pub name: Option<String>,
    /// Address of its control block.
    handle: String,
    /// It crashed.
    pub crashed: bool,
    /// Priority.
    priority: Option<u32>,
    /// Stack used when last switched out, in bytes.
    stack_used_bytes: Option<u32>,
    /// Stack left then, in bytes.
    stack_free_bytes: Option<u32>,
    /// Its control block or stack was broken.
    corrupted: bool,
    /// Registers as name and value (of the crashed task).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    registers: Vec<[String; 2]>,
    /// Innermost first.
    pub backtrace: Vec<FrameOut>,
}

/// One frame.
#[derive(Debug, Serialize, JsonSchema)]
pub struct FrameOut {
    /// Program counter.
    pub pc: String,
    /// Function.
    pub function: Option<String>,
    /// File and line.
    pub source: Option<String>,
    /// It was inlined into the next one.
    inlined: bool,
    /// registers, window, call_frame_info … or a doubtful way: stack_scan, stack_scan_unverified.
    found_by: String,
    /// `name = value`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    variables: Vec<String>,
}

impl FrameOut {
    /// ROM code has no symbols in the app's file.
    pub fn name_rom(&mut self, roms: &RomNames) {
        let address = self.pc.strip_prefix("0x").and_then(|digits| u32::from_str_radix(digits, 16).ok());
        if let (None, Some(address)) = (&self.function, address) {
            self.function = roms.function(address).map(|name| format!("{name} (ROM)"));
        }
    }
}

impl TaskOut {
    /// The frame that caused it: the first with a source that does not only carry out an abort.
    pub fn culprit(&self) -> Option<&FrameOut> {
        let known = || self.backtrace.iter().filter(|frame| frame.source.is_some());
        let is_machinery = |frame: &&FrameOut| frame.function.as_deref().is_some_and(is_abort_machinery);
        known().find(|frame| !is_machinery(frame)).or_else(|| known().next())
    }
}

/// One frame as it is shown.
pub fn frame_out(frame: FrameReport, variables: bool) -> FrameOut {
    let at = frame.location;
    let shown = |v: &esp_debug::symbols::Variable| {
        format!("{} = {}", v.name, v.value.as_deref().or(v.missing).unwrap_or("unknown"))
    };
    FrameOut {
        pc: frame.pc,
        function: at.as_ref().and_then(|at| at.function.clone()),
        source: at.as_ref().and_then(|at| Some(format!("{}:{}", at.file.as_ref()?, at.line?))),
        inlined: at.as_ref().is_some_and(|at| at.inlined),
        found_by: word(&frame.found_by),
        variables: frame.variables.iter().filter(|_| variables).map(shown).collect(),
    }
}

/// One task as it is shown.
pub fn task_out(task: TaskReport, variables: bool) -> TaskOut {
    let registers = task.registers.iter().filter(|_| task.crashed);
    TaskOut {
        name: task.info.name,
        handle: task.tcb,
        crashed: task.crashed,
        priority: task.info.priority,
        stack_used_bytes: task.info.stack_used_bytes,
        stack_free_bytes: task.info.stack_free_bytes,
        corrupted: task.state.tcb_corrupted || task.state.stack_corrupted,
        registers: registers.map(|(name, value)| [(*name).to_owned(), value.clone()]).collect(),
        backtrace: task.backtrace.into_iter().map(|frame| frame_out(frame, variables)).collect(),
    }
}

/// The JSON name of an enumeration's value.
pub fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
