//! The processor, as far as small programs loaded into RAM need it: integer instructions, and the ROM's `ets_printf`.
//! Interrupts, peripherals and the rest of the ROM are not there: a program that wants them stops.

mod printf;
mod riscv;
mod xtensa;

use std::ops::Range;

use esp_model::chip::Arch;

use crate::machine::Machine;

/// Where the ESP8266's ROM is; the memory maps of all others name it.
const USUAL_ROM: Range<u32> = 0x4000_0000..0x4001_0000;

/// What came of letting the program run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It called the ROM's printf.
    Says(String),
    /// It is still at work.
    Works,
    /// It returned, or met an instruction or a ROM function that is not modelled.
    Stops,
}

/// One instruction.
enum Step {
    /// The next one follows.
    Next,
    /// A call to a function of the ROM, with its arguments. The program goes on behind the call.
    Rom(u32, [u32; 6]),
    /// Not modelled.
    Unknown,
}

/// A processor with a program.
#[derive(Debug)]
pub struct Core {
    kind: Kind,
    printf: Option<u32>,
}

#[derive(Debug)]
enum Kind {
    RiscV(riscv::RiscV),
    Xtensa(xtensa::Xtensa),
}

impl Core {
    /// A program that begins at `entry`, with a stack at the end of the chip's data RAM.
    pub fn new(machine: &Machine, entry: u32) -> Self {
        let ram = machine.chip.memory.iter().find(|region| region.name == "DRAM");
        let stack = ram.map_or(0, |region| region.end) & !0xf;
        let rom = machine.chip.memory.iter().find(|region| region.name == "IROM_MASK");
        let rom = rom.map_or(USUAL_ROM, |region| region.start..region.end);
        let kind = match machine.chip.arch {
            Arch::Riscv => Kind::RiscV(riscv::RiscV::new(entry, stack, rom)),
            Arch::Xtensa => Kind::Xtensa(xtensa::Xtensa::new(entry, stack, rom)),
        };
        Self { kind, printf: machine.chip.rom.printf }
    }

    /// Goes on for at most so many instructions.
    pub fn run(&mut self, machine: &mut Machine, steps: u32) -> Outcome {
        for _ in 0..steps {
            let step = match &mut self.kind {
                Kind::RiscV(core) => core.step(machine),
                Kind::Xtensa(core) => core.step(machine),
            };
            match step {
                Step::Next => {}
                Step::Rom(address, arguments) if self.printf == Some(address) => {
                    return Outcome::Says(printf::format(machine, &arguments));
                }
                Step::Rom(..) | Step::Unknown => return Outcome::Stops,
            }
        }
        Outcome::Works
    }
}

/// Bits `low..low + count` with their sign.
fn signed(word: u32, low: u32, count: u32) -> u32 {
    ((word << (32 - low - count)) as i32 >> (32 - count)) as u32
}

/// Bits `low..low + count`.
fn bits(word: u32, low: u32, count: u32) -> u32 {
    word >> low & ((1 << count) - 1)
}

#[cfg(test)]
mod tests;
