//! Serial NOR flash: identification, self description, status registers, geometry, advice.

pub mod advice;
pub mod jedec;
pub mod sfdp;
pub mod status;

/// Smallest unit of erase, in bytes.
pub const SECTOR: u32 = 0x1000;
/// Large unit of erase, in bytes.
pub const BLOCK: u32 = 0x1_0000;
