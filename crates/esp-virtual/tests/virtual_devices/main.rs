//! Virtual devices with a stand-in for QEMU: their life, and what happens when things die.
//!
//! This binary is also the other programs that take part: the stand-in (under the name `qemu-system-…`), a device's
//! host (`host DIR`), a starter that can be killed (`start ROOT PROGRAM KEEP`) and one without room (`full ROOT PROGRAM`).
#![cfg_attr(not(unix), allow(unused))]
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

#[cfg(unix)]
mod life;
#[cfg(unix)]
mod standin;

#[cfg(not(unix))]
fn main() {}

#[cfg(unix)]
fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let program = PathBuf::from(words.first().copied().unwrap_or_default());
    if program.file_name().is_some_and(|name| name.to_string_lossy().starts_with("qemu-system-")) {
        return standin::main(&program, args.get(1..).unwrap_or_default());
    }
    match words.get(1..).unwrap_or_default() {
        ["host", dir] => {
            let served = esp_virtual::server::host::serve(Path::new(dir), &mut std::io::stdout());
            if served.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        ["start", root, program, keep] => life::start_and_wait(root, program, *keep == "keep"),
        ["full", root, program] => life::start_without_room(root, program),
        _ => libtest_mimic::run(&libtest_mimic::Arguments::from_args(), life::trials()).exit_code(),
    }
}

/// Runs this binary again.
fn again() -> Command {
    Command::new(std::env::current_exe().unwrap())
}
