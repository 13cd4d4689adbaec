//! PWM for LEDs: what each channel puts out is an event, fades take their time and end with their interrupt.
//!
//! The pins do not toggle (a PWM of 5 kHz would be 10,000 edges a second). Overflows of the timers are not modelled.

use super::SECOND;
use crate::chip::{Board, Peripheral};
use crate::device::{Ctx, Device, NEVER};
use crate::events::{Input, What};

/// CONF0: the output is on; its level when it is off; the channel takes what was written.
const ON: u32 = 1 << 2;
const IDLE: u32 = 1 << 3;
const UPDATE: u32 = 1 << 4;
/// CONF1: the duty changes from now on.
const START: u32 = 1 << 31;
/// Steps of a fade that is written as a table.
const TABLE: usize = 16;

/// What a channel puts out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Output {
    /// Thousandths of a hertz; 0 for a level that does not change.
    millihertz: u64,
    duty: u32,
    full: u32,
}

#[derive(Debug, Clone, Copy)]
struct Fade {
    began: u64,
    end: u64,
    from: u32,
    to: u32,
}

/// Where a channel's table of fades is.
#[derive(Debug, Clone, Copy)]
enum Gamma {
    /// Registers that fill it: GAMMA_WR, GAMMA_WR_ADDR; and GAMMA_CONF.
    Written { write: u32, address: u32, conf: u32 },
    /// It lies among the registers, from here on; and GAMMA_CONF.
    Memory { first: u32, conf: u32 },
}

#[derive(Debug, Clone)]
struct Channel {
    /// CONF0; HPOINT, DUTY, CONF1 and DUTY_R follow.
    base: u32,
    /// CONF of the first of the timers it can use.
    timers: u32,
    /// Its name in events.
    number: u8,
    /// It takes what is written without being told.
    fast: bool,
    /// Its interrupt.
    bit: u32,
    gamma: Option<Gamma>,
    table: [u32; TABLE],
    duty: u32,
    fade: Option<Fade>,
    shown: Output,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Ledc {
    source: u32,
    /// Width of the resolution in a timer's CONF; divider, pause, reset, selection and update are above.
    resolution: u32,
    /// The value of the selection that means the clock of 1 MHz.
    reference: u32,
    /// Register (address) and first bit that choose among the frequencies in kHz.
    clock: (u32, u32),
    khz: [u32; 4],
    /// RAW, ST, ENA, CLR.
    interrupts: [u32; 4],
    raw: u32,
    channels: Vec<Channel>,
}

impl Ledc {
    pub fn new(board: &'static Board, it: &'static Peripheral) -> Self {
        let block = board.block(&it.name);
        let at = |name: &str| block.and_then(|block| block.offset(name));
        let (first, tables) = (it.number_or("first_bit", 4), it.number("tables"));
        let group = |prefix: &str, timers: &str, number: u32, fast: bool| {
            let timers = at(timers).unwrap_or(0);
            let channel = |index: u32| {
                let gamma = ["WR", "WR_ADDR", "CONF"].map(|name| at(&format!("CH{index}_GAMMA_{name}")));
                Some(Channel {
                    base: at(&format!("{prefix}{index}_CONF0"))?,
                    timers,
                    number: (number + index) as u8,
                    fast,
                    bit: 1 << (first + number + index),
                    gamma: match gamma {
                        [Some(write), Some(address), Some(conf)] => Some(Gamma::Written { write, address, conf }),
                        [_, _, Some(conf)] if tables != 0 => {
                            Some(Gamma::Memory { first: tables + 4 * TABLE as u32 * index, conf })
                        }
                        _ => None,
                    },
                    table: [0; TABLE],
                    duty: 0,
                    fade: None,
                    shown: Output::default(),
                })
            };
            (0..8).map_while(channel).collect::<Vec<_>>()
        };
        let mut channels = group("HSCH", "HSTIMER0_CONF", 0, true);
        let count = channels.len() as u32;
        channels.extend(group("LSCH", "LSTIMER0_CONF", count, false));
        channels.extend(group("CH", "TIMER0_CONF", count, false));
        let own = it.base + at("CONF").unwrap_or(0);
        Self {
            source: it.sources.first().copied().unwrap_or(u32::MAX),
            resolution: it.number_or("resolution_bits", 4),
            reference: it.number_or("reference", 2),
            clock: (it.number_or("clock", own), it.number("clock_bit")),
            khz: ["khz0", "khz1", "khz2", "khz3"].map(|name| it.number(name)),
            interrupts: ["INT_RAW", "INT_ST", "INT_ENA", "INT_CLR"].map(|name| at(name).unwrap_or(u32::MAX)),
            raw: 0,
            channels,
        }
    }

