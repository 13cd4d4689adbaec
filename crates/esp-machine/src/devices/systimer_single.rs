//! The first form of SYSTIMER: one counter of 64 bits at 80 MHz and three alarms.

use crate::chip::Peripheral;
use crate::device::{Ctx, Device, NEVER};

/// Picoseconds a tick.
const TICK: u64 = 12_500;
const LOAD: u32 = 0x04;
const LOAD_HIGH: u32 = 0x08;
const TARGETS: u32 = 0x14;
const CONFS: u32 = 0x2c;
const UPDATE: u32 = 0x38;
const VALUE_HIGH: u32 = 0x3c;
const INT_ENA: u32 = 0x44;
/// Of an alarm's CONF: it is on; it comes again and again.
const ON: u32 = 1 << 31;
const PERIODIC: u32 = 1 << 30;

/// See the module.
#[derive(Debug, Clone)]
pub struct SystimerSingle {
    sources: Vec<u32>,
    /// Count at `since`.
    count: u64,
    since: u64,
    /// Count of each alarm, when armed.
    alarms: [Option<u64>; 3],
    raw: u32,
}

impl SystimerSingle {
    pub fn new(it: &'static Peripheral) -> Self {
        Self { sources: it.sources.clone(), count: 0, since: 0, alarms: [None; 3], raw: 0 }
    }

    fn count(&self, time: u64) -> u64 {
        self.count.wrapping_add(time.saturating_sub(self.since) / TICK)
    }

    fn pair(ctx: &mut Ctx<'_>, high: u32) -> u64 {
        u64::from(ctx.get(high)) << 32 | u64::from(ctx.get(high + 4))
    }

    /// Sets an alarm as its registers say.
    fn arm(&mut self, ctx: &mut Ctx<'_>, index: u32) {
        let conf = ctx.get(CONFS + 4 * index);
        let now = self.count(ctx.awake());
        let alarm = match (conf & ON != 0, conf & PERIODIC != 0) {
            (false, _) => None,
            (true, false) => Some(Self::pair(ctx, TARGETS + 8 * index)),
            (true, true) => Some(now.wrapping_add(u64::from(conf & 0x3fff_ffff).max(1))),
        };
        if let Some(slot) = self.alarms.get_mut(index as usize) {
            *slot = alarm;
        }
    }

    fn schedule(&mut self, ctx: &mut Ctx<'_>) {
        let now = self.count(ctx.awake());
        let time = |alarm: u64| {
            let left = alarm.saturating_sub(now);
            let whole = self.since + ctx.awake().saturating_sub(self.since) / TICK * TICK;
            if left == 0 { ctx.awake() } else { whole.saturating_add(left.saturating_mul(TICK)) }
        };
        let next = self.alarms.iter().flatten().map(|alarm| time(*alarm)).min().unwrap_or(NEVER);
        ctx.wake_awake(next);
    }

    fn update(&mut self, ctx: &mut Ctx<'_>) {
        let active = self.raw & ctx.get(INT_ENA);
        for (index, source) in self.sources.iter().enumerate() {
            ctx.shared.source(*source, active >> index & 1 != 0);
        }
    }
}

impl Device for SystimerSingle {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        match offset {
            // The latched value is there at once.
            UPDATE => ctx.read(offset) | 1 << 30,
            _ if offset == INT_ENA + 4 => self.raw,
            _ => ctx.read(offset),
        }
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        let now = ctx.awake();
        match offset {
            UPDATE => {
                let count = self.count(now);
                ctx.put(VALUE_HIGH, (count >> 32) as u32);
                ctx.put(VALUE_HIGH + 4, count as u32);
            }
            LOAD => (self.count, self.since) = (Self::pair(ctx, LOAD_HIGH), now),
            _ if offset == INT_ENA + 8 => self.raw &= !value,
            _ => ctx.store(offset, value),
        }
        if (CONFS..UPDATE).contains(&offset) {
            self.arm(ctx, (offset - CONFS) / 4);
        }
        self.schedule(ctx);
        self.update(ctx);
    }

    fn hands_out_clock(&self, offset: u32) -> bool {
        offset == UPDATE
    }

    fn fire(&mut self, ctx: &mut Ctx<'_>) {
        let now = self.count(ctx.awake());
        for index in 0..3u32 {
            let Some(slot) = self.alarms.get_mut(index as usize) else { continue };
            let Some(alarm) = slot.filter(|alarm| *alarm <= now) else { continue };
            self.raw |= 1 << index;
            let conf = ctx.get(CONFS + 4 * index);
            let period = u64::from(conf & 0x3fff_ffff).max(1);
            *slot = (conf & PERIODIC != 0).then(|| alarm.wrapping_add(period));
        }
        self.schedule(ctx);
        self.update(ctx);
    }

    fn reset(&mut self, ctx: &mut Ctx<'_>, _whole: bool) {
        (self.count, self.since) = (0, ctx.awake());
        self.alarms = [None; 3];
        self.raw = 0;
        ctx.wake(NEVER);
        self.update(ctx);
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}
