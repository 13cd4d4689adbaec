//! Firmware images: header, segments, checksum and SHA-256, read and written.
//!
//! The layout is documented in ESP-IDF, "App Image Format" (`esp_app_format.h`, `esp_app_desc.h`,
//! `esp_bootloader_desc.h`); the ESP8266's in its SDK's "2nd stage boot" notes.

pub mod app_desc;
pub mod build;
pub mod checks;
pub mod content;
pub mod dfu;
pub mod elf;
pub mod elf_chip;
pub mod header;
pub mod hex;
pub mod kind;
pub mod merge;
pub mod outline;
pub mod parse;
pub mod size;
pub mod uf2;
pub mod waste;
pub mod zip;

pub use app_desc::{AppDesc, BootDesc};
pub use build::{BuildError, Built, Notes, PageSource, SecurePad, Settings, build, build_hashed, build_noted};
pub use header::{Extended, FlashMode, Header};
pub use outline::Outline;
pub use parse::{Image, Layout, ParseError, Segment, detect, parse};

use crate::chip::{self, Chip, ImageFormat};

/// First byte of an image.
pub const MAGIC: u8 = 0xe9;
/// First byte of an ESP8266 image with a leading flash-mapped segment ("version 2").
pub const MAGIC_V2: u8 = 0xea;
/// What the XOR checksum starts from.
pub const CHECKSUM_SEED: u8 = 0xef;
/// More segments than this are refused by the bootloaders.
pub const MAX_SEGMENTS: usize = 16;
/// Bytes of a segment's header: load address, length.
pub const SEGMENT_HEADER_LEN: usize = 8;
/// Bytes of a SHA-256.
pub const DIGEST_LEN: usize = 32;

/// The XOR checksum over `data`, continued from `start`.
pub fn checksum(data: &[u8], start: u8) -> u8 {
    data.iter().fold(start, |sum, byte| sum ^ byte)
}

/// The chip whose images have the 8-byte header and no chip id.
pub(crate) fn chip_without_id() -> Option<&'static Chip> {
    chip::all().iter().find(|chip| chip.image.format == ImageFormat::Esp8266)
}

#[cfg(test)]
mod tests;
