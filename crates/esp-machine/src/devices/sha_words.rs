//! The first chip's SHA accelerator: message and digest share one buffer of numbers, and each algorithm has its own start
//! registers.

use sha2::block_api::{compress256, compress512};

use crate::chip::Peripheral;
use crate::device::{Ctx, Device};

/// First of the four registers (start, continue, load, busy) of SHA-1; those of the others follow.
const FIRST: u32 = 0x80;
const SHA1: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
const SHA256: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
pub(super) const SHA384: [u64; 8] = [
    0xcbbb_9d5d_c105_9ed8,
    0x629a_292a_367c_d507,
    0x9159_015a_3070_dd17,
    0x152f_ecd8_f70e_5939,
    0x6733_2667_ffc0_0b31,
    0x8eb4_4a87_6858_1511,
    0xdb0c_2e0d_64f9_8fa7,
    0x47b5_481d_befa_4fa4,
];
pub(super) const SHA512: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

/// See the module. Each algorithm keeps its state until its next start.
#[derive(Debug, Clone)]
pub struct Sha {
    sha1: [u32; 5],
    sha256: [u32; 8],
    long: [u64; 8],
}

impl Sha {
    pub fn new(_it: &'static Peripheral) -> Self {
        Self { sha1: SHA1, sha256: SHA256, long: SHA512 }
    }

    fn block<const N: usize>(ctx: &mut Ctx<'_>) -> [u8; N] {
        let mut block = [0; N];
        for (index, chunk) in block.chunks_exact_mut(4).enumerate() {
            chunk.copy_from_slice(&ctx.get(4 * index as u32).to_be_bytes());
        }
        block
    }

    fn add(&mut self, ctx: &mut Ctx<'_>, algorithm: u32) {
        match algorithm {
            0 => sha1::block_api::compress(&mut self.sha1, &[Self::block(ctx)]),
            1 => compress256(&mut self.sha256, &[Self::block(ctx)]),
            _ => compress512(&mut self.long, &[Self::block(ctx)]),
        }
    }

    fn load(&self, ctx: &mut Ctx<'_>, algorithm: u32) {
        let words: Vec<u32> = match algorithm {
            0 => self.sha1.to_vec(),
            1 => self.sha256.to_vec(),
            _ => self.long.iter().flat_map(|word| [(word >> 32) as u32, *word as u32]).collect(),
        };
        for (index, word) in words.into_iter().enumerate() {
            ctx.put(4 * index as u32, word);
        }
    }
}

impl Device for Sha {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        // Never busy.
        if offset >= FIRST { 0 } else { ctx.get(offset) }
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        let Some(command) = offset.checked_sub(FIRST).filter(|at| *at < 0x40) else {
            ctx.put(offset, value);
            return;
        };
        let algorithm = command / 16;
        match (command % 16, value & 1) {
            (0, 1) => {
                match algorithm {
                    0 => self.sha1 = SHA1,
                    1 => self.sha256 = SHA256,
                    2 => self.long = SHA384,
                    _ => self.long = SHA512,
                }
                self.add(ctx, algorithm);
            }
            (4, 1) => self.add(ctx, algorithm),
            (8, 1) => self.load(ctx, algorithm),
            _ => {}
        }
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}