    /// Frequency in thousandths of a hertz and steps of a period of the timer that a channel uses.
    fn timer(&self, ctx: &mut Ctx<'_>, channel: &Channel) -> (u64, u32) {
        let chosen = ctx.get(channel.base) & 3;
        let conf = ctx.get(channel.timers + 8 * chosen);
        let steps = 1u32 << (conf & ((1 << self.resolution) - 1)).min(20);
        let divider = conf >> self.resolution & 0x3_ffff;
        let select = conf >> (self.resolution + 20) & 1;
        let khz = if select == self.reference {
            1000
        } else if channel.fast {
            // The fast timers know no other clock.
            80_000
        } else {
            let choice = ctx.get_at(self.clock.0) >> self.clock.1 & 3;
            self.khz.get(choice as usize).copied().unwrap_or(0)
        };
        // The divider has eight bits of a fraction.
        let hertz = u64::from(khz) * 1_000_000 * 256;
        (hertz.checked_div(u64::from(divider) * u64::from(steps)).unwrap_or(0), steps)
    }

    /// Puts the channel's output in the events when it is another one than before.
    fn show(&mut self, ctx: &mut Ctx<'_>, index: usize) {
        let Some(channel) = self.channels.get(index).cloned() else { return };
        let conf = ctx.get(channel.base);
        let (millihertz, full) = self.timer(ctx, &channel);
        let output = if conf & ON == 0 {
            Output { millihertz: 0, duty: u32::from(conf & IDLE != 0), full: 1 }
        } else if millihertz == 0 {
            return;
        } else {
            Output { millihertz, duty: channel.duty.min(full), full }
        };
        let never = channel.shown == Output::default() && conf & ON == 0;
        if output == channel.shown || never {
            return;
        }
        if let Some(slot) = self.channels.get_mut(index) {
            slot.shown = output;
        }
        let Output { millihertz, duty, full } = output;
        ctx.say(What::Pwm { channel: channel.number, millihertz, duty, full });
    }

    /// The channel takes what was written: a duty at once, or a change that takes its time.
    fn update(&mut self, ctx: &mut Ctx<'_>, index: usize) {
        let Some(channel) = self.channels.get(index).cloned() else { return };
        let (duty, conf) = (ctx.get(channel.base + 8) >> 4, ctx.get(channel.base + 12));
        if conf & START != 0 {
            let (millihertz, full) = self.timer(ctx, &channel);
            let (to, periods) = self.target(ctx, &channel, duty, conf);
            let now = ctx.shared.now;
            let period = (1000 * SECOND).checked_div(millihertz).unwrap_or(0);
            let end = now + period.saturating_mul(periods.max(1));
            if let Some(slot) = self.channels.get_mut(index) {
                slot.duty = duty;
                slot.fade = Some(Fade { began: now, end, from: duty, to: to.clamp(0, i64::from(full)) as u32 });
            }
        }
        self.show(ctx, index);
        self.plan(ctx);
    }

    /// Where a change leads, and after how many periods.
    fn target(&self, ctx: &mut Ctx<'_>, channel: &Channel, duty: u32, conf: u32) -> (i64, u64) {
        let step = |to: i64, up: bool, count: u32, scale: u32| {
            let by = i64::from(count) * i64::from(scale);
            if up { to + by } else { to - by }
        };
        let Some(gamma) = channel.gamma else {
            let (scale, cycle, count) = (conf & 0x3ff, conf >> 10 & 0x3ff, conf >> 20 & 0x3ff);
            return (step(duty.into(), conf >> 30 & 1 != 0, count, scale), u64::from(cycle) * u64::from(count));
        };
        let (entries, table) = match gamma {
            Gamma::Written { conf, .. } => (conf, channel.table),
            Gamma::Memory { first, conf } => (conf, std::array::from_fn(|index| ctx.get(first + 4 * index as u32))),
        };
        let count = (ctx.get(entries) & 0x1f).max(1) as usize;
        table.iter().take(count).fold((duty.into(), 0), |(to, periods), entry| {
            let (cycle, scale, count) = (entry >> 1 & 0x3ff, entry >> 11 & 0x3ff, entry >> 21 & 0x3ff);
            (step(to, entry & 1 != 0, count, scale), periods + u64::from(cycle) * u64::from(count))
        })
    }

