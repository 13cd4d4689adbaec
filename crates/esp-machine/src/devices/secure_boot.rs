//! The first chip's secure boot engine: a digest of what it is fed, made with a key of the eFuses that software never sees.
//!
//! What its registers do is read off the mask ROM's functions `ets_secure_boot_*`.

use esp_model::secure::boot_v1;

use super::aes::{bytes, put};
use crate::chip::Board;
use crate::device::{Ctx, Device};

const IV: u32 = 0;
const DATA: u32 = 0x80;
const DIGEST: u32 = 0x100;
const EXPECTED: u32 = 0x140;
const DIFFERS: u32 = 0x180;
const START: u32 = 0x1c0;
const HASH: u32 = 0x1c4;
const OBTAIN: u32 = 0x1c8;
const CHECK: u32 = 0x1cc;
const FINISH: u32 = 0x1d0;
const BUSY: u32 = 0x1d4;
/// No bootloader is longer.
const MOST: usize = 1 << 20;

/// See the module.
#[derive(Debug, Clone)]
pub struct SecureBoot {
    board: &'static Board,
    fed: Vec<u8>,
    /// Data was written since the last hash; without it the vector is hashed.
    fresh: bool,
}

impl SecureBoot {
    pub fn new(board: &'static Board) -> Self {
        Self { board, fed: Vec::new(), fresh: false }
    }

    fn digest(&self, ctx: &mut Ctx<'_>) -> Vec<u8> {
        let efuse = &ctx.shared.efuse;
        let chip = esp_model::chip::by_name(self.board.id);
        let purpose = chip.and_then(|chip| {
            let known = &chip.efuse().key_purposes;
            known.iter().find(|purpose| purpose.name == "SECURE_BOOT_V1")?.blocks.first()
        });
        let Some(block) = purpose else { return Vec::new() };
        let mut key = esp_model::efuse::bits::to_bytes(efuse.decoded().block(*block));
        key.reverse();
        boot_v1::digest_of_blocks(&key, &self.fed).unwrap_or_default()
    }
}

impl Device for SecureBoot {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        if offset == BUSY { 0 } else { ctx.get(offset) }
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        if offset < START {
            self.fresh |= (DATA..DIGEST).contains(&offset);
            return ctx.put(offset, value);
        }
        match offset {
            START => {
                self.fed.clear();
                self.fresh = false;
                let iv: Vec<u8> = (0..32).flat_map(|_| ctx.shared.random().to_le_bytes()).collect();
                put(ctx, IV, &iv);
            }
            HASH if self.fed.len() < MOST => {
                let at = if std::mem::take(&mut self.fresh) { DATA } else { IV };
                self.fed.extend(bytes::<128>(ctx, at));
            }
            OBTAIN => {
                let digest = self.digest(ctx);
                put(ctx, DIGEST, &digest);
            }
            CHECK => {
                let differs = self.digest(ctx) != bytes::<64>(ctx, EXPECTED);
                ctx.put(DIFFERS, differs.into());
            }
            FINISH => self.fed.clear(),
            _ => {}
        }
    }

    fn reset(&mut self, _ctx: &mut Ctx<'_>, _whole: bool) {
        self.fed.clear();
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}
