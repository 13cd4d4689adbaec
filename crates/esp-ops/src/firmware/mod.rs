//! Firmware files: what they are, and the builds that they come from.

pub mod app_set;
pub mod bootloader;
pub mod build_log;
pub mod common;
pub mod elf_files;
pub mod facts;
pub mod idf;
pub mod idf_project;
pub mod ram;
pub mod rom_names;
pub mod sample;
