//! RMT: a transmission takes the time that its pulses say and ends with its interrupt; memory that is refilled while it is sent is
//! asked for by the threshold's.
//!
//! Reception and carrier are not modelled, and the pins do not toggle.

use super::SECOND;
use crate::chip::{Board, Peripheral};
use crate::device::{Ctx, Device, NEVER};

/// From a channel's raw interrupts to the others.
const STATUS: u32 = 4;
const ENABLE: u32 = 8;
const CLEAR: u32 = 12;
/// TX_LIM: words until the threshold, repetitions, whether they are counted, whether the last one is the end.
const LIMIT: u32 = 0x1ff;
const COUNTED: u32 = 1 << 19;
const LAST_STOPS: u32 = 1 << 21;

/// Where the registers of the two generations are.
#[derive(Debug, Clone, Copy)]
struct Layout {
    /// First of the registers that start a channel's transmission, and the distance to the next channel's.
    start: u32,
    step: u32,
    /// How far before it the register with divider and size is; the bits of these.
    conf_before: u32,
    divider_bit: u32,
    size_bit: u32,
    /// Bits in the start register: repeat for ever, stop.
    repeat: u32,
    stop: u32,
    /// The register, or 0 for the channel's own, and the bit by which memory wraps.
    wrap: (u32, u32),
    limits: u32,
    interrupts: u32,
    /// Distance of the ends' bits; first bits of thresholds and counted repetitions.
    end_step: u32,
    threshold_bit: u32,
    loop_bit: u32,
    memory: u32,
    words: u32,
}

impl Layout {
    fn new(board: &'static Board, it: &'static Peripheral) -> Self {
        let block = board.block(&it.name);
        let at = |names: &[&str]| names.iter().find_map(|name| block?.offset(name)).unwrap_or(u32::MAX);
        let limits = at(&["CH0_TX_LIM"]);
        let interrupts = at(&["INT_RAW"]);
        let first = it.number("first_generation") != 0;
        Self {
            start: if first { at(&["CH0CONF1"]) } else { at(&["TX_CH0CONF0", "CH0CONF0"]) },
            step: if first { 8 } else { 4 },
            conf_before: if first { 4 } else { 0 },
            divider_bit: if first { 0 } else { 8 },
            size_bit: if first { 24 } else { 16 },
            repeat: if first { 1 << 6 } else { 1 << 3 },
            stop: if first { it.number("stop") } else { 1 << 7 },
            wrap: if first { (at(&["APB_CONF"]), 1 << 1) } else { (0, 1 << 4) },
            limits,
            interrupts,
            end_step: if first { 3 } else { 1 },
            threshold_bit: it.number("threshold_bit"),
            loop_bit: it.number_or("loop_bit", 32),
            memory: it.number_or("memory", 0x400),
            words: if first { 64 } else { 48 },
        }
    }
}

/// A transmission under way: the next word, and what happens when.
#[derive(Debug, Clone, Copy)]
struct Sending {
    word: u32,
    at: u64,
    /// The raw interrupts of that moment; the transmission is over then, or goes on.
    raises: u32,
    over: bool,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Rmt {
    source: u32,
    at: Layout,
    /// Register (address) with selection (first bit) and divider (first bit) of the clock, and frequencies in kHz.
    clock: (u32, u32, u32),
    khz: [u32; 4],
    sending: Vec<Option<Sending>>,
    raw: u32,
}

impl Rmt {
    pub fn new(board: &'static Board, it: &'static Peripheral) -> Self {
        Self {
            source: it.sources.first().copied().unwrap_or(u32::MAX),
            at: Layout::new(board, it),
            clock: (it.number("clock"), it.number("clock_bit"), it.number("divider_bit")),
            khz: ["khz0", "khz1", "khz2", "khz3"].map(|name| it.number(name)),
            sending: vec![None; it.number_or("channels", 2) as usize],
            raw: 0,
        }
    }

    /// Picoseconds of a channel's tick.
    fn tick(&self, ctx: &mut Ctx<'_>, conf: u32) -> u64 {
        let divider = match conf >> self.at.divider_bit & 0xff {
            0 => 256,
            divider => u64::from(divider),
        };
        if self.clock.0 == 0 {
            return divider * (SECOND / 80_000_000);
        }
        let word = ctx.get_at(self.clock.0);
        let khz = self.khz.get((word >> self.clock.1 & 3) as usize).copied().unwrap_or(0).max(1);
        let shared = u64::from(word >> self.clock.2 & 0xff) + 1;
        divider * shared * (SECOND / 1000) / u64::from(khz)
    }

