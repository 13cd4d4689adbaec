//! Security and eFuse tools.

pub mod audit;
pub mod burn;
pub mod flash_encrypt;
pub mod flash_encryption;
pub mod info;
pub mod mac;
pub mod read;
pub mod secure_boot;
pub mod sign;
