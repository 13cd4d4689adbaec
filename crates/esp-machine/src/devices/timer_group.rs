//! Timer groups: a 54-bit timer (two on some chips), a watchdog, and the measurement of slow clocks.

use super::SECOND;
use super::watchdog::{Action, Watchdog};
use crate::chip::{Board, Peripheral};
use crate::device::{Ctx, Device, NEVER, ResetRequest};

const WATCHDOG_KEY: u32 = 0x50d8_3aa1;
const COUNT_MASK: u64 = (1 << 54) - 1;

#[derive(Debug, Clone, Copy, Default)]
struct Timer {
    count: u64,
    since: u64,
    place: Place,
}

/// Where a timer's registers are.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// CONFIG.
    conf: u32,
    /// 4 before the counter; the others follow.
    at: u32,
    /// Its bit among the interrupts.
    bit: u32,
}

/// The plain timers and, where there is one, the third with its own form ("LACT").
fn places(it: &Peripheral) -> Vec<Place> {
    let mut places: Vec<_> = (0..it.number_or("timers", 1))
        .map(|index| Place { conf: 0x24 * index, at: 0x24 * index, bit: index })
        .collect();
    if let Some(lact) = it.set.get("lact") {
        places.push(Place { conf: *lact, at: lact + 4, bit: 3 });
    }
    places
}

/// One group.
#[derive(Debug, Clone)]
pub struct TimerGroup {
    sources: Vec<u32>,
    timers: Vec<Timer>,
    timer_count: u32,
    watchdog: Watchdog,
    raw: u32,
    /// Interrupt registers: ENA; RAW, ST and CLR follow.
    interrupts: u32,
    hz: u64,
    crystal_hz: u64,
    /// Register (of another block) that chooses the timers' clock; the watchdog's stands behind it.
    clock_at: Option<u32>,
    /// Its choices.
    choices: [u64; 3],
    /// Bit of the watchdog's CONFIG0 that takes the crystal.
    watchdog_crystal: u32,
    slow_hz: [u64; 3],
    causes: [u32; 2],
    /// Bit of the watchdog's CONFIG0 that guards a start from flash, and the straps with which it does.
    flash_boot: Option<(u32, u32)>,
}

impl TimerGroup {
    pub fn new(board: &'static Board, it: &'static Peripheral) -> Self {
        Self {
            flash_boot: it.set.get("flash_boot_bit").map(|bit| (1 << (bit & 31), board.straps.boot)),
            sources: it.sources.clone(),
            timers: places(it).into_iter().map(|place| Timer { place, ..Timer::default() }).collect(),
            timer_count: it.number_or("timers", 1),
            watchdog: Watchdog::default(),
            raw: 0,
            interrupts: it.number_or("interrupts", 0x70),
            hz: u64::from(it.number_or("mhz", 80)) * 1_000_000,
            crystal_hz: u64::from(it.number_or("crystal_mhz", 40)) * 1_000_000,
            clock_at: it.set.get("clock_at").copied(),
            choices: ["choice_0_khz", "choice_1_khz", "choice_2_khz"]
                .map(|name| u64::from(it.number_or(name, 40_000)) * 1000),
            watchdog_crystal: it.set.get("watchdog_crystal_bit").map_or(0, |bit| 1 << (bit & 31)),
            slow_hz: [it.number_or("slow_hz", 136_000).into(), it.number_or("fast_256_hz", 68_359).into(), 32_768],
            causes: [it.number_or("cause_system", 7), it.number_or("cause_cpu", 11)],
        }
    }

    fn divider(conf: u32) -> u64 {
        match conf >> 13 & 0xffff {
            0 => 0x1_0000,
            1 => 2,
            divider => divider.into(),
        }
    }

    /// The clock chosen by the register at this distance from the first.
    fn chosen(&self, ctx: &mut Ctx<'_>, offset: u32) -> Option<u64> {
        let choice = ctx.get_at(self.clock_at? + offset) >> 20 & 3;
        self.choices.get(choice as usize).copied()
    }

    fn clock(&self, ctx: &mut Ctx<'_>, conf: u32) -> u64 {
        // Bit 9 takes the crystal on chips that choose here.
        let own = if conf & 1 << 9 != 0 { self.crystal_hz } else { self.hz };
        self.chosen(ctx, 0).unwrap_or(own)
    }

