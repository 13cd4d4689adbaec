//! A virtual Espressif chip: reset circuit, ROM and stub loader, NOR flash, eFuses, boot log; bytes in, bytes out.
//!
//! Everything is pure. The caller owns the clock and hands the time in; in-process users take [`SimPort`], whose
//! time is virtual, others serve a [`VirtualChip`] in real time. The stub is recognised by
//! its upload and imitated, an app's start is told by its headers; of programs loaded into RAM only integer instructions run.

pub mod app;
pub mod boot;
mod bus;
mod circuit;
pub mod config;
mod core;
pub mod efuse;
pub mod faults;
pub mod firmware;
mod flash_job;
mod machine;
pub mod nor;
mod nor_command;
pub mod port;
mod rng;
mod rom;
mod security;
mod sfdp;
mod spi;
mod stub;
pub mod timing;
mod uart;
mod upload;
mod virtual_chip;
mod watchdog;

pub use circuit::Wiring;
pub use config::Config;
pub use faults::Faults;
pub use port::{SimDevice, SimPort};
pub use security::flash_key_bytes;
pub use virtual_chip::VirtualChip;
