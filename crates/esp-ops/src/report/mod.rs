//! What a report takes along, and what it leaves out.

pub mod pictures;
pub mod recording;
pub mod redact;
