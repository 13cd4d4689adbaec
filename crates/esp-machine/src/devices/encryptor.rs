//! Encrypts what software writes to flash: the block is given bytes and their place, and what the flash controller programs there
//! is what comes out, not the controller's own buffer.

use crate::chip::{Board, Peripheral};
use crate::device::{Ctx, Device};
use crate::security;

/// Bytes of the buffer, where the data do not say.
const BUFFER: u32 = 64;
/// Registers behind it.
const SIZE: u32 = 0x40;
const ADDRESS: u32 = 0x48;
const TRIGGER: u32 = 0x4c;
const RELEASE: u32 = 0x50;
const DESTROY: u32 = 0x54;
const STATE: u32 = 0x58;
/// What STATE says.
const DONE: u32 = 2;
const RELEASED: u32 = 3;

/// The first chip's block: 32 bytes at a time, released at once.
#[derive(Debug, Clone)]
pub struct First(pub &'static Board);

impl Device for First {
    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        ctx.put(offset, value);
        if offset == 0x20 && value & 1 != 0 {
            let address = ctx.get(0x24);
            ctx.shared.encrypted = Some(encrypted(self.0, ctx, 0, 32, address));
            ctx.put(0x28, 1);
        }
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}

/// The block of all later chips (XTS): 16, 32 or 64 bytes, which software has to release.
#[derive(Debug, Clone)]
pub struct Xts {
    board: &'static Board,
    buffer: u32,
    made: Option<(u32, Vec<u8>)>,
}

impl Xts {
    pub fn new(board: &'static Board, it: &'static Peripheral) -> Self {
        Self { board, buffer: it.number_or("buffer", BUFFER).max(1), made: None }
    }
}

impl Device for Xts {
    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        match (offset, value & 1) {
            (TRIGGER, 1) => {
                let (length, address) = (16 << (ctx.get(SIZE) & 3).min(2), ctx.get(ADDRESS));
                // They stand in the buffer where their place in flash has them.
                self.made = Some(encrypted(self.board, ctx, address % self.buffer, length, address));
                ctx.put(STATE, DONE);
            }
            (RELEASE, 1) => {
                ctx.shared.encrypted = self.made.take();
                ctx.put(STATE, RELEASED);
            }
            (DESTROY, 1) => {
                (self.made, ctx.shared.encrypted) = (None, None);
                ctx.put(STATE, 0);
            }
            _ => ctx.put(offset, value),
        }
    }

    fn reset(&mut self, _ctx: &mut Ctx<'_>, _whole: bool) {
        self.made = None;
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}

/// So many bytes from there on, by the key of the eFuses.
fn encrypted(board: &Board, ctx: &mut Ctx<'_>, first: u32, length: u32, address: u32) -> (u32, Vec<u8>) {
    let words = (0..length / 4).flat_map(|index| ctx.get(first + 4 * index).to_le_bytes());
    let mut bytes: Vec<u8> = words.collect();
    if let Some(keys) = security::write_keys(board, &ctx.shared.efuse) {
        keys.encrypt(&mut bytes, address);
    }
    (address, bytes)
}
