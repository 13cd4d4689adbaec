//! Image format and address mapping.

use serde::Deserialize;

/// Image format.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Layout of the header and the way segments are built.
    pub format: ImageFormat,
    /// UF2 family id; none for chips that have none.
    pub uf2_family: Option<u32>,
    /// Addresses mapped to flash for instructions, `[start, end)`.
    pub irom: [u32; 2],
    /// Addresses mapped to flash for data, `[start, end)`.
    pub drom: [u32; 2],
    /// Possible MMU page sizes in bytes, the default first.
    #[serde(default = "mmu_pages")]
    pub mmu_page_sizes: Vec<u32>,
    /// Bytes that the last page of a mapped segment must hold at least: less would be lost in the ESP32's cache when
    /// it prefetches beyond the end of the segment.
    #[serde(default)]
    pub min_last_page: u32,
    /// Number of segments the ROM and the second-stage bootloader accept.
    #[serde(default = "max_segments")]
    pub max_segments: u8,
}

fn mmu_pages() -> Vec<u32> {
    vec![0x1_0000]
}

fn max_segments() -> u8 {
    16
}

impl Image {
    /// The address is mapped to flash.
    pub fn is_flash(&self, address: u32) -> bool {
        [self.irom, self.drom].iter().any(|[start, end]| (*start..*end).contains(&address))
    }
}

/// Layout of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageFormat {
    /// 8-byte header, no hash (ESP8266).
    Esp8266,
    /// 24-byte header with chip id and revisions, SHA-256 at the end.
    Esp32,
}
