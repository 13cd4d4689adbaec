//! Flash tools.

pub mod erase;
pub mod files;
pub mod firmware;
pub(crate) mod keep;
pub mod project;
pub mod read;
pub mod size_detect;
pub mod verify;
