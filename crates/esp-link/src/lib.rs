//! Talks to Espressif chips over a [`esp_model::port::Port`]: reset sequences, ROM loader and stub, flash, memory.
//!
//! Blocking and straight-line, because the protocol is request and response. All bytes to a loader go through one
//! file, `line.rs`, and what is sent was allowed by [`Loader::call`] first.

pub mod bootloaders;
pub mod burn_facts;
pub mod connect;
pub mod detect;
pub mod efuse;
pub mod error;
pub mod flash;
mod line;
pub mod loader;
pub mod memory;
pub mod monitor;
pub mod options;
mod packed;
pub mod port;
pub mod reset;
pub mod stub;

pub use connect::ConnectError;
pub use error::LoaderError;
pub use loader::{Loader, Mode};
pub use options::ConnectOptions;
