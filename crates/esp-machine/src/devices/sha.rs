//! The SHA accelerator: SHA-1, SHA-224, SHA-256 and, on larger chips, SHA-384 and SHA-512, block by block or by DMA.

use sha2::block_api::{compress256, compress512};

use super::dma::Dma;
use super::sha_words::{SHA384, SHA512};
use crate::chip::{Board, Peripheral};
use crate::device::{Ctx, Device};

const HASH: u32 = 0x40;
const MESSAGE: u32 = 0x80;
/// See the module.
#[derive(Debug, Clone)]
pub struct Sha {
    state: [u32; 8],
    long: [u64; 8],
    dma: Dma,
}

impl Sha {
    pub fn new(board: &'static Board, it: &'static Peripheral) -> Self {
        Self { state: [0; 8], long: [0; 8], dma: Dma::new(board, it) }
    }

    fn mode(ctx: &mut Ctx<'_>) -> u32 {
        ctx.get(0) & 7
    }

    /// Blocks of 128 bytes and words of 64 bits.
    fn is_long(ctx: &mut Ctx<'_>) -> bool {
        Self::mode(ctx) > 2
    }

    fn start(&mut self, ctx: &mut Ctx<'_>) {
        self.long = if Self::mode(ctx) == 3 { SHA384 } else { SHA512 };
        self.state = match Self::mode(ctx) {
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
        let mut word = |index: usize| ctx.get(HASH + 4 * index as u32).swap_bytes();
        self.state = std::array::from_fn(&mut word);
        self.long = std::array::from_fn(|index| u64::from(word(2 * index)) << 32 | u64::from(word(2 * index + 1)));
    }

    fn block(&mut self, ctx: &mut Ctx<'_>, block: &[u8]) {
        if let (true, Ok(block)) = (Self::is_long(ctx), block.try_into()) {
            compress512(&mut self.long, &[block]);
        } else if let Ok(block) = block.try_into() {
            if Self::mode(ctx) == 0 {
                let mut state = [0; 5];
                state.iter_mut().zip(self.state).for_each(|(to, from)| *to = from);
                sha1::block_api::compress(&mut state, &[block]);
                self.state.iter_mut().zip(state).for_each(|(to, from)| *to = from);
            } else {
                compress256(&mut self.state, &[block]);
            }
        }
    }

    fn show(&mut self, ctx: &mut Ctx<'_>) {
        let words: Vec<u32> = if Self::is_long(ctx) {
            self.long.iter().flat_map(|word| [(word >> 32) as u32, *word as u32]).collect()
        } else {
            self.state.to_vec()
        };
        for (index, word) in words.into_iter().enumerate() {
            ctx.put(HASH + 4 * index as u32, word.swap_bytes());
        }
    }

    /// The text: what stands in the registers, or comes by DMA.
    fn text(&self, ctx: &mut Ctx<'_>, by_dma: bool) -> Vec<u8> {
        let size = if Self::is_long(ctx) { 128 } else { 64 };
        if by_dma {
            let blocks = (ctx.get(0xc) & 0x3f) as usize;
            return self.dma.read(ctx, blocks * size);
        }
        (0..size as u32).step_by(4).flat_map(|at| ctx.get(MESSAGE + at).to_le_bytes()).collect()
    }
}

impl Device for Sha {
    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        match offset {
            // START, CONTINUE, DMA_START, DMA_CONTINUE
            0x10 | 0x14 | 0x1c | 0x20 if value & 1 != 0 => {
                if matches!(offset, 0x10 | 0x1c) {
                    self.start(ctx);
                } else {
                    self.restore(ctx);
                }
                let size = if Self::is_long(ctx) { 128 } else { 64 };
                for block in self.text(ctx, offset >= 0x1c).chunks_exact(size) {
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
