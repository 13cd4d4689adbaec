//! GPIO: output latches, inputs as something outside drives them, edge and level interrupts, the strapping register.

use crate::chip::Peripheral;
use crate::device::{Ctx, Device};
use crate::events::{Input, What};

/// See the module. The second bank (pins 32 and up) has its registers behind those of the first.
#[derive(Debug, Clone)]
pub struct Gpio {
    source: u32,
    strap: u32,
    /// First of the PINn registers.
    pins_at: u32,
    count: u32,
    /// Driven pins as they were seen last.
    shown: u64,
    driven: u64,
    inputs: u64,
}

/// Offsets of the first and the second bank.
const OUT: [u32; 2] = [0x4, 0x10];
const ENABLE: [u32; 2] = [0x20, 0x2c];
const IN: [u32; 2] = [0x3c, 0x40];
const STATUS: [u32; 2] = [0x44, 0x50];

impl Gpio {
    pub fn new(it: &'static Peripheral) -> Self {
        Self {
            source: it.sources.first().copied().unwrap_or(u32::MAX),
            strap: it.number_or("strap", 0x38),
            pins_at: it.number_or("pins_at", 0x74),
            count: it.number_or("pins", 22),
            shown: 0,
            driven: 0,
            inputs: 0,
        }
    }

    fn pair(ctx: &mut Ctx<'_>, at: [u32; 2]) -> u64 {
        u64::from(ctx.get(at[0])) | u64::from(ctx.get(at[1])) << 32
    }

    /// Levels on the pins: what the chip drives, what the outside drives, else low.
    fn levels(&mut self, ctx: &mut Ctx<'_>) -> u64 {
        let (out, enable) = (Self::pair(ctx, OUT), Self::pair(ctx, ENABLE));
        let [level, mask] = ctx.shared.pins;
        out & enable | level & mask & !enable
    }

    fn settle(&mut self, ctx: &mut Ctx<'_>) {
        let levels = self.levels(ctx);
        let enable = Self::pair(ctx, ENABLE);
        let changed = ((self.shown ^ levels) | (self.driven ^ enable)) & enable;
        for number in (0..64u8).filter(|number| changed >> number & 1 != 0) {
            ctx.say(What::Pin { number, level: levels >> number & 1 != 0 });
        }
        (self.shown, self.driven) = (levels, enable);
        let before = std::mem::replace(&mut self.inputs, levels);
        let mut active = false;
        for pin in 0..self.count {
            let conf = ctx.get(self.pins_at + 4 * pin);
            let (was, is) = (before >> pin & 1 != 0, levels >> pin & 1 != 0);
            let fires = match conf >> 7 & 7 {
                1 => !was && is,
                2 => was && !is,
                3 => was != is,
                4 => !is,
                5 => is,
                _ => false,
            };
            let at = STATUS[pin as usize / 32];
            let bit = 1 << (pin % 32);
            if fires {
                let status = ctx.get(at);
                ctx.put(at, status | bit);
            }
            active |= ctx.get(at) & bit != 0 && conf >> 13 & 0x1f != 0;
        }
        ctx.shared.source(self.source, active);
    }
}

/// Set and clear registers stand behind the register they change.
fn set_or_clear(offset: u32) -> Option<(u32, bool)> {
    [OUT, ENABLE, STATUS].iter().flatten().find_map(|at| match offset.wrapping_sub(*at) {
        4 => Some((*at, true)),
        8 => Some((*at, false)),
        _ => None,
    })
}

impl Device for Gpio {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        if offset == self.strap {
            return ctx.shared.straps;
        }
        let levels = self.levels(ctx);
        match offset {
            _ if offset == IN[0] => levels as u32,
            _ if offset == IN[1] => (levels >> 32) as u32,
            // What of the interrupt status reaches the processor.
            0x5c => ctx.get(STATUS[0]),
            _ => ctx.read(offset),
        }
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        if let Some((at, set)) = set_or_clear(offset) {
            let old = ctx.get(at);
            ctx.put(at, if set { old | value } else { old & !value });
        } else {
            ctx.store(offset, value);
        }
        self.settle(ctx);
    }

    fn input(&mut self, ctx: &mut Ctx<'_>, input: &Input) -> bool {
        let Input::Pin { number, level } = input else { return false };
        let bit = 1u64.checked_shl((*number).into()).unwrap_or(0);
        let [levels, mask] = &mut ctx.shared.pins;
        *mask = if level.is_some() { *mask | bit } else { *mask & !bit };
        *levels = if *level == Some(true) { *levels | bit } else { *levels & !bit };
        self.settle(ctx);
        true
    }

    fn reset(&mut self, ctx: &mut Ctx<'_>, _whole: bool) {
        self.settle(ctx);
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}
