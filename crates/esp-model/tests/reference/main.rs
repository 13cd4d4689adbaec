//! Our pure code against other people's tools and files.

#[path = "../../../../tests/support/reference.rs"]
mod reference;

use std::process::ExitCode;

fn main() -> ExitCode {
    // One line a topic: `trials.extend(topic::trials())`.
    let trials = Vec::new();
    reference::main(trials)
}
