//! SYSTIMER: two 52-bit counters at 16 MHz and three alarms.

use crate::chip::Peripheral;
use crate::device::{Ctx, Device, NEVER};

/// Picoseconds a tick.
const TICK: u64 = 62_500;
const MASK: u64 = (1 << 52) - 1;

#[derive(Debug, Clone, Copy, Default)]
struct Unit {
    /// Count at `since`.
    count: u64,
    since: u64,
    running: bool,
}

impl Unit {
    fn now(&self, time: u64) -> u64 {
        let more = if self.running { time.saturating_sub(self.since) / TICK } else { 0 };
        self.count.wrapping_add(more) & MASK
    }

    /// Time at which the count is reached.
    fn when(&self, count: u64, time: u64) -> u64 {
        if !self.running {
            return NEVER;
        }
        let left = count.wrapping_sub(self.now(time)) & MASK;
        // Half the range behind is in the past: at once.
        if left == 0 || left > MASK / 2 {
            return time;
        }
        let base = self.since + time.saturating_sub(self.since) / TICK * TICK;
        base.saturating_add(left.saturating_mul(TICK))
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Systimer {
    sources: Vec<u32>,
    units: [Unit; 2],
    /// Count of each alarm, when armed.
    alarms: [Option<u64>; 3],
    raw: u32,
}

impl Systimer {
    pub fn new(it: &'static Peripheral) -> Self {
        let running = Unit { running: true, ..Unit::default() };
        Self { sources: it.sources.clone(), units: [running, Unit::default()], alarms: [None; 3], raw: 0 }
    }

    fn unit_of(ctx: &mut Ctx<'_>, alarm: u32) -> usize {
        (ctx.get(0x34 + 4 * alarm) >> 31) as usize
    }

    /// (Re)arms an alarm by its registers.
    fn arm(&mut self, ctx: &mut Ctx<'_>, alarm: u32) {
        let enabled = ctx.get(0) >> (24 - alarm) & 1 != 0;
        let conf = ctx.get(0x34 + 4 * alarm);
        let now = self.units[Self::unit_of(ctx, alarm)].now(ctx.awake());
        let period = u64::from(conf & 0x3ff_ffff);
        let target = u64::from(ctx.get(0x1c + 8 * alarm) & 0xf_ffff) << 32 | u64::from(ctx.get(0x20 + 8 * alarm));
        self.alarms[alarm as usize] = match (enabled, conf & 1 << 30 != 0) {
            (false, _) => None,
            (true, false) => Some(target),
            (true, true) => Some(now.wrapping_add(period.max(1)) & MASK),
        };
        self.schedule(ctx);
    }

    fn schedule(&mut self, ctx: &mut Ctx<'_>) {
        let time = ctx.awake();
        let mut next = NEVER;
        for alarm in 0..3 {
            if let Some(count) = self.alarms[alarm as usize] {
                let unit = self.units[Self::unit_of(ctx, alarm)];
                next = next.min(unit.when(count, time));
            }
        }
        ctx.wake_awake(next);
    }

    fn update(&mut self, ctx: &mut Ctx<'_>) {
        let active = self.raw & ctx.get(0x64);
        for (index, source) in self.sources.iter().enumerate() {
            ctx.shared.source(*source, active >> index & 1 != 0);
        }
    }

    fn load(&mut self, ctx: &mut Ctx<'_>, unit: usize) {
        let at = 0xc + 8 * unit as u32;
        let count = u64::from(ctx.get(at) & 0xf_ffff) << 32 | u64::from(ctx.get(at + 4));
        let time = ctx.awake();
        self.units[unit] = Unit { count, since: time, ..self.units[unit] };
        self.schedule(ctx);
    }
}

impl Device for Systimer {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        match offset {
            4 | 8 => ctx.read(offset) | 1 << 29,
            0x68 => self.raw,
            0x70 => self.raw & ctx.get(0x64),
            _ => ctx.read(offset),
        }
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        let time = ctx.awake();
        match offset {
            0 => {
                let before = ctx.get(0);
                ctx.put(0, value);
                for unit in 0..2 {
                    let running = value >> (30 - unit) & 1 != 0;
                    let at = &mut self.units[unit];
                    *at = Unit { count: at.now(time), since: time, running };
                }
                let alarms: u32 = 0b111 << 22;
                for alarm in 0..3 {
                    if (before ^ value) & alarms & 1 << (24 - alarm) != 0 {
                        self.arm(ctx, alarm);
                    }
                }
                self.schedule(ctx);
            }
            4 | 8 if value & 1 << 30 != 0 => {
                let unit = (offset / 4 - 1) as usize;
                let count = self.units[unit].now(time);
                let at = 0x40 + 8 * unit as u32;
                ctx.put(at, (count >> 32) as u32);
                ctx.put(at + 4, count as u32);
            }
            0x34 | 0x38 | 0x3c => {
                ctx.store(offset, value);
                self.arm(ctx, (offset - 0x34) / 4);
            }
            0x50 | 0x54 | 0x58 => self.arm(ctx, (offset - 0x50) / 4),
            0x5c | 0x60 => self.load(ctx, ((offset - 0x5c) / 4) as usize),
            0x6c => self.raw &= !value,
            _ => ctx.store(offset, value),
        }
        self.update(ctx);
    }

    fn hands_out_clock(&self, offset: u32) -> bool {
        matches!(offset, 4 | 8)
    }

    fn fire(&mut self, ctx: &mut Ctx<'_>) {
        let time = ctx.awake();
        for alarm in 0..3u32 {
            let Some(count) = self.alarms[alarm as usize] else { continue };
            let unit = self.units[Self::unit_of(ctx, alarm)];
            if unit.when(count, time) > time {
                continue;
            }
            self.raw |= 1 << alarm;
            let conf = ctx.get(0x34 + 4 * alarm);
            let period = u64::from(conf & 0x3ff_ffff).max(1);
            self.alarms[alarm as usize] = (conf & 1 << 30 != 0).then(|| {
                // Periods that passed while nobody looked do not pile up.
                let late = unit.now(time).wrapping_sub(count) & MASK;
                count.wrapping_add((late / period + 1) * period) & MASK
            });
        }
        self.schedule(ctx);
        self.update(ctx);
    }

    fn reset(&mut self, ctx: &mut Ctx<'_>, _whole: bool) {
        let since = ctx.awake();
        self.units = [Unit { count: 0, since, running: true }, Unit { count: 0, since, running: false }];
        self.alarms = [None; 3];
        self.raw = 0;
        ctx.wake(NEVER);
        self.update(ctx);
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}