    fn plan(&self, ctx: &mut Ctx<'_>) {
        let next = self.channels.iter().filter_map(|channel| Some(channel.fade?.end)).min();
        ctx.wake(next.unwrap_or(NEVER));
    }

    fn settle(&self, ctx: &mut Ctx<'_>) {
        let active = self.raw & ctx.get(self.interrupts[2]) != 0;
        ctx.shared.source(self.source, active);
    }

    fn fill_table(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        for channel in &mut self.channels {
            if let Some(Gamma::Written { write, address, .. }) = channel.gamma
                && write == offset
            {
                let place = ctx.get(address) as usize & (TABLE - 1);
                channel.table[place] = value;
                ctx.put(write, value);
            }
        }
    }

    /// What a write to a channel's or a timer's register does beyond keeping it.
    fn after(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        let timer_update = 1 << (self.resolution + 21);
        for index in 0..self.channels.len() {
            let Some((base, timers, fast)) = self.channels.get(index).map(|it| (it.base, it.timers, it.fast)) else {
                continue;
            };
            let updates =
                if fast { offset == base + 12 && value & START != 0 } else { offset == base && value & UPDATE != 0 };
            if updates {
                self.update(ctx, index);
            } else if (fast && offset == base)
                || ((timers..timers + 32).contains(&offset) && (fast || value & timer_update != 0))
            {
                self.show(ctx, index);
            }
        }
    }
}

impl Device for Ledc {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        match self.interrupts.iter().position(|at| *at == offset) {
            Some(0) => return self.raw,
            Some(1) => return self.raw & ctx.get(self.interrupts[2]),
            _ => {}
        }
        // DUTY_R: where a fade is.
        let Some(channel) = self.channels.iter().find(|channel| channel.base + 16 == offset) else {
            return ctx.read(offset);
        };
        let duty = channel.fade.map_or(channel.duty, |fade| {
            let (passed, whole) = (ctx.shared.now - fade.began, (fade.end - fade.began).max(1));
            let change = i128::from(fade.to) - i128::from(fade.from);
            (i128::from(fade.from) + change * i128::from(passed.min(whole)) / i128::from(whole)) as u32
        });
        duty << 4
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        if offset == self.interrupts[3] {
            self.raw &= !value;
        } else if self.channels.iter().any(|channel| channel.base + 12 == offset) {
            // All of CONF1 is kept, also where the file says that the start clears itself.
            ctx.put(offset, value);
        } else {
            ctx.store(offset, value);
        }
        self.fill_table(ctx, offset, value);
        self.after(ctx, offset, value);
        self.settle(ctx);
    }

    fn fire(&mut self, ctx: &mut Ctx<'_>) {
        for index in 0..self.channels.len() {
            let Some(channel) = self.channels.get_mut(index) else { continue };
            let Some(fade) = channel.fade.filter(|fade| fade.end <= ctx.shared.now) else { continue };
            (channel.fade, channel.duty) = (None, fade.to);
            self.raw |= channel.bit;
            let conf = channel.base + 12;
            let value = ctx.get(conf);
            ctx.put(conf, value & !START);
            self.show(ctx, index);
        }
        self.plan(ctx);
        self.settle(ctx);
    }

    fn input(&mut self, _: &mut Ctx<'_>, _: &Input) -> bool {
        false
    }

    fn reset(&mut self, ctx: &mut Ctx<'_>, _whole: bool) {
        self.raw = 0;
        for channel in &mut self.channels {
            (channel.duty, channel.fade, channel.table) = (0, None, [0; TABLE]);
        }
        for index in 0..self.channels.len() {
            self.show(ctx, index);
        }
        ctx.wake(NEVER);
        self.settle(ctx);
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}
