//! Our pure code against other people's tools and files.
// The oracles and the corpus are files and programs.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[path = "../../../../tests/support/reference.rs"]
mod reference;

mod part;
mod secure;

use std::process::ExitCode;

fn main() -> ExitCode {
    // One line a topic: `trials.extend(topic::trials())`.
    let mut trials = Vec::new();
    trials.extend(part::trials());
    trials.extend(secure::trials());
    reference::main(trials)
}
