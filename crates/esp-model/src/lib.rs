//! What Espressif chips, their serial protocol, images, partitions, NVS and eFuses *are*.
//!
//! Everything here is pure: bytes and values in, bytes and values out. There are no files, no network, no
//! clock and no environment (a per-crate `clippy.toml` refuses them), so that the client (`esp-link`) and the
//! simulator (`esp-sim`) share one codec and every parser can be fuzzed on its own.

pub mod boot;
pub mod chip;
pub mod console;
pub mod coredump;
pub mod crc;
pub mod efuse;
pub mod flash;
pub mod fs;
pub mod hex;
pub mod image;
pub mod job;
pub mod literal;
pub mod mac;
pub mod nvs;
pub mod ota;
pub mod partition;
pub mod picture;
pub mod port;
pub mod secure;
pub mod secure_cert;
#[cfg(test)]
mod testing;
pub mod wire;
