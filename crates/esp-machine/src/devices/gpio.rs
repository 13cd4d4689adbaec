//! GPIO: output latches, inputs as something outside drives them, edge and level interrupts, the strapping register.

use crate::chip::{Board, Peripheral};
use crate::device::{Ctx, Device};
use crate::events::{Input, What};
use crate::registers::Block;

/// Offsets of a register in the first bank (pins below 32) and the second; [`NONE`] for what a chip does not have.
type Banks = [u32; 2];
const NONE: u32 = u32::MAX;

/// Where the registers are, by the names of the register file.
#[derive(Debug, Clone, Copy)]
struct Layout {
    out: Banks,
    enable: Banks,
    input: Banks,
    status: Banks,
    /// What of the interrupt status reaches the processor.
    processor: Banks,
    strap: u32,
    /// First of the PINn registers.
    pins: u32,
}

impl Layout {
    fn new(block: Option<&Block>) -> Self {
        let at = |names: &[&str]| names.iter().find_map(|name| block?.offset(name)).unwrap_or(NONE);
        Self {
            out: [at(&["OUT"]), at(&["OUT1"])],
            enable: [at(&["ENABLE"]), at(&["ENABLE1"])],
            input: [at(&["IN"]), at(&["IN1"])],
            status: [at(&["STATUS"]), at(&["STATUS1"])],
            processor: [at(&["PCPU_INT", "PROCPU_INT"]), at(&["PCPU_INT1", "PROCPU_INT1"])],
            strap: at(&["STRAP"]),
            pins: at(&["PIN0"]),
        }
    }

    /// Set and clear registers stand behind the register they change.
    fn set_or_clear(&self, offset: u32) -> Option<(u32, bool)> {
        let all = [self.out, self.enable, self.status];
        all.as_flattened().iter().filter(|at| **at != NONE).find_map(|at| match offset.wrapping_sub(*at) {
            4 => Some((*at, true)),
            8 => Some((*at, false)),
            _ => None,
        })
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Gpio {
    source: u32,
    at: Layout,
    count: u32,
    /// Driven pins as they were seen last.
    shown: u64,
    driven: u64,
    inputs: u64,
}

impl Gpio {
    pub fn new(board: &'static Board, it: &'static Peripheral) -> Self {
        Self {
            source: it.sources.first().copied().unwrap_or(u32::MAX),
            at: Layout::new(board.block(&it.name)),
            count: it.number_or("pins", 22),
            shown: 0,
            driven: 0,
            inputs: 0,
        }
    }

    fn pair(ctx: &mut Ctx<'_>, at: Banks) -> u64 {
        let [low, high] = at.map(|offset| if offset == NONE { 0 } else { ctx.get(offset) });
        u64::from(low) | u64::from(high) << 32
    }

    /// Levels on the pins: what the chip drives, what the outside drives, else low.
    fn levels(&mut self, ctx: &mut Ctx<'_>) -> u64 {
        let (out, enable) = (Self::pair(ctx, self.at.out), Self::pair(ctx, self.at.enable));
        let [level, mask] = ctx.shared.pins;
        out & enable | level & mask & !enable
    }

    /// The interrupt status of the pins whose interrupts are let through to the processor.
    fn enabled_status(&self, ctx: &mut Ctx<'_>, bank: usize) -> u32 {
        let first = 32 * bank as u32;
        let enabled = (first..self.count.min(first + 32))
            .filter(|pin| ctx.get(self.at.pins + 4 * pin) >> 13 & 0x1f != 0)
            .fold(0, |mask, pin| mask | 1 << (pin % 32));
        ctx.get(self.at.status[bank & 1]) & enabled
    }

    fn settle(&mut self, ctx: &mut Ctx<'_>) {
        let levels = self.levels(ctx);
        let enable = Self::pair(ctx, self.at.enable);
        let changed = ((self.shown ^ levels) | (self.driven ^ enable)) & enable;
        for number in (0..64u8).filter(|number| changed >> number & 1 != 0) {
            ctx.say(What::Pin { number, level: levels >> number & 1 != 0 });
        }
        (self.shown, self.driven) = (levels, enable);
        let before = std::mem::replace(&mut self.inputs, levels);
        let moved = before ^ levels;
        let edges = (0..64u8).filter(|pin| moved >> pin & 1 != 0).map(|pin| (pin, levels >> pin & 1 != 0));
        ctx.shared.edges.extend(edges);
        let mut active = false;
        for pin in 0..self.count {
            let conf = ctx.get(self.at.pins + 4 * pin);
            let (was, is) = (before >> pin & 1 != 0, levels >> pin & 1 != 0);
            let fires = match conf >> 7 & 7 {
                1 => !was && is,
                2 => was && !is,
                3 => was != is,
                4 => !is,
                5 => is,
                _ => false,
            };
            let at = self.at.status[(pin as usize / 32) & 1];
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

impl Device for Gpio {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        if offset == self.at.strap {
            return ctx.shared.straps;
        }
        let bank = |banks: Banks| banks.iter().position(|at| *at == offset);
        match (bank(self.at.input), bank(self.at.processor)) {
            (Some(bank), _) => (self.levels(ctx) >> (32 * bank)) as u32,
            (_, Some(bank)) => self.enabled_status(ctx, bank),
            _ => ctx.read(offset),
        }
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        if let Some((at, set)) = self.at.set_or_clear(offset) {
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
