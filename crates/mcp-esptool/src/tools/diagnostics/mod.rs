//! Diagnostics: evidence from a device, and what follows from it.

pub mod capture;
pub mod console;
pub mod core_dump;
pub mod elf_files;
pub mod evidence;
pub mod findings;
pub mod log_decode;
pub mod memory_dump;
pub mod performance;
pub mod power;
pub mod register_dump;
pub mod report;
pub mod rf_calibration;
pub mod thermal;
pub mod unprintable;
