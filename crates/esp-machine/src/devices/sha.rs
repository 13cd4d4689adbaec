//! The SHA accelerator: SHA-1, SHA-224, SHA-256, block by block or by DMA.

use sha2::block_api::compress256;

use crate::chip::Peripheral;
use crate::device::{Ctx, Device};

const HASH: u32 = 0x40;
const MESSAGE: u32 = 0x80;
/// As many DMA descriptors as a chain may have.
const LONGEST_CHAIN: usize = 1 << 12;

/// See the module.
#[derive(Debug, Clone)]
pub struct Sha {
    state: [u32; 8],
    /// The DMA controller's base, its first channel's OUT_LINK, PERI_SEL and interrupt registers, and this block's number there.
    dma: u32,
    dma_out: u32,
    dma_stride: u32,
    dma_channels: u32,
    dma_number: u32,
    /// Where the channels' interrupt registers begin, and which RAM the 20 bits of an address are in.
    dma_raw: u32,
    ram: u32,
}

impl Sha {
    pub fn new(it: &'static Peripheral) -> Self {
        Self {
            state: [0; 8],
            dma: it.number("dma"),
            dma_out: it.number_or("dma_out", 0xd0),
            dma_stride: it.number_or("dma_stride", 0xc0),
            dma_channels: it.number_or("dma_channels", 3),
            dma_number: it.number_or("dma_number", 7),
            dma_raw: it.number("dma_raw"),
            ram: it.number_or("ram", 0x3fc0_0000),
        }
    }

    fn start(&mut self, ctx: &mut Ctx<'_>) {
        self.state = match ctx.get(0) & 7 {
            0 => [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0, 0, 0, 0],
            1 => {
                [0xc105_9ed8, 0x367c_d507, 0x3070_dd17, 0xf70e_5939, 0xffc0_0b31, 0x6858_1511, 0x64f9_8fa7, 0xbefa_4fa4]
            }
            _ => {
                [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19]
            }
        };
    }

    /// Takes the state from the registers: software may have put a saved one there.
    fn restore(&mut self, ctx: &mut Ctx<'_>) {
        for (index, word) in self.state.iter_mut().enumerate() {
            *word = ctx.get(HASH + 4 * index as u32).swap_bytes();
        }
    }

    fn block(&mut self, ctx: &mut Ctx<'_>, block: [u8; 64]) {
        if ctx.get(0) & 7 == 0 {
            let mut state = [0; 5];
            state.iter_mut().zip(self.state).for_each(|(to, from)| *to = from);
            sha1::block_api::compress(&mut state, &[block]);
            self.state.iter_mut().zip(state).for_each(|(to, from)| *to = from);
        } else {
            compress256(&mut self.state, &[block]);
        }
    }

    fn show(&mut self, ctx: &mut Ctx<'_>) {
        for (index, word) in self.state.iter().enumerate() {
            ctx.put(HASH + 4 * index as u32, word.swap_bytes());
        }
    }

    fn registers_block(ctx: &mut Ctx<'_>) -> [u8; 64] {
        let mut block = [0; 64];
        for (index, chunk) in block.chunks_exact_mut(4).enumerate() {
            chunk.copy_from_slice(&ctx.get(MESSAGE + 4 * index as u32).to_le_bytes());
        }
        block
    }

    /// Bytes that the DMA channel for this block brings.
    fn dma_bytes(&self, ctx: &mut Ctx<'_>, wanted: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(wanted.min(1 << 16));
        for channel in 0..self.dma_channels {
            let out = self.dma + self.dma_out + self.dma_stride * channel;
            if ctx.get_at(out + 0x30) & 0x3f != self.dma_number {
                continue;
            }
            let mut descriptor = self.ram | ctx.get_at(out + 0x10) & 0xf_ffff;
            for _ in 0..LONGEST_CHAIN {
                let [flags, buffer, next] = [0, 4, 8].map(|at| ctx.memory.load32(descriptor + at).unwrap_or(0));
                bytes.extend(ctx.memory.peek(buffer, (flags >> 12 & 0xfff) as usize));
                if bytes.len() >= wanted || next == 0 || flags & 1 << 30 != 0 {
                    break;
                }
                descriptor = next;
            }
            // OUT_DONE, OUT_EOF, OUT_TOTAL_EOF.
            let raw = self.dma + self.dma_raw + 0x10 * channel;
            let before = ctx.get_at(raw);
            ctx.put_at(raw, before | 0b1_0110_1000);
            break;
        }
        bytes.truncate(wanted);
        bytes
    }
}

impl Device for Sha {
    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        match offset {
            0x10 | 0x14 if value & 1 != 0 => {
                if offset == 0x10 {
                    self.start(ctx);
                } else {
                    self.restore(ctx);
                }
                let block = Self::registers_block(ctx);
                self.block(ctx, block);
                self.show(ctx);
            }
            0x1c | 0x20 if value & 1 != 0 => {
                if offset == 0x1c {
                    self.start(ctx);
                } else {
                    self.restore(ctx);
                }
                let blocks = (ctx.get(0xc) & 0x3f) as usize;
                let bytes = self.dma_bytes(ctx, blocks * 64);
                for chunk in bytes.chunks_exact(64) {
                    let mut block = [0; 64];
                    block.copy_from_slice(chunk);
                    self.block(ctx, block);
                }
                self.show(ctx);
            }
            _ => ctx.store(offset, value),
        }
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}
