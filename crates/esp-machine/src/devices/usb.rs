//! USB-Serial-JTAG: a host is connected and reads all that is sent, unless the eFuses or the program give the pins to USB-OTG.

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
    /// Register by which a program gives the pins to USB-OTG (bit 19; bit 20: that it decides); 0 on chips without it.
    pins: u32,
    received: VecDeque<u8>,
    raw: u32,
    /// Start-of-frame is seen once a millisecond.
    frame: u64,
}

impl UsbSerialJtag {
    pub fn new(it: &'static Peripheral) -> Self {
        let source = it.sources.first().copied().unwrap_or(u32::MAX);
        let pins = it.number("pins");
        Self { source, pins, received: VecDeque::new(), raw: IN_EMPTY, frame: 0 }
    }

    /// The pins are this block's.
    fn is_connected(&self, ctx: &mut Ctx<'_>) -> bool {
        let chosen = if self.pins == 0 { 0 } else { ctx.get_at(self.pins) >> 19 };
        let efuse = &ctx.shared.efuse;
        let away = if chosen & 2 != 0 { chosen & 1 } else { efuse.number("USB_PHY_SEL") };
        away == 0 && efuse.number("DIS_USB_SERIAL_JTAG") == 0
    }

    fn frames(&mut self, ctx: &mut Ctx<'_>) {
        if !self.is_connected(ctx) {
            return;
        }
        let frame = ctx.shared.now / (SECOND / 1000);
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
        self.frames(ctx);
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
                if self.is_connected(ctx) {
                    ctx.say(What::Usb(value as u8));
                }
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
        if !self.is_connected(ctx) {
            return true;
        }
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
