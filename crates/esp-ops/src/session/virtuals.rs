//! Virtual devices: where they live, which emulators there are, and the process that keeps one running.

use std::path::{Path, PathBuf};
use std::process::Command;

use esp_model::chip::Chip;
use esp_virtual::discover::{self, Found, Places};
use esp_virtual::{Manager, VirtualError};

use crate::config::Config;
use crate::error::{Code, ToolError};

/// The hidden subcommand that keeps one virtual device running.
pub const HOST: &str = "virtual-host";

/// The virtual devices of this user.
pub struct Virtuals {
    /// Starts, finds and ends them.
    pub manager: Manager,
    /// They go on when this process ends, unless a call says otherwise.
    pub keep: bool,
    places: Places,
}

impl Virtuals {
    /// Reads the settings; looks at nothing yet.
    pub fn new(config: &Config) -> Self {
        let program = config.path("program").or_else(|| std::env::current_exe().ok());
        let program = program.unwrap_or_else(|| PathBuf::from("mcp-esptool"));
        let limit = config.number("virtual_limit");
        let host = move |dir: &Path| {
            let mut command = Command::new(&program);
            command.arg(HOST).arg(dir);
            command
        };
        let configured = ["qemu_xtensa", "qemu_riscv"].iter().filter_map(|name| config.path(name)).collect();
        let mut places = Places::usual(configured);
        if let Some(tools) = config.path("idf_tools_path") {
            places.idf.insert(0, tools);
        }
        Self {
            manager: Manager::new(config.state_dir().join("virtual"), limit, host),
            keep: config.flag("keep_virtual"),
            places,
        }
    }

    /// All QEMUs that are installed, the best of each kind first.
    pub fn emulators(&self) -> Vec<Found> {
        discover::find(&self.places)
    }

    /// The emulator for a chip.
    pub fn emulator(&self, chip: &Chip) -> Result<Found, VirtualError> {
        let emulation = chip.emulation().ok_or_else(|| VirtualError::NoEmulation(chip.name.clone()))?;
        discover::choose(&self.places, &chip.name, &emulation.program, &emulation.machine)
    }
}

impl From<VirtualError> for ToolError {
    fn from(error: VirtualError) -> Self {
        let text = error.to_string();
        let (code, fix) = match &error {
            VirtualError::NotInstalled { .. } | VirtualError::NoEmulation(_) => (Code::NoEmulator, None),
            VirtualError::BrokenProgram { package, .. } => {
                (Code::EmulatorBroken, package.as_ref().map(|package| format!("install the package {package}")))
            }
            VirtualError::File { .. } | VirtualError::FileInUse(_) => (Code::VirtualFile, None),
            VirtualError::FlashSize(_) | VirtualError::Option(_) | VirtualError::Image(_) => (Code::BadParameter, None),
            VirtualError::Unknown(_) => (Code::NoSuchVirtual, None),
            VirtualError::Exists(_) => (Code::VirtualExists, None),
            VirtualError::Stopped(_) => (Code::VirtualStopped, None),
            VirtualError::Limit(_) => (Code::VirtualLimit, None),
            VirtualError::PortTaken(_) => (Code::TcpPortTaken, None),
            VirtualError::Ended { .. }
            | VirtualError::Silent { .. }
            | VirtualError::Refused { .. }
            | VirtualError::Host(_) => (Code::VirtualFailed, None),
        };
        let made = ToolError::new(code, text);
        match fix {
            Some(fix) => made.next(fix),
            None => made,
        }
    }
}
