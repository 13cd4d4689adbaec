//! The AES accelerator: single blocks by registers, longer texts by DMA in the modes ECB, CBC, OFB, CTR and CFB, on some
//! chips GCM.

use aes::cipher::{BlockCipherDecrypt as _, BlockCipherEncrypt as _, KeyInit as _};
use aes::{Aes128, Aes192, Aes256};

use super::aes_gcm;
use super::dma::Dma;
use crate::chip::{Board, Peripheral};
use crate::device::{Ctx, Device};

const KEY: u32 = 0;
const TEXT_IN: u32 = 0x20;
const TEXT_OUT: u32 = 0x30;
const MODE: u32 = 0x40;
const TRIGGER: u32 = 0x48;
const STATE: u32 = 0x4c;
const IV: u32 = 0x50;
const HASH: u32 = 0x60;
const FIRST_COUNTER: u32 = 0x70;
const TAG: u32 = 0x80;
const DMA_ENABLE: u32 = 0x90;
const BLOCK_MODE: u32 = 0x94;
const BLOCK_NUM: u32 = 0x98;
const INC_SEL: u32 = 0x9c;
const ADDITIONAL_NUM: u32 = 0xa0;
const REMAINDER: u32 = 0xa4;
const CONTINUE: u32 = 0xa8;
const INT_CLEAR: u32 = 0xac;
const INT_ENABLE: u32 = 0xb0;
const DMA_EXIT: u32 = 0xb8;
/// BLOCK_MODE: Galois/counter mode, for chips that have it.
const GCM: u32 = 6;
/// As many blocks as are worked on at once; the counter has more bits than any memory has blocks.
const MOST_BLOCKS: u32 = 1 << 18;

pub(super) type Block = [u8; 16];

/// A key, and what is done with it.
pub(super) enum Cipher {
    Short(Aes128),
    Middle(Aes192),
    Long(Aes256),
}

impl Cipher {
    /// `size` as the mode registers have it: 128, 192 or 256 bits.
    pub fn new(key: &[u8; 32], size: u32) -> Option<Self> {
        match size {
            0 => Aes128::new_from_slice(key.get(..16)?).ok().map(Self::Short),
            1 => Aes192::new_from_slice(key.get(..24)?).ok().map(Self::Middle),
            _ => Aes256::new_from_slice(key).ok().map(Self::Long),
        }
    }

    pub fn apply(&self, block: Block, decrypt: bool) -> Block {
        let mut block = block.into();
        match (self, decrypt) {
            (Self::Short(cipher), false) => cipher.encrypt_block(&mut block),
            (Self::Short(cipher), true) => cipher.decrypt_block(&mut block),
            (Self::Middle(cipher), false) => cipher.encrypt_block(&mut block),
            (Self::Middle(cipher), true) => cipher.decrypt_block(&mut block),
            (Self::Long(cipher), false) => cipher.encrypt_block(&mut block),
            (Self::Long(cipher), true) => cipher.decrypt_block(&mut block),
        }
        block.into()
    }
}

/// Words of registers as the bytes that software means by them.
pub(super) fn bytes<const N: usize>(ctx: &mut Ctx<'_>, at: u32) -> [u8; N] {
    let mut bytes = [0; N];
    for (index, word) in bytes.chunks_exact_mut(4).enumerate() {
        word.copy_from_slice(&ctx.get(at + 4 * index as u32).to_le_bytes());
    }
    bytes
}

/// The other way round.
pub(super) fn put(ctx: &mut Ctx<'_>, at: u32, bytes: &[u8]) {
    for (index, word) in bytes.chunks_exact(4).enumerate() {
        let word = word.try_into().map_or(0, u32::from_le_bytes);
        ctx.put(at + 4 * index as u32, word);
    }
}

fn xor(left: Block, right: Block) -> Block {
    std::array::from_fn(|index| left[index] ^ right[index])
}

/// How blocks follow from each other; the numbers are those of BLOCK_MODE.
struct Chain {
    mode: u32,
    decrypt: bool,
    /// The counter has 128 bits, else 32.
    long_counter: bool,
    iv: Block,
}

impl Chain {
    fn next(&mut self, cipher: &Cipher, text: Block) -> Option<Block> {
        Some(match (self.mode, self.decrypt) {
            (0, decrypt) => cipher.apply(text, decrypt),
            (1, false) => {
                self.iv = cipher.apply(xor(text, self.iv), false);
                self.iv
            }
            (1, true) => xor(cipher.apply(text, true), std::mem::replace(&mut self.iv, text)),
            (2, _) => {
                self.iv = cipher.apply(self.iv, false);
                xor(text, self.iv)
            }
            (3, _) => {
                let out = xor(text, cipher.apply(self.iv, false));
                self.count();
                out
            }
            (4, decrypt) => text.map(|byte| {
                let out = byte ^ cipher.apply(self.iv, false)[0];
                self.iv.rotate_left(1);
                self.iv[15] = if decrypt { byte } else { out };
                out
            }),
            (5, decrypt) => {
                let out = xor(text, cipher.apply(self.iv, false));
                self.iv = if decrypt { text } else { out };
                out
            }
            _ => return None,
        })
    }

