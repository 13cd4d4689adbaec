//! Flash and chip tools on simulated devices, through the same door as every caller.
#![allow(clippy::unwrap_used)]

mod backup;
mod belongs;
mod bench;
mod encrypted;
mod header;
mod kill;
mod line;
mod part;
mod project;
mod recover;
mod rom_only;
