//! RMT of the first chips: a transmission takes the time that its pulses say, and ends with its interrupt.
//!
//! Reception, carrier and memory that is refilled while it is sent are not modelled.

use super::SECOND;
use crate::chip::Peripheral;
use crate::device::{Ctx, Device, NEVER};

/// A pulse memory's words, and where the first is.
const WORDS: u32 = 64;
const MEMORY: u32 = 0x400;
/// Of CONF1: begins a transmission.
const START: u32 = 1;

/// See the module.
#[derive(Debug, Clone)]
pub struct Rmt {
    source: u32,
    /// First CONF0 (CONF1 follows), and the distance to the next channel's.
    conf: u32,
    channels: u32,
    /// INT_RAW; ST, ENA and CLR follow.
    interrupts: u32,
    /// Where each channel's transmission ends.
    ends: Vec<u64>,
    raw: u32,
}

impl Rmt {
    pub fn new(it: &'static Peripheral) -> Self {
        let channels = it.number_or("channels", 4);
        Self {
            source: it.sources.first().copied().unwrap_or(u32::MAX),
            conf: it.number("conf"),
            channels,
            interrupts: it.number("interrupts"),
            ends: vec![NEVER; channels as usize],
            raw: 0,
        }
    }

    /// How long a channel's pulses take.
    fn duration(&self, ctx: &mut Ctx<'_>, channel: u32) -> u64 {
        let conf = ctx.get(self.conf + 8 * channel);
        let divider = match conf & 0xff {
            0 => 256,
            divider => u64::from(divider),
        };
        let blocks = (conf >> 24 & 0xf).max(1);
        let mut ticks = 0u64;
        for word in 0..WORDS * blocks {
            let at = (WORDS * channel + word) % (WORDS * self.channels);
            let pulses = ctx.get(MEMORY + 4 * at);
            let (first, second) = (pulses & 0x7fff, pulses >> 16 & 0x7fff);
            ticks += u64::from(first);
            if first == 0 || second == 0 {
                break;
            }
            ticks += u64::from(second);
        }
        (ticks * divider).max(1) * (SECOND / 80_000_000)
    }

    fn settle(&mut self, ctx: &mut Ctx<'_>) {
        let active = self.raw & ctx.get(self.interrupts + 8) != 0;
        ctx.shared.source(self.source, active);
        ctx.wake(self.ends.iter().copied().min().unwrap_or(NEVER));
    }
}

impl Device for Rmt {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        match offset.wrapping_sub(self.interrupts) {
            0 => self.raw,
            4 => self.raw & ctx.get(self.interrupts + 8),
            _ => ctx.read(offset),
        }
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        if offset == self.interrupts + 12 {
            self.raw &= !value;
        } else {
            ctx.store(offset, value);
        }
        let channel = offset.wrapping_sub(self.conf + 4) / 8;
        let is_start = offset >= self.conf + 4 && (offset - self.conf) % 8 == 4 && channel < self.channels;
        if is_start && value & START != 0 {
            let end = ctx.shared.now + self.duration(ctx, channel);
            if let Some(slot) = self.ends.get_mut(channel as usize) {
                *slot = end;
            }
        }
        self.settle(ctx);
    }

    fn fire(&mut self, ctx: &mut Ctx<'_>) {
        for (channel, end) in self.ends.iter_mut().enumerate() {
            if *end <= ctx.shared.now {
                *end = NEVER;
                // TX_END of the channel.
                self.raw |= 1 << (3 * channel);
            }
        }
        self.settle(ctx);
    }

    fn reset(&mut self, ctx: &mut Ctx<'_>, _whole: bool) {
        self.ends.fill(NEVER);
        self.raw = 0;
        self.settle(ctx);
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}
