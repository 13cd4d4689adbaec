//! ESP-IDF's own tools for partition tables, NVS images and partitions of a device.

pub mod gen_esp32part;
pub mod nvs_partition_gen;
pub mod otatool;
pub mod parttool;
mod target;
