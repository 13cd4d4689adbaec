//! What others do with a machine: resets, a debugger's single steps, memory without side effects.

use super::{LONGEST_SLICE, Machine, Stop};
use crate::device::ResetRequest;
use crate::memory::{IO, READ};

impl Machine {
    /// The reset pin: as a power-on, with the straps as they are.
    pub fn reset(&mut self, download: bool) {
        self.soc.shared.straps = if download { self.soc.board.straps.download } else { self.soc.board.straps.boot };
        self.power_on();
    }

    pub(super) fn power_on(&mut self) {
        self.begin_reset(ResetRequest { cause: self.soc.board.reset_cause.power_on, whole: true, cpu_only: false });
    }

    /// Comes out of reset with this cause and these straps, RTC state kept or lost.
    pub fn restart(&mut self, cause: u32, download: bool) {
        self.soc.shared.straps = if download { self.soc.board.straps.download } else { self.soc.board.straps.boot };
        self.start(ResetRequest { cause, whole: cause == self.soc.board.reset_cause.power_on, cpu_only: false });
    }

    /// One instruction of a core; the others go on as long. Interrupts wait meanwhile. A core that waits for one, or stands
    /// still, is waited for until that time.
    pub fn step(&mut self, core: usize, until: u64) -> Option<Stop> {
        let executed = |machine: &Self| machine.cores.get(core).map_or(0, |core| core.get().instructions());
        let before = executed(self);
        self.cores.get_mut(core)?.get_mut().begin_step();
        self.longest = 1;
        let mut stop = None;
        while stop.is_none() && executed(self) == before {
            stop = self.turn(until);
        }
        self.longest = LONGEST_SLICE;
        self.cores.get_mut(core)?.get_mut().end_step();
        stop
    }

    /// Somebody else has changed the flash: what of it is mapped is read anew.
    pub fn flash_changed(&mut self) {
        let size = self.soc.shared.flash.size();
        self.soc.shared.mmu.flash_changed(&mut self.soc.memory, &self.soc.shared.flash, 0, size);
        self.settle();
    }

    /// Memory, as a debugger sees it; flash windows included. What is nowhere reads as 0.
    pub fn peek(&mut self, address: u32, length: usize) -> Vec<u8> {
        (0..length as u32).map(|index| self.peek_byte(address.wrapping_add(index)).unwrap_or(0)).collect()
    }

    /// A byte as a debugger sees it: nothing happens by looking. `None` where nothing answers.
    pub fn peek_byte(&mut self, address: u32) -> Option<u8> {
        let entry = self.soc.memory.entry(address);
        if entry & IO != 0 {
            return Some((self.soc.peek_register(address & !3) >> (8 * (address & 3))) as u8);
        }
        if entry & READ == 0 {
            self.soc.page_in(address);
        }
        self.soc.memory.byte(address)
    }

    /// Changes memory, as a debugger does; false where it cannot be written.
    pub fn poke(&mut self, address: u32, bytes: &[u8]) -> bool {
        let fits = bytes
            .iter()
            .enumerate()
            .all(|(index, byte)| self.soc.memory.store_any(address.wrapping_add(index as u32), *byte));
        self.settle();
        fits
    }
}
