//! Flash: what is written where, what is kept before, and what must fit.

pub mod backup;
pub mod belongs;
pub mod checks;
pub mod files;
pub mod header;
pub mod keep;
pub mod manifest;
pub mod map;
pub mod outlook;
pub mod part;
pub mod piece;
pub mod project;
pub mod region;
pub mod release;
pub mod resume;
pub mod side;
pub mod write;
