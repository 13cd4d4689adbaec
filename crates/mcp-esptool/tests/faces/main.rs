//! The faces beside the tools that they stand in for: same bytes, same exit code, same lines that other programs read.

mod burns;
mod callers;
mod custom_efuses;
mod debug_certificates;
mod external_flash;
mod idf;
mod offline;
#[path = "../../../../tests/support/reference.rs"]
mod reference;
mod start;
mod upstream;
mod ways;

use std::path::Path;
use std::process::{Command, ExitCode};

use reference::Stop;

/// What a run of a tool came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Exit code.
    pub code: i32,
    /// Both output streams.
    pub text: String,
}

/// Runs a command in a folder.
pub fn ran(command: &mut Command, folder: &Path) -> Result<Ran, Stop> {
    let clean = ["ESPTOOL_PORT", "ESPTOOL_BAUD", "ESPTOOL_CHIP", "ESPPORT", "ESPBAUD"];
    clean.iter().fold(&mut *command, |command, name| command.env_remove(name));
    let output = command.current_dir(folder).env("NO_COLOR", "1").env("COLUMNS", "200").output()?;
    Ok(Ran { code: output.status.code().unwrap_or(-1), text: reference::text(&output) })
}

/// Our face of a tool.
pub fn face(name: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
    command.args(["face", name]);
    command
}

fn main() -> ExitCode {
    let mut trials = offline::trials();
    trials.extend(callers::trials());
    trials.extend(idf::trials());
    trials.extend(burns::trials());
    trials.extend(custom_efuses::trials());
    trials.extend(debug_certificates::trials());
    trials.extend(external_flash::trials());
    trials.extend(start::trials());
    trials.extend(ways::trials());
    trials.extend(upstream::trials());
    reference::main(trials)
}
