//! mcp-esptool: work with Espressif chips through the Model Context Protocol, or from the command line.
//!
//! `mcp.rs` and `cli.rs` are two edges of the same list of tools ([`tools::ALL`]); `ctx/` is what the tools share.

// A binary's internals: the names say what they are; the libraries below are documented in full.
#![allow(missing_docs, rustdoc::private_intra_doc_links)]

pub mod cli;
mod columns;
pub mod completions;
pub mod ctx;
pub mod demo;
pub mod docs;
pub mod doctor;
pub mod documents;
pub mod faces;
pub mod factory;
#[cfg(feature = "http")]
pub mod http;
pub mod install;
pub mod logs;
pub mod mcp;
pub mod pages;
pub mod prompts;
mod render;
pub mod resources;
pub mod selftest;
mod serve;
mod signals;
pub mod sim;
pub mod skills;
pub mod terminal;
pub mod tool;
pub mod tools;
pub mod verbs;

pub use esp_ops::error;
