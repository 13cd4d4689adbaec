//! UARTs. What is sent appears at once; what is received arrives byte by byte at the line's rate.
//!
//! RXFIFO_FULL follows the number of received bytes; an interrupt reaches the core a few cycles after the store that enables
//! it. ROM loaders depend on both: they clear and enable it while bytes wait, and note only behind that which UART its
//! handler is to read.
//!
//! What is sent costs no time as long as it is less than a boot log. A program that prints on and on meets a full FIFO, and
//! comes down to the line's rate.

use std::collections::VecDeque;

use super::SECOND;
use crate::chip::{Board, Peripheral};
use crate::device::{Ctx, Device, NEVER};
use crate::events::{Input, What};

const RXFIFO_FULL: u32 = 1;
const TXFIFO_EMPTY: u32 = 1 << 1;
const RXFIFO_TOUT: u32 = 1 << 8;
const TX_DONE: u32 = 1 << 14;
/// The FIFO.
const DEPTH: usize = 128;
/// Bytes are held back from here on: a host does not overrun a virtual line.
const ALMOST_FULL: usize = 120;
/// Processor cycles from a store to the interrupt registers until the core sees its effect.
const LATENCY: u64 = 8;
/// Shortest time between two bytes of the sped-up line, in picoseconds.
const FASTEST: u64 = 5_000_000;
/// Bytes that may be sent at once before the line's rate counts.
const BURST: u64 = 16 << 10;
/// Input that is kept for a UART; a host that sends more waits.
const MOST_INPUT: usize = 1 << 20;

/// Offsets that differ between generations; the names are those of the register files.
#[derive(Debug, Clone)]
struct Layout {
    clkdiv: u32,
    conf0: u32,
    conf1: u32,
    low_pulse: u32,
    high_pulse: u32,
    edges: u32,
    mem_rx_status: u32,
    clk_conf: u32,
}

/// One UART.
#[derive(Debug, Clone)]
pub struct Uart {
    port: u8,
    source: u32,
    at: Layout,
    /// Bits of CONF0: FIFO reset, autobaud.
    rx_reset: u32,
    autobaud: u32,
    threshold_mask: u32,
    /// By how much the measured pulses are shorter than a bit, in cycles: what ROMs add again.
    pulse_less: u32,
    /// Register with the autobaud bit.
    autobaud_at: u32,
    /// MEM_RX_STATUS has the FIFO's read and write pointers.
    pointers: bool,
    /// Bytes read from the FIFO.
    taken: u32,
    /// Frequency of the default clock source.
    clock_hz: u64,
    /// The clock is the bus clock: the processor's, and 80 MHz at most.
    bus_clock: bool,
    fifo: VecDeque<u8>,
    waiting: VecDeque<u8>,
    raw: u32,
    edges: u32,
    /// Program speed: input comes sixteen times as fast (the stub is running, or an app).
    fast: bool,
    tail: Vec<u8>,
    /// When the next byte comes, and when the timeout is.
    next_byte: u64,
    timeout: u64,
    /// The interrupt does not come before: its registers were just written.
    quiet_until: u64,
    /// The interrupt is active.
    active: bool,
    /// When a line of this rate would have sent all that the program has sent.
    sent_at: u64,
}

impl Uart {
    pub fn new(board: &'static Board, it: &'static Peripheral) -> Self {
        let block = board.block(&it.name);
        let at = |names: &[&str]| names.iter().find_map(|name| block?.offset(name)).unwrap_or(0xffc);
        Self {
            port: it.number("port") as u8,
            source: it.sources.first().copied().unwrap_or(u32::MAX),
            at: Layout {
                clkdiv: at(&["CLKDIV", "CLKDIV_SYNC"]),
                conf0: at(&["CONF0", "CONF0_SYNC"]),
                conf1: at(&["CONF1"]),
                low_pulse: at(&["LOWPULSE"]),
                high_pulse: at(&["HIGHPULSE"]),
                edges: at(&["RXD_CNT"]),
                mem_rx_status: at(&["MEM_RX_STATUS"]),
                clk_conf: at(&["CLK_CONF"]),
            },
            rx_reset: 1 << it.number_or("rx_reset_bit", 17),
            autobaud: 1 << it.number_or("autobaud_bit", 27),
            threshold_mask: it.number_or("threshold_mask", 0x1ff),
            autobaud_at: it.number_or("autobaud_at", at(&["CONF0", "CONF0_SYNC"])),
            pulse_less: it.number_or("pulse_less", 1),
            pointers: it.number("pointers") != 0,
            taken: 0,
            bus_clock: it.number("bus_clock") != 0,
            clock_hz: u64::from(board.crystal_mhz) * 1_000_000,
            fifo: VecDeque::new(),
            waiting: VecDeque::new(),
            raw: 0,
            edges: 0,
            fast: false,
            tail: Vec::new(),
            next_byte: NEVER,
            timeout: NEVER,
            quiet_until: 0,
            active: false,
            sent_at: 0,
        }
    }

