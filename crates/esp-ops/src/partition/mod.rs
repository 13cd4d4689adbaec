//! Partition tables: as files and on a device.

pub mod on_device;
pub mod rows;