    fn watchdog_clock(&self, ctx: &mut Ctx<'_>) -> u64 {
        let own = if ctx.get(0x48) & self.watchdog_crystal != 0 { self.crystal_hz } else { self.hz };
        self.chosen(ctx, 4).unwrap_or(own)
    }

    /// It was turned on, or it guards a start from flash: it does so from the reset on, until the bootloader ends it.
    fn watchdog_on(&self, ctx: &mut Ctx<'_>) -> bool {
        ctx.get(0x48) & 1 << 31 != 0 || self.guards_boot(ctx)
    }

    fn guards_boot(&self, ctx: &mut Ctx<'_>) -> bool {
        self.flash_boot.is_some_and(|(bit, straps)| ctx.get(0x48) & bit != 0 && ctx.shared.straps == straps)
    }

    fn count(&self, ctx: &mut Ctx<'_>, index: usize) -> u64 {
        let timer = self.timers[index];
        let conf = ctx.get(timer.place.conf);
        if conf & 1 << 31 == 0 {
            return timer.count;
        }
        let passed = u128::from(ctx.awake().saturating_sub(timer.since));
        let ticks = (passed * u128::from(self.clock(ctx, conf)) / u128::from(SECOND * Self::divider(conf))) as u64;
        let count = if conf & 1 << 30 != 0 { timer.count.wrapping_add(ticks) } else { timer.count.wrapping_sub(ticks) };
        count & COUNT_MASK
    }

    fn word(ctx: &mut Ctx<'_>, low: u32) -> u64 {
        u64::from(ctx.get(low)) | u64::from(ctx.get(low + 4) & 0x3f_ffff) << 32
    }

    fn alarm_time(&self, ctx: &mut Ctx<'_>, index: usize) -> u64 {
        let place = self.timers[index].place;
        let at = place.at;
        let conf = ctx.get(place.conf);
        if conf & (1 << 31 | 1 << 10) != 1 << 31 | 1 << 10 {
            return NEVER;
        }
        let (now, alarm) = (self.count(ctx, index), Self::word(ctx, at + 0x10));
        let up = conf & 1 << 30 != 0;
        let left = if up { alarm.wrapping_sub(now) } else { now.wrapping_sub(alarm) } & COUNT_MASK;
        if left > COUNT_MASK / 2 {
            return ctx.awake();
        }
        let clock = self.clock(ctx, conf).max(1);
        let time = u128::from(left) * u128::from(SECOND * Self::divider(conf)) / u128::from(clock);
        ctx.awake().saturating_add(u64::try_from(time).unwrap_or(NEVER / 2) + u64::from(left != 0))
    }

    fn stages(&self, ctx: &mut Ctx<'_>) -> ([u64; 4], [Action; 4]) {
        let prescale = u64::from(ctx.get(0x4c) >> 16).max(1);
        let conf = ctx.get(0x48);
        let tick = prescale.saturating_mul(SECOND) / self.watchdog_clock(ctx).max(1);
        let length = |ctx: &mut Ctx<'_>, stage: u32| u64::from(ctx.get(0x50 + 4 * stage)).saturating_mul(tick);
        let lengths = [length(ctx, 0), length(ctx, 1), length(ctx, 2), length(ctx, 3)];
        if conf & 1 << 31 == 0 && self.guards_boot(ctx) {
            return (lengths, [Action::ResetSystem; 4]);
        }
        (lengths, [29, 27, 25, 23].map(|bit| Action::from_bits(conf >> bit & 3)))
    }

    fn schedule(&mut self, ctx: &mut Ctx<'_>) {
        let (lengths, _) = self.stages(ctx);
        let mut next = self.watchdog.deadline(&lengths);
        for index in 0..self.timers.len() {
            next = next.min(self.alarm_time(ctx, index));
        }
        ctx.wake_awake(next);
    }

    fn update(&mut self, ctx: &mut Ctx<'_>) {
        let active = self.raw & ctx.get(self.interrupts);
        // The watchdog's bit stands behind those of the timers.
        for index in 0..4 {
            if let Some(source) = self.sources.get(index as usize) {
                ctx.shared.source(*source, active >> index & 1 != 0);
            }
        }
    }

    fn settle(&mut self, ctx: &mut Ctx<'_>, index: usize) {
        let count = self.count(ctx, index);
        let timer = &mut self.timers[index];
        (timer.count, timer.since) = (count, ctx.awake());
    }

