//! Flash tools.

pub mod analyze;
pub mod backup;
pub mod erase;
pub mod files;
pub mod firmware;
pub(crate) mod keep;
pub mod optimize;
pub(crate) mod part;
pub mod project;
pub mod read;
pub mod restore;
pub(crate) mod resume;
pub mod sfdp_read;
pub mod size_detect;
pub mod status;
pub mod verify;
