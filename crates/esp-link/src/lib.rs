//! Talks to Espressif chips over a [`esp_model::port::Port`]: reset sequences, ROM loader and stub, flash, memory.
//!
//! Blocking and straight-line, because the protocol is request and response. [`Loader::call`] is the only place
//! where bytes move.

pub mod bootloaders;
pub mod connect;
pub mod detect;
pub mod efuse;
pub mod error;
pub mod flash;
pub mod loader;
pub mod memory;
pub mod monitor;
pub mod port;
pub mod reset;
pub mod stub;

pub use connect::{ConnectError, ConnectOptions};
pub use error::LoaderError;
pub use loader::{Loader, Mode};