    fn count(&mut self) {
        let next = u128::from_be_bytes(self.iv).wrapping_add(1);
        let kept = if self.long_counter { 0 } else { !0u128 << 32 };
        self.iv = (u128::from_be_bytes(self.iv) & kept | next & !kept).to_be_bytes();
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Aes {
    source: u32,
    dma: Dma,
    gcm: bool,
    /// A text by DMA is done, and its end was not acknowledged.
    done: bool,
    raised: bool,
}

impl Aes {
    pub fn new(board: &'static Board, it: &'static Peripheral) -> Self {
        let source = it.sources.first().copied().unwrap_or(u32::MAX);
        Self { source, dma: Dma::new(board, it), gcm: it.number("gcm") != 0, done: false, raised: false }
    }

    fn start(&mut self, ctx: &mut Ctx<'_>) {
        let mode = ctx.get(MODE);
        let Some(cipher) = Cipher::new(&bytes(ctx, KEY), mode & 3) else { return };
        let decrypt = mode & 4 != 0;
        if ctx.get(DMA_ENABLE) & 1 == 0 {
            let text = bytes(ctx, TEXT_IN);
            return put(ctx, TEXT_OUT, &cipher.apply(text, decrypt));
        }
        if self.gcm && ctx.get(BLOCK_MODE) == GCM {
            return put(ctx, HASH, &aes_gcm::hash_key(&cipher));
        }
        let long_counter = ctx.get(INC_SEL) & 1 != 0;
        let mut chain = Chain { mode: ctx.get(BLOCK_MODE), decrypt, long_counter, iv: bytes(ctx, IV) };
        let length = ctx.get(BLOCK_NUM).min(MOST_BLOCKS) as usize * 16;
        let mut text = self.dma.read(ctx, length);
        text.resize(length, 0);
        let mut out = Vec::with_capacity(length);
        for block in text.chunks_exact(16) {
            let block = std::array::from_fn(|index| block[index]);
            // A mode that is not modelled gives nothing: the driver sees that no text has come.
            let Some(block) = chain.next(&cipher, block) else { break };
            out.extend(block);
        }
        self.dma.write(ctx, &out);
        put(ctx, IV, &chain.iv);
        (self.done, self.raised) = (true, true);
    }

    /// The hash key was read, the first counter block written: additional data, text and lengths follow.
    fn go_on(&mut self, ctx: &mut Ctx<'_>) {
        let mode = ctx.get(MODE);
        let Some(cipher) = Cipher::new(&bytes(ctx, KEY), mode & 3) else { return };
        let [additional, text] = [ADDITIONAL_NUM, BLOCK_NUM].map(|at| ctx.get(at).min(MOST_BLOCKS) as usize);
        let mut input = self.dma.read(ctx, 16 * (additional + text + 1));
        input.resize(16 * (additional + text + 1), 0);
        let blocks: Vec<Block> =
            input.chunks_exact(16).map(|block| std::array::from_fn(|index| block[index])).collect();
        let (before, lengths) = blocks.split_at(additional + text);
        let job = aes_gcm::Job {
            cipher: &cipher,
            decrypt: mode & 4 != 0,
            first: bytes(ctx, FIRST_COUNTER),
            additional: before.get(..additional).unwrap_or_default(),
            text: before.get(additional..).unwrap_or_default(),
            valid_bits: ctx.get(REMAINDER) & 0x7f,
            lengths: lengths.first().copied().unwrap_or_default(),
        };
        let (out, tag) = job.run();
        self.dma.write(ctx, &out);
        put(ctx, TAG, &tag);
        (self.done, self.raised) = (true, true);
    }

    fn update(&self, ctx: &mut Ctx<'_>) {
        let active = self.raised && ctx.get(INT_ENABLE) & 1 != 0;
        ctx.shared.source(self.source, active);
    }
}

impl Device for Aes {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        match offset {
            // Idle, or done.
            STATE => 2 * u32::from(self.done),
            _ => ctx.read(offset),
        }
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        match offset {
            TRIGGER if value & 1 != 0 => self.start(ctx),
            CONTINUE if value & 1 != 0 && self.gcm && ctx.get(BLOCK_MODE) == GCM => self.go_on(ctx),
            DMA_EXIT => self.done = false,
            INT_CLEAR => self.raised &= value & 1 == 0,
            _ => ctx.store(offset, value),
        }
        self.update(ctx);
    }

    fn reset(&mut self, ctx: &mut Ctx<'_>, _whole: bool) {
        (self.done, self.raised) = (false, false);
        self.update(ctx);
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}

/// The first chip's: one block at a time, and the result stands where the text stood.
#[derive(Debug, Clone)]
pub struct First;

impl Device for First {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        // IDLE
        if offset == 4 { 1 } else { ctx.get(offset) }
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        if offset != 0 {
            return ctx.put(offset, value);
        }
        let mode = ctx.get(8);
        let (key, text) = (bytes(ctx, 0x10), bytes(ctx, 0x30));
        if let Some(cipher) = Cipher::new(&key, mode & 3).filter(|_| value & 1 != 0) {
            put(ctx, 0x30, &cipher.apply(text, mode & 4 != 0));
        }
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}
