//! The SPI controller that software drives the flash with (SPI1, "SPI_MEM"; on the first chip "SPI"), and external RAM as far
//! as it is asked what it is.

use crate::chip::Peripheral;
use crate::device::{Ctx, Device, ResetRequest};

const USR_COMMAND: u32 = 1 << 31;
const USR_ADDR: u32 = 1 << 30;
const USR_DUMMY: u32 = 1 << 29;
const USR_MISO: u32 = 1 << 28;
const USR_MOSI: u32 = 1 << 27;

/// PIN, MISC: which selects are off.
const SELECTS: u32 = 0x34;

/// Offsets of the registers.
#[derive(Debug, Clone, Copy)]
struct Layout {
    user: u32,
    user1: u32,
    user2: u32,
    mosi_len: u32,
    miso_len: u32,
    status: u32,
    data: u32,
    /// The address stands in the upper bits.
    left: bool,
}

/// The controller.
#[derive(Debug, Clone)]
pub struct SpiFlash {
    at: Layout,
    /// Register of the cache's controller whose lower half is the command it reads with: the ROM sets it up together with the
    /// pins that lead to the flash. As long as it holds none, nobody answers. 0 where the flash always does.
    attached: u32,
}

impl SpiFlash {
    pub fn new(it: &'static Peripheral) -> Self {
        let at = |name, usual| it.number_or(name, usual);
        Self {
            attached: it.number("attached"),
            at: Layout {
                user: at("user", 0x18),
                user1: at("user1", 0x1c),
                user2: at("user2", 0x20),
                mosi_len: at("mosi_len", 0x24),
                miso_len: at("miso_len", 0x28),
                status: at("status", 0x2c),
                data: at("data", 0x58),
                left: it.number("address_left") != 0,
            },
        }
    }

    fn buffer(&self, ctx: &mut Ctx<'_>, length: usize) -> Vec<u8> {
        let words = (0..16).flat_map(|index| ctx.get(self.at.data + 4 * index).to_le_bytes());
        let bytes: Vec<u8> = words.collect();
        bytes.into_iter().take(length).collect()
    }

    /// The bytes that are programmed at an address: what was encrypted for it, or the buffer.
    fn page(&self, ctx: &mut Ctx<'_>, address: u32, length: usize) -> Vec<u8> {
        let found = ctx.shared.encrypted.as_ref().and_then(|(place, bytes)| {
            let first = address.checked_sub(*place)? as usize;
            let end = first + length;
            Some((bytes.get(first..end)?.to_vec(), end == bytes.len()))
        });
        let Some((bytes, is_last)) = found else { return self.buffer(ctx, length) };
        if is_last {
            ctx.shared.encrypted = None;
        }
        bytes
    }

    fn keep(&self, ctx: &mut Ctx<'_>, bytes: &[u8]) {
        for (index, chunk) in bytes.chunks(4).take(16).enumerate() {
            let offset = self.at.data + 4 * index as u32;
            let mut word = ctx.get(offset).to_le_bytes();
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            ctx.put(offset, u32::from_le_bytes(word));
        }
    }

    /// The transaction is for the part at the second select.
    fn is_for_psram(ctx: &mut Ctx<'_>) -> bool {
        ctx.get(SELECTS) & 3 == 1
    }

    /// What external RAM says of itself: identification of a quad part, mode registers of an octal one. It is either, as the
    /// firmware asks.
    /// Its content is what the cache shows: drivers write and read a pattern to find the best timing.
    fn psram(ctx: &mut Ctx<'_>, opcode: u8, address: u32, sent: &[u8], received: &mut [u8]) {
        let size = ctx.shared.psram;
        if size == 0 {
            return received.fill(0xff);
        }
        let content = &mut ctx.shared.mmu;
        match opcode {
            0x02 | 0x38 | 0x80 => return content.write_psram(ctx.memory, address, sent),
            0x00 | 0x03 => return content.read_psram(ctx.memory, address, received),
            _ => {}
        }
        // 2, 4, 8, 16 … MB.
        let class = (size >> 20).max(2).ilog2() as u8;
        let answer = match opcode {
            // Maker, known good die, and the size in the upper bits. Some values are parts that drivers treat differently.
            0x9f => [0x0d, 0x5d, (class - 1) << 5 | 1, 0, 0, 0, 0, 0],
            // MR0 to MR7: maker in MR1; good die and size in MR2.
            0x40 => {
                let registers = [0, 0x0d, 0xc0 | (2 * class).saturating_sub(3), 0, 0, 0, 0, 0];
                std::array::from_fn(|index| registers.get(address as usize + index).copied().unwrap_or(0))
            }
            _ => [0; 8],
        };
        received.iter_mut().zip(answer).for_each(|(to, byte)| *to = byte);
    }

