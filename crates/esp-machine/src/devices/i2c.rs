//! I2C controllers. Nothing is on the bus: whoever is addressed does not acknowledge.

use super::SECOND;
use crate::chip::Peripheral;
use crate::device::{Ctx, Device, NEVER};

const CTR: u32 = 0x4;
const STATUS: u32 = 0x8;
const FIFO_CONF: u32 = 0x18;
const INT_RAW: u32 = 0x20;
const INT_CLR: u32 = 0x24;
const INT_ENA: u32 = 0x28;
const INT_ST: u32 = 0x2c;
const FIRST_COMMAND: u32 = 0x58;
const COMMANDS: u32 = 8;

const TRANS_START: u32 = 1 << 5;
const TX_WATERMARK: u32 = 1 << 1;
const END_DETECT: u32 = 1 << 3;
const TRANS_COMPLETE: u32 = 1 << 7;
const NACK: u32 = 1 << 10;
const DONE: u32 = 1 << 31;

/// Opcodes of the command registers.
const WRITE: u32 = 1;
const STOP: u32 = 2;
const END: u32 = 4;

/// One controller.
#[derive(Debug, Clone)]
pub struct I2c {
    source: u32,
    raw: u32,
    /// What the transaction under way ends with.
    outcome: u32,
}

impl I2c {
    pub fn new(it: &'static Peripheral) -> Self {
        // The first source of some blocks is that of the analog bus.
        let source = it.sources.last().copied().unwrap_or(u32::MAX);
        Self { source, raw: TX_WATERMARK, outcome: 0 }
    }

    /// Walks the commands; a write of which an acknowledge is expected ends the transaction.
    fn start(&mut self, ctx: &mut Ctx<'_>) {
        self.outcome = TRANS_COMPLETE;
        let mut bytes = 1u64;
        for index in 0..COMMANDS {
            let at = FIRST_COMMAND + 4 * index;
            let command = ctx.get(at);
            ctx.put(at, command | DONE);
            match command >> 11 & 7 {
                WRITE => {
                    bytes += u64::from(command & 0xff);
                    if command & 1 << 8 != 0 {
                        self.outcome = NACK | TRANS_COMPLETE;
                        break;
                    }
                }
                STOP => break,
                END => {
                    self.outcome = END_DETECT;
                    break;
                }
                _ => {}
            }
        }
        // Nine clocks a byte at 100 kHz.
        let end = ctx.shared.now + bytes.min(2) * 9 * (SECOND / 100_000);
        ctx.wake(end);
    }

    fn update(&mut self, ctx: &mut Ctx<'_>) {
        let active = self.raw & ctx.get(INT_ENA) != 0;
        ctx.shared.source(self.source, active);
    }
}

impl Device for I2c {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        match offset {
            INT_RAW => self.raw,
            INT_ST => self.raw & ctx.get(INT_ENA),
            // No acknowledge, both FIFOs empty, the bus is free.
            STATUS => u32::from(self.raw & NACK != 0),
            _ => ctx.read(offset),
        }
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        match offset {
            CTR if value & TRANS_START != 0 => {
                ctx.store(offset, value);
                self.start(ctx);
            }
            INT_CLR => self.raw = self.raw & !value | TX_WATERMARK,
            FIFO_CONF => ctx.put(offset, value),
            _ => ctx.store(offset, value),
        }
        self.update(ctx);
    }

    fn fire(&mut self, ctx: &mut Ctx<'_>) {
        self.raw |= std::mem::take(&mut self.outcome);
        self.update(ctx);
    }

    fn reset(&mut self, ctx: &mut Ctx<'_>, _whole: bool) {
        self.raw = TX_WATERMARK;
        self.outcome = 0;
        ctx.wake(NEVER);
        self.update(ctx);
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}
