//! USB-Serial-JTAG: a host is connected and reads all that is sent.

use std::collections::VecDeque;

use super::SECOND;
use crate::chip::Peripheral;
use crate::device::{Ctx, Device};
use crate::events::{Input, What};

const SOF: u32 = 1 << 1;
const OUT_RECEIVED: u32 = 1 << 2;
const IN_EMPTY: u32 = 1 << 3;
const MOST_INPUT: usize = 1 << 20;

/// See the module.
#[derive(Debug, Clone)]
pub struct UsbSerialJtag {
    source: u32,
    received: VecDeque<u8>,
    raw: u32,
    /// Start-of-frame is seen once a millisecond.
    frame: u64,
}

impl UsbSerialJtag {
    pub fn new(it: &'static Peripheral) -> Self {
        let source = it.sources.first().copied().unwrap_or(u32::MAX);
        Self { source, received: VecDeque::new(), raw: IN_EMPTY, frame: 0 }
    }

    fn frames(&mut self, now: u64) {
        let frame = now / (SECOND / 1000);
        if frame != self.frame {
            self.frame = frame;
            self.raw |= SOF;
        }
    }

    fn update(&mut self, ctx: &mut Ctx<'_>) {
        let active = self.raw & ctx.get(0x10) & !SOF != 0;
        ctx.shared.source(self.source, active);
    }
}

impl Device for UsbSerialJtag {
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        self.frames(ctx.shared.now);
        match offset {
            0 => {
                let byte = self.received.pop_front().unwrap_or(0);
                byte.into()
            }
            // Space for what is sent; something to read.
            4 => 1 << 1 | u32::from(!self.received.is_empty()) << 2,
            8 => self.raw,
            0xc => self.raw & ctx.get(0x10),
            0x24 => (self.frame & 0x7ff) as u32,
            _ => ctx.read(offset),
        }
    }

    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        match offset {
            0 => {
                ctx.say(What::Usb(value as u8));
                self.raw |= IN_EMPTY;
            }
            4 => self.raw |= IN_EMPTY,
            0x14 => self.raw &= !value,
            _ => ctx.store(offset, value),
        }
        self.update(ctx);
    }

    fn input(&mut self, ctx: &mut Ctx<'_>, input: &Input) -> bool {
        let Input::Usb(bytes) = input else { return false };
        let room = MOST_INPUT.saturating_sub(self.received.len());
        self.received.extend(bytes.iter().take(room));
        self.raw |= OUT_RECEIVED;
        self.update(ctx);
        true
    }

    fn reset(&mut self, ctx: &mut Ctx<'_>, _whole: bool) {
        self.raw = IN_EMPTY;
        self.update(ctx);
    }

    fn copy(&self) -> Box<dyn Device> {
        Box::new(self.clone())
    }
}
