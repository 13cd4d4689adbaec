//! Partition tables: as files and on a device.

pub mod content;
pub mod nvs_values;
pub mod nvs_write;
pub mod on_device;
pub mod rows;
