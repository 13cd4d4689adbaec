//! The first chip's legacy timer ("FRC2"): 32 bits that count up from the bus clock, with an alarm. ESP-IDF before 4.2 takes its
//! time from it.

use super::SECOND;
use crate::chip::Peripheral;
use crate::device::{Ctx, Device, NEVER};

const LOAD: u32 = 0x20;
const COUNT: u32 = 0x24;
const CONTROL: u32 = 0x28;
const INTERRUPT: u32 = 0x2c;
const ALARM: u32 = 0x30;
const ENABLE: u32 = 1 << 7;

/// See the module.
#[derive(Debug, Clone)]
pub struct Frc {
    source: u32,
    hz: u64,
    count: u32,
    since: u64,
    raised: bool,
}

impl Frc {
    pub fn new(it: &'static Peripheral) -> Self {
        let source = it.sources.first().copied().unwrap_or(u32::MAX);
        Self { source, hz: u64::from(it.number_or("mhz", 80)) * 1_000_000, count: 0, since: 0, raised: false }
    }

    /// Ticks a second.
    fn rate(&self, ctx: &mut Ctx<'_>) -> u64 {
        let divider = match ctx.get(CONTROL) >> 1 & 7 {
            0 => 1,
            2 => 16,
            _ => 256,
        };
        (self.hz / divider).max(1)
    }

    fn now(&self, ctx: &mut Ctx<'_>) -> u32 {
        if ctx.get(CONTROL) & ENABLE == 0 {
            return self.count;
        }
        let passed = u128::from(ctx.shared.now.saturating_sub(self.since));
        self.count.wrapping_add((passed * u128::from(self.rate(ctx)) / u128::from(SECOND)) as u32)
    }

    fn settle(&mut self, ctx: &mut Ctx<'_>) {
        // What is left of a tick stays.
        let count = self.now(ctx);
        let ticks = count.wrapping_sub(self.count);
        let rate = self.rate(ctx);
        if ctx.get(CONTROL) & ENABLE == 0 {
            self.since = ctx.shared.now;
        } else {
            self.since += (u128::from(ticks) * u128::from(SECOND) / u128::from(rate)) as u64;
        }
        self.count = count;
    }

    fn schedule(&mut self, ctx: &mut Ctx<'_>) {
        let mut when = NEVER;
        if ctx.get(CONTROL) & ENABLE != 0 && !self.raised {
            let left = ctx.get(ALARM).wrapping_sub(self.count);
            let time = (u128::from(left) * u128::from(SECOND)).div_ceil(u128::from(self.rate(ctx)));
            when = self.since.saturating_add(time as u64);
        }
        ctx.wake(when);
        ctx.shared.source(self.source, self.raised);
    }
}

impl Device for Frc {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        match offset {
            COUNT => self.now(ctx),
            INTERRUPT => self.raised.into(),
            _ => ctx.get(offset),
        }
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        self.settle(ctx);
        match offset {
            LOAD => {
                (self.count, self.since) = (value, ctx.shared.now);
                ctx.put(offset, value);
            }
            CONTROL if value & ENABLE != 0 && ctx.get(CONTROL) & ENABLE == 0 => {
                self.since = ctx.shared.now;
                ctx.put(offset, value);
            }
            INTERRUPT => self.raised &= value & 1 == 0,
            _ => ctx.put(offset, value),
        }
        self.schedule(ctx);
    }

    fn fire(&mut self, ctx: &mut Ctx<'_>) {
        self.raised = true;
        self.settle(ctx);
        self.schedule(ctx);
    }

    fn reset(&mut self, ctx: &mut Ctx<'_>, _whole: bool) {
        (self.count, self.since, self.raised) = (0, ctx.shared.now, false);
        self.schedule(ctx);
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}
