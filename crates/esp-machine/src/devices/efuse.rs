//! The eFuse controller, on the model that the imitation uses as well.

use crate::chip::Peripheral;
use crate::device::{Ctx, Device};

/// See the module.
#[derive(Debug, Clone)]
pub struct EfuseController {
    command: u32,
    status: u32,
    /// Where software says which block has the key for signatures; 0 where the register file knows.
    choice: u32,
    /// What the status register says when nothing is going on.
    idle: u32,
    /// After a read command the command register is seen busy once.
    busy_once: bool,
    busy: u32,
}

impl EfuseController {
    pub fn new(it: &'static Peripheral) -> Self {
        Self {
            command: it.number("command"),
            status: it.number("status"),
            choice: it.number("choice"),
            idle: it.number_or("idle", 1),
            busy_once: it.number("busy_once") != 0,
            busy: 0,
        }
    }
}

impl Device for EfuseController {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        if offset == self.command {
            return std::mem::take(&mut self.busy);
        }
        if offset == self.status {
            return self.idle;
        }
        let address = ctx.base.wrapping_add(offset);
        ctx.shared.efuse.read(address).unwrap_or_else(|| ctx.read(offset))
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        let address = ctx.base.wrapping_add(offset);
        if self.choice != 0 && offset == self.choice {
            ctx.put(offset, value);
        } else if !ctx.shared.efuse.write(address, value) {
            ctx.store(offset, value);
        }
        if offset == self.command && self.busy_once {
            self.busy = value & 3;
        }
    }

    fn reset(&mut self, ctx: &mut Ctx<'_>, _whole: bool) {
        ctx.shared.efuse.reload();
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}
