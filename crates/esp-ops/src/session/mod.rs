//! From the name of a port to a loader that answers, kept warm for the next call.

pub mod bauds;
pub mod chip;
pub mod deadline;
pub mod device;
pub mod identity;
pub mod image;
pub mod overrides;
pub mod ports;
pub mod sessions;
pub mod virtuals;
