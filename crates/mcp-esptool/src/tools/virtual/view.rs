//! A virtual device in a result.

use esp_virtual::BootMode;
use esp_virtual::instance::Backend;
use esp_virtual::manager::Status;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the chip boots from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Boot {
    /// Into the ROM's serial loader.
    #[default]
    Download,
    /// From flash.
    Normal,
}

impl From<Boot> for BootMode {
    fn from(boot: Boot) -> Self {
        match boot {
            Boot::Download => Self::Download,
            Boot::Normal => Self::Normal,
        }
    }
}

impl From<BootMode> for Boot {
    fn from(mode: BootMode) -> Self {
        match mode {
            BootMode::Download => Self::Download,
            BootMode::Normal => Self::Normal,
        }
    }
}

/// A virtual device.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct View {
    /// Its id.
    pub id: String,
    /// What to give as `port`.
    pub port: String,
    /// The chip's id.
    pub chip: String,
    /// `qemu` or `builtin`.
    #[schemars(extend("enum" = ["qemu", "builtin"]))]
    pub backend: String,
    /// `running`, `stopped`, or `failed`.
    #[schemars(extend("enum" = ["running", "stopped", "failed"]))]
    pub state: String,
    /// How it was started last.
    pub boot_mode: Option<Boot>,
    /// It runs the firmware in flash after a reset into normal boot. The built-in device does so for chips whose mask ROM is
    /// built in; for the others it imitates the boot messages.
    pub runs_code: bool,
    /// What answers in download mode: `imitation`, `rom` (the chip's own, with engine=rom) or `emulator`.
    pub download_by: String,
    /// Always true.
    #[serde(rename = "virtual")]
    pub is_virtual: bool,
    /// Its serial line with baud, DTR and RTS, for other programs.
    pub rfc2217: Option<String>,
    /// Its plain serial line, for other programs.
    pub socket: Option<String>,
    /// TCP port for a debugger.
    pub gdb_port: Option<u16>,
    /// Flash size.
    pub flash_size_bytes: u64,
    /// The file with the flash content.
    pub flash_file: String,
    /// The file with the eFuses.
    pub efuse_file: String,
    /// The process that keeps it.
    pub pid: Option<u32>,
    /// The emulator's version.
    pub version: Option<String>,
    /// Bytes that its console has had so far.
    pub console_bytes: u64,
    /// It goes on when the server ends.
    pub keep: bool,
    /// Its files stay when it is stopped.
    pub persist: bool,
    /// Why it does not run, where it should.
    pub problem: Option<String>,
    /// What the firmware met that the built-in device does not model: register, place and function.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl View {
    /// A device as it is now.
    pub fn of(status: &Status) -> Self {
        let config = &status.config;
        let state = match (&status.record, status.about.running) {
            (None, _) => "stopped",
            (Some(_), true) => "running",
            (Some(_), false) => "failed",
        };
        let url = |scheme: &str, port: u16| format!("{scheme}://127.0.0.1:{port}");
        Self {
            port: format!("qemu://{}", config.id),
            id: config.id.clone(),
            chip: config.chip.clone(),
            backend: if config.backend == Backend::Qemu { "qemu".into() } else { "builtin".into() },
            state: state.into(),
            boot_mode: status.about.boot_mode.map(Boot::from),
            runs_code: config.runs_code(),
            download_by: match (config.backend, config.loader_by_rom) {
                (Backend::Qemu, _) => "emulator".into(),
                (_, true) => "rom".into(),
                (_, false) => "imitation".into(),
            },
            is_virtual: true,
            rfc2217: status.record.as_ref().map(|record| url("rfc2217", record.rfc2217_port)),
            socket: status.record.as_ref().map(|record| url("socket", record.socket_port)),
            gdb_port: status.record.as_ref().map_or(config.gdb_port, |record| record.gdb_port),
            flash_size_bytes: config.flash_size,
            flash_file: status.dir.join("flash.bin").display().to_string(),
            efuse_file: status.dir.join("efuse.bin").display().to_string(),
            pid: status.record.as_ref().map(|record| record.pid),
            version: status.about.version.clone(),
            console_bytes: status.console_bytes,
            keep: config.keep,
            persist: config.persist,
            problem: status.about.problem.clone(),
            notes: status.about.notes.clone(),
        }
    }
}

impl std::fmt::Display for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}, {}) {}", self.port, self.chip, self.backend, self.state)?;
        match self.boot_mode {
            Some(Boot::Download) => write!(f, ", in download mode")?,
            Some(Boot::Normal) => write!(f, ", booted from flash")?,
            None => {}
        }
        if let Some(rfc2217) = &self.rfc2217 {
            write!(f, "; {rfc2217} for other programs")?;
        }
        if let Some(problem) = &self.problem {
            write!(f, "; {problem}")?;
        }
        if let Some(radio) = self.notes.iter().find(|note| note.starts_with("radio_not_emulated")) {
            write!(f, "\n{radio}")?;
        }
        Ok(())
    }
}

/// The id without its scheme.
pub fn plain(id: &str) -> &str {
    id.strip_prefix("qemu://").unwrap_or(id)
}
