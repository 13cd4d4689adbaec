//! Flash tools.

pub mod erase;
pub mod files;
pub mod firmware;
mod keep;
pub mod project;
pub mod read;
pub mod size_detect;
pub mod verify;
