//! Pulse counters: they count the edges of the pins that the matrix leads to them, as these are driven by the chip or a script.
//!
//! The filter for short pulses is not modelled.

use crate::chip::{Board, Peripheral};
use crate::device::{Ctx, Device};

const COUNTERS: u32 = 8;
/// CONF0: what is compared, from here on: zero, high limit, low limit, two thresholds.
const ZERO: u32 = 1 << 11;
const HIGH_LIMIT: u32 = 1 << 12;
const LOW_LIMIT: u32 = 1 << 13;
const THRESHOLDS: [u32; 2] = [1 << 14, 1 << 15];
/// A counter's status: which of them was met.
const MET_ZERO: u32 = 1 << 6;
const MET_HIGH: u32 = 1 << 5;
const MET_LOW: u32 = 1 << 4;
const MET_THRESHOLDS: [u32; 2] = [1 << 3, 1 << 2];

/// See the module.
#[derive(Debug, Clone)]
pub struct Pcnt {
    source: u32,
    /// U0_CONF0 is at 0; U0_CNT, INT_RAW (ST, ENA and CLR follow), U0_STATUS and CTRL.
    count_at: u32,
    raw_at: u32,
    status_at: u32,
    control_at: u32,
    /// Address of the matrix's register for the first signal, and bits of a pin's number there.
    matrix: u32,
    pin_bits: u32,
    /// The number that means a level that is always high.
    high: u32,
    /// The first counter's first signal; the second one and both controls follow.
    signals: u32,
    units: u32,
    /// Distance of the counters' configurations.
    step: u32,
    levels: u64,
    counts: [i16; COUNTERS as usize],
    raw: u32,
}

impl Pcnt {
    pub fn new(board: &'static Board, it: &'static Peripheral) -> Self {
        let block = board.block(&it.name);
        let at = |name: &str| block.and_then(|block| block.offset(name)).unwrap_or(u32::MAX);
        let gpio = board.block("GPIO");
        let matrix = gpio.and_then(|gpio| Some(gpio.base + gpio.offset("FUNC0_IN_SEL_CFG")?)).unwrap_or(0);
        Self {
            source: it.sources.first().copied().unwrap_or(u32::MAX),
            count_at: at("U0_CNT"),
            raw_at: at("INT_RAW"),
            status_at: at("U0_STATUS"),
            control_at: at("CTRL"),
            matrix,
            pin_bits: it.number_or("pin_bits", 6),
            high: it.number_or("high", 0x38),
            signals: it.number("signals"),
            units: it.number_or("units", 4).min(COUNTERS),
            step: it.number_or("step", 12),
            levels: 0,
            counts: [0; COUNTERS as usize],
            raw: 0,
        }
    }

    /// First signal of a counter: those above the fifth stand elsewhere on the chip that has them.
    fn signal(&self, unit: u32) -> u32 {
        if unit < 5 { self.signals + 4 * unit } else { self.signals + 4 * unit + 12 }
    }

    /// The pin that is led to a signal, and whether it is inverted.
    fn routed(&self, ctx: &mut Ctx<'_>, signal: u32) -> (u32, bool) {
        let select = ctx.get_at(self.matrix + 4 * signal);
        (select & ((1 << self.pin_bits) - 1), select >> self.pin_bits & 1 != 0)
    }

    fn level(&self, (pin, inverted): (u32, bool)) -> bool {
        let level = if pin < 64 && pin != self.high { self.levels >> pin & 1 != 0 } else { pin == self.high };
        level != inverted
    }

    fn edge(&mut self, ctx: &mut Ctx<'_>, pin: u8, rising: bool) {
        for unit in 0..self.units {
            let conf = ctx.get(self.step * unit);
            for channel in 0..2u32 {
                let signal = self.signal(unit) + channel;
                let (from, inverted) = self.routed(ctx, signal);
                if from != pin.into() {
                    continue;
                }
                let modes = conf >> (16 + 8 * channel);
                let mode = if rising != inverted { modes >> 2 & 3 } else { modes & 3 };
                let control = self.routed(ctx, signal + 2);
                let change = if self.level(control) { modes >> 4 & 3 } else { modes >> 6 & 3 };
                let by = match (mode, change) {
                    (1, 0) | (2, 1) => 1,
                    (2, 0) | (1, 1) => -1,
                    _ => 0,
                };
                if by != 0 {
                    self.count(ctx, unit, conf, by);
                }
            }
        }
    }

    fn count(&mut self, ctx: &mut Ctx<'_>, unit: u32, conf: u32, by: i16) {
        // Held at zero, or paused.
        if ctx.get(self.control_at) >> (2 * unit) & 3 != 0 {
            return;
        }
        let Some(count) = self.counts.get_mut(unit as usize) else { return };
        *count = count.wrapping_add(by);
        let value = *count;
        let (thresholds, limits) = (ctx.get(self.step * unit + 4), ctx.get(self.step * unit + 8));
        let halves = |word: u32| [word as u16 as i16, (word >> 16) as u16 as i16];
        let ([high, low], [first, second]) = (halves(limits), halves(thresholds));
        let mut met = 0;
        let mut meets = |enabled: u32, bit: u32, at: i16| {
            let is = conf & enabled != 0 && value == at;
            met |= if is { bit } else { 0 };
            is
        };
        meets(THRESHOLDS[0], MET_THRESHOLDS[0], first);
        meets(THRESHOLDS[1], MET_THRESHOLDS[1], second);
        let limited = meets(HIGH_LIMIT, MET_HIGH, high) | meets(LOW_LIMIT, MET_LOW, low);
        if limited {
            *count = 0;
        }
        if conf & ZERO != 0 && (value == 0 || limited) {
            met |= MET_ZERO;
        }
        let sign = match value.signum() {
            0 => u32::from(by > 0),
            sign => {
                if sign > 0 {
                    3
                } else {
                    2
                }
            }
        };
        if met != 0 {
            ctx.put(self.status_at + 4 * unit, met | sign);
            self.raw |= 1 << unit;
        }
    }

    fn settle(&self, ctx: &mut Ctx<'_>) {
        let active = self.raw & ctx.get(self.raw_at + 8) != 0;
        ctx.shared.source(self.source, active);
    }
}

impl Device for Pcnt {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        let unit = offset.wrapping_sub(self.count_at) / 4;
        match offset.wrapping_sub(self.raw_at) {
            0 => self.raw,
            4 => self.raw & ctx.get(self.raw_at + 8),
            _ if unit < self.units => self.counts.get(unit as usize).map_or(0, |count| u32::from(*count as u16)),
            _ => ctx.read(offset),
        }
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        if offset == self.raw_at + 12 {
            self.raw &= !value;
        } else {
            ctx.store(offset, value);
        }
        if offset == self.control_at {
            for (unit, count) in self.counts.iter_mut().enumerate().take(self.units as usize) {
                if value >> (2 * unit) & 1 != 0 {
                    *count = 0;
                }
            }
        }
        self.settle(ctx);
    }

    fn edges(&mut self, ctx: &mut Ctx<'_>, edges: &[(u8, bool)]) {
        for (pin, level) in edges {
            let bit = 1u64.checked_shl((*pin).into()).unwrap_or(0);
            self.levels = if *level { self.levels | bit } else { self.levels & !bit };
            self.edge(ctx, *pin, *level);
        }
        self.settle(ctx);
    }

    fn reset(&mut self, ctx: &mut Ctx<'_>, _whole: bool) {
        self.counts = [0; COUNTERS as usize];
        self.raw = 0;
        self.settle(ctx);
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}
