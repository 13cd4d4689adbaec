//! What a debugger does to a machine that runs as an engine: it stops it, looks, changes, steps and lets it go on.

use std::collections::{BTreeMap, VecDeque};

use crate::events::{Event, What};
use crate::firmware::Engine;
use crate::machine::{Machine, Stop};
use crate::memory::IO;
use crate::soc::Watch;

/// A core that sleeps is waited for so long (picoseconds) when it is stepped.
const STEP_PATIENCE: u64 = 1_000_000_000_000;
/// Snapshots that are kept at most; each takes 20 to 40 MB.
const MOST_SNAPSHOTS: usize = 8;
/// Events that are kept at most; the oldest go first.
const MOST_TRACE: usize = 100_000;
/// Bytes of the console that a text is looked for in.
const CONSOLE_TAIL: usize = 4096;

/// Why the machine stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The debugger wanted it.
    Asked,
    /// A core is about to execute the instruction at a breakpoint.
    Breakpoint {
        /// Which core.
        core: usize,
    },
    /// A core has accessed what is watched.
    Watch {
        /// Which core.
        core: usize,
        /// What is watched.
        watch: Watch,
        /// It was a store.
        write: bool,
    },
    /// A core was stepped.
    Step {
        /// Which core.
        core: usize,
    },
    /// One of the conditions of [`Until`] is met.
    Until,
}

/// What a run ends at, besides breakpoints. Each holds once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Until {
    /// Virtual time since power-on in picoseconds.
    Time(u64),
    /// The console has said this.
    Console(String),
    /// A pin that the chip drives changes, to this level where one is given.
    Pin(u8, Option<bool>),
    /// The chip starts anew.
    Reset,
}

impl std::fmt::Display for Until {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Time(time) => write!(f, "the virtual time {}", seconds(*time)),
            Self::Console(text) => write!(f, "the console's {text:?}"),
            Self::Pin(number, None) => write!(f, "a change of pin {number}"),
            Self::Pin(number, Some(level)) => write!(f, "pin {number} going {}", if *level { "high" } else { "low" }),
            Self::Reset => f.write_str("a reset"),
        }
    }
}

/// A time in picoseconds as seconds with all digits that matter.
pub fn seconds(time: u64) -> String {
    let text = format!("{}.{:012}", time / 1_000_000_000_000, time % 1_000_000_000_000);
    format!("{} s", text.trim_end_matches('0').trim_end_matches('.'))
}

/// The state of debugging.
#[derive(Debug, Default)]
pub(crate) struct Control {
    /// Why the machine stands still; `None` while it runs.
    pub halted: Option<Why>,
    /// Addresses, and whether the debugger calls the breakpoint a hardware one.
    pub breakpoints: Vec<(u32, bool)>,
    pub watches: Vec<Watch>,
    pub until: Vec<Until>,
    /// Which of them ended the last run.
    pub met: Option<Until>,
    /// The core that the next run only steps.
    pub stepped: Option<usize>,
    console: String,
    pub trace: VecDeque<Event>,
    snapshots: BTreeMap<String, Machine>,
}

impl Control {
    /// The time at which a run is to end.
    pub fn time_limit(&self) -> u64 {
        let times =
            self.until.iter().filter_map(|until| if let Until::Time(time) = until { Some(*time) } else { None });
        times.min().unwrap_or(u64::MAX)
    }

    /// Each event has to be looked at before the next instruction.
    pub fn heeds_events(&self) -> bool {
        self.until.iter().any(|until| !matches!(until, Until::Time(_)))
    }

    /// The time of a condition is reached.
    pub fn time_is_up(&mut self, time: u64) {
        self.meets(|until| *until == Until::Time(time));
    }

    fn meets(&mut self, is: impl Fn(&Until) -> bool) {
        if let Some(index) = self.until.iter().position(is) {
            self.met = Some(self.until.remove(index));
            self.halted = Some(Why::Until);
        }
    }

    /// Looks at what has happened.
    pub fn see(&mut self, event: &Event, console: Option<u8>) {
        if let What::Pin { .. } | What::Reset { .. } | What::I2c { .. } | What::Spi { .. } | What::Pwm { .. } =
            event.what
        {
            if self.trace.len() >= MOST_TRACE {
                self.trace.pop_front();
            }
            self.trace.push_back(event.clone());
        }
        match event.what {
            What::Pin { number, level } => self.meets(
                |until| matches!(until, Until::Pin(pin, wanted) if *pin == number && wanted.is_none_or(|it| it == level)),
            ),
            What::Reset { .. } => self.meets(|until| *until == Until::Reset),
            _ => {}
        }
        if let Some(byte) = console {
            self.hear(byte);
        }
    }

    fn hear(&mut self, byte: u8) {
        if !self.until.iter().any(|until| matches!(until, Until::Console(_))) {
            return;
        }
        if self.console.len() >= CONSOLE_TAIL {
            self.console.drain(..CONSOLE_TAIL / 2);
        }
        self.console.push(if byte.is_ascii() { byte.into() } else { '?' });
        let console = std::mem::take(&mut self.console);
        self.meets(|until| matches!(until, Until::Console(text) if console.ends_with(text)));
        if self.halted.is_none() {
            self.console = console;
        }
    }
}

impl Engine {
    /// Why the machine stands still; `None` while it runs.
    pub fn halted(&self) -> Option<Why> {
        self.control.halted
    }

    /// Where the machine stands, in words.
    pub fn place(&self) -> String {
        let pc = self.machine.cores.first().map_or(0, |core| core.get().pc());
        format!("a debugger has stopped the chip at {pc:#010x}, {} after power-on", seconds(self.machine.now()))
    }

