//! SPI controllers for devices of the board, as masters, by their buffer or by DMA. Who answers is said by a script; an empty
//! bus reads as ones.
//!
//! Slave mode, transfers in segments and the timing of single bits are not modelled.

use super::SECOND;
use super::dma::Dma;
use crate::chip::{Board, Peripheral};
use crate::device::{Ctx, Device, NEVER};
use crate::events::{Input, What};
use crate::spi_bus::Bus;

/// Bytes of a message that are kept for the event, of each direction.
const SHOWN: usize = 64;
const NONE: u32 = u32::MAX;

/// USER: the phases of a transfer, and both directions at once.
const COMMAND: u32 = 1 << 31;
const ADDRESS: u32 = 1 << 30;
const RECEIVE: u32 = 1 << 28;
const SEND: u32 = 1 << 27;
const SEND_HIGH: u32 = 1 << 25;
const RECEIVE_HIGH: u32 = 1 << 24;
const BOTH: u32 = 1;
/// MISC: the device stays selected.
const KEEP: u32 = 1 << 30;
/// DMA_CONF: received bytes go to memory, bytes to send come from there.
const DMA_RECEIVE: u32 = 1 << 27;
const DMA_SEND: u32 = 1 << 28;
/// Interrupts: a transfer is done.
const DONE: u32 = 1 << 12;
/// The same in the first controllers' SLAVE register, and whether the processor hears of it.
const SLAVE_DONE: u32 = 1 << 4;
const SLAVE_ENABLE: u32 = 1 << 9;

#[derive(Debug, Clone, Copy)]
struct Layout {
    command: u32,
    /// The bit that starts a transfer.
    start: u32,
    address: u32,
    clock: u32,
    user: [u32; 3],
    /// Lengths of what is sent and received, less one, in bits.
    lengths: [u32; 2],
    misc: u32,
    slave: u32,
    buffer: u32,
    dma: u32,
    /// ENA, RAW, ST, CLR; [`NONE`] where the SLAVE register has them.
    interrupts: [u32; 4],
    /// First bit of the address's length in USER1.
    address_length: u32,
    hz: u64,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Spi {
    source: u32,
    number: u8,
    at: Layout,
    dma: Dma,
    raw: u32,
    bus: Bus,
}

impl Spi {
    pub fn new(board: &'static Board, it: &'static Peripheral) -> Self {
        // Some controllers have the registers of another one.
        let block = board.block(&it.name);
        let at = |names: &[&str]| names.iter().find_map(|name| block?.offset(name)).unwrap_or(NONE);
        let interrupt = |name: &str| if it.number("in_slave") != 0 { NONE } else { at(&[name]) };
        let at = Layout {
            command: at(&["SPI_CMD", "CMD"]),
            start: 1 << it.number_or("start_bit", 24),
            address: at(&["SPI_ADDR", "ADDR"]),
            clock: at(&["SPI_CLOCK", "CLOCK"]),
            user: [at(&["SPI_USER", "USER"]), at(&["SPI_USER1", "USER1"]), at(&["SPI_USER2", "USER2"])],
            lengths: [at(&["SPI_MS_DLEN", "MOSI_DLEN"]), at(&["SPI_MS_DLEN", "MISO_DLEN"])],
            misc: at(&["SPI_MISC", "MISC", "PIN"]),
            slave: at(&["SPI_SLAVE", "SLAVE"]),
            buffer: at(&["SPI_W0", "W0"]),
            dma: if it.set.contains_key("dma_number") { at(&["SPI_DMA_CONF"]) } else { NONE },
            interrupts: ["SPI_DMA_INT_ENA", "SPI_DMA_INT_RAW", "SPI_DMA_INT_ST", "SPI_DMA_INT_CLR"].map(interrupt),
            address_length: it.number_or("address_length", 27),
            hz: u64::from(it.number_or("mhz", 80)) * 1_000_000,
        };
        let digit = it.name.bytes().last().filter(u8::is_ascii_digit).map_or(0, |digit| digit - b'0');
        Self {
            source: it.sources.first().copied().unwrap_or(u32::MAX),
            number: digit,
            at,
            dma: Dma::new(board, it),
            raw: 0,
            bus: Bus::default(),
        }
    }

    /// Command and address as they go over the line.
    fn head(&self, ctx: &mut Ctx<'_>, user: u32) -> Vec<u8> {
        let [_, user1, user2] = self.at.user.map(|at| ctx.get(at));
        let mut head = Vec::new();
        if user & COMMAND != 0 {
            let bytes = ((user2 >> 28) + 1).div_ceil(8) as usize;
            head.extend(user2.to_le_bytes().into_iter().take(bytes.min(2)));
        }
        if user & ADDRESS != 0 {
            let bytes = ((user1 >> self.at.address_length & 0x3f) + 1).div_ceil(8) as usize;
            head.extend(ctx.get(self.at.address).to_be_bytes().into_iter().take(bytes));
        }
        head
    }

