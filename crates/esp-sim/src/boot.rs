//! What ROM and second-stage bootloader say at a start, told by walking the flash. No code runs.

use std::fmt::Write as _;

use esp_model::chip::{ChipData, ImageFormat};

use crate::nor::Nor;

/// Why the chip started, with the code that the ROM prints and keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Power came, or EN rose.
    PowerOn,
    /// Software asked for it.
    Software,
    /// The supply broke down.
    BrownOut,
    /// The RTC watchdog fired.
    Watchdog,
    /// The USB-Serial/JTAG unit was told to.
    Usb,
}

impl Cause {
    /// The number in the reset cause register, as this chip's ROM prints it.
    pub fn number(self, chip: &ChipData) -> u32 {
        let resets = &chip.boot.resets;
        let known = |number: u32| if chip.boot.reset_name(number).is_some() { number } else { resets.power_on.into() };
        match self {
            Self::PowerOn => resets.power_on.into(),
            Self::Software => known(3),
            Self::BrownOut => known(15),
            Self::Watchdog => resets.watchdog.into(),
            Self::Usb => resets.usb.unwrap_or(resets.power_on).into(),
        }
    }
}

/// The ROM's first lines.
pub fn banner(chip: &ChipData, cause: Cause, strap: u32, secure: bool) -> String {
    let boot = &chip.boot;
    let line = boot.line_for(cause.number(chip), strap);
    // The ESP8266's line goes on where its banner stops.
    let gap = if line.starts_with(',') { "" } else { "\r\n" };
    let mut text = format!("{}{gap}{line}\r\n", boot.banner);
    let download = strap & (1 << boot.pin_bit) == 0;
    let waiting = if secure { &boot.waiting_secure } else { &boot.waiting };
    if let Some(waiting) = waiting.as_ref().filter(|_| download) {
        text.push_str(waiting);
        text.push_str("\r\n");
    }
    text
}

/// What follows a banner in a normal boot, and whether an app was started.
pub struct Walk {
    /// The lines, as they leave the chip.
    pub text: String,
    /// An image was found and entered.
    pub started: bool,
}

/// Walks bootloader, partition table and app as far as their headers say.
pub fn walk(chip: &ChipData, nor: &Nor) -> Walk {
    let mut text = String::new();
    let started = rom_loads(chip, nor, chip.flash.bootloader_offset, &mut text);
    if started && chip.image.format == ImageFormat::Esp32 {
        second_stage(chip, nor, &mut text);
    }
    Walk { text, started }
}

const IMAGE_MAGIC: u8 = 0xe9;

/// The ROM reads an image's header and segments.
fn rom_loads(chip: &ChipData, nor: &Nor, offset: u32, text: &mut String) -> bool {
    let old = chip.image.format == ImageFormat::Esp8266;
    let Some(header) = bytes(nor, offset, 24) else { return false };
    if header[0] != IMAGE_MAGIC {
        let word = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        let _ = write!(text, "invalid header: {word:#x}\r\n");
        return false;
    }
    if !old {
        let mode = ["QIO", "QOUT", "DIO", "DOUT"].get(usize::from(header[2])).unwrap_or(&"DIO");
        let _ = write!(text, "SPIWP:0xee\r\nmode:{mode}, clock div:{}\r\n", if header[3] & 15 == 0 { 2 } else { 1 });
    }
    let mut at = offset + if old { 8 } else { 24 };
    for _ in 0..header[1].min(16) {
        let Some(head) = bytes(nor, at, 8) else { return false };
        let address = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        if length > nor.size() {
            return false;
        }
        let _ = write!(text, "load:0x{address:08x},len:{length:#x}\r\n");
        at = at.saturating_add(8 + length);
    }
    let entry = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    let _ = write!(text, "entry 0x{entry:08x}\r\n");
    true
}

const TABLE_OFFSET: u32 = 0x8000;
const TABLE_SIZE: u32 = 0xc00;
/// Magic of a partition table entry.
const ENTRY: [u8; 2] = [0xaa, 0x50];

/// The second stage lists the partition table and loads the first app in it.
fn second_stage(chip: &ChipData, nor: &Nor, text: &mut String) {
    let _ = write!(text, "I (28) boot: ESP-IDF 2nd stage bootloader\r\nI (35) boot: chip: {}\r\n", chip.name);
    let Some(table) = bytes(nor, TABLE_OFFSET, TABLE_SIZE as usize) else { return };
    let entries: Vec<_> = table.chunks_exact(32).take_while(|entry| entry[..2] == ENTRY).collect();
    if entries.is_empty() {
        text.push_str("E (46) flash_parts: partition 0 invalid magic number 0xffff\r\n");
        text.push_str("E (53) boot: Failed to verify partition table\r\n");
        return;
    }
    text.push_str("I (46) boot: Partition Table:\r\n");
    let mut app = None;
    for (number, entry) in entries.iter().enumerate() {
        let offset = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let length = u32::from_le_bytes([entry[8], entry[9], entry[10], entry[11]]);
        let (kind, subtype, label) = (entry[2], entry[3], name(&entry[12..28]));
        let _ =
            write!(text, "I (60) boot: {number:2} {label:16} {kind:02x} {subtype:02x} {offset:08x} {length:08x}\r\n");
        if kind == 0 && app.is_none() {
            app = Some(offset);
        }
    }
    text.push_str("I (90) boot: End of partition table\r\n");
    match app {
        Some(offset) => start_app(nor, offset, text),
        None => text.push_str("E (95) boot: No bootable app partitions in the partition table\r\n"),
    }
}

/// Place and magic of the app descriptor in an image.
const DESCRIPTOR: u32 = 0x20;
const DESCRIPTOR_MAGIC: u32 = 0xabcd_5432;

fn start_app(nor: &Nor, offset: u32, text: &mut String) {
    let magic = bytes(nor, offset, 1).and_then(|bytes| bytes.first().copied());
    if magic != Some(IMAGE_MAGIC) {
        let _ = write!(text, "E (100) boot: image at {offset:#x} has invalid magic byte (nothing flashed here?)\r\n");
        return;
    }
    let _ = write!(text, "I (120) boot: Loaded app from partition at offset {offset:#x}\r\n");
    let Some(desc) = bytes(nor, offset.saturating_add(DESCRIPTOR), 256) else { return };
    if desc[..4] != DESCRIPTOR_MAGIC.to_le_bytes() {
        return;
    }
    let _ = write!(text, "I (200) cpu_start: Project name:     {}\r\n", name(&desc[48..80]));
    let _ = write!(text, "I (205) cpu_start: App version:      {}\r\n", name(&desc[16..48]));
    let _ = write!(text, "I (211) cpu_start: ESP-IDF:          {}\r\n", name(&desc[112..144]));
}

fn bytes(nor: &Nor, offset: u32, length: usize) -> Option<Vec<u8>> {
    nor.read(offset, length).ok()
}

fn name(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    bytes[..end].iter().map(|&b| if b.is_ascii_graphic() || b == b' ' { char::from(b) } else { '?' }).collect()
}
