//! Small blocks.

use std::collections::BTreeMap;

use super::SECOND;
use crate::chip::Peripheral;
use crate::device::{Ctx, Device};

/// Block of the analog bus that belongs to the ADC.
const ADC_BLOCK: u8 = 0x69;

/// The bus to analog parts: a word with block, register and data.
#[derive(Debug, Clone)]
pub struct AnalogBus {
    /// First control word and behind the last.
    words: [u32; 2],
    registers: BTreeMap<(u32, u8, u8), u8>,
    /// (block, register) that read with these bits set: calibrations are done.
    done: Vec<(u8, u8, u8)>,
    /// Register of the ADC's block, and its bits that connect the calibration channel of each unit to ground.
    adc_ground: [u32; 3],
}

impl AnalogBus {
    pub fn new(it: &'static Peripheral) -> Self {
        let first = it.number("first");
        // Register 3 of block 0x61: the reference voltage is calibrated.
        Self {
            words: [first, first + it.number_or("length", 8)],
            registers: BTreeMap::new(),
            done: vec![(0x61, 3, 0b1001)],
            adc_ground: [
                it.number_or("adc_register", 7),
                it.number_or("adc1_ground", 5),
                it.number_or("adc2_ground", 7),
            ],
        }
    }
}

impl Device for AnalogBus {
    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        if !(self.words[0]..self.words[1]).contains(&offset) {
            ctx.store(offset, value);
            return;
        }
        let (block, register) = (value as u8, (value >> 8) as u8);
        if value & 1 << 24 != 0 {
            self.registers.insert((offset, block, register), (value >> 16) as u8);
        }
        let done = self.done.iter().find(|(b, r, _)| (*b, *r) == (block, register)).map_or(0, |(_, _, bits)| *bits);
        let data = self.registers.get(&(offset, block, register)).copied().unwrap_or(0) | done;
        let [adc_register, first, second] = self.adc_ground;
        if block == ADC_BLOCK && u32::from(register) == adc_register {
            ctx.shared.adc_grounded = [data >> first & 1 != 0, data >> second & 1 != 0];
        }
        let data = match value & 1 << 24 {
            0 => ctx.shared.radio.read_analog(ctx.shared.now, (block, register), data),
            _ => data,
        };
        // Not busy, at once.
        ctx.put(offset, value & 0x0100_ffff | u32::from(data) << 16);
    }

    fn keeps(&self) -> bool {
        true
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}

/// A block with the random number generator's register in it; some have a second one, of the processor's clock.
#[derive(Debug, Clone)]
pub struct Random {
    data: [u32; 2],
}

impl Random {
    pub fn new(it: &'static Peripheral) -> Self {
        let data = it.number("data");
        Self { data: [data, it.number_or("data_sync", data)] }
    }
}

impl Device for Random {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        if self.data.contains(&offset) { ctx.shared.random() } else { ctx.read(offset) }
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}

/// A block with a free-running counter in it.
#[derive(Debug, Clone)]
pub struct Counter {
    data: u32,
    hz: u64,
}

impl Counter {
    pub fn new(it: &'static Peripheral) -> Self {
        Self { data: it.number("data"), hz: it.number_or("hz", 1_000_000).into() }
    }
}

impl Device for Counter {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        if offset != self.data {
            return ctx.read(offset);
        }
        (u128::from(ctx.shared.now) * u128::from(self.hz) / u128::from(SECOND)) as u32
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}
