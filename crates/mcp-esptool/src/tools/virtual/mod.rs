//! Virtual devices: Espressif's QEMU and the built-in simulator, as devices that live on between calls.

pub mod debug;
pub mod flash;
pub mod list;
pub mod start;
pub mod status;
pub mod stop;
pub mod view;
