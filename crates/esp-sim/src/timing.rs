//! How long things take.

use std::time::Duration;

/// Time of flash operations.
///
/// The values of [`FlashTiming::typical`] are datasheet-typical for 3.3 V NOR flash of this class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlashTiming {
    /// Erasing 4 KiB.
    pub sector_erase: Duration,
    /// Erasing 64 KiB.
    pub block_erase: Duration,
    /// Programming 256 bytes.
    pub page_program: Duration,
    /// Reading 4 KiB.
    pub sector_read: Duration,
}

impl FlashTiming {
    /// A part that takes `factor` times as long.
    pub fn slower(self, factor: u32) -> Self {
        Self {
            sector_erase: self.sector_erase * factor,
            block_erase: self.block_erase * factor,
            page_program: self.page_program * factor,
            sector_read: self.sector_read * factor,
        }
    }

    /// Nothing takes time.
    pub const NONE: Self = Self {
        sector_erase: Duration::ZERO,
        block_erase: Duration::ZERO,
        page_program: Duration::ZERO,
        sector_read: Duration::ZERO,
    };

    /// A usual part: 45 ms a sector, 150 ms a block, 0.5 ms a page, about 20 MB/s read.
    pub fn typical() -> Self {
        Self {
            sector_erase: Duration::from_millis(45),
            block_erase: Duration::from_millis(150),
            page_program: Duration::from_micros(500),
            sector_read: Duration::from_micros(200),
        }
    }

    /// Time to program `length` bytes.
    pub fn program(&self, length: usize) -> Duration {
        self.page_program * (length.div_ceil(256) as u32)
    }

    /// Time to read `length` bytes.
    pub fn read(&self, length: usize) -> Duration {
        self.sector_read.mul_f64(length as f64 / 4096.0)
    }
}

/// Time of one byte (start bit, 8 bits, stop bit) on a line of `baud`.
pub fn byte_time(baud: u32) -> Duration {
    Duration::from_nanos(10_000_000_000 / u64::from(baud.max(1)))
}
