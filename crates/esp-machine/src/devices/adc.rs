//! Analog-to-digital converters: single conversions. What a channel shows comes from a script ([`Input::Adc`]), else it is the
//! middle of the range; the channel that drivers calibrate with shows ground, or the reference, which is the middle, too.
//!
//! Conversions by DMA, filters and thresholds are not modelled.

use std::collections::BTreeMap;

use super::SECOND;
use crate::chip::{Board, Peripheral};
use crate::device::{Ctx, Device, NEVER};
use crate::events::Input;
use crate::registers::Block;

/// What a channel shows of which no script says anything: half of 12 bits.
const MIDDLE: u16 = 0x800;
/// How long a conversion takes.
const CONVERSION: u64 = 10 * (SECOND / 1_000_000);
/// The channel that is connected to ground or to the reference inside the chip.
const CALIBRATION: u8 = 15;

/// Values by unit and channel.
#[derive(Debug, Clone, Default)]
struct Values(BTreeMap<(u8, u8), u16>);

impl Values {
    /// `unit` counts from 0 here, in scripts from 1.
    fn of(&self, ctx: &Ctx<'_>, unit: u8, channel: u8) -> u32 {
        let grounded = ctx.shared.adc_grounded.get(usize::from(unit)).copied().unwrap_or(false);
        let value = self.0.get(&(unit, channel)).copied();
        value.unwrap_or(if channel == CALIBRATION && grounded { 0 } else { MIDDLE }).into()
    }

    fn input(&mut self, input: &Input) -> bool {
        let Input::Adc { unit, channel, value } = input else { return false };
        self.0.insert((unit.saturating_sub(1), *channel), *value & 0xfff);
        true
    }
}

fn at(block: Option<&Block>, name: &str) -> u32 {
    block.and_then(|block| block.offset(name)).unwrap_or(u32::MAX)
}

/// ONETIME_SAMPLE: the first unit's bit (the second one's is below), and that of the start.
const FIRST_UNIT: u32 = 31;
const START: u32 = 1 << 29;

/// The digital controller of the RISC-V chips.
#[derive(Debug, Clone)]
pub struct Adc {
    source: u32,
    sample: u32,
    data: [u32; 2],
    /// INT_ENA, INT_RAW, INT_ST, INT_CLR.
    interrupts: [u32; 4],
    raw: u32,
    values: Values,
}

impl Adc {
    pub fn new(board: &'static Board, it: &'static Peripheral) -> Self {
        let block = board.block(&it.name);
        let named = |names: [String; 2]| names.iter().map(|name| at(block, name)).min().unwrap_or(u32::MAX);
        let data = |unit: u32| named([format!("SAR{unit}DATA_STATUS"), format!("APB_SARADC{unit}_DATA_STATUS")]);
        Self {
            source: it.sources.first().copied().unwrap_or(u32::MAX),
            sample: at(block, "ONETIME_SAMPLE"),
            data: [data(1), data(2)],
            interrupts: ["INT_ENA", "INT_RAW", "INT_ST", "INT_CLR"].map(|name| at(block, name)),
            raw: 0,
            values: Values::default(),
        }
    }

    fn settle(&self, ctx: &mut Ctx<'_>) {
        let active = self.raw & ctx.get(self.interrupts[0]) != 0;
        ctx.shared.source(self.source, active);
    }
}

impl Device for Adc {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        match self.interrupts.iter().position(|at| *at == offset) {
            Some(1) => self.raw,
            Some(2) => self.raw & ctx.get(self.interrupts[0]),
            _ => ctx.read(offset),
        }
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        if offset == self.interrupts[3] {
            self.raw &= !value;
        } else {
            let started = ctx.get(self.sample) & START != 0;
            ctx.store(offset, value);
            if offset == self.sample && value & START != 0 && !started {
                let end = ctx.shared.now + CONVERSION;
                ctx.wake(end);
            }
        }
        self.settle(ctx);
    }

    fn fire(&mut self, ctx: &mut Ctx<'_>) {
        let sample = ctx.get(self.sample);
        let channel = (sample >> 25 & 0xf) as u8;
        for (unit, data) in (0..).zip(self.data) {
            let bit = 1 << (FIRST_UNIT - u32::from(unit));
            if sample & bit != 0 {
                let value = self.values.of(ctx, unit, channel);
                ctx.put(data, value);
                self.raw |= bit;
            }
        }
        self.settle(ctx);
    }

    fn input(&mut self, _: &mut Ctx<'_>, input: &Input) -> bool {
        self.values.input(input)
    }

    fn reset(&mut self, ctx: &mut Ctx<'_>, _whole: bool) {
        self.raw = 0;
        ctx.wake(NEVER);
        self.settle(ctx);
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}

/// Of a measurement register: the value is there, a conversion starts; the channels' bits begin here.
const DONE: u32 = 1 << 16;
const MEASURE: u32 = 1 << 17;
const PADS: u32 = 19;

/// The controller in the low-power part of the Xtensa chips.
#[derive(Debug, Clone)]
pub struct RtcAdc {
    /// The measurement register of each unit.
    measure: [u32; 2],
    /// When its conversion ends.
    ends: [u64; 2],
    values: Values,
}

impl RtcAdc {
    pub fn new(board: &'static Board, it: &'static Peripheral) -> Self {
        let block = board.block(&it.name);
        let named = |first: &str, other: &str| at(block, first).min(at(block, other));
        Self {
            measure: [named("SAR_MEAS_START1", "SAR_MEAS1_CTRL2"), named("SAR_MEAS_START2", "SAR_MEAS2_CTRL2")],
            ends: [NEVER; 2],
            values: Values::default(),
        }
    }

    fn settle(&self, ctx: &mut Ctx<'_>) {
        ctx.wake(self.ends[0].min(self.ends[1]));
    }
}

impl Device for RtcAdc {
    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        let Some(unit) = self.measure.iter().position(|at| *at == offset) else { return ctx.store(offset, value) };
        let old = ctx.get(offset);
        let kept = value & !(DONE | 0xffff) | old & 0xffff;
        if value & MEASURE != 0 && old & MEASURE == 0 {
            ctx.put(offset, kept);
            self.ends[unit] = ctx.shared.now + CONVERSION;
            self.settle(ctx);
        } else {
            ctx.put(offset, kept | old & DONE);
        }
    }

    fn fire(&mut self, ctx: &mut Ctx<'_>) {
        for unit in 0..2 {
            if self.ends[unit] > ctx.shared.now {
                continue;
            }
            self.ends[unit] = NEVER;
            let control = ctx.get(self.measure[unit]);
            // No pad: the driver measures ground.
            let pads = control >> PADS & 0xfff;
            let value = if pads == 0 { 0 } else { self.values.of(ctx, unit as u8, pads.trailing_zeros() as u8) };
            ctx.put(self.measure[unit], control & !0xffff | value | DONE);
        }
        self.settle(ctx);
    }

    fn input(&mut self, _: &mut Ctx<'_>, input: &Input) -> bool {
        self.values.input(input)
    }

    fn reset(&mut self, ctx: &mut Ctx<'_>, _whole: bool) {
        self.ends = [NEVER; 2];
        self.settle(ctx);
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}