    /// Which condition ended the last run.
    pub fn met(&self) -> Option<&Until> {
        self.control.met.as_ref()
    }

    /// Stops the machine where it is.
    pub fn halt(&mut self) {
        self.control.halted.get_or_insert(Why::Asked);
    }

    /// The machine goes on with its turns.
    pub fn resume(&mut self) {
        self.control.halted = None;
        self.control.met = None;
    }

    /// Nobody debugs any more: no breakpoints, nothing watched, the machine goes on.
    pub fn detach(&mut self) {
        self.set_breakpoints(Vec::new());
        self.set_watches(Vec::new());
        self.control.until.clear();
        self.resume();
    }

    /// A run ends also at this.
    pub fn run_until(&mut self, until: Until) {
        self.control.until.push(until);
    }

    /// No run ends at a condition.
    pub fn forget_conditions(&mut self) {
        self.control.until.clear();
    }

    /// Carries out one instruction of a core.
    pub fn step(&mut self, core: usize) {
        self.control.met = None;
        let until = self.machine.now().saturating_add(STEP_PATIENCE);
        let stop = self.machine.step(core, until);
        self.control.halted = Some(match stop {
            Some(Stop::Breakpoint { core }) => Why::Breakpoint { core },
            Some(Stop::Watch { core, watch, write }) => Why::Watch { core, watch, write },
            _ => Why::Step { core },
        });
    }

    /// Restarts from flash; the machine stands still before the first instruction.
    pub fn reset(&mut self) {
        self.machine.reset(false);
        self.control.halted = Some(Why::Asked);
        self.control.met = None;
    }

    /// Stop before these addresses.
    pub(crate) fn set_breakpoints(&mut self, breakpoints: Vec<(u32, bool)>) {
        let addresses: Vec<u32> = breakpoints.iter().map(|(address, _)| *address).collect();
        self.machine.set_breakpoints(&addresses);
        self.control.breakpoints = breakpoints;
    }

    pub(crate) fn set_watches(&mut self, watches: Vec<Watch>) {
        self.machine.soc.set_watches(watches.clone());
        self.control.watches = watches;
    }

    /// Memory as far as something answers, from its first byte on.
    pub fn read_memory(&mut self, address: u32, into: &mut [u8]) -> usize {
        for (index, slot) in into.iter_mut().enumerate() {
            match self.machine.peek_byte(address.wrapping_add(index as u32)) {
                Some(byte) => *slot = byte,
                None => return index,
            }
        }
        into.len()
    }

    /// Changes memory, or whole registers with all that a store does to them; false where that cannot be.
    pub fn write_memory(&mut self, address: u32, bytes: &[u8]) -> bool {
        let soc = &mut self.machine.soc;
        if soc.memory.entry(address) & IO == 0 {
            return self.machine.poke(address, bytes);
        }
        let (words, rest) = bytes.as_chunks::<4>();
        if address & 3 != 0 || !rest.is_empty() {
            return false;
        }
        soc.cycle = self.machine.cores.first().map_or(0, |core| core.get().cycles());
        let mut at = address;
        words.iter().all(|word| {
            let done = soc.store(at, 4, u32::from_le_bytes(*word)).is_ok();
            at = at.wrapping_add(4);
            done
        })
    }

    /// Keeps all that the machine is, flash and eFuses included.
    pub fn snapshot(&mut self, name: &str) -> Result<(), String> {
        let snapshots = &mut self.control.snapshots;
        if snapshots.len() >= MOST_SNAPSHOTS && !snapshots.contains_key(name) {
            return Err(format!("{MOST_SNAPSHOTS} snapshots are kept, which is the limit"));
        }
        snapshots.insert(name.into(), self.machine.clone());
        Ok(())
    }

    /// Goes back to a snapshot; the machine stands still. Breakpoints stay as they are now.
    pub fn restore(&mut self, name: &str) -> Result<(), String> {
        let known = || self.control.snapshots.keys().cloned().collect::<Vec<_>>().join(", ");
        let kept =
            self.control.snapshots.get(name).ok_or_else(|| format!("no snapshot {name:?} (kept: {})", known()))?;
        let mut machine = kept.clone();
        // The flash's own object notes what changes, so that its file follows.
        std::mem::swap(&mut machine.soc.shared.flash, &mut self.machine.soc.shared.flash);
        machine.soc.shared.flash.become_like(&kept.soc.shared.flash);
        self.machine = machine;
        let (breakpoints, watches) = (self.control.breakpoints.clone(), self.control.watches.clone());
        self.set_breakpoints(breakpoints);
        self.set_watches(watches);
        self.time_has_changed();
        self.control.halted = Some(Why::Asked);
        self.control.met = None;
        Ok(())
    }

    /// Lets a script ([`crate::stimuli`]) happen, from now on; how many steps it has.
    pub fn stimulate(&mut self, script: &str) -> Result<usize, String> {
        let inputs = crate::stimuli::parse(script, self.usb).map_err(|error| error.to_string())?;
        let (count, now) = (inputs.len(), self.machine.now());
        inputs.into_iter().for_each(|(after, input)| self.machine.input(now.saturating_add(after), input));
        Ok(count)
    }

    /// Names of the snapshots with their virtual times.
    pub fn snapshots(&self) -> impl Iterator<Item = (&str, u64)> {
        self.control.snapshots.iter().map(|(name, machine)| (name.as_str(), machine.now()))
    }

    /// Edges of pins, PWM outputs, I2C and SPI messages and resets since the trace was taken last, oldest first.
    pub fn take_trace(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.control.trace).into()
    }
}
