//! Debugging a virtual device through its GDB port: the built-in device's or QEMU's.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use esp_debug::coredump::{FrameReport, backtrace};
use esp_debug::live::{LiveTask, Seen, Spilled, tasks};
use esp_debug::symbols::{Memory, Program, Unwinder};
use esp_model::chip::{Arch, Chip};
use esp_model::coredump::Registers;
use esp_model::image::{AppDesc, MAGIC};
use esp_model::job::Job;

use crate::error::{Code, ToolError};
use remote::{Remote, RemoteError, Stopped};
use until::End;

pub mod chart;
pub mod remote;
pub mod stimuli;
pub mod until;

/// Apps begin at multiples of this; their descriptor lies behind the headers of image and first segment.
const APP_ALIGNMENT: usize = 0x1_0000;
const APP_DESC: usize = 32;
/// Rounds in which memory is asked for; each finds out what else is needed.
const ROUNDS: usize = 200;
/// Bytes of the stack that are read at once, and of anything else.
const STACK: usize = 2048;
const PIECE: u32 = 256;
/// Longest single read that debug information may lead to.
const LONGEST: usize = 4096;

impl From<RemoteError> for ToolError {
    fn from(error: RemoteError) -> Self {
        Self::new(Code::DebugFailed, error.to_string())
    }
}

/// A stopped device.
pub struct Session<'r, 'p> {
    /// Its stub.
    pub remote: Remote,
    chip: &'static Chip,
    program: Option<&'r Program<'p>>,
    threads: Vec<String>,
    /// Index of the core that was asked for, or that has stopped.
    pub core: usize,
}

impl<'r, 'p> Session<'r, 'p> {
    /// Stops the device behind this port.
    pub fn new(
        port: u16,
        chip: &'static Chip,
        program: Option<&'r Program<'p>>,
        core: Option<usize>,
    ) -> Result<Self, ToolError> {
        let mut remote = Remote::connect(port)?;
        let threads = remote.threads()?;
        let core = core.unwrap_or(0);
        if core >= threads.len() {
            let text = format!("core {core} does not run; {} of the {} do", threads.len(), chip.name);
            return Err(ToolError::new(Code::BadParameter, text));
        }
        Ok(Self { remote, chip, program, threads, core })
    }

    fn thread(&self) -> String {
        self.threads.get(self.core).cloned().unwrap_or_else(|| "1".into())
    }

    fn note(&mut self, stopped: &Stopped) -> Result<(), ToolError> {
        self.threads = self.remote.threads()?;
        let number = |thread: &str| u32::from_str_radix(thread, 16).ok();
        let same = |thread: &String| stopped.thread.as_deref().is_some_and(|it| number(it) == number(thread));
        self.core = self.threads.iter().position(same).unwrap_or(self.core).min(self.threads.len().saturating_sub(1));
        Ok(())
    }

    /// Registers of the core as the stub sends them.
    pub fn words(&mut self) -> Result<Vec<u32>, ToolError> {
        let thread = self.thread();
        Ok(self.remote.registers(&thread)?)
    }

    /// The same by their names.
    pub fn registers(&mut self) -> Result<Registers, ToolError> {
        Ok(registers(self.chip.arch, &self.words()?))
    }

    /// Lets the device run until one of these, or for so long. What ended it, in words.
    pub fn run(&mut self, ends: &[End], job: &Job, limit: Duration) -> Result<String, ToolError> {
        let pc = self.registers()?.pc;
        let here = ends.iter().any(|end| matches!(end, End::Places(places) if places.contains(&pc)));
        if here {
            self.step(1, job)?;
        }
        let set = self.set(ends, true);
        let ended = set.and_then(|()| {
            self.remote.resume(None)?;
            Ok(self.wait(job, limit)?)
        });
        // The device is stopped, or its line is dead.
        let removed = self.set(ends, false);
        let (stopped, by_itself) = ended?;
        removed?;
        self.note(&stopped)?;
        if !by_itself {
            return Ok(format!("{} s have passed, and nothing has ended the run", limit.as_secs_f64()));
        }
        if let Some(address) = stopped.watched {
            return Ok(format!("what is watched at {address:#010x} was accessed"));
        }
        let pc = self.registers()?.pc;
        if ends.iter().any(|end| matches!(end, End::Places(places) if places.contains(&pc))) {
            return Ok(format!("breakpoint at {pc:#010x}"));
        }
        if ends.iter().any(|end| matches!(end, End::Condition(_))) {
            return Ok(self.monitor("why")?.trim().to_owned());
        }
        Ok(format!("signal {}", stopped.signal))
    }

