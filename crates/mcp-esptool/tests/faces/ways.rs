//! Options and settings of esptool that decide how a chip is reached and left.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::Trial;

use crate::callers::Sim;
use crate::reference::{self, Stop, fail, scratch, tool, trial};
use crate::{face, ran};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("faces: --trace shows the requests that the reference's shows", trace),
        trial("faces: a chip without a watchdog for it is reset by its pin", watchdog),
        trial("faces: a port that appears late is waited for", late_port),
        trial("faces: a stub that is brought serves the ESP8266", brought_stub),
    ]
}

/// Requests as `Cmd NAME (code) | data_len n`, without those that depend on how a chip is found out.
fn requests(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.split_once("--- Cmd ").map(|(_, rest)| rest));
    lines.filter_map(|rest| rest.split(" | ").next()).map(str::to_owned).collect()
}

fn trace() -> Result<(), Stop> {
    let folder = scratch("faces-trace");
    let sim = Sim::start("esp32c3", &folder, "trace")?;
    let words = ["--port", &sim.port, "--chip", "esp32c3", "--trace", "flash-id"];
    let wanted = ran(Command::new(tool("esptool")?).args(words), &folder)?;
    let got = ran(face("esptool").args(words), &folder)?;
    let known = requests(&wanted.text);
    for request in requests(&got.text) {
        if !known.contains(&request) && !request.contains("SECURITY_INFO") {
            return fail(format!("{request} is not in {known:?}"));
        }
    }
    let greeting = "   Received full packet: 4f484149";
    for text in [&got.text, &wanted.text] {
        let is_shown = |part: &str| text.lines().any(|line| line.contains(" TRACE +0.") && line.contains(part));
        let parts = [greeting, "   --- Cmd READ_REG (0x0a) | data_len 4 | ", "   Write 46 bytes:       ", "   Read "];
        if let Some(missing) = parts.iter().find(|part| !is_shown(part)) {
            return fail(format!("no {missing:?} in {text}"));
        }
    }
    Ok(())
}

fn watchdog() -> Result<(), Stop> {
    let folder = scratch("faces-watchdog");
    let sim = Sim::start("esp32", &folder, "watchdog")?;
    let words = ["--port", &sim.port, "--after", "watchdog-reset", "read-mac"];
    let lines = |text: &str| -> Vec<String> {
        // The reference says in passing that a line over TCP has no USB identity.
        let tells = |line: &&str| line.to_lowercase().contains("reset") && !line.contains("VID/PID");
        text.lines().filter(tells).map(str::to_owned).collect()
    };
    let wanted = ran(Command::new(tool("esptool")?).args(words), &folder)?;
    let got = ran(face("esptool").args(words), &folder)?;
    let (ours, theirs) = (lines(&got.text), lines(&wanted.text));
    if got.code == 0 && ours == theirs { Ok(()) } else { fail(format!("{ours:?} {theirs:?}")) }
}

fn late_port() -> Result<(), Stop> {
    let folder = scratch("faces-late");
    let link = folder.join("board");
    let words = ["--port", &link.display().to_string(), "--chip", "esp32c3", "--before", "no-reset", "read-mac"];
    // Nobody comes: the attempts end.
    let gone = ran(face("esptool").args(words).env("ESPTOOL_OPEN_PORT_ATTEMPTS", "3"), &folder)?;
    if gone.code != 2 || !gone.text.contains("Retrying failed connection") {
        return fail(format!("{gone:?}"));
    }
    let mut sim = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
    sim.args(["sim", "esp32c3", "--pty"]).arg(&link);
    sim.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let late = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(1));
        sim.spawn()
    });
    fs::write(folder.join("esptool.cfg"), "[esptool]\nopen_port_attempts = 600\n")?;
    let found = ran(face("esptool").args(words), &folder);
    if let Ok(Ok(mut sim)) = late.join() {
        sim.kill()?;
        sim.wait()?;
    }
    let found = found?;
    if found.code == 0 && found.text.contains("MAC:") { Ok(()) } else { fail(format!("{found:?}")) }
}

fn brought_stub() -> Result<(), Stop> {
    let folder = scratch("faces-brought");
    let package = "import esptool, pathlib; print(pathlib.Path(esptool.__file__).parent / 'targets/stub_flasher/2')";
    let stubs = reference::run(Command::new(tool("python")?).args(["-c", package]))?;
    let sim = Sim::start("esp8266", &folder, "brought")?;
    fs::write(folder.join("app"), (0..20_000u32).map(|at| (at >> 3) as u8).collect::<Vec<_>>())?;
    let run = |words: &[&str]| {
        let stubs = String::from_utf8_lossy(&stubs.stdout).trim().to_owned();
        let mut command = face("esptool");
        ran(command.args(["--port", &sim.port]).args(words).env("MCP_ESPTOOL_STUB_DIR", stubs), &folder)
    };
    let wrote = run(&["write-flash", "0x1000", "app"])?;
    let same = run(&["verify-flash", "0x1000", "app"])?;
    let right = wrote.text.contains("Hash of data verified.") && same.text.contains("digest matched");
    if wrote.code == 0 && same.code == 0 && right { Ok(()) } else { fail(format!("{wrote:?} {same:?}")) }
}
