//! Commands one after the other on one board: the second goes on where the first ended, and gives way to others.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;

use crate::reference::{self, Stop, fail, scratch, trial};
use crate::share::start;

pub fn trials() -> Vec<Trial> {
    vec![trial(
        "lines: a second command goes on with the stub of the first, and esptool gets the port afterwards",
        shared,
    )]
}

fn ours(folder: &Path, words: &[&str]) -> Result<(Duration, String), Stop> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
    command.args(words).env("XDG_RUNTIME_DIR", folder).env("XDG_CONFIG_HOME", folder);
    command.env("MCP_ESPTOOL_STATE_DIR", folder.join("state")).env("MCP_ESPTOOL_CLI_SESSION_IDLE", "20");
    let begin = Instant::now();
    let output: Output = reference::run(&mut command)?;
    Ok((begin.elapsed(), reference::text(&output)))
}

fn shared() -> Result<(), Stop> {
    let folder = scratch("warm-lines");
    let sim = start("warm-lines-sim", &["sim", "esp32", "--rfc2217", "127.0.0.1:0", "--baud-pacing"])?;
    let url = sim.1.as_str();
    // The daemon is started by the first.
    let (first, said) = ours(&folder, &["info", "-p", url])?;
    let (second, again) = ours(&folder, &["info", "-p", url])?;
    let (third, _) = ours(&folder, &["info", "-p", url])?;
    if said != again || !said.contains("ESP32") {
        return fail(format!("{said}\n{again}"));
    }
    // A reset, the ROM's answer and the upload of the stub are spared.
    if second + Duration::from_millis(200) > first || third + Duration::from_millis(200) > first {
        return fail(format!("first {first:?}, second {second:?}, third {third:?}"));
    }
    // Other programs of ours get the port at once, and after a write the application runs.
    ours(&folder, &["face", "esptool", "--port", url, "read-mac"])?;
    std::fs::write(folder.join("data.bin"), [1; 100])?;
    ours(&folder, &["info", "-p", url])?;
    ours(&folder, &["write", "-p", url, "0x310000", &folder.join("data.bin").display().to_string()])?;
    // The port is free: somebody else's program finds the board.
    let mut theirs = Command::new(reference::tool("esptool")?);
    reference::run(theirs.args(["--port", url, "--connect-attempts", "3", "read-mac"])).map(drop)
}
