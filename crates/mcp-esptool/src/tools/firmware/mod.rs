//! Firmware files: built, merged, prepared, analysed and measured, without a device.

pub mod analyze;
pub mod app_prepare;
pub mod arduino_build;
pub mod binary_merge;
pub mod binary_optimize;
pub mod bootloader_build;
pub mod elf_to_binary;
pub mod idf_build;
pub mod size_analysis;
