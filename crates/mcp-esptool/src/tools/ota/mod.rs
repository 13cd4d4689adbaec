//! OTA tools and the boot check.

pub mod boot_check;
pub mod flash_prepare;
pub mod package;
