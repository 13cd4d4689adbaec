//! Diagnostics: evidence from a device, and what follows from it.

pub mod console;
pub mod core_dump;
pub mod log_decode;
pub mod memory_dump;
pub mod performance;
pub mod power;
pub mod register_dump;
pub mod report;
pub mod rf_calibration;
pub mod symbols;
pub mod thermal;
