//! The RTC: its time, its watchdog, resets by software, deep and light sleep. One type for RTC_CNTL and for the LP blocks of
//! later chips; which register is where (offsets from the block's base) stands in the data, 0 for what a block does not have.

use super::SECOND;
use super::watchdog::{Action, Watchdog};
use crate::chip::{Board, Peripheral};
use crate::device::{Ctx, Device, NEVER, ResetRequest};

const WATCHDOG_KEY: u32 = 0x50d8_3aa1;

/// See the module.
#[derive(Debug, Clone)]
pub struct Rtc {
    it: &'static Peripheral,
    /// The straps of a start from flash.
    boot_straps: u32,
    hz: u64,
    /// Where the watchdog is fed, behind its first register.
    feed: u32,
    watchdog: Watchdog,
    raw: u32,
    /// Time at which a sleep ends; `None` when awake.
    wake_at: Option<u64>,
    /// The sleep is a deep one: it ends with a reset.
    deep: bool,
    /// The timer wakes the chip: a bit that can only be written.
    timer_armed: bool,
}

impl Rtc {
    pub fn new(board: &'static Board, it: &'static Peripheral) -> Self {
        Self {
            it,
            boot_straps: board.straps.boot,
            hz: it.number_or("slow_hz", 136_000).into(),
            feed: it.number_or("wdt_feed", 0x14),
            watchdog: Watchdog::default(),
            raw: 0,
            wake_at: None,
            deep: false,
            timer_armed: false,
        }
    }

    fn register(&self, name: &str) -> Option<u32> {
        self.it.set.get(name).copied()
    }

    fn is(&self, name: &str, offset: u32) -> bool {
        self.register(name) == Some(offset)
    }

    fn ticks(&self, now: u64) -> u64 {
        (u128::from(now) * u128::from(self.hz) / u128::from(SECOND)) as u64
    }

    fn stages(&self, ctx: &mut Ctx<'_>) -> ([u64; 4], [Action; 4]) {
        let Some(conf_at) = self.register("wdt_config") else { return ([NEVER; 4], [Action::Nothing; 4]) };
        let conf = ctx.get(conf_at);
        let tick = SECOND / self.hz.max(1);
        let mut lengths = [0; 4];
        for (stage, length) in lengths.iter_mut().enumerate() {
            let hold = u64::from(ctx.get(conf_at + 4 + 4 * stage as u32));
            // The first stage is multiplied by two at least (eFuse WDT_DELAY_SEL).
            *length = hold.saturating_mul(tick) << u32::from(stage == 0);
        }
        if conf & 1 << 31 == 0 && self.guards_boot(ctx, conf_at) {
            return (lengths, [Action::ResetAll; 4]);
        }
        (lengths, [28, 25, 22, 19].map(|bit| Action::from_bits(conf >> bit & 7)))
    }

    /// The bit that guards a start from flash.
    fn flash_boot(&self) -> u32 {
        self.register("flash_boot_bit").map_or(0, |bit| 1 << (bit & 31))
    }

    fn watchdog_on(&self, ctx: &mut Ctx<'_>, conf: u32) -> bool {
        ctx.get(conf) & 1 << 31 != 0 || self.guards_boot(ctx, conf)
    }

    fn guards_boot(&self, ctx: &mut Ctx<'_>, conf: u32) -> bool {
        ctx.get(conf) & self.flash_boot() != 0 && ctx.shared.straps == self.boot_straps
    }

    fn schedule(&mut self, ctx: &mut Ctx<'_>) {
        let (lengths, _) = self.stages(ctx);
        ctx.wake(self.watchdog.deadline(&lengths).min(self.wake_at.unwrap_or(NEVER)));
    }

    fn request(&self, ctx: &mut Ctx<'_>, cause: u32, whole: bool, cpu_only: bool) {
        ctx.shared.reset = Some(ResetRequest { cause, whole, cpu_only });
        ctx.shared.stop = true;
    }

    /// Ticks at which the timer is to wake the chip, when it is: the timer is here, or in a block of its own.
    fn timer(&self, ctx: &mut Ctx<'_>) -> Option<u64> {
        let (low, high, armed) = match self.register("timer_at") {
            Some(at) => {
                let high = ctx.get_at(at + 4);
                (ctx.get_at(at), high, high >> 31 != 0)
            }
            None => {
                let at = self.register("sleep_timer")?;
                (ctx.get(at), ctx.get(at + 4), self.timer_armed)
            }
        };
        armed.then_some(u64::from(low) | u64::from(high & 0xffff) << 32)
    }

