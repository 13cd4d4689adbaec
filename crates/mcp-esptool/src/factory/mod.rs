//! The edges of production: its part of the command line, JUnit, the station page.

pub mod cli;
#[cfg(feature = "http")]
mod metrics;
#[cfg(feature = "http")]
pub mod station;
