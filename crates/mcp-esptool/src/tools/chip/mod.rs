//! Chip control tools.

pub mod connect;
pub mod detect;
pub mod info;
pub mod load_ram;
pub mod recover;
pub mod reset;
pub mod run_firmware;
pub mod scan_ports;
pub mod test_connection;