    /// Sends words from one on until the end mark, the threshold, or the end of the memory.
    fn go_on(&self, ctx: &mut Ctx<'_>, channel: u32, from: u32) -> Sending {
        let start = ctx.get(self.at.start + self.at.step * channel);
        let conf = ctx.get(self.at.start + self.at.step * channel - self.at.conf_before);
        let wrap = if self.at.wrap.0 == 0 { start } else { ctx.get(self.at.wrap.0) };
        let wraps = wrap & self.at.wrap.1 != 0;
        let limits = ctx.get(self.at.limits + 4 * channel);
        let size = self.at.words * (conf >> self.at.size_bit & 0xf).max(1);
        let limit = if wraps { (limits & LIMIT).clamp(1, size) } else { size };
        let whole = self.at.words * self.sending.len() as u32;
        let (mut ticks, mut word, mut ended) = (0u64, from, false);
        for _ in 0..limit {
            let place = (self.at.words * channel + word % size) % whole.max(size);
            let pulses = ctx.get(self.at.memory + 4 * place);
            word += 1;
            let (first, second) = (pulses & 0x7fff, pulses >> 16 & 0x7fff);
            ticks += u64::from(first);
            if first == 0 || second == 0 {
                ended = true;
                break;
            }
            ticks += u64::from(second);
        }
        let once = (ticks * self.tick(ctx, conf)).max(1);
        let now = ctx.shared.now;
        let over = ended || !wraps;
        if !over {
            let raises = 1u32.checked_shl(self.at.threshold_bit + channel).unwrap_or(0);
            return Sending { word, at: now + once, raises, over };
        }
        if start & self.at.repeat == 0 {
            return Sending { word, at: now + once, raises: 1 << (self.at.end_step * channel), over };
        }
        // Again and again: nothing is heard of it, unless repetitions are counted.
        let times = u64::from(limits >> 9 & 0x3ff).max(1);
        let at = if limits & COUNTED == 0 { NEVER } else { now.saturating_add(once.saturating_mul(times)) };
        let counted = 1u32.checked_shl(self.at.loop_bit + channel).unwrap_or(0);
        let end = if limits & LAST_STOPS == 0 { 0 } else { 1 << (self.at.end_step * channel) };
        Sending { word: 0, at, raises: counted | end, over: limits & LAST_STOPS != 0 }
    }

    fn settle(&self, ctx: &mut Ctx<'_>) {
        let active = self.raw & ctx.get(self.at.interrupts + ENABLE) != 0;
        ctx.shared.source(self.source, active);
        ctx.wake(self.sending.iter().flatten().map(|sending| sending.at).min().unwrap_or(NEVER));
    }
}

impl Device for Rmt {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        match offset.wrapping_sub(self.at.interrupts) {
            0 => self.raw,
            STATUS => self.raw & ctx.get(self.at.interrupts + ENABLE),
            _ => ctx.read(offset),
        }
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        if offset == self.at.interrupts + CLEAR {
            self.raw &= !value;
        } else {
            ctx.store(offset, value);
        }
        let from_first = offset.wrapping_sub(self.at.start);
        let channel = from_first / self.at.step;
        if offset >= self.at.start && from_first.is_multiple_of(self.at.step) && (channel as usize) < self.sending.len()
        {
            let next = if value & 1 != 0 { Some(self.go_on(ctx, channel, 0)) } else { None };
            if let Some(slot) = self.sending.get_mut(channel as usize)
                && (next.is_some() || value & self.at.stop != 0)
            {
                *slot = next;
            }
        }
        self.settle(ctx);
    }

    fn fire(&mut self, ctx: &mut Ctx<'_>) {
        for channel in 0..self.sending.len() {
            let due = |sending: &Option<Sending>| sending.filter(|sending| sending.at <= ctx.shared.now);
            let Some(done) = self.sending.get(channel).and_then(due) else { continue };
            self.raw |= done.raises;
            let next = if done.over { None } else { Some(self.go_on(ctx, channel as u32, done.word)) };
            if let Some(slot) = self.sending.get_mut(channel) {
                *slot = next;
            }
        }
        self.settle(ctx);
    }

    fn reset(&mut self, ctx: &mut Ctx<'_>, _whole: bool) {
        self.sending.fill(None);
        self.raw = 0;
        self.settle(ctx);
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}
