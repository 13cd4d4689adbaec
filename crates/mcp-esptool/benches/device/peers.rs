//! The three programs that are measured, each as a user would start it.

use std::process::Command;

use serde_json::Value;

use crate::BAUD;
use crate::cost::{Cost, with_output};
use crate::reference::{self, Stop};
use crate::sim::Sim;

/// Our program with one tool on this device.
pub fn command(sim: &Sim, tool: &str, arguments: &[String]) -> Command {
    let mut command = plain(tool, arguments);
    command.arg(format!("port={}", sim.url()));
    command
}

/// Our program with one tool.
pub fn plain(tool: &str, arguments: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
    command.args(["call", "--json", tool]).args(arguments);
    command.env("ESP_DEFAULT_BAUD_RATE", BAUD.to_string()).env("MCP_ESP_PROJECT_DIR", "/");
    command
}

/// Its cost and its structured result.
pub fn ours(sim: &Sim, tool: &str, arguments: &[String]) -> Result<(Cost, Value), Stop> {
    let (cost, said) = with_output(&mut command(sim, tool, arguments))?;
    Ok((cost, serde_json::from_str(&said)?))
}

pub fn esptool(sim: &Sim, rest: &[&str]) -> Result<Command, Stop> {
    let mut command = Command::new(reference::tool("esptool")?);
    command.args(["--port", &sim.url(), "--baud", &BAUD.to_string(), "--chip", "esp32"]);
    command.args(["--before", "no-reset", "--after", "no-reset-stub"]).args(rest);
    Ok(command)
}

/// espflash opens only ports that the system lists: the terminal stands over one of them in a mount namespace.
pub fn espflash(sim: &Sim, rest: &[&str]) -> Result<Command, Stop> {
    let listed = reference::listed_terminal()?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", r#"mount --bind "$0" "$1" && shift && exec "$@""#]);
    command.arg(sim.terminal()?).arg(&listed).arg(reference::fast_espflash()?).args(&rest[..1]);
    command.args(["--port", &listed, "--baud", &BAUD.to_string(), "--non-interactive", "--chip", "esp32"]);
    command.args(["--before", "no-reset", "--after", "no-reset"]).args(&rest[1..]);
    command.env("ESPFLASH_SKIP_UPDATE_CHECK", "true");
    Ok(command)
}
