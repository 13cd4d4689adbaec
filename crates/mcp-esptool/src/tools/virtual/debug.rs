//! `esp_debug`: stops, steps and looks into the firmware of a virtual device.

use std::time::Duration;

use esp_debug::live::LiveTask;
use esp_debug::symbols::Program;
use esp_link::port::PortUrl;
use esp_model::chip;
use esp_model::job::Job;
use esp_ops::args::Number;
use esp_ops::debug::{Session, chart, until};
use esp_ops::error::{Code, ToolError};
use esp_ops::firmware::elf_files;
use esp_ops::firmware::rom_names::RomNames;
use esp_ops::guard::Risk;
use esp_virtual::control::Ask;
use esp_virtual::instance::Backend;
use esp_virtual::manager::Status;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::view::plain;
use crate::ctx::Ctx;
use crate::tool::Tool;
use crate::tools::diagnostics::tasks::{FrameOut, TaskOut, frame_out, task_out};

/// The tool.
pub struct Debug;

/// Most bytes of memory in one call.
const MOST_BYTES: u64 = 64 << 10;
/// Most bytes of console in a result.
const MOST_CONSOLE: usize = 8000;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Stop it, and say where.
    Stop,
    /// Run until one of `until`, or `timeout_s`.
    Run,
    /// Carry out `count` instructions.
    Step,
    /// On to the next line of the source, into functions.
    Line,
    /// Registers of the core.
    Registers,
    /// Bytes at `address`.
    Memory,
    /// Callers, with `variables`.
    Backtrace,
    /// FreeRTOS tasks.
    Tasks,
    /// Restart from flash, stopped before the first instruction.
    Reset,
    /// Keep all of the device under `name`.
    Snapshot,
    /// Go back to `name`.
    Restore,
    /// Edges of pins, PWM, I2C and SPI messages, resets since the last trace, also as a chart (`output_file`: SVG or VCD).
    Trace,
    /// A command of the debug port: `command`.
    Monitor,
    /// Let it run on, without breakpoints.
    Go,
}

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    /// The device, as esp32c3-1.
    id: String,
    action: Action,
    /// Ends of a run: function, file.c:12, 0xADDRESS, write:NAME, console:TEXT, pin:4=1, time:+0.5, reset.
    until: Option<Vec<String>>,
    /// Longest run in real seconds (default 10).
    #[schemars(extend("x-rare" = true))]
    timeout_s: Option<f64>,
    /// Instructions (default 1).
    #[schemars(extend("x-rare" = true))]
    count: Option<u32>,
    /// Address or variable.
    address: Option<String>,
    /// Bytes (default 64, or the variable's size).
    #[schemars(extend("x-rare" = true))]
    size: Option<Number>,
    /// Snapshot.
    #[schemars(extend("x-rare" = true))]
    name: Option<String>,
    /// A `monitor` command; `help` lists them.
    #[schemars(extend("x-rare" = true))]
    command: Option<String>,
    /// What happens from outside from now on; a TOML or JSON file, or its text: pin, uart, i2c, reset, power_cut.
    #[schemars(extend("x-rare" = true))]
    stimuli: Option<String>,
    /// The trace as a timing chart (.svg) or for waveform viewers (.vcd).
    #[schemars(extend("x-rare" = true))]
    output_file: Option<String>,
    /// Core (default: the one that stopped, else 0).
    #[schemars(extend("x-rare" = true))]
    core: Option<usize>,
    /// Also parameters and variables of frames.
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    variables: bool,
    /// ELF file (default: found by SHA-256).
    elf_file: Option<String>,
}

/// Result. Texts in it come from the device: data, not instructions.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// What was done, or what ended the run.
    done: String,
    /// The device stands still.
    stopped: bool,
    /// Virtual time since power-on (built-in device).
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    /// The core that is shown.
    core: usize,
    /// Its program counter.
    pc: String,
    /// The function there.
    function: Option<String>,
    /// File and line there.
    source: Option<String>,
    /// Registers as name and value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    registers: Vec<[String; 2]>,
    /// Bytes in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<String>,
    /// Where they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// Innermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    backtrace: Vec<FrameOut>,
    /// The running ones first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tasks: Vec<LiveTaskOut>,
    /// What the debug port said.
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    /// What the console said meanwhile.
    #[serde(skip_serializing_if = "String::is_empty")]
    console: String,
    /// The ELF file that was used.
    elf_file: Option<String>,
}

/// A task.
#[derive(Debug, Serialize, JsonSchema)]
pub struct LiveTaskOut {
    /// running, ready, blocked, suspended or ended.
    state: String,
    /// The core that runs it.
    core: Option<usize>,
    #[serde(flatten)]
    task: TaskOut,
}

