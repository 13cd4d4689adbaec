//! The edges of production: its part of the command line, JUnit, the station page.

pub mod cli;
pub mod junit;
pub mod new_recipe;
#[cfg(feature = "http")]
pub mod station;
