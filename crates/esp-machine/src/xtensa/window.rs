//! Windowed registers: 64 registers of which 16 are seen, in groups of four.

use super::exceptions::Trap;
use super::{EXCM, WOE, Xtensa};

impl Xtensa {
    /// A register of the window.
    #[inline(always)]
    pub(super) fn a(&self, number: u8) -> u32 {
        self.ar[(self.base + usize::from(number)) & 63]
    }

    /// Sets it.
    #[inline(always)]
    pub(super) fn set_a(&mut self, number: u8, value: u32) {
        self.ar[(self.base + usize::from(number)) & 63] = value;
    }

    /// Moves the window to a group.
    pub(super) fn set_window_base(&mut self, base: u32) {
        self.base = (base & 15) as usize * 4;
        self.update_room();
    }

    /// The window's group.
    pub(super) fn window_base(&self) -> u32 {
        self.base as u32 / 4
    }

    /// Whether the group so far from the window's belongs to a call that has its registers in the file.
    fn is_live(&self, distance: u32) -> bool {
        self.window_start >> (self.window_base().wrapping_add(distance) & 15) & 1 != 0
    }

    /// How many groups can be named before a caller's registers are touched. After every change of the window, its
    /// starts, or PS.
    pub(super) fn update_room(&mut self) {
        let checked = self.ps & (WOE | EXCM) == WOE;
        self.room = if checked { (1..4).find(|distance| self.is_live(*distance)).unwrap_or(4) as u8 } else { u8::MAX };
    }

    /// Registers of another call are in the way: its handler is to save them.
    pub(super) fn window_overflow(&mut self, pc: u32) {
        let owner = self.window_base();
        self.set_owner(owner);
        self.set_window_base(owner + u32::from(self.room));
        let vector = if self.is_live(1) {
            0x000
        } else if self.is_live(2) {
            0x080
        } else {
            0x100
        };
        self.enter_window_vector(vector, pc);
    }

    fn set_owner(&mut self, base: u32) {
        self.ps = self.ps & !(0xf << 8) | base << 8;
    }

    fn enter_window_vector(&mut self, vector: u32, pc: u32) {
        self.epc[1] = pc;
        self.ps |= EXCM;
        self.update_room();
        self.pc = self.vecbase.wrapping_add(vector);
    }

    /// `ENTRY`: the window moves by what the call has asked for. True when it did, false after an overflow.
    pub(super) fn entry(&mut self, stack: u8, size: i32, pc: u32) -> Result<bool, Trap> {
        let increment = self.ps >> 16 & 3;
        if self.ps & (WOE | EXCM) != WOE || stack > 3 {
            return Err(Trap::Illegal);
        }
        if increment as u8 >= self.room {
            self.window_overflow(pc);
            return Ok(false);
        }
        let value = self.a(stack).wrapping_sub(size as u32);
        self.set_a(stack + 4 * increment as u8, value);
        self.window_start |= 1 << ((self.window_base() + increment) & 15);
        self.set_window_base(self.window_base() + increment);
        Ok(true)
    }

    /// `RETW`: where to go on, or nothing after an underflow.
    pub(super) fn return_windowed(&mut self, pc: u32) -> Result<Option<u32>, Trap> {
        let back = self.a(0);
        let increment = back >> 30;
        let nearest = (1..4).find(|distance| self.is_live(16 - distance));
        if increment == 0 || self.ps & (WOE | EXCM) != WOE || nearest.is_some_and(|nearest| nearest != increment) {
            return Err(Trap::Illegal);
        }
        let owner = self.window_base();
        self.set_window_base(owner.wrapping_sub(increment));
        if self.is_live(0) {
            self.window_start &= !(1 << owner);
            self.update_room();
            return Ok(Some(pc & 0xc000_0000 | back & 0x3fff_ffff));
        }
        self.set_owner(owner);
        self.enter_window_vector([0, 0x040, 0x0c0, 0x140][increment as usize & 3], pc);
        Ok(None)
    }

    /// `RFWO` and `RFWU`: back from a handler that has saved or restored the registers of this window.
    pub(super) fn return_from_window(&mut self, restored: bool) -> u32 {
        self.ps &= !EXCM;
        self.attention |= self.held_back;
        let bit = 1 << self.window_base();
        self.window_start = if restored { self.window_start | bit } else { self.window_start & !bit };
        self.set_window_base(self.ps >> 8 & 0xf);
        self.epc[1]
    }

    /// `MOVSP` may move the stack only while the caller's registers are in the file.
    pub(super) fn caller_is_live(&self) -> bool {
        (1..4).any(|distance| self.is_live(16 - distance))
    }
}
