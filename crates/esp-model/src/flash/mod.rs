//! Serial NOR flash: identification and geometry.

pub mod jedec;

/// Smallest unit of erase, in bytes.
pub const SECTOR: u32 = 0x1000;
/// Large unit of erase, in bytes.
pub const BLOCK: u32 = 0x1_0000;
