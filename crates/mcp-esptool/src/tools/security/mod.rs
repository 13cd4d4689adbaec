//! Security and eFuse tools.

pub mod audit;
pub mod burn;
pub mod engine;
mod facts;
pub mod flash_encrypt;
pub mod flash_encryption;
pub mod info;
mod keys;
pub mod mac;
pub mod marks;
mod pkcs11;
pub mod read;
pub mod refusal;
pub mod secure_boot;
pub mod sign;