    /// Time of ten bits.
    fn byte_time(&self, ctx: &mut Ctx<'_>) -> u64 {
        let divider = ctx.get(self.at.clkdiv);
        let sixteenths = u64::from(divider & 0xf_ffff & 0xfff) * 16 + u64::from(divider >> 20 & 0xf);
        let mut hz = if self.bus_clock { u64::from(ctx.shared.cpu_mhz.min(80)) * 1_000_000 } else { self.clock_hz };
        if self.at.clk_conf != 0xffc {
            let conf = ctx.get(self.at.clk_conf);
            // Source 1 is the 80 MHz clock on these chips, 3 the crystal; the divider holds one less.
            if conf >> 20 & 3 == 1 {
                hz = 80_000_000;
            }
            hz /= u64::from(conf >> 12 & 0xff) + 1;
        }
        let time = (sixteenths.max(16) * 10 * (SECOND / 1000) / 16) / (hz.max(1000) / 1000);
        // Sixteen times as fast, but not faster than a stub at 40 MHz takes bytes.
        if self.fast { (time / 16).max(FASTEST).min(time) } else { time }.max(1_000_000)
    }

    fn threshold(&self, ctx: &mut Ctx<'_>) -> usize {
        (ctx.get(self.at.conf1) & self.threshold_mask) as usize
    }

    fn update(&mut self, ctx: &mut Ctx<'_>) {
        let active = self.raw(ctx) & ctx.get(0xc) != 0;
        self.active = active && (self.active || ctx.shared.now >= self.quiet_until);
        ctx.shared.source(self.source, self.active);
        let raised = if active && !self.active { self.quiet_until } else { NEVER };
        let wants_space = ctx.get(0xc) & TXFIFO_EMPTY != 0;
        let space = self.space_at(ctx).filter(|_| wants_space).unwrap_or(NEVER);
        ctx.wake(self.next_byte.min(self.timeout).min(raised).min(space));
    }

    /// Bytes that stand in the transmit FIFO.
    fn unsent(&self, ctx: &mut Ctx<'_>) -> u64 {
        let left = self.space_at(ctx).map_or(0, |at| at - ctx.shared.now);
        left.div_ceil(self.byte_time(ctx)).min(DEPTH as u64)
    }

    /// When the transmit FIFO is empty; `None` when it is now.
    fn space_at(&self, ctx: &mut Ctx<'_>) -> Option<u64> {
        let at = self.sent_at.saturating_sub(BURST * self.byte_time(ctx));
        (at > ctx.shared.now).then_some(at)
    }

    fn is_full(&self, ctx: &mut Ctx<'_>) -> bool {
        self.fifo.len() >= self.threshold(ctx).max(1)
    }

    /// INT_RAW.
    fn raw(&self, ctx: &mut Ctx<'_>) -> u32 {
        let full = if self.is_full(ctx) { RXFIFO_FULL } else { 0 };
        let room = if self.space_at(ctx).is_none() { TXFIFO_EMPTY } else { 0 };
        self.raw | room | full
    }

    fn push(&mut self, ctx: &mut Ctx<'_>, byte: u8) {
        if ctx.get(self.autobaud_at) & self.autobaud != 0 {
            self.edges = self.edges.saturating_add(edges(byte));
        }
        if self.fifo.len() < DEPTH {
            self.fifo.push_back(byte);
        }
        self.timeout = ctx.shared.now + 2 * self.byte_time(ctx);
    }

    fn take(&mut self) -> u8 {
        let byte = self.fifo.pop_front();
        self.taken += u32::from(byte.is_some());
        byte.unwrap_or(0)
    }

    /// Edges are counted from when autobaud is turned on.
    fn start_autobaud(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        if offset == self.autobaud_at && ctx.get(offset) & self.autobaud == 0 && value & self.autobaud != 0 {
            self.edges = 0;
        }
    }

    fn sent(&mut self, ctx: &mut Ctx<'_>, byte: u8) {
        let (port, time) = (self.port, self.byte_time(ctx));
        if self.unsent(ctx) >= DEPTH as u64 {
            // The FIFO is full to the brim: silicon loses this byte.
            return;
        }
        self.sent_at = self.sent_at.max(ctx.shared.now) + time;
        ctx.say(What::Uart { port, byte });
        self.raw |= TX_DONE;
        if !self.fast {
            // The stub's greeting: from here on the other side reads as fast as it is fed.
            self.tail.push(byte);
            let keep = self.tail.len().saturating_sub(6);
            self.tail.drain(..keep);
            self.fast = self.tail == *b"\xc0OHAI\xc0";
        }
    }
}

