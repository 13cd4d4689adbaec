//! Xtensa chips: real programs of the corpus and the chips' own ROMs. A case whose file is not there counts as ignored.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types, missing_docs)]

mod apps;
#[path = "../support/bootable.rs"]
#[allow(dead_code)]
mod bootable;
mod float;
mod fuzz;
mod loader;
mod psram;
mod security;
mod waits;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use esp_machine::{Config, Event, Machine, What};
use libtest_mimic::{Arguments, Trial};

const SECOND: u64 = 1_000_000_000_000;
const MILLISECOND: u64 = SECOND / 1000;

fn corpus(name: &str) -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    std::env::var_os("MCP_ESPTOOL_CORPUS").map_or(beside, PathBuf::from).join(name)
}

/// What lies in flash: offset and file of the corpus.
type Files = &'static [(u32, &'static str)];

/// A test that needs files of the corpus.
fn trial(name: &str, files: Files, test: impl FnOnce() + Send + 'static) -> Trial {
    let missing = files.iter().any(|(_, file)| !corpus(file).is_file());
    let runs = move || {
        test();
        Ok(())
    };
    Trial::test(name, runs).with_ignored_flag(missing || !cfg!(feature = "roms"))
}

/// A chip with these files in its flash.
fn chip(id: &str, files: Files) -> Machine {
    Machine::new(config(id, files)).unwrap()
}

fn config(id: &str, files: Files) -> Config {
    let mut config = Config::new(id, 4 << 20).unwrap();
    for (offset, file) in files {
        config.flash.load(*offset, &std::fs::read(corpus(file)).unwrap());
    }
    config
}

fn run(machine: &mut Machine, until: u64) -> Vec<Event> {
    let mut events = Vec::new();
    while machine.now() < until {
        machine.run(until);
        events.extend(machine.take_events());
    }
    events
}

/// Bytes that UART0 has sent.
fn sent(events: &[Event]) -> Vec<u8> {
    let byte = |event: &Event| match event.what {
        What::Uart { port: 0, byte } => Some(byte),
        _ => None,
    };
    events.iter().filter_map(byte).collect()
}

fn main() -> ExitCode {
    let trials = [
        apps::trials(),
        float::trials(),
        fuzz::trials(),
        loader::trials(),
        psram::trials(),
        security::trials(),
        waits::trials(),
    ];
    let trials = trials.into_iter().flatten().collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