    /// One transaction; what the flash has changed is read anew where it is mapped.
    fn transfer(&self, ctx: &mut Ctx<'_>, opcode: u8, sent: &[u8], received: &mut [u8]) {
        if self.attached != 0 && ctx.get_at(self.attached) & 0xffff == 0 {
            return received.fill(0xff);
        }
        let torn = is_change(opcode) && Self::counts_down(ctx);
        if torn {
            Self::tear(ctx, opcode, sent);
        } else {
            ctx.shared.flash.transfer(opcode, sent, received);
        }
        let address = place(opcode, sent);
        let size = ctx.shared.flash.size();
        let (first, length) = match opcode {
            0x02 | 0x12 | 0x32 => (address & !0xff, 256),
            0x20 | 0x21 => (address & !0xfff, 0x1000),
            0x52 => (address & !0x7fff, 0x8000),
            0xd8 | 0xdc => (address & !0xffff, 0x1_0000),
            0x60 | 0xc7 => (0, size),
            _ => return,
        };
        ctx.shared.mmu.flash_changed(ctx.memory, &ctx.shared.flash, first % size.max(1), length);
        if !ctx.memory.overwritten.is_empty() {
            ctx.shared.stop = true;
        }
    }

    /// Whether power is cut in this write.
    fn counts_down(ctx: &mut Ctx<'_>) -> bool {
        let left = ctx.shared.cut_after.map(|count| count.saturating_sub(1));
        ctx.shared.cut_after = left.filter(|count| *count > 0);
        left == Some(0)
    }

    /// Half of a write or erase is done when power goes: the first half of its bytes.
    fn tear(ctx: &mut Ctx<'_>, opcode: u8, sent: &[u8]) {
        let address = place(opcode, sent);
        if matches!(opcode, 0x02 | 0x12) {
            let head = if has_four(opcode) { 4 } else { 3 };
            let half = head + sent.len().saturating_sub(head) / 2;
            ctx.shared.flash.transfer(opcode, sent.get(..half).unwrap_or(sent), &mut []);
        } else {
            let sector = (address & !0xfff) % ctx.shared.flash.size().max(1);
            let rest = ctx.shared.flash.sector(sector >> 12).get(0x800..).unwrap_or_default().to_vec();
            ctx.shared.flash.transfer(0x20, &sector.to_be_bytes()[1..], &mut []);
            ctx.shared.flash.load(sector + 0x800, &rest);
        }
        let cause = ctx.shared.reset_cause_of_power;
        ctx.shared.reset = Some(ResetRequest { cause, whole: true, cpu_only: false });
        ctx.shared.stop = true;
    }

    /// What goes to the part for the fixed program command: address and bytes. Without a length both are those of what was
    /// encrypted.
    fn program(&self, ctx: &mut Ctx<'_>, register: u32) -> Vec<u8> {
        let (mut place, length) = (register & 0xff_ffff, (register >> 24) as usize);
        let bytes = match ctx.shared.encrypted.take_if(|_| length == 0) {
            Some((other, bytes)) => {
                place = other;
                bytes
            }
            None => self.page(ctx, place, length),
        };
        let mut sent = place.to_be_bytes()[1..].to_vec();
        sent.extend(bytes);
        sent
    }

    /// A transaction of the fixed kind.
    fn command(&self, ctx: &mut Ctx<'_>, command: u32) {
        let address = ctx.get(4);
        let place = (address & 0xff_ffff).to_be_bytes();
        let place = [place[1], place[2], place[3]];
        let simple = |ctx: &mut Ctx<'_>, opcode| self.transfer(ctx, opcode, &[], &mut []);
        if command & 1 << 30 != 0 {
            simple(ctx, 0x06);
        }
        if command & 1 << 29 != 0 {
            simple(ctx, 0x04);
        }
        if command & 1 << 28 != 0 {
            let mut id = [0; 4];
            self.transfer(ctx, 0x9f, &[], &mut id[..3]);
            ctx.put(self.at.data, u32::from_le_bytes(id));
        }
        if command & 1 << 27 != 0 {
            let mut status = [0; 1];
            self.transfer(ctx, 0x05, &[], &mut status);
            ctx.put(self.at.status, status[0].into());
        }
        if command & 1 << 26 != 0 {
            let status = ctx.get(self.at.status).to_le_bytes();
            let two = ctx.get(8) & 1 << 22 != 0;
            self.transfer(ctx, 0x01, &status[..if two { 2 } else { 1 }], &mut []);
        }
        if command & 1 << 25 != 0 {
            let sent = self.program(ctx, address);
            self.transfer(ctx, 0x02, &sent, &mut []);
        }
        for (bit, opcode) in [(24, 0x20), (23, 0xd8)] {
            if command & 1 << bit != 0 {
                self.transfer(ctx, opcode, &place, &mut []);
            }
        }
        for (bit, opcode) in [(22, 0xc7), (21, 0xb9), (20, 0xab)] {
            if command & 1 << bit != 0 {
                simple(ctx, opcode);
            }
        }
        if command & 1 << 31 != 0 {
            let length = (address >> 24).min(64) as usize;
            let mut received = vec![0; length];
            self.transfer(ctx, 0x03, &place, &mut received);
            self.keep(ctx, &received);
        }
        if command & 1 << 18 != 0 {
            self.user(ctx);
        }
    }

