//! The machine as the engine of a virtual chip ([`esp_sim::firmware::Firmware`]).

use std::time::Duration;

use esp_model::chip::Chip;
use esp_sim::efuse::Efuse;
use esp_sim::firmware::{Firmware, Start};
use esp_sim::nor::{Nor, SECTOR};

use crate::events::{Input, What};
use crate::machine::{Config, Machine, rom_name};
use crate::rom::built_in;

/// Notes that are kept at most until somebody takes them.
const MOST_NOTES: usize = 200;

/// A machine whose flash and eFuses belong to the virtual chip: they are lent for each run.
#[derive(Debug)]
struct Engine {
    machine: Machine,
    /// Time at which the current start was.
    origin: u64,
    usb: bool,
    notes: Vec<String>,
}

/// An engine for a chip; `None` when it has no machine, or its ROM is not built in.
pub fn firmware(chip: &'static Chip, revision: u16) -> Option<Box<dyn Firmware>> {
    let mut config = Config::new(chip.id, SECTOR as u32)?;
    if config.board.unfinished {
        return None;
    }
    config.revision = revision;
    let machine = Machine::new(config).ok()?;
    Some(Box::new(Engine { machine, origin: 0, usb: false, notes: Vec::new() }))
}

/// Whether [`firmware`] has an engine for this chip as it comes from the factory: its machine is known and its ROM built in.
pub fn runs(chip: &Chip) -> bool {
    let board = crate::chip::board(chip.id).filter(|board| !board.unfinished);
    let rom = board.map(|board| rom_name(board, chip.factory.revision));
    rom.is_some_and(|rom| built_in().any(|name| name == rom))
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

    fn note(&mut self, what: &What) {
        let place = |pc: u32| {
            let function = self.machine.rom().function_in_rom(pc);
            format!("{pc:#010x}{}", function.map_or(String::new(), |function| format!(" ({function})")))
        };
        let note = match what {
            What::RadioNotEmulated { address, name, pc } => format!(
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
            engine.machine.take_events();
            engine.origin = engine.machine.now();
        });
    }

    fn run(&mut self, flash: &mut Nor, efuse: &mut Efuse, until: Duration) -> Vec<u8> {
        let end =
            self.origin.saturating_add(u64::try_from(until.as_nanos()).unwrap_or(u64::MAX / 1000).saturating_mul(1000));
        let mut sent = Vec::new();
        self.lend(flash, efuse, |engine| {
            while engine.machine.now() < end {
                engine.machine.run(end);
                for event in engine.machine.take_events() {
                    match event.what {
                        What::Uart { port: 0, byte } if !engine.usb => sent.push(byte),
                        What::Usb(byte) if engine.usb => sent.push(byte),
                        other => engine.note(&other),
                    }
                }
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
}
