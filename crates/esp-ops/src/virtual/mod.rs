//! Virtual devices: what is in their flash.

pub mod content;
pub mod twin;
