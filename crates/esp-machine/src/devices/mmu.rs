//! The cache's table of flash pages, where it is mapped as memory.

use crate::device::{Ctx, Device};

/// See the module.
#[derive(Debug, Clone)]
pub struct MmuTable;

impl Device for MmuTable {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        ctx.shared.mmu.entry(offset / 4)
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        ctx.shared.mmu.set_entry(ctx.memory, offset / 4, value);
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}