    /// A sleep begins: it ends with the timer, or never. It is a deep one when the digital part loses its supply.
    fn sleep(&mut self, ctx: &mut Ctx<'_>) {
        let wanted = self
            .timer(ctx)
            .map_or(NEVER / 2, |ticks| (u128::from(ticks) * u128::from(SECOND) / u128::from(self.hz.max(1))) as u64);
        self.wake_at = Some(wanted.max(ctx.shared.now + 1));
        self.deep = self.register("power").is_none_or(|at| ctx.get(at) >> 31 != 0);
        ctx.shared.asleep = Some(ctx.shared.now);
        ctx.shared.stop = true;
        self.schedule(ctx);
    }

    fn wake(&mut self, ctx: &mut Ctx<'_>) {
        self.wake_at = None;
        let began = ctx.shared.asleep.take().unwrap_or(ctx.shared.now);
        ctx.shared.slept += ctx.shared.now.saturating_sub(began);
        if let Some(at) = self.register("wake_cause") {
            ctx.put(at, 1 << (self.it.number_or("timer_bit", 3) & 31));
        }
        if self.deep {
            self.request(ctx, self.it.number_or("cause_sleep", 5), false, false);
        } else {
            self.raw |= 1 << (self.it.number("wake_bit") & 31);
        }
    }
}

impl Device for Rtc {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        if self.is("update", offset) {
            return ctx.read(offset) | self.it.number("update_ones");
        }
        if self.is("int_raw", offset) {
            return self.raw | ctx.read(offset);
        }
        ctx.read(offset)
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        let now = ctx.shared.now;
        let wdt = self.register("wdt_config");
        if self.is("update", offset) {
            ctx.store(offset, value);
            if value & 1 << self.it.number_or("update_bit", 31) != 0 {
                let ticks = self.ticks(now);
                let at = self.it.number("time");
                ctx.put(at, ticks as u32);
                ctx.put(at + 4, (ticks >> 32) as u32 & 0xffff);
            }
        } else if let Some(conf) = wdt.filter(|conf| (*conf..=conf + self.feed).contains(&offset)) {
            // The key's register stands behind the one that feeds.
            if ctx.get(conf + self.feed + 4) == WATCHDOG_KEY {
                if offset == conf + self.feed {
                    self.watchdog.feed(now);
                } else {
                    ctx.put(offset, value);
                    let on = self.watchdog_on(ctx, conf);
                    self.watchdog.enable(on, now);
                }
            }
            self.schedule(ctx);
        } else if self.is("system_reset", offset) && value & 1 << self.it.number_or("system_reset_bit", 31) != 0 {
            self.request(ctx, self.it.number_or("cause_system", 3), false, false);
        } else if self.is("cpu_reset", offset) && value & 1 << self.it.number_or("cpu_reset_bit", 5) != 0 {
            self.request(ctx, self.it.number_or("cause_cpu", 12), false, true);
        } else if self.register("sleep_timer").is_some_and(|at| at + 4 == offset) {
            self.timer_armed = value & 1 << 16 != 0;
            ctx.store(offset, value);
        } else if self.register("target").is_some_and(|at| at + 4 == offset) {
            // The bit that arms the timer stays readable for the block that sleeps.
            ctx.put(offset, value);
        } else if self.is("sleep", offset) && value & 1 << 31 != 0 {
            ctx.store(offset, value);
            self.sleep(ctx);
        } else {
            if self.is("int_clear", offset) {
                self.raw &= !value;
            }
            ctx.store(offset, value);
        }
    }

    fn hands_out_clock(&self, offset: u32) -> bool {
        self.is("update", offset)
    }

    fn fire(&mut self, ctx: &mut Ctx<'_>) {
        let now = ctx.shared.now;
        if self.wake_at.is_some_and(|at| at <= now) {
            self.wake(ctx);
        }
        let (lengths, actions) = self.stages(ctx);
        match self.watchdog.expire(&lengths, &actions, now) {
            Action::Nothing => {}
            Action::Interrupt => {
                self.raw |= 1 << self.it.number_or("wdt_bit", 3);
            }
            Action::ResetCpu => self.request(ctx, self.it.number_or("cause_wdt_cpu", 13), false, true),
            Action::ResetSystem => self.request(ctx, self.it.number_or("cause_wdt_system", 9), false, false),
            Action::ResetAll => self.request(ctx, self.it.number_or("cause_wdt_all", 16), true, false),
        }
        self.schedule(ctx);
    }

    fn reset(&mut self, ctx: &mut Ctx<'_>, _whole: bool) {
        // The registers are kept; the watchdog is off until software or the ROM turns it on, or guards the start.
        self.watchdog = Watchdog::default();
        self.raw = 0;
        self.wake_at = None;
        self.timer_armed = false;
        if let Some(conf) = self.register("wdt_config") {
            let before = ctx.get(conf);
            ctx.put(conf, before & !(1 << 31) | self.flash_boot());
            let on = self.watchdog_on(ctx, conf);
            self.watchdog.enable(on, ctx.shared.now);
        }
        self.schedule(ctx);
    }

    fn keeps(&self) -> bool {
        true
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}
