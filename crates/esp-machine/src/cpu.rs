//! The boundary between a processor core and the rest of the machine.

use crate::riscv::RiscV;
use crate::soc::Soc;
use crate::xtensa::Xtensa;

/// Why a slice ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All of its budget is used, or `soc.shared.stop` was set.
    Budget,
    /// The core waits for an interrupt.
    Idle,
    /// A breakpoint: the instruction at PC was not executed.
    Breakpoint,
}

/// What is the matter with an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing answers at this address, or it cannot be written.
    Access,
}

/// A processor core.
///
/// The contract of [`Cpu::run`]: execute at most `budget` instructions (one is one cycle); before any access through
/// [`Soc::load`], [`Soc::store`] or a fetch that is not plain memory, set `soc.cycle` to the core's cycle count, so that devices
/// see the right time, and `soc.shared.pc` to the instruction's address. Leave the loop when `soc.shared.stop` is set.
/// Interrupt lines are looked at only when a slice begins and after instructions that change what is enabled.
pub trait Cpu: std::fmt::Debug {
    /// Starts anew at `entry`; the cycle counter is 0.
    fn reset(&mut self, entry: u32);
    /// Runs.
    fn run(&mut self, soc: &mut Soc, budget: u64) -> Exit;
    /// Instructions executed since power-on, idle cycles included: what time is counted from.
    fn cycles(&self) -> u64;
    /// Instructions executed since power-on, without idle cycles.
    fn instructions(&self) -> u64 {
        self.cycles()
    }
    /// The core waits for an interrupt.
    fn idles(&self) -> bool {
        false
    }
    /// The core idles, and no interrupt that is there now ends that.
    fn stays_idle(&mut self, soc: &mut Soc) -> bool;
    /// The core idles for so many cycles.
    fn skip(&mut self, cycles: u64);
    /// Cycles until the core's own timers want attention, when they are armed.
    fn next_timer(&self) -> Option<u64>;
    /// Program counter.
    fn pc(&self) -> u32;
    /// Sets it.
    fn set_pc(&mut self, pc: u32);
    /// A general register, as GDB numbers them for this architecture.
    fn register(&self, number: usize) -> Option<u32>;
    /// Sets it; false when there is none.
    fn set_register(&mut self, number: usize, value: u32) -> bool;
    /// Decoded code at this place of the arena (byte offset) was overwritten.
    fn overwritten(&mut self, place: u32);
    /// Stop before these addresses.
    fn set_breakpoints(&mut self, addresses: &[u32]);
    /// Something has happened: a core that passes over rounds of a wait looks again.
    fn look_again(&mut self) {}
    /// The next instruction is stepped over by a debugger: a breakpoint on it does not count, interrupts wait.
    fn begin_step(&mut self);
    /// It was.
    fn end_step(&mut self);
}

/// The cores there are.
#[derive(Debug, Clone)]
pub enum Core {
    /// RV32.
    RiscV(Box<RiscV>),
    /// LX6 and LX7.
    Xtensa(Box<Xtensa>),
}

impl Core {
    /// A core of this instruction set.
    pub fn new(isa: &str, number: u32) -> Self {
        if isa.starts_with("rv32") {
            Self::RiscV(Box::new(RiscV::new(isa, number)))
        } else {
            Self::Xtensa(Box::new(Xtensa::new(isa, number)))
        }
    }

    /// As the trait's user.
    pub fn get(&self) -> &dyn Cpu {
        match self {
            Self::RiscV(core) => &**core,
            Self::Xtensa(core) => &**core,
        }
    }

    /// As the trait's user.
    pub fn get_mut(&mut self) -> &mut dyn Cpu {
        match self {
            Self::RiscV(core) => &mut **core,
            Self::Xtensa(core) => &mut **core,
        }
    }
}
