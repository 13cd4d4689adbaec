//! Loads and stores of a core.

use crate::soc::Soc;

use super::Xtensa;
use super::exceptions::Trap;

/// Memory of the core's instruction bus (`XCHAL_INSTRAM…` and `XCHAL_INSTROM…` of ESP-IDF's `core-isa.h`; nothing else is in
/// this range on any chip): whole words only. Elsewhere unaligned accesses are carried out.
#[inline(always)]
fn is_code_bus(address: u32) -> bool {
    address >> 26 == 0x4000_0000 >> 26
}

impl Xtensa {
    #[inline(always)]
    fn watch(&mut self, address: u32, store: bool) -> Result<(), Trap> {
        if self.watching_data { self.data_breaks(address, store) } else { Ok(()) }
    }

    /// A load that is not plain memory.
    #[cold]
    #[inline(never)]
    fn load_slow(&mut self, soc: &mut Soc, address: u32, size: u32) -> Result<u32, Trap> {
        soc.cycle = self.cycles;
        soc.shared.pc = self.pc;
        if is_code_bus(address) && (size < 4 || address & 3 != 0) {
            return Err(self.not_a_word(address, size));
        }
        let value = soc.load(address, size).map_err(|fault| self.refused(soc, fault, address, false))?;
        if soc.is_register(address) {
            self.polled();
        }
        Ok(value)
    }

    #[cold]
    #[inline(never)]
    fn store_slow(&mut self, soc: &mut Soc, address: u32, size: u32, value: u32) -> Result<(), Trap> {
        soc.cycle = self.cycles;
        soc.shared.pc = self.pc;
        if is_code_bus(address) && (size < 4 || address & 3 != 0) {
            return Err(self.not_a_word(address, size));
        }
        soc.store(address, size, value).map_err(|fault| self.refused(soc, fault, address, true))
    }

    #[inline(always)]
    pub(super) fn load32(&mut self, soc: &mut Soc, address: u32) -> Result<u32, Trap> {
        self.watch(address, false)?;
        match soc.memory.load32(address) {
            Some(word) if address & 3 == 0 || !is_code_bus(address) => Ok(word),
            _ => self.load_slow(soc, address, 4),
        }
    }

    #[inline(always)]
    pub(super) fn load16(&mut self, soc: &mut Soc, address: u32) -> Result<u32, Trap> {
        self.watch(address, false)?;
        match soc.memory.load16(address) {
            Some(half) if !is_code_bus(address) => Ok(half.into()),
            _ => self.load_slow(soc, address, 2),
        }
    }

    #[inline(always)]
    pub(super) fn load8(&mut self, soc: &mut Soc, address: u32) -> Result<u32, Trap> {
        self.watch(address, false)?;
        match soc.memory.load8(address) {
            Some(byte) if !is_code_bus(address) => Ok(byte.into()),
            _ => self.load_slow(soc, address, 1),
        }
    }

    #[inline(always)]
    pub(super) fn store32(&mut self, soc: &mut Soc, address: u32, value: u32) -> Result<(), Trap> {
        self.watch(address, true)?;
        let whole = address & 3 == 0 || !is_code_bus(address);
        if whole && soc.memory.store32(address, value) { Ok(()) } else { self.store_slow(soc, address, 4, value) }
    }

    #[inline(always)]
    pub(super) fn store16(&mut self, soc: &mut Soc, address: u32, value: u32) -> Result<(), Trap> {
        self.watch(address, true)?;
        if !is_code_bus(address) && soc.memory.store16(address, value as u16) {
            Ok(())
        } else {
            self.store_slow(soc, address, 2, value)
        }
    }

    #[inline(always)]
    pub(super) fn store8(&mut self, soc: &mut Soc, address: u32, value: u32) -> Result<(), Trap> {
        self.watch(address, true)?;
        if !is_code_bus(address) && soc.memory.store8(address, value as u8) {
            Ok(())
        } else {
            self.store_slow(soc, address, 1, value)
        }
    }

    /// `S32C1I`: stores when the word is the expected one; what stood there. Must be aligned.
    pub(super) fn compare_and_store(&mut self, soc: &mut Soc, address: u32, value: u32) -> Result<u32, Trap> {
        if address & 3 != 0 {
            self.fault_address = address;
            return Err(Trap::Alignment);
        }
        let old = self.load32(soc, address)?;
        if old == self.compare_value {
            self.store32(soc, address, value)?;
        }
        Ok(old)
    }

    /// Loads and stores of floating-point registers.
    pub(super) fn float_memory(&mut self, soc: &mut Soc, op: &super::Op) -> Result<(), Trap> {
        use super::kind::Kind::*;
        self.check_float()?;
        let indexed = matches!(op.kind, Lsx | Lsxu | Ssx | Ssxu);
        let offset = if indexed { self.a(op.t) } else { op.imm as u32 };
        let address = self.a(op.s).wrapping_add(offset);
        let register = if indexed { op.r } else { op.t } as usize & 15;
        match op.kind {
            Lsi | Lsiu | Lsx | Lsxu => self.fr[register] = self.load32(soc, address)?,
            _ => self.store32(soc, address, self.fr[register])?,
        }
        if matches!(op.kind, Lsiu | Ssiu | Lsxu | Ssxu) {
            self.set_a(op.s, address);
        }
        Ok(())
    }
}
