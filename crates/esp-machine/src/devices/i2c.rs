//! I2C controllers, and devices on the bus as a script describes them. Whoever is not there does not acknowledge.

use std::collections::VecDeque;

use super::SECOND;
use crate::chip::Peripheral;
use crate::device::{Ctx, Device, NEVER};
use crate::events::{Input, What};
use crate::i2c_bus::Bus;

const CTR: u32 = 0x4;
const STATUS: u32 = 0x8;
const FIFO_CONF: u32 = 0x18;
const DATA: u32 = 0x1c;
const INT_RAW: u32 = 0x20;
const INT_CLR: u32 = 0x24;
const INT_ENA: u32 = 0x28;
const INT_ST: u32 = 0x2c;
const FIRST_COMMAND: u32 = 0x58;
const COMMANDS: u32 = 8;

const TRANS_START: u32 = 1 << 5;
/// FIFO_CONF: the FIFOs are emptied.
const CLEAR_RX: u32 = 1 << 12;
const CLEAR_TX: u32 = 1 << 13;
const TX_WATERMARK: u32 = 1 << 1;
const END_DETECT: u32 = 1 << 3;
const TRANS_COMPLETE: u32 = 1 << 7;
const NACK: u32 = 1 << 10;
const DONE: u32 = 1 << 31;
/// Bytes that a FIFO holds.
const FIFO: usize = 32;

/// Opcodes of the command registers.
const WRITE: u32 = 1;
const STOP: u32 = 2;
const READ: u32 = 3;
const END: u32 = 4;
const RESTART: u32 = 6;

/// One controller.
#[derive(Debug, Clone)]
pub struct I2c {
    source: u32,
    raw: u32,
    /// What the transaction under way ends with.
    outcome: u32,
    number: u8,
    sent: VecDeque<u8>,
    received: VecDeque<u8>,
    bus: Bus,
}

impl I2c {
    pub fn new(it: &'static Peripheral) -> Self {
        // The first source of some blocks is that of the analog bus.
        let source = it.sources.last().copied().unwrap_or(u32::MAX);
        let number = it.name.bytes().last().filter(u8::is_ascii_digit).map_or(0, |digit| digit - b'0');
        Self {
            source,
            raw: TX_WATERMARK,
            outcome: 0,
            number,
            sent: VecDeque::new(),
            received: VecDeque::new(),
            bus: Bus::default(),
        }
    }

    /// Walks the commands; a write of which an acknowledge is expected ends the transaction when none comes.
    fn start(&mut self, ctx: &mut Ctx<'_>) {
        self.outcome = TRANS_COMPLETE;
        let mut bytes = 0u64;
        for index in 0..COMMANDS {
            let at = FIRST_COMMAND + 4 * index;
            let command = ctx.get(at);
            ctx.put(at, command | DONE);
            let count = command & 0xff;
            match command >> 11 & 7 {
                RESTART => self.tell(ctx),
                WRITE => {
                    let acknowledged = (0..count).all(|_| {
                        bytes += 1;
                        let byte = self.sent.pop_front().unwrap_or(0);
                        self.bus.write(byte) || command & 1 << 8 == 0
                    });
                    if !acknowledged {
                        self.outcome = NACK | TRANS_COMPLETE;
                        break;
                    }
                }
                READ => {
                    for _ in 0..count {
                        let byte = self.bus.read();
                        if self.received.len() < FIFO {
                            self.received.push_back(byte);
                        }
                    }
                    bytes += u64::from(count);
                }
                STOP => break,
                END => {
                    self.outcome = END_DETECT;
                    break;
                }
                _ => {}
            }
        }
        if self.outcome != END_DETECT {
            self.tell(ctx);
        }
        // Nine clocks a byte at 100 kHz.
        let end = ctx.shared.now + bytes.max(1) * 9 * (SECOND / 100_000);
        ctx.wake(end);
    }

    /// What has passed on the bus since the last start.
    fn tell(&mut self, ctx: &mut Ctx<'_>) {
        if let Some(message) = self.bus.end() {
            ctx.say(What::I2c { bus: self.number, message });
        }
    }

    fn update(&mut self, ctx: &mut Ctx<'_>) {
        let active = self.raw & ctx.get(INT_ENA) != 0;
        ctx.shared.source(self.source, active);
    }
}

impl Device for I2c {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        match offset {
            INT_RAW => self.raw,
            INT_ST => self.raw & ctx.get(INT_ENA),
            DATA => self.received.pop_front().unwrap_or(0).into(),
            // No acknowledge, what the FIFOs hold; the bus is free.
            STATUS => {
                let (received, sent) = (self.received.len() as u32, self.sent.len() as u32);
                u32::from(self.raw & NACK != 0) | received << 8 | sent << 18
            }
            _ => ctx.read(offset),
        }
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        match offset {
            CTR if value & TRANS_START != 0 => {
                ctx.store(offset, value);
                self.start(ctx);
            }
            INT_CLR => self.raw = self.raw & !value | TX_WATERMARK,
            DATA if self.sent.len() < FIFO => self.sent.push_back(value as u8),
            DATA => {}
            FIFO_CONF => {
                ctx.put(offset, value);
                if value & CLEAR_RX != 0 {
                    self.received.clear();
                }
                if value & CLEAR_TX != 0 {
                    self.sent.clear();
                }
            }
            _ => ctx.store(offset, value),
        }
        self.update(ctx);
    }

    fn fire(&mut self, ctx: &mut Ctx<'_>) {
        self.raw |= std::mem::take(&mut self.outcome);
        self.update(ctx);
    }

    fn input(&mut self, _: &mut Ctx<'_>, input: &Input) -> bool {
        match input {
            Input::I2cDevice { bus, address, registers } if *bus == self.number => {
                self.bus.attach(*address, registers);
                true
            }
            _ => false,
        }
    }

    fn reset(&mut self, ctx: &mut Ctx<'_>, _whole: bool) {
        self.raw = TX_WATERMARK;
        self.outcome = 0;
        self.sent.clear();
        self.received.clear();
        self.bus.end();
        ctx.wake(NEVER);
        self.update(ctx);
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}