    fn buffered(&self, ctx: &mut Ctx<'_>, first: u32, count: usize) -> Vec<u8> {
        let words = (first..16).flat_map(|word| ctx.get(self.at.buffer + 4 * word).to_le_bytes());
        words.take(count).collect()
    }

    fn fill_buffer(&self, ctx: &mut Ctx<'_>, first: u32, bytes: &[u8]) {
        for (word, part) in (first..16).zip(bytes.chunks(4)) {
            let mut value = ctx.get(self.at.buffer + 4 * word).to_le_bytes();
            value.iter_mut().zip(part).for_each(|(slot, byte)| *slot = *byte);
            ctx.put(self.at.buffer + 4 * word, u32::from_le_bytes(value));
        }
    }

    fn transfer(&mut self, ctx: &mut Ctx<'_>) {
        let user = ctx.get(self.at.user[0]);
        let dma = if self.at.dma == NONE { 0 } else { ctx.get(self.at.dma) };
        let [out, into] = self.at.lengths.map(|at| ((ctx.get(at) & 0x00ff_ffff) + 1).div_ceil(8) as usize);
        let (out, into) = (if user & SEND != 0 { out } else { 0 }, if user & RECEIVE != 0 { into } else { 0 });
        let mut sent = self.head(ctx, user);
        let head = sent.len();
        let data = match dma & DMA_SEND != 0 && out > 0 {
            true => self.dma.read(ctx, out),
            false => self.buffered(ctx, if user & SEND_HIGH != 0 { 8 } else { 0 }, out),
        };
        sent.extend(data);
        sent.resize(head + out, 0);
        // Both directions at once, or one after the other.
        let first = if user & BOTH != 0 { head } else { sent.len() };
        let mut line = sent.clone();
        line.resize(line.len().max(first + into), 0);
        let keeps = ctx.get(self.at.misc) & KEEP != 0;
        let mut received = self.bus.transfer(&line, keeps).split_off(first);
        received.truncate(into);
        if into > 0 && dma & DMA_RECEIVE != 0 {
            self.dma.write(ctx, &received);
        } else {
            self.fill_buffer(ctx, if user & RECEIVE_HIGH != 0 { 8 } else { 0 }, &received);
        }
        let end = ctx.shared.now + line.len().max(1) as u64 * 8 * SECOND / self.frequency(ctx);
        sent.truncate(SHOWN);
        received.truncate(SHOWN);
        ctx.say(What::Spi { bus: self.number, sent, received });
        ctx.wake(end);
    }

    fn frequency(&self, ctx: &mut Ctx<'_>) -> u64 {
        let clock = ctx.get(self.at.clock);
        if clock >> 31 != 0 {
            return self.at.hz;
        }
        let (pre, count) = (u64::from(clock >> 18 & 0x1fff) + 1, u64::from(clock >> 12 & 0x3f) + 1);
        (self.at.hz / pre / count).max(1)
    }

    fn settle(&self, ctx: &mut Ctx<'_>) {
        let active = if self.at.interrupts[0] == NONE {
            let slave = ctx.get(self.at.slave);
            slave & SLAVE_DONE != 0 && slave & SLAVE_ENABLE != 0
        } else {
            self.raw & ctx.get(self.at.interrupts[0]) != 0
        };
        ctx.shared.source(self.source, active);
    }
}

impl Device for Spi {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        match self.at.interrupts.iter().position(|at| *at == offset) {
            Some(1) => self.raw,
            Some(2) => self.raw & ctx.get(self.at.interrupts[0]),
            _ => ctx.read(offset),
        }
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        if offset == self.at.command {
            // Only the start stays until the end of the transfer: all else is done at once.
            let busy = ctx.get(offset) & self.at.start;
            ctx.put(offset, busy | value & self.at.start);
            if value & self.at.start != 0 && busy == 0 {
                self.transfer(ctx);
            }
        } else if offset == self.at.slave && self.at.interrupts[0] == NONE {
            ctx.put(offset, value);
        } else if offset == self.at.interrupts[3] {
            self.raw &= !value;
        } else {
            ctx.store(offset, value);
        }
        self.settle(ctx);
    }

    fn fire(&mut self, ctx: &mut Ctx<'_>) {
        let command = ctx.get(self.at.command);
        ctx.put(self.at.command, command & !self.at.start);
        self.raw |= DONE;
        if self.at.interrupts[0] == NONE {
            let slave = ctx.get(self.at.slave);
            ctx.put(self.at.slave, slave | SLAVE_DONE);
        }
        self.settle(ctx);
    }

    fn input(&mut self, _: &mut Ctx<'_>, input: &Input) -> bool {
        match input {
            Input::SpiDevice { bus, device } if *bus == self.number => {
                self.bus.attach(device.clone());
                true
            }
            _ => false,
        }
    }

    fn edges(&mut self, _: &mut Ctx<'_>, edges: &[(u8, bool)]) {
        edges.iter().for_each(|(pin, level)| self.bus.pin(*pin, *level));
    }

    fn reset(&mut self, ctx: &mut Ctx<'_>, _whole: bool) {
        self.raw = 0;
        ctx.wake(NEVER);
        self.settle(ctx);
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}
