//! Our pure code against other people's tools and files.

#[path = "../../../../tests/support/reference.rs"]
mod reference;

mod part;

use std::process::ExitCode;

fn main() -> ExitCode {
    // One line a topic: `trials.extend(topic::trials())`.
    let mut trials = Vec::new();
    trials.extend(part::trials());
    reference::main(trials)
}
