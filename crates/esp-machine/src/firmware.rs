//! The machine as the engine of a virtual chip ([`esp_sim::firmware::Firmware`]).

use std::time::Duration;

use esp_model::chip::Chip;
use esp_sim::efuse::Efuse;
use esp_sim::firmware::{Firmware, Start};
use esp_sim::nor::{Nor, SECTOR};

use crate::debugger::{Control, Why};
use crate::events::{Input, What};
use crate::machine::{Config, Machine, Stop, rom_name};
use crate::rom::built_in;

/// Notes that are kept at most until somebody takes them.
const MOST_NOTES: usize = 200;

/// A machine whose flash and eFuses belong to the virtual chip: they are lent for each run.
#[derive(Debug)]
pub struct Engine {
    /// The machine. Its flash and eFuses are there only while they are lent.
    pub machine: Machine,
    /// The machine's time less the owner's, in picoseconds.
    offset: i128,
    /// The owner's time at the last run.
    until: u64,
    pub(crate) usb: bool,
    notes: Vec<String>,
    pub(crate) control: Control,
}

/// An engine for a chip; `None` when it has no machine, or its ROM is not built in.
pub fn firmware(chip: &'static Chip, revision: u16) -> Option<Box<dyn Firmware>> {
    let mut config = Config::new(chip.id, SECTOR as u32)?;
    if config.board.unfinished {
        return None;
    }
    config.revision = revision;
    let machine = Machine::new(config).ok()?;
    Some(Box::new(Engine { machine, offset: 0, until: 0, usb: false, notes: Vec::new(), control: Control::default() }))
}

/// Whether [`firmware`] has an engine for this chip as it comes from the factory: its machine is known and its ROM built in.
pub fn runs(chip: &Chip) -> bool {
    let board = crate::chip::board(chip.id).filter(|board| !board.unfinished);
    let rom = board.map(|board| rom_name(board, chip.factory.revision));
    rom.is_some_and(|rom| built_in().any(|name| name == rom))
}

/// Lends an engine of this crate its flash and eFuses, for a debugger's work. `None` for another engine.
pub fn attach<T>(
    firmware: &mut dyn Firmware,
    flash: &mut Nor,
    efuse: &mut Efuse,
    work: impl FnOnce(&mut Engine) -> T,
) -> Option<T> {
    let engine = firmware.as_any().downcast_mut::<Engine>()?;
    Some(engine.lend(flash, efuse, work))
}

impl Engine {
    fn lend<T>(&mut self, flash: &mut Nor, efuse: &mut Efuse, work: impl FnOnce(&mut Self) -> T) -> T {
        std::mem::swap(&mut self.machine.soc.shared.flash, flash);
        std::mem::swap(&mut self.machine.soc.shared.efuse, efuse);
        let done = work(self);
        std::mem::swap(&mut self.machine.soc.shared.flash, flash);
        std::mem::swap(&mut self.machine.soc.shared.efuse, efuse);
        done
    }

    /// The owner's time goes on from the machine's time of now.
    pub(crate) fn time_has_changed(&mut self) {
        self.offset = i128::from(self.machine.now()) - i128::from(self.until);
    }

    /// Until that time, or until a debugger's condition is met.
    fn run_on(&mut self, end: u64) {
        self.machine.soc.shared.heed = self.control.heeds_events();
        self.machine.most_events = if self.control.heeds_events() { 1 } else { 1 << 16 };
        let limit = self.control.time_limit();
        match self.machine.run(end.min(limit)) {
            Stop::Breakpoint { core } => self.control.halted = Some(Why::Breakpoint { core }),
            Stop::Watch { core, watch, write } => self.control.halted = Some(Why::Watch { core, watch, write }),
            Stop::Time if self.machine.now() >= limit => self.control.time_is_up(limit),
            Stop::Time | Stop::Resets | Stop::Events => {}
        }
    }

    /// Takes what has happened: the console's bytes, notes, and what a debugger waits for.
    fn hand_out(&mut self, sent: &mut Vec<u8>) {
        for event in self.machine.take_events() {
            let console = match event.what {
                What::Uart { port: 0, byte } if !self.usb => Some(byte),
                What::Usb(byte) if self.usb => Some(byte),
                _ => None,
            };
            sent.extend(console);
            self.control.see(&event, console);
            self.note(&event.what);
        }
    }

    fn note(&mut self, what: &What) {
        let place = |pc: u32| {
            let function = self.machine.rom().function_in_rom(pc);
            format!("{pc:#010x}{}", function.map_or(String::new(), |function| format!(" ({function})")))
        };
        let note = match what {
            What::RadioNotEmulated { address, name, pc, let_through: true } => format!(
                "radio_not_emulated: the program at {} polls {name} ({address:#010x}) of the radio, which is not there; \
                 it was let through, as radio=finish wants; there is no network",
                place(*pc)
            ),
            What::RadioNotEmulated { address, name, pc, .. } => format!(
                "radio_not_emulated: the program at {} polls {name} ({address:#010x}) of the radio, which is not there; \
                 it will wait forever",
                place(*pc)
            ),
            What::Unmodelled { address, name, pc, write } => {
                let done = if *write { "written" } else { "read" };
                format!("{name} ({address:#010x}) was {done} at {}; it keeps what is written", place(*pc))
            }
            _ => return,
        };
        if self.notes.len() < MOST_NOTES {
            self.notes.push(note);
        }
    }
}

impl Firmware for Engine {
    fn start(&mut self, flash: &mut Nor, efuse: &mut Efuse, start: Start) {
        self.usb = start.usb;
        self.lend(flash, efuse, |engine| {
            if start.flash_changed {
                engine.machine.flash_changed();
            }
            engine.machine.restart(start.cause, start.download);
            engine.machine.pin_is_held = start.pin_is_held;
            engine.machine.soc.shared.radio.lets_through = start.radio_finishes;
            engine.machine.take_events();
            engine.until = 0;
            engine.time_has_changed();
            engine.control.halted = None;
        });
    }

    fn run(&mut self, flash: &mut Nor, efuse: &mut Efuse, until: Duration) -> Vec<u8> {
        self.until = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX / 1000).saturating_mul(1000);
        let end = u64::try_from(i128::from(self.until) + self.offset).unwrap_or(0);
        let mut sent = Vec::new();
        self.lend(flash, efuse, |engine| {
            engine.hand_out(&mut sent);
            while engine.control.halted.is_none() && engine.machine.now() < end {
                engine.run_on(end);
                engine.hand_out(&mut sent);
            }
            if engine.control.halted.is_some() {
                engine.time_has_changed();
            }
        });
        sent
    }

    fn receive(&mut self, bytes: &[u8]) {
        let input = if self.usb { Input::Usb(bytes.to_vec()) } else { Input::Uart { port: 0, bytes: bytes.to_vec() } };
        let now = self.machine.now();
        self.machine.input(now, input);
    }

    fn notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    fn as_any(&mut self) -> &mut dyn std::any::Any {
        self
    }
}
