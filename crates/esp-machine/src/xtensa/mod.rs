//! LX6 and LX7 cores.

use crate::cpu::{Cpu, Exit};
use crate::soc::Soc;

/// A core. Does not execute anything yet.
#[derive(Debug, Clone)]
pub struct Xtensa {
    pc: u32,
    cycles: u64,
}

impl Xtensa {
    /// A core of this instruction set (`lx6`, `lx7`).
    pub fn new(_isa: &str, _number: u32) -> Self {
        Self { pc: 0, cycles: 0 }
    }
}

impl Cpu for Xtensa {
    fn reset(&mut self, entry: u32) {
        self.pc = entry;
    }
    fn run(&mut self, _soc: &mut Soc, _budget: u64) -> Exit {
        Exit::Idle
    }
    fn cycles(&self) -> u64 {
        self.cycles
    }
    fn skip(&mut self, cycles: u64) {
        self.cycles += cycles;
    }
    fn next_timer(&self) -> Option<u64> {
        None
    }
    fn pc(&self) -> u32 {
        self.pc
    }
    fn set_pc(&mut self, pc: u32) {
        self.pc = pc;
    }
    fn register(&self, _number: usize) -> Option<u32> {
        None
    }
    fn set_register(&mut self, _number: usize, _value: u32) -> bool {
        false
    }
    fn overwritten(&mut self, _place: u32) {}
    fn set_breakpoints(&mut self, _addresses: &[u32]) {}
}
