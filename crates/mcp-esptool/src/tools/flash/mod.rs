//! Flash tools.

pub mod analyze;
pub mod and_run;
pub mod backup;
pub mod compare;
pub mod erase;
pub mod firmware;
pub mod optimize;
pub mod read;
pub mod restore;
pub mod sfdp_read;
pub mod size_detect;
pub mod status;
pub mod verify;