    /// A transaction as the USER registers say.
    fn user(&self, ctx: &mut Ctx<'_>) {
        let (user, user1) = (ctx.get(self.at.user), ctx.get(self.at.user1));
        let opcode = if user & USR_COMMAND != 0 { ctx.get(self.at.user2) as u8 } else { 0 };
        let mut sent = Vec::with_capacity(72);
        let bits = (user1 >> 26) + 1;
        if user & USR_ADDR != 0 {
            let address = ctx.get(4);
            // Mode bits of dual and quad I/O come behind the address.
            let address = if self.at.left { address >> 8 } else { address >> bits.saturating_sub(24).min(31) };
            let address = if has_four(opcode) { ctx.get(4) } else { address };
            let bytes = address.to_be_bytes();
            sent.extend_from_slice(match bits {
                _ if has_four(opcode) => &bytes,
                ..24 => &bytes[4 - bits.div_ceil(8) as usize..],
                _ => &bytes[1..],
            });
        }
        // Dual and quad data are the plain commands to the part's model.
        let opcode = match opcode {
            0xbb | 0xeb | 0x3b | 0x6b | 0x0b => 0x03,
            0x0c | 0xbc | 0xec | 0x3c | 0x6c => 0x13,
            0x32 => 0x02,
            0x34 => 0x12,
            other => other,
        };
        let address_only = matches!(opcode, 0x03 | 0x02 | 0x20 | 0xd8 | 0x13 | 0x12 | 0x21 | 0xdc);
        if user & USR_DUMMY != 0 && !address_only {
            // Fewer than eight cycles only make up for the delay of the line.
            sent.resize(sent.len() + ((user1 & 0x3f) + 1) as usize / 8, 0);
        }
        let data = sent.len();
        if user & USR_MOSI != 0 {
            let length = ((ctx.get(self.at.mosi_len) & 0x3ff) + 1).div_ceil(8).min(64) as usize;
            let place = place(opcode, &sent);
            let programs = matches!(opcode, 0x02 | 0x12);
            sent.extend(if programs { self.page(ctx, place, length) } else { self.buffer(ctx, length) });
        }
        let wanted =
            if user & USR_MISO != 0 { ((ctx.get(self.at.miso_len) & 0x3ff) + 1).div_ceil(8).min(64) } else { 0 };
        let mut received = vec![0; wanted as usize];
        if Self::is_for_psram(ctx) {
            let address = match (user & USR_ADDR != 0, bits) {
                (false, _) => 0,
                (true, 32) => ctx.get(4),
                (true, _) => place(opcode, &sent),
            };
            let data = sent.get(data..).unwrap_or_default();
            Self::psram(ctx, opcode, address, data, &mut received);
        } else {
            self.transfer(ctx, opcode, &sent, &mut received);
        }
        self.keep(ctx, &received);
    }
}

/// Commands that program or erase.
fn is_change(opcode: u8) -> bool {
    matches!(opcode, 0x02 | 0x12 | 0x20 | 0x21 | 0x52 | 0xd8 | 0xdc | 0x60 | 0xc7)
}

/// Commands with four address bytes: of parts beyond 16 MB.
fn has_four(opcode: u8) -> bool {
    matches!(opcode, 0x13 | 0x0c | 0x3c | 0x6c | 0xbc | 0xec | 0x12 | 0x34 | 0x21 | 0xdc)
}

/// The address at the head of what is sent.
fn place(opcode: u8, sent: &[u8]) -> u32 {
    let count = if has_four(opcode) { 4 } else { 3 };
    sent.iter().take(count).fold(0, |at, byte| at << 8 | u32::from(*byte))
}

impl Device for SpiFlash {
    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        if offset == 0 {
            // Done at once: the start bits are never seen.
            self.command(ctx, value);
        } else if offset == self.at.status {
            ctx.put(offset, value);
        } else {
            ctx.store(offset, value);
        }
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}
