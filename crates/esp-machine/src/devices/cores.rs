//! The registers by which the first core starts and stops the second one.

use crate::chip::{Board, Peripheral};
use crate::device::{CoreRequest, Ctx, Device};

/// A bit: offset of its register, and which one.
#[derive(Debug, Clone, Copy)]
struct Bit {
    offset: u32,
    mask: u32,
}

impl Bit {
    fn new(it: &Peripheral, name: &str) -> Self {
        let bit = it.number(&format!("{name}_bit"));
        Self { offset: it.number(name), mask: 1 << (bit & 31) }
    }

    fn is_set(self, ctx: &mut Ctx<'_>) -> bool {
        ctx.get(self.offset) & self.mask != 0
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct SecondCore {
    reset: Bit,
    clock: Bit,
    stall: Bit,
    entry: u32,
    /// It is held in reset, or was never let go.
    held: bool,
    running: bool,
}

impl SecondCore {
    pub fn new(board: &'static Board, it: &'static Peripheral) -> Self {
        Self {
            reset: Bit::new(it, "reset"),
            clock: Bit::new(it, "clock"),
            stall: Bit::new(it, "stall"),
            entry: board.reset_vector,
            held: true,
            running: false,
        }
    }
}

impl Device for SecondCore {
    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        ctx.store(offset, value);
        // The block has the interrupt matrix of some chips as well.
        ctx.shared.stop = true;
        if ![self.reset.offset, self.clock.offset, self.stall.offset].contains(&offset) {
            return;
        }
        let reset = self.reset.is_set(ctx);
        let running = !reset && self.clock.is_set(ctx) && !self.stall.is_set(ctx);
        let fresh = self.held && running;
        self.held = if reset { true } else { self.held && !running };
        if fresh {
            ctx.shared.second_core = Some(CoreRequest::Start(self.entry));
        } else if running != self.running {
            ctx.shared.second_core = Some(if running { CoreRequest::Continue } else { CoreRequest::Halt });
        }
        self.running = running;
    }

    fn reset(&mut self, _ctx: &mut Ctx<'_>, _whole: bool) {
        (self.held, self.running) = (true, false);
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}
