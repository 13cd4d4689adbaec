//! Operations: what the server, the command line and the factory all want done to devices and files.
//!
//! Nothing here knows of MCP, HTTP, the command line or the names of tools.

pub mod args;
pub mod boot;
mod call;
pub mod caller;
pub mod config;
pub mod console;
pub mod debug;
pub mod efuse;
pub mod error;
pub mod files;
pub mod firmware;
pub mod flash;
pub mod guard;
pub mod own_file;
pub mod partition;
pub mod paths;
pub mod random;
pub mod report;
pub mod session;
pub mod share;
pub mod r#virtual;
pub mod words;

pub use call::Call;

/// The name nearest to `name` among `known`, if one is near enough to be a typo.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|known| (strsim::jaro_winkler(name, known), known));
    scored.filter(|(score, _)| *score > 0.86).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}
