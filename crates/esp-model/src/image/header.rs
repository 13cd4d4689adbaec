//! The image's headers: 8 bytes for every chip, 16 more since the ESP32.

use serde::{Deserialize, Serialize};

use crate::chip::Chip;

/// Flash access mode, byte 2 of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlashMode {
    /// Quad I/O.
    Qio = 0,
    /// Quad output.
    Qout = 1,
    /// Dual I/O.
    Dio = 2,
    /// Dual output.
    Dout = 3,
}

impl FlashMode {
    /// All modes, by their code.
    pub const ALL: [Self; 4] = [Self::Qio, Self::Qout, Self::Dio, Self::Dout];

    /// The mode with this code.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// The mode with this name, in lower or upper case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name().eq_ignore_ascii_case(name))
    }

    /// `qio`, `qout`, `dio` or `dout`.
    pub fn name(self) -> &'static str {
        ["qio", "qout", "dio", "dout"][self as usize]
    }
}

/// The first 8 bytes of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Header {
    /// [`super::MAGIC`] or [`super::MAGIC_V2`].
    pub magic: u8,
    /// Number of segments.
    pub segments: u8,
    /// Flash mode code.
    pub flash_mode: u8,
    /// Flash size code in the upper, frequency code in the lower four bits.
    pub flash_size_freq: u8,
    /// Address where the program starts.
    pub entry: u32,
}

impl Header {
    /// Bytes of it.
    pub const LEN: usize = 8;

    /// Reads it from the first bytes; None when there are too few.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let [magic, segments, flash_mode, flash_size_freq, e0, e1, e2, e3] = *bytes.first_chunk()?;
        Some(Self { magic, segments, flash_mode, flash_size_freq, entry: u32::from_le_bytes([e0, e1, e2, e3]) })
    }

    /// Its bytes.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let [e0, e1, e2, e3] = self.entry.to_le_bytes();
        [self.magic, self.segments, self.flash_mode, self.flash_size_freq, e0, e1, e2, e3]
    }

    /// The flash mode; None for a code without meaning.
    pub fn mode(&self) -> Option<FlashMode> {
        FlashMode::from_code(self.flash_mode)
    }

    /// The flash size in the chip's spelling (`4MB`); None for a code without meaning.
    pub fn size_name<'a>(&self, chip: &'a Chip) -> Option<&'a str> {
        name_of(&chip.flash.sizes, self.flash_size_freq & 0xf0)
    }

    /// The flash frequency in the chip's spelling (`80m`); None for a code without meaning.
    pub fn frequency_name<'a>(&self, chip: &'a Chip) -> Option<&'a str> {
        name_of(&chip.flash.frequencies, self.flash_size_freq & 0x0f)
    }
}

/// The name with this code; of several, the one with the largest number (two names of one code exist where a
/// ROM misreads the faster setting, and then the faster one is meant).
fn name_of(names: &std::collections::BTreeMap<String, u8>, code: u8) -> Option<&str> {
    let number = |name: &str| name.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<u32>().unwrap_or(0);
    names.iter().filter(|(_, value)| **value == code).map(|(name, _)| name.as_str()).max_by_key(|name| number(name))
}

/// The 16 bytes after the header of every chip but the ESP8266.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Extended {
    /// Pin that drives the flash's WP; 0xEE: not used.
    pub wp_pin: u8,
    /// Drive strengths of CLK and Q, D and CS, HD and WP: the first of each pair in the lower four bits.
    pub drive: [u8; 3],
    /// `esp_chip_id_t`.
    pub chip_id: u16,
    /// Lowest major revision, for old bootloaders.
    pub min_rev: u8,
    /// Lowest revision, major × 100 + minor.
    pub min_rev_full: u16,
    /// Highest revision, major × 100 + minor; 65535: no limit.
    pub max_rev_full: u16,
    /// Bytes without meaning so far.
    pub reserved: [u8; 4],
    /// 1: a SHA-256 follows the checksum. 0: none. Other values are not valid.
    pub append_digest: u8,
}

impl Extended {
    /// Bytes of it.
    pub const LEN: usize = 16;
    /// `wp_pin` when the ROM shall not touch the pin.
    pub const WP_PIN_DISABLED: u8 = 0xee;

    /// Reads it from the first bytes; None when there are too few.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let [wp_pin, d0, d1, d2, c0, c1, min_rev, n0, n1, x0, x1, r0, r1, r2, r3, append_digest] =
            *bytes.first_chunk::<{ Self::LEN }>()?;
        Some(Self {
            wp_pin,
            drive: [d0, d1, d2],
            chip_id: u16::from_le_bytes([c0, c1]),
            min_rev,
            min_rev_full: u16::from_le_bytes([n0, n1]),
            max_rev_full: u16::from_le_bytes([x0, x1]),
            reserved: [r0, r1, r2, r3],
            append_digest,
        })
    }

    /// Its bytes.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let ([c0, c1], [n0, n1], [x0, x1]) =
            (self.chip_id.to_le_bytes(), self.min_rev_full.to_le_bytes(), self.max_rev_full.to_le_bytes());
        let ([d0, d1, d2], [r0, r1, r2, r3]) = (self.drive, self.reserved);
        [self.wp_pin, d0, d1, d2, c0, c1, self.min_rev, n0, n1, x0, x1, r0, r1, r2, r3, self.append_digest]
    }
}