    fn wait(&mut self, job: &Job, limit: Duration) -> Result<(Stopped, bool), RemoteError> {
        self.remote.wait(Instant::now() + limit, || job.check().is_err())
    }

    /// Sets or removes what a run ends at.
    fn set(&mut self, ends: &[End], there: bool) -> Result<(), ToolError> {
        let mut conditions = false;
        for end in ends {
            match end {
                End::Places(places) => {
                    let length = if self.chip.arch == Arch::Riscv { 2 } else { 3 };
                    places.iter().try_for_each(|at| self.remote.breakpoint(0, *at, length, there))?;
                }
                End::Watch(kind, address, length) => self.remote.breakpoint(*kind, *address, *length, there)?,
                End::Condition(text) if there => drop(self.monitor(&format!("until {text}"))?),
                End::Condition(_) => conditions = true,
            }
        }
        if conditions {
            self.monitor("until")?;
        }
        Ok(())
    }

    /// A command of the built-in device beyond the protocol.
    pub fn monitor(&mut self, command: &str) -> Result<String, ToolError> {
        let said = match self.remote.monitor(command) {
            // QEMU's own monitor answers.
            Ok(said) if said.starts_with("unknown command") => Err(()),
            Ok(said) => Ok(said),
            Err(RemoteError::Refused { .. }) => Err(()),
            Err(error) => return Err(error.into()),
        };
        let said = said.map_err(|()| {
            let word = command.split(' ').next().unwrap_or_default();
            let text = format!("the debug port has no command `{word}`: only that of the built-in device has it");
            ToolError::new(Code::DebugFailed, text)
        })?;
        match said.strip_prefix("error: ") {
            Some(error) => Err(ToolError::new(Code::BadParameter, error.trim())),
            None => Ok(said),
        }
    }

    /// The core carries out so many instructions.
    pub fn step(&mut self, count: u32, job: &Job) -> Result<(), ToolError> {
        let thread = self.thread();
        let mut last = None;
        for _ in 0..count {
            job.check()?;
            self.remote.resume(Some(&thread))?;
            last = Some(self.wait(job, Duration::from_secs(5))?.0);
        }
        last.map_or(Ok(()), |stopped| self.note(&stopped))
    }

    /// Steps until another line of the source is reached, functions that are called included.
    pub fn step_line(&mut self, job: &Job) -> Result<(), ToolError> {
        /// Instructions that one line may take.
        const MOST: usize = 5000;
        let start = self.line()?;
        for _ in 0..MOST {
            self.step(1, job)?;
            let line = self.line()?;
            if line.is_some() && line != start {
                return Ok(());
            }
        }
        Err(ToolError::new(Code::DebugFailed, format!("no other line of the source within {MOST} instructions")))
    }

    fn line(&mut self) -> Result<Option<(String, u32)>, ToolError> {
        let pc = self.registers()?.pc;
        let place = self.program.and_then(|program| program.locate(pc).into_iter().next());
        Ok(place.and_then(|place| Some((place.file?, place.line?))))
    }

    /// The chain of callers of the core.
    pub fn backtrace(&mut self) -> Result<Vec<FrameReport>, ToolError> {
        let words = self.words()?;
        let start = registers(self.chip.arch, &words);
        self.look(&[words], |unwinder| backtrace(&start, unwinder))
    }

    /// FreeRTOS tasks; `None` without FreeRTOS, or without an ELF file.
    pub fn tasks(&mut self) -> Result<Option<Vec<LiveTask>>, ToolError> {
        let Some(program) = self.program else { return Ok(None) };
        let mut cores = Vec::new();
        for thread in self.threads.clone() {
            cores.push(self.remote.registers(&thread)?);
        }
        let running: Vec<Registers> = cores.iter().map(|words| registers(self.chip.arch, words)).collect();
        self.look(&cores, |unwinder| tasks(program, &running, unwinder))
    }

