//! The device that is measured against: our simulator on a pseudo terminal, a process of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::reference::{Stop, fail};

/// A simulated ESP32; it ends with the value.
pub struct Sim {
    child: Child,
    link: PathBuf,
}

impl Sim {
    /// One with 16 MB of flash that hold `content`.
    pub fn filled(dir: &Path, content: &[u8], paced: bool) -> Result<Self, Stop> {
        let file = dir.join("flash.bin");
        std::fs::write(&file, content)?;
        Self::with(dir, "tty", "16MB", paced, Some(&file))
    }

    /// With `paced`, bytes and flash operations take the time they take on a board.
    pub fn start(dir: &Path, flash_size: &str, paced: bool) -> Result<Self, Stop> {
        Self::named(dir, "tty", flash_size, paced)
    }

    /// The same under a name of its own.
    pub fn named(dir: &Path, name: &str, flash_size: &str, paced: bool) -> Result<Self, Stop> {
        Self::with(dir, name, flash_size, paced, None)
    }

    fn with(dir: &Path, name: &str, flash_size: &str, paced: bool, flash: Option<&Path>) -> Result<Self, Stop> {
        let link = dir.join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
        command.args(["sim", "esp32", "--name", name, "--flash-size", flash_size, "--pty"]).arg(&link);
        if paced {
            command.args(["--baud-pacing", "--flash-timing"]);
        }
        if let Some(flash) = flash {
            command.arg("--flash").arg(flash);
        }
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        let mut ready = String::new();
        if let Some(said) = child.stderr.take() {
            BufReader::new(said).read_line(&mut ready)?;
        }
        if ready.contains("ready") { Ok(Self { child, link }) } else { fail(format!("the simulator says {ready:?}")) }
    }

    /// What our tools take as port.
    pub fn url(&self) -> String {
        self.link.display().to_string()
    }

    /// The terminal itself.
    pub fn terminal(&self) -> Result<PathBuf, Stop> {
        Ok(std::fs::canonicalize(&self.link)?)
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