/// Level changes of a byte on the line, start and stop bit included.
fn edges(byte: u8) -> u32 {
    // Idle, start, eight bits (lowest first), stop.
    let line = 1u32 | u32::from(byte) << 2 | 1 << 10;
    ((line ^ line >> 1) & 0x3ff).count_ones()
}

impl Device for Uart {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        match offset {
            0 => {
                let byte = self.take();
                if !self.is_full(ctx) {
                    self.raw &= !RXFIFO_FULL;
                }
                if self.fifo.is_empty() {
                    self.raw &= !RXFIFO_TOUT;
                }
                if self.next_byte == NEVER && !self.waiting.is_empty() {
                    self.next_byte = ctx.shared.now + self.byte_time(ctx);
                }
                self.update(ctx);
                byte.into()
            }
            4 => self.raw(ctx),
            8 => self.raw(ctx) & ctx.get(0xc),
            0x1c => {
                let sending = self.unsent(ctx) as u32;
                ctx.read(offset) & !0x03ff_03ff | sending << 16 | self.fifo.len() as u32
            }
            _ if self.pointers && offset == self.at.mem_rx_status => {
                let (read, length) = (self.taken & 0x7f, self.fifo.len() as u32);
                read << 2 | ((read + length) & 0x7f) << 13
            }
            _ if offset == self.at.edges => self.edges.min(0x3ff),
            _ if offset == self.at.low_pulse || offset == self.at.high_pulse => {
                let bit = (self.clock_hz / 115_200) as u32;
                bit.saturating_sub(self.pulse_less)
            }
            _ => ctx.read(offset),
        }
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        match offset {
            0 => self.sent(ctx, value as u8),
            0x10 => self.raw &= !value,
            _ if offset == self.at.conf0 => {
                if value & self.rx_reset != 0 {
                    self.fifo.clear();
                    self.taken = 0;
                    self.raw &= !(RXFIFO_FULL | RXFIFO_TOUT);
                    self.timeout = NEVER;
                }
                self.start_autobaud(ctx, offset, value);
                ctx.store(offset, value);
            }
            _ if offset == self.autobaud_at => {
                self.start_autobaud(ctx, offset, value);
                ctx.store(offset, value);
            }
            _ => ctx.store(offset, value),
        }
        // Bytes that were held back may come now.
        if self.next_byte == NEVER && !self.waiting.is_empty() {
            self.next_byte = ctx.shared.now + self.byte_time(ctx);
        }
        if matches!(offset, 0xc | 0x10) {
            self.quiet_until = ctx.shared.now + LATENCY * 1_000_000 / u64::from(ctx.shared.cpu_mhz.max(1));
        }
        self.update(ctx);
    }

    fn fire(&mut self, ctx: &mut Ctx<'_>) {
        let now = ctx.shared.now;
        if self.next_byte <= now {
            self.next_byte = NEVER;
            if self.fifo.len() >= ALMOST_FULL {
                // A byte is being held: software that has cleared the bit while the FIFO is full must hear of it.
                self.raw |= RXFIFO_FULL;
                self.next_byte = now + self.byte_time(ctx);
            } else if let Some(byte) = self.waiting.pop_front() {
                self.push(ctx, byte);
                if !self.waiting.is_empty() {
                    self.next_byte = now + self.byte_time(ctx);
                }
            }
        }
        if self.timeout <= now {
            self.timeout = NEVER;
            if !self.fifo.is_empty() {
                self.raw |= RXFIFO_TOUT;
            }
        }
        self.update(ctx);
    }

    fn input(&mut self, ctx: &mut Ctx<'_>, input: &Input) -> bool {
        let Input::Uart { port, bytes } = input else { return false };
        if *port != self.port {
            return false;
        }
        let room = MOST_INPUT.saturating_sub(self.waiting.len());
        self.waiting.extend(bytes.iter().take(room));
        if self.next_byte == NEVER && !self.waiting.is_empty() {
            self.next_byte = ctx.shared.now + self.byte_time(ctx);
            self.update(ctx);
        }
        true
    }

    fn reset(&mut self, ctx: &mut Ctx<'_>, _whole: bool) {
        self.fifo.clear();
        self.taken = 0;
        self.raw = 0;
        self.edges = 0;
        self.fast = false;
        self.tail.clear();
        self.timeout = NEVER;
        (self.quiet_until, self.active) = (0, false);
        self.next_byte = NEVER;
        if !self.waiting.is_empty() {
            self.next_byte = ctx.shared.now + SECOND / 1000;
        }
        ctx.put(self.at.mem_rx_status, 0);
        self.update(ctx);
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}
