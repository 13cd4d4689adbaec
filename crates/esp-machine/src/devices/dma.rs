//! How a block of the chip reaches memory by the DMA controller: chains of descriptors, one for each direction.

use crate::chip::{Board, Peripheral};
use crate::device::Ctx;

/// As many descriptors as a chain may have.
const LONGEST_CHAIN: usize = 1 << 12;
/// Descriptor: it belongs to the controller; it is the last one.
const OWNER: u32 = 1 << 31;
const LAST: u32 = 1 << 30;
/// Channels of the largest controller.
const MOST_CHANNELS: u32 = 8;

/// One direction of a channel; addresses of its registers.
#[derive(Debug, Clone, Copy)]
struct Side {
    /// The first descriptor's address: all of it, or its lower 20 bits.
    link: u32,
    whole_address: bool,
    /// Which block the channel serves; `None` when it serves only one.
    select: Option<u32>,
    /// Raw interrupts, those of a chain that has ended, and the source that tells the processor.
    raw: Option<(u32, u32, u32)>,
    /// Whether bytes wait: the register, and what it holds when none do.
    status: Option<(u32, u32)>,
}

/// The channels, as one block uses them.
#[derive(Debug, Clone)]
pub struct Dma {
    /// Memory to block, and block to memory.
    channels: Vec<[Side; 2]>,
    number: u32,
    ram: u32,
}

impl Dma {
    /// `dma_number` says which block this is to the controller, `ram` what stands above the 20 bits of an address.
    pub fn new(board: &'static Board, it: &'static Peripheral) -> Self {
        let ram = it.number_or("ram", 0x3fc0_0000);
        let own = it.set.get("dma").map(|base| {
            [0x24, 0x28].map(|link| Side {
                link: base + link,
                whole_address: false,
                select: None,
                raw: None,
                status: None,
            })
        });
        let shared = ["DMA", "AHB_DMA"].into_iter().find_map(|name| board.block(name));
        let lines = shared.map_or_else(Vec::new, |block| super::gdma::lines(board, &block.name));
        let source = |at: u32| {
            let line = lines.iter().find(|(raw, _)| shared.is_some_and(|block| block.base + raw == at));
            line.map_or(u32::MAX, |(_, source)| *source)
        };
        let register = |name: String| shared.and_then(|block| Some(block.base + block.offset(&name)?));
        let side = |direction: &str, channel: u32, done: [u32; 2]| {
            let whole = register(format!("{direction}_LINK_ADDR_CH{channel}"));
            let own_raw = register(format!("{direction}_INT_RAW_CH{channel}")).map(|at| (at, done[0], source(at)));
            Some(Side {
                status: shared.and_then(|block| {
                    let offset = block.offset(&format!("{direction}FIFO_STATUS_CH{channel}"))?;
                    Some((block.base + offset, block.registers.get(&offset)?.reset))
                }),
                link: whole.or_else(|| register(format!("{direction}_LINK_CH{channel}")))?,
                whole_address: whole.is_some(),
                select: Some(register(format!("{direction}_PERI_SEL_CH{channel}"))?),
                raw: own_raw.or_else(|| register(format!("INT_RAW_CH{channel}")).map(|at| (at, done[1], source(at)))),
            })
        };
        // DONE, EOF and, on the way out, TOTAL_EOF; the one register of the first controllers has both directions.
        let channel = |number| Some([side("OUT", number, [0b1011, 0b1_0001_1000])?, side("IN", number, [0b11, 0b11])?]);
        let channels = own.map_or_else(|| (0..MOST_CHANNELS).map_while(channel).collect(), |own| vec![own]);
        Self { channels, number: it.number_or("dma_number", u32::MAX), ram }
    }

    fn first(&self, ctx: &mut Ctx<'_>, direction: usize) -> Option<(Side, u32)> {
        let number = self.number;
        let mine = |side: &Side, ctx: &mut Ctx<'_>| side.select.is_none_or(|at| ctx.get_at(at) & 0x3f == number);
        let side = self.channels.iter().map(|channel| channel[direction]).find(|side| mine(side, ctx))?;
        let link = ctx.get_at(side.link);
        Some((side, if side.whole_address { link } else { self.ram | link & 0xf_ffff }))
    }

    fn done(ctx: &mut Ctx<'_>, side: Side) {
        if let Some((at, empty)) = side.status {
            ctx.put_at(at, empty);
        }
        if let Some((at, bits, source)) = side.raw {
            let raw = ctx.get_at(at) | bits;
            ctx.put_at(at, raw);
            let active = raw & ctx.get_at(at + super::gdma::ENABLE) != 0;
            ctx.shared.source(source, active);
        }
    }

    /// At most so many bytes that memory has for this block.
    pub fn read(&self, ctx: &mut Ctx<'_>, wanted: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(wanted.min(1 << 16));
        let Some((side, mut descriptor)) = self.first(ctx, 0) else { return bytes };
        for _ in 0..LONGEST_CHAIN {
            let [flags, buffer, next] = [0, 4, 8].map(|at| ctx.memory.word(descriptor + at).unwrap_or(0));
            bytes.extend(ctx.memory.peek(buffer, (flags >> 12 & 0xfff) as usize));
            if bytes.len() >= wanted || next == 0 || flags & LAST != 0 {
                break;
            }
            descriptor = next;
        }
        Self::done(ctx, side);
        bytes.truncate(wanted);
        bytes
    }

    /// Hands bytes to memory; what has no place there is lost.
    pub fn write(&self, ctx: &mut Ctx<'_>, bytes: &[u8]) {
        let Some((side, mut descriptor)) = self.first(ctx, 1) else { return };
        let mut rest = bytes;
        for _ in 0..LONGEST_CHAIN {
            let [flags, buffer, next] = [0, 4, 8].map(|at| ctx.memory.word(descriptor + at).unwrap_or(0));
            let (now, later) = rest.split_at(rest.len().min((flags & 0xfff) as usize));
            for (address, byte) in (buffer..).zip(now) {
                ctx.memory.store_any(address, *byte);
            }
            rest = later;
            let last = rest.is_empty() || next == 0;
            let kept = flags & !(OWNER | LAST | 0xfff << 12) | (now.len() as u32) << 12;
            let flags = if last { kept | LAST } else { kept };
            for (address, byte) in (descriptor..).zip(flags.to_le_bytes()) {
                ctx.memory.store_any(address, byte);
            }
            if last {
                break;
            }
            descriptor = next;
        }
        Self::done(ctx, side);
        if !ctx.memory.overwritten.is_empty() {
            ctx.shared.stop = true;
        }
    }
}
