//! Flash and chip tools on simulated devices, through the same door as every caller.
#![allow(clippy::unwrap_used)]

mod backup;
mod bench;
mod part;