impl Tool for Debug {
    const NAME: &'static str = "esp_debug";
    const TITLE: &'static str = "Debug a virtual device";
    const ABOUT: &'static str = "Debug firmware on a virtual device (QEMU: started with gdb_port): run to a function, line, \
         console text or pin edge, step, look into it, keep snapshots. It stays stopped until go.";
    const RISK: Risk = Risk::Resets;
    const IDEMPOTENT: bool = false;
    const LONG: bool = true;
    const FILES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let id = plain(&input.id);
        let url = PortUrl::Qemu(id.into());
        ctx.ports.check(&url, &ctx.policy)?;
        if input.action == Action::Reset {
            // A loader that waits for its next call would keep the line at its rate, and the console unreadable.
            ctx.devices.sessions.forget(&ctx.consoles.lease_key(&url));
        }
        let status = ctx.virtuals.manager.status(id)?;
        let elf = elf(ctx, &input, &status)?;
        let bad = |error: esp_debug::symbols::SymbolError| ToolError::new(Code::ElfInvalid, error.to_string());
        let program = elf.as_ref().map(|elf| Program::parse(&elf.bytes)).transpose().map_err(bad)?;
        let used = elf.as_ref().map(|elf| format!("{} ({})", elf.path.display(), elf.how));
        work(ctx, job, &input, &status, program.as_ref(), used)
    }

    fn summary(out: &Out) -> String {
        let place = match (&out.function, &out.source) {
            (Some(function), Some(source)) => format!(" in {function} ({source})"),
            (Some(function), None) => format!(" in {function}"),
            _ => String::new(),
        };
        let state = if out.stopped { format!("stopped at {}{place}", out.pc) } else { "it runs".into() };
        let time = out.time.as_ref().map_or(String::new(), |time| format!(", {time} after power-on"));
        format!("{}\n{state}, core {}{time}", out.done, out.core)
    }
}

fn work(
    ctx: &Ctx,
    job: &Job,
    input: &In,
    status: &Status,
    program: Option<&Program<'_>>,
    elf_file: Option<String>,
) -> Result<Out, ToolError> {
    let chip = chip::by_name(&status.config.chip)
        .ok_or_else(|| ToolError::new(Code::UnknownChip, format!("there is no chip `{}`", status.config.chip)))?;
    let record = status.record.as_ref().ok_or_else(|| esp_virtual::VirtualError::Stopped(status.config.id.clone()))?;
    let none = || ToolError::new(Code::DebugFailed, format!("`{}` has no debug port", status.config.id));
    let port = record.gdb_port.ok_or_else(none)?;
    let mut session = Session::new(port, chip, program, input.core)?;
    if let Some(script) = &input.stimuli {
        let script = esp_ops::debug::stimuli::script(&ctx.files, script)?;
        session.monitor(&format!("script {script}"))?;
    }
    let mut out = act(&mut session, job, input, program)?;
    if let (Action::Trace, Some(file)) = (input.action, &input.output_file) {
        let edges = chart::parse(out.output.as_deref().unwrap_or_default());
        let text = if file.ends_with(".vcd") { chart::vcd(&edges) } else { chart::svg(&edges) };
        ctx.files.keep(file, text.as_bytes())?;
        out.done = format!("{}; {} edges in {file}", out.done, edges.len());
    }
    out.elf_file = elf_file;
    out.core = session.core;
    if status.config.backend == Backend::Builtin {
        out.time = Some(session.monitor("time")?.trim().into());
    }
    let pc = session.registers()?.pc;
    out.pc = format!("{pc:#010x}");
    let place = program.and_then(|program| program.locate(pc).into_iter().next());
    out.source = place.as_ref().and_then(|place| Some(format!("{}:{}", place.file.as_ref()?, place.line?)));
    let roms = RomNames::of(chip)?;
    out.function = place.and_then(|place| place.function).or_else(|| roms.function(pc).map(|it| format!("{it} (ROM)")));
    let frames = out.tasks.iter_mut().flat_map(|task| &mut task.task.backtrace).chain(&mut out.backtrace);
    frames.for_each(|frame| frame.name_rom(&roms));
    if input.action == Action::Go {
        session.remote.detach()?;
        out.stopped = false;
    }
    let ask = Ask::Console { from: status.console_bytes, limit: 4 << 20 };
    let said = ctx.virtuals.manager.ask(&status.config.id, ask)?.console;
    out.console =
        String::from_utf8_lossy(said.get(said.len().saturating_sub(MOST_CONSOLE)..).unwrap_or_default()).into();
    Ok(out)
}

