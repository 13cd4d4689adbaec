//! Debug information: names, source lines and variables for addresses, panics and core dumps.
//!
//! Pure: ELF files and dumps come in as bytes. Nothing of them is trusted.

pub mod coredump;
pub mod live;
pub mod panic;
pub mod symbols;
