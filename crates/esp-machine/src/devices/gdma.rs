//! The registers of the DMA controller that several blocks share: interrupts of its channels, and whether bytes wait in them for
//! their block. What it carries is done by those blocks ([`super::dma`]).

use crate::chip::{Board, Peripheral};
use crate::device::{Ctx, Device};

/// From the raw interrupts to the status, the enable bits and the clear register.
const STATUS: u32 = 4;
pub(super) const ENABLE: u32 = 8;
const CLEAR: u32 = 12;

/// Raw interrupt registers (offset) and their sources, one for each channel or for each direction of one.
pub(super) fn lines(board: &'static Board, name: &str) -> Vec<(u32, u32)> {
    let block = board.block(name);
    let sources = board.peripheral.iter().find(|it| it.name == name).map_or(&[][..], |it| &it.sources);
    let registers = |prefix: &str| {
        (0..).map_while(|channel| block?.offset(&format!("{prefix}INT_RAW_CH{channel}"))).collect::<Vec<_>>()
    };
    let all: Vec<_> = ["", "IN_", "OUT_"].into_iter().flat_map(registers).collect();
    all.into_iter().zip(sources.iter().copied()).collect()
}

/// Of a status: the channel's memory is empty (three levels on one chip).
const EMPTY: u32 = 0b10_1010;

/// A channel on its way out: the register that starts its chain, the bit, and its memory's status.
#[derive(Debug, Clone, Copy)]
struct Out {
    link: u32,
    start: u32,
    status: u32,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Gdma {
    lines: Vec<(u32, u32)>,
    outs: Vec<Out>,
}

impl Gdma {
    pub fn new(board: &'static Board, it: &'static Peripheral) -> Self {
        let block = board.block(&it.name);
        let out = |channel: u32| {
            let at = |name: &str| block?.offset(&format!("{name}_CH{channel}"));
            // With an address of its own the register has only the bits that control the chain.
            let start = if at("OUT_LINK_ADDR").is_some() { 1 << 1 } else { 1 << 21 };
            Some(Out { link: at("OUT_LINK")?, start, status: at("OUTFIFO_STATUS")? })
        };
        Self { lines: lines(board, &it.name), outs: (0..).map_while(out).collect() }
    }
}

impl Device for Gdma {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        match self.lines.iter().find(|(raw, _)| raw + STATUS == offset) {
            Some((raw, _)) => ctx.get(*raw) & ctx.get(raw + ENABLE),
            None => ctx.read(offset),
        }
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        match self.lines.iter().find(|(raw, _)| raw + CLEAR == offset) {
            Some((raw, _)) => {
                let left = ctx.get(*raw) & !value;
                ctx.put(*raw, left);
            }
            None => ctx.store(offset, value),
        }
        if let Some(out) = self.outs.iter().find(|out| out.link == offset && value & out.start != 0) {
            let status = ctx.get(out.status);
            ctx.put(out.status, status & !EMPTY);
        }
        for (raw, source) in &self.lines {
            let active = ctx.get(*raw) & ctx.get(raw + ENABLE) != 0;
            ctx.shared.source(*source, active);
        }
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}