    /// Looks at the device's memory; reads what that needs, as often as it needs more.
    fn look<T>(&mut self, cores: &[Vec<u32>], work: impl Fn(&Unwinder<'_, '_>) -> T) -> Result<T, ToolError> {
        let (arch, program) = (self.chip.arch, self.program);
        let programs: Vec<&Program<'_>> = program.into_iter().collect();
        let rom = self.chip.memory.iter().find(|region| region.name == "IROM_MASK").map(|it| (it.start, it.end));
        let (mut seen, mut nowhere) = (Seen::default(), BTreeSet::new());
        for words in cores {
            let sp = registers(arch, words).sp();
            // Xtensa saves registers below the stack pointer.
            let from = sp.saturating_sub(64);
            if let Ok(bytes) = self.remote.memory(from, STACK) {
                seen.add(from, bytes);
            }
        }
        for _ in 0..ROUNDS {
            let found =
                with_windows(arch, cores, &seen, &|memory| work(&Unwinder { programs: &programs, memory, rom }));
            let missed: Vec<_> = seen.take_missed().into_iter().filter(|miss| !nowhere.contains(miss)).collect();
            if missed.is_empty() {
                return Ok(found);
            }
            for (address, length) in missed {
                match self.fetch(address, length)? {
                    Some((start, bytes)) => seen.add(start, bytes),
                    None => drop(nowhere.insert((address, length))),
                }
            }
        }
        Err(ToolError::new(Code::DebugFailed, "the device's memory leads on and on: its stack may be broken"))
    }

    fn fetch(&mut self, address: u32, length: usize) -> Result<Option<(u32, Vec<u8>)>, ToolError> {
        if length > LONGEST {
            return Ok(None);
        }
        let start = address & !(PIECE - 1);
        let ahead = (address - start) as usize + length;
        for (from, count) in [(start, ahead.next_multiple_of(PIECE as usize)), (address, length)] {
            match self.remote.memory(from, count) {
                Ok(bytes) if bytes.len() >= (address - from) as usize + length => return Ok(Some((from, bytes))),
                Ok(_) | Err(RemoteError::Refused { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }
}

/// SHA-256 of the ELF files of the apps in a flash file, as their descriptors name them.
pub fn apps_in(flash: &Path) -> Vec<String> {
    let content = std::fs::read(flash).unwrap_or_default();
    let app =
        |bytes: &[u8]| AppDesc::decode(bytes.get(APP_DESC..)?).map(|desc| esp_model::hex::encode(desc.elf_sha256));
    content.chunks(APP_ALIGNMENT).filter(|part| part.first() == Some(&MAGIC)).filter_map(app).collect()
}

/// What the stub's packet says, by names.
fn registers(arch: Arch, words: &[u32]) -> Registers {
    let word = |number: usize| words.get(number).copied().unwrap_or(0);
    match arch {
        Arch::Riscv => {
            let general = (0..32).map(word).collect();
            Registers { arch, pc: word(32), general, special: Vec::new() }
        }
        Arch::Xtensa => {
            let base = (word(69) & 15) as usize * 4;
            let general = (0..16).map(|number| word(1 + (base + number) % 64)).collect();
            let special = [("lbeg", 65), ("lend", 66), ("lcount", 67), ("sar", 68), ("ps", 73)];
            Registers { arch, pc: word(0), general, special: special.map(|(name, at)| (name, word(at))).to_vec() }
        }
    }
}

/// Memory with the windows that the cores have not saved yet.
fn with_windows<T>(arch: Arch, cores: &[Vec<u32>], memory: &dyn Memory, work: &dyn Fn(&dyn Memory) -> T) -> T {
    match cores.split_first() {
        Some((words, rest)) if arch == Arch::Xtensa => {
            let word = |number: usize| words.get(number).copied().unwrap_or(0);
            let spilled = Spilled::new(words.get(1..65).unwrap_or_default(), word(69), word(70), memory);
            with_windows(arch, rest, &spilled, work)
        }
        _ => work(memory),
    }
}