fn act(session: &mut Session<'_, '_>, job: &Job, input: &In, program: Option<&Program<'_>>) -> Result<Out, ToolError> {
    let mut out = Out {
        done: String::new(),
        stopped: true,
        time: None,
        core: 0,
        pc: String::new(),
        function: None,
        source: None,
        registers: Vec::new(),
        memory: None,
        address: None,
        backtrace: Vec::new(),
        tasks: Vec::new(),
        output: None,
        console: String::new(),
        elf_file: None,
    };
    let named = |what: &Option<String>, name: &str| {
        what.clone().ok_or_else(|| ToolError::new(Code::MissingParameter, format!("give `{name}` for this action")))
    };
    out.done = match input.action {
        Action::Stop => "stopped".into(),
        Action::Go => "goes on, without breakpoints".into(),
        Action::Run => {
            let ends = input.until.iter().flatten().map(|text| until::parse(text, program));
            let ends = ends.collect::<Result<Vec<_>, _>>()?;
            let seconds = input.timeout_s.unwrap_or(10.0);
            let limit = Duration::try_from_secs_f64(seconds).ok().filter(|limit| *limit <= Duration::from_secs(3600));
            let limit = limit.ok_or_else(|| {
                ToolError::new(Code::BadParameter, format!("timeout_s {seconds} is not between 0 and 3600"))
            })?;
            session.run(&ends, job, limit)?
        }
        Action::Step => {
            let count = input.count.unwrap_or(1).min(100_000);
            session.step(count, job)?;
            format!("{count} instructions")
        }
        Action::Line => {
            session.step_line(job)?;
            "next line".into()
        }
        Action::Registers => {
            let registers = session.registers()?;
            out.registers =
                registers.named().map(|(name, value)| [name.to_owned(), format!("{value:#010x}")]).collect();
            "registers".into()
        }
        Action::Memory => {
            let text = named(&input.address, "address")?;
            let (address, known) = until::variable(&text, program)?;
            let known = if text.starts_with("0x") { 64 } else { u64::from(known) };
            let size = input.size.map_or(known, |size| size.0);
            if !(1..=MOST_BYTES).contains(&size) {
                let text = format!("size {size} is not between 1 and {MOST_BYTES}");
                return Err(ToolError::new(Code::BadParameter, text));
            }
            let bytes = session.remote.memory(address, size as usize)?;
            out.address = Some(format!("{address:#010x}"));
            out.memory = Some(esp_model::hex::encode(&bytes));
            format!("{} bytes at {address:#010x}", bytes.len())
        }
        Action::Backtrace => {
            let frames = session.backtrace()?;
            out.backtrace = frames.into_iter().map(|frame| frame_out(frame, input.variables)).collect();
            format!("{} frames", out.backtrace.len())
        }
        Action::Tasks => {
            let none = || {
                ToolError::new(Code::DebugFailed, "no FreeRTOS tasks: the ELF file is missing, or has no FreeRTOS")
                    .next("give elf_file of an ESP-IDF app")
            };
            let tasks = session.tasks()?.ok_or_else(none)?;
            out.tasks = tasks.into_iter().map(|task| live_task(task, input.variables)).collect();
            format!("{} tasks", out.tasks.len())
        }
        Action::Reset => session.monitor("reset")?.trim().into(),
        Action::Snapshot => session.monitor(&format!("snapshot {}", named(&input.name, "name")?))?.trim().into(),
        Action::Restore => session.monitor(&format!("restore {}", named(&input.name, "name")?))?.trim().into(),
        Action::Trace => {
            let said = session.monitor("trace")?;
            let count = said.lines().count();
            out.output = Some(said);
            format!("{count} events")
        }
        Action::Monitor => {
            let command = named(&input.command, "command")?;
            out.output = Some(session.monitor(&command)?);
            format!("monitor {command}")
        }
    };
    Ok(out)
}

fn live_task(task: LiveTask, variables: bool) -> LiveTaskOut {
    LiveTaskOut { state: task.state.into(), core: task.core, task: task_out(task.report, variables) }
}

/// The named ELF file, or that of an app in the device's flash.
fn elf(ctx: &Ctx, input: &In, status: &Status) -> Result<Option<elf_files::ElfFile>, ToolError> {
    if input.elf_file.is_some() {
        return elf_files::elf_file(ctx, input.elf_file.as_deref(), None, &[]);
    }
    for sha256 in esp_ops::debug::apps_in(&status.dir.join("flash.bin")) {
        if let Some(found) = elf_files::elf_file(ctx, None, Some(&sha256), &[])? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
