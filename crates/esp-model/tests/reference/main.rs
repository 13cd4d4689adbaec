//! Our pure code against other people's tools and files.
// The oracles and the corpus are files and programs.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[path = "../../../../tests/support/reference.rs"]
mod reference;

mod console;
mod coredump;
mod nvs;
mod part;
mod secure;
mod symbols;
#[path = "../../src/testing.rs"]
mod testing;

use std::process::ExitCode;

fn main() -> ExitCode {
    // One line a topic: `trials.extend(topic::trials())`.
    let mut trials = Vec::new();
    trials.extend(console::trials());
    trials.extend(coredump::trials());
    trials.extend(nvs::trials());
    trials.extend(part::trials());
    trials.extend(secure::trials());
    trials.extend(symbols::trials());
    reference::main(trials)
}
