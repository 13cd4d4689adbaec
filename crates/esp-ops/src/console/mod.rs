//! Consoles that live: what a device says is kept in a ring and a log file while readers come and go, and while other
//! work uses the port in between.
//!
//! A [`session::Session`] is the same thing in this process and in the user's daemon; [`link::Link`] leads to either.

pub mod daemon;
mod hub;
mod line;
mod lines;
mod link;
mod log;
mod pump;
mod reader;
mod ring;
pub mod session;
#[cfg(all(test, unix))]
mod tests;

pub mod view;
mod wire;

pub use hub::{Consoles, Opening, Pause, lost};
pub use line::Line;
pub use link::Link;
pub use reader::{ConsoleReader, HeardPort};
pub use ring::Cursor;
