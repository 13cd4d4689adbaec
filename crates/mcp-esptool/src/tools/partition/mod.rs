//! Partition and NVS tools.

pub mod analyze;
pub mod create;
pub mod filesystem;
pub mod flash;
pub mod nvs;
mod nvs_help;
pub mod nvs_store;
pub mod ota_setup;
pub mod read;
