//! Our pure code against other people's tools and files.
// The oracles and the corpus are files and programs.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[path = "../../../../tests/support/reference.rs"]
mod reference;

mod chips;
mod compiled;
mod console;
mod coredump;
mod efuse;
mod fs;
mod image;
mod image_random;
mod nvs;
mod nvs_random;
mod part;
mod part_random;
mod secure;
mod secure_cert;
mod secure_corpus;
mod size;
mod symbols;
#[path = "../../src/testing.rs"]
mod testing;
mod unwinding;

use std::process::ExitCode;

fn main() -> ExitCode {
    // One line a topic: `trials.extend(topic::trials())`.
    let mut trials = Vec::new();
    trials.extend(chips::trials());
    trials.extend(compiled::trials());
    trials.extend(console::trials());
    trials.extend(coredump::trials());
    trials.extend(fs::trials());
    trials.extend(image::trials());
    trials.extend(image_random::trials());
    trials.extend(nvs::trials());
    trials.extend(nvs_random::trials());
    trials.extend(efuse::trials());
    trials.extend(part::trials());
    trials.extend(part_random::trials());
    trials.extend(secure::trials());
    trials.extend(secure_cert::trials());
    trials.extend(secure_corpus::trials());
    trials.extend(size::trials());
    trials.extend(symbols::trials());
    trials.extend(unwinding::trials());
    reference::main(trials)
}
