//! What a person sees and presses: the console, the choice of a port and the progress of a write, in a terminal of tmux.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;

use crate::reference::{self, Stop, fail, missing, scratch, trial};
use crate::share::start;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("terminal: the keys of monitor reset, flash, send a break and quit", keys),
        trial("terminal: a board is chosen from a list, and a write shows how far it is", picker_and_bar),
    ]
}

/// A terminal of its own server, which ends with it.
struct Terminal {
    socket: PathBuf,
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]);
    }
}

impl Terminal {
    /// Runs a shell's line in the folder.
    fn begin(folder: &Path, line: &str) -> Result<Self, Stop> {
        if Command::new("tmux").arg("-V").output().is_err() {
            return missing("no tmux (Debian package tmux)".into());
        }
        let terminal = Self { socket: folder.join("tmux") };
        let line = format!("cd '{}' && {line}; echo \"ended with $?\"; sleep 60", folder.display());
        terminal.tmux(&["new-session", "-d", "-x", "110", "-y", "45", &line])?;
        Ok(terminal)
    }

    fn tmux(&self, words: &[&str]) -> Result<String, Stop> {
        let mut command = Command::new("tmux");
        command.args(["-f", "/dev/null", "-u", "-S"]).arg(&self.socket).args(words).env("TERM", "xterm-256color");
        let output = reference::run(command.env("LC_ALL", "C.UTF-8").env_remove("TMUX"))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn press(&self, keys: &[&str]) -> Result<(), Stop> {
        self.tmux(&[&["send-keys"], keys].concat()).map(drop)
    }

    /// What stands on the screen, and what has left it at the top.
    fn screen(&self) -> Result<String, Stop> {
        self.tmux(&["capture-pane", "-p", "-S", "-200"])
    }

    /// Waits until the screen is as it should be.
    fn until(&self, what: &str, fits: impl Fn(&str) -> bool) -> Result<String, Stop> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let screen = self.screen()?;
            if fits(&screen) {
                return Ok(screen);
            }
            if Instant::now() >= end {
                return fail(format!("{what}:\n{screen}"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn shows(&self, text: &str) -> Result<String, Stop> {
        self.until(&format!("no {text:?}"), |screen| screen.contains(text))
    }
}

/// The program with folders of its own, as a word of a shell's line.
fn program(folder: &Path) -> String {
    let here = folder.display();
    format!(
        "env XDG_RUNTIME_DIR='{here}' XDG_CONFIG_HOME='{here}' MCP_ESPTOOL_STATE_DIR='{here}/state' '{}'",
        env!("CARGO_BIN_EXE_mcp-esptool")
    )
}

fn keys() -> Result<(), Stop> {
    let folder = scratch("terminal-keys");
    let build = folder.join("build");
    fs::create_dir(&build)?;
    fs::write(build.join("data.bin"), [0x5a; 5000])?;
    fs::write(
        build.join("flasher_args.json"),
        r#"{"write_flash_args": [], "flash_settings": {}, "flash_files": {"0x310000": "data.bin"},
            "extra_esptool_args": {"chip": "esp32c3"}}"#,
    )?;
    let terminal = Terminal::begin(&folder, &format!("{} monitor sim://esp32c3 --project build", program(&folder)))?;
    terminal.shows("Ctrl-] quits")?;
    let boots = |screen: &str| screen.matches("ESP-ROM:").count();
    let before = boots(&terminal.screen()?);
    terminal.press(&["C-r"])?;
    terminal.until("Ctrl-R does not reset", |screen| boots(screen) > before)?;
    terminal.press(&["C-t", "p"])?;
    terminal.shows("waiting for download")?;
    terminal.press(&["C-t", "f"])?;
    terminal.shows("flashing the project in build")?;
    let flashed = terminal.shows("0x310000")?;
    terminal.press(&["C-t", "b"])?;
    terminal.press(&["C-t", "h"])?;
    let help = terminal.shows("send a break")?;
    terminal.press(&["C-t", "y"])?;
    terminal.shows("nothing is shown until Ctrl-T Y")?;
    terminal.press(&["C-]"])?;
    let end = terminal.shows("ended with 0")?;
    let refused = end.contains("sending a break:") || end.contains("reset:");
    if refused || !end.contains("bytes received") { fail(format!("{flashed}\n{help}\n{end}")) } else { Ok(()) }
}

fn picker_and_bar() -> Result<(), Stop> {
    let folder = scratch("terminal-bar");
    let bytes: Vec<u8> = (0..400_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(folder.join("data.bin"), bytes)?;
    // A line that takes its time, so that there is something to see.
    let slow = start("terminal-sim", &["sim", "esp32", "--rfc2217", "127.0.0.1:0", "--baud-pacing"])?;
    let ports = format!("--set 'remote_ports=bench={},other=sim://esp32c3'", slow.1);
    let line = format!("{} {ports} flash -b 115200 0x10000 data.bin", program(&folder));
    let terminal = Terminal::begin(&folder, &line)?;
    let list = terminal.shows("Which one (1-2, empty to stop)?")?;
    let rows = ["Several boards are connected:", "bench", "other", "sim://esp32c3"];
    if !rows.iter().all(|row| list.contains(row)) {
        return fail(list);
    }
    terminal.press(&[&slow.1, "Enter"])?;
    // A part of the bar, percent, bytes and rate in one line.
    let is_bar = |line: &str| line.contains(" % ") && line.contains("/s") && line.contains('█');
    let half = |screen: &str| screen.lines().any(|line| is_bar(line) && !line.contains("100 %"));
    terminal.until("no bar", half)?;
    terminal.shows("ended with 0").map(drop)
}