    fn calibrate(&mut self, ctx: &mut Ctx<'_>, value: u32) {
        let choice = value >> 13 & 3;
        let slow = self.slow_hz.get(choice as usize).copied().unwrap_or(32_768).max(1);
        let cycles = u64::from(value >> 16 & 0x7fff);
        let result = (cycles * self.crystal_hz / slow).min(0x1ff_ffff) as u32;
        ctx.put(0x6c, result << 7 | 1);
        // Ready at once.
        ctx.put(0x68, value & !(1 << 31) | 1 << 15);
    }
}

impl Device for TimerGroup {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        let calibration = ctx.get(0x68);
        if matches!(offset, 0x68 | 0x6c) && calibration & 1 << 12 != 0 {
            // It measures all the time.
            self.calibrate(ctx, calibration);
        }
        match offset.wrapping_sub(self.interrupts) {
            4 => self.raw,
            8 => self.raw & ctx.get(self.interrupts),
            _ => ctx.read(offset),
        }
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        let inside = |timer: &Timer| (timer.place.conf..timer.place.at + 0x24).contains(&offset);
        match offset {
            _ if self.timers.iter().any(inside) => {
                let Some(index) = self.timers.iter().position(inside) else { return };
                let place = self.timers[index].place;
                // CONFIG first, whatever stands between it and the counter.
                let register = if offset == place.conf { 0 } else { offset.wrapping_sub(place.at).max(1) };
                self.settle(ctx, index);
                match register {
                    0 => ctx.put(offset, value & !(1 << 12)),
                    0xc => {
                        let count = self.timers[index].count;
                        ctx.put(offset - 8, count as u32);
                        ctx.put(offset - 4, (count >> 32) as u32);
                        ctx.put(offset, 0);
                    }
                    0x20 => self.timers[index].count = Self::word(ctx, offset - 8),
                    _ => ctx.store(offset, value),
                }
            }
            0x48..=0x60 => {
                if ctx.get(0x64) == WATCHDOG_KEY {
                    let now = ctx.awake();
                    if offset == 0x60 {
                        self.watchdog.feed(now);
                    } else {
                        ctx.put(offset, value);
                        let on = self.watchdog_on(ctx);
                        self.watchdog.enable(on, now);
                    }
                }
            }
            0x68 => {
                if value & 1 << 31 != 0 || value & 1 << 12 != 0 {
                    self.calibrate(ctx, value);
                } else {
                    ctx.store(offset, value);
                }
            }
            _ if offset == self.interrupts + 0xc => self.raw &= !value,
            _ => ctx.store(offset, value),
        }
        self.schedule(ctx);
        self.update(ctx);
    }

    fn hands_out_clock(&self, offset: u32) -> bool {
        self.timers.iter().any(|timer| timer.place.at + 0xc == offset)
    }

    fn fire(&mut self, ctx: &mut Ctx<'_>) {
        let now = ctx.awake();
        for index in 0..self.timers.len() {
            if self.alarm_time(ctx, index) > now {
                continue;
            }
            let place = self.timers[index].place;
            let at = place.at;
            self.raw |= 1 << place.bit;
            let conf = ctx.get(place.conf);
            self.settle(ctx, index);
            // The alarm turns itself off.
            ctx.put(place.conf, conf & !(1 << 10));
            if conf & 1 << 29 != 0 {
                self.timers[index].count = Self::word(ctx, at + 0x18);
            }
        }
        let (lengths, actions) = self.stages(ctx);
        match self.watchdog.expire(&lengths, &actions, now) {
            Action::Nothing => {}
            Action::Interrupt => self.raw |= 1 << self.timer_count,
            action => {
                let cpu_only = action == Action::ResetCpu;
                let cause = self.causes[usize::from(cpu_only)];
                ctx.shared.reset = Some(ResetRequest { cause, whole: false, cpu_only });
                ctx.shared.stop = true;
            }
        }
        self.schedule(ctx);
        self.update(ctx);
    }

    fn reset(&mut self, ctx: &mut Ctx<'_>, _whole: bool) {
        for timer in &mut self.timers {
            (timer.count, timer.since) = (0, ctx.awake());
        }
        self.watchdog = Watchdog::default();
        let on = self.watchdog_on(ctx);
        self.watchdog.enable(on, ctx.awake());
        self.raw = 0;
        self.schedule(ctx);
        self.update(ctx);
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}
