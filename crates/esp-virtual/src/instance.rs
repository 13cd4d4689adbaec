//! The directory of a virtual device: what it is made as, where it can be reached, its files.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use esp_model::chip;
use serde::{Deserialize, Serialize};

use crate::files::write_whole;
use crate::{BootMode, VirtualError};

/// What does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// Espressif's QEMU: runs the chip's code.
    Qemu,
    /// Our own device: imitates loaders, flash, eFuses and, without the mask ROM of its chip, boot messages.
    Builtin,
}

/// What a virtual device is made as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Its name: letters, digits, `.`, `_`, `-`.
    pub id: String,
    /// The chip's id.
    pub chip: String,
    /// What does the work.
    pub backend: Backend,
    /// How it starts.
    pub boot_mode: BootMode,
    /// The built-in device's download mode is the chip's own ROM, not the imitation of it.
    #[serde(default)]
    pub loader_by_rom: bool,
    /// Firmware on the built-in device that waits for the radio's calibration is let through.
    #[serde(default)]
    pub radio_finishes: bool,
    /// Flash size in bytes.
    pub flash_size: u64,
    /// The emulator's program.
    pub program: Option<PathBuf>,
    /// PSRAM size in MB; the emulator's default without.
    pub psram_mb: Option<u32>,
    /// The PSRAM is octal.
    pub octal_psram: bool,
    /// An Ethernet controller (OpenCores) with a network behind it.
    pub network: bool,
    /// TCP ports of this machine that lead to ports of the chip.
    pub forwards: Vec<Forward>,
    /// TCP port for a debugger.
    pub gdb_port: Option<u16>,
    /// The chip waits for the debugger before its first instruction.
    pub wait_for_gdb: bool,
    /// TCP port of the RFC 2217 line; any free one without.
    pub rfc2217_port: Option<u16>,
    /// TCP port of the plain line; any free one without.
    pub socket_port: Option<u16>,
    /// It goes on when the process that started it ends.
    pub keep: bool,
    /// Its files stay when it is stopped.
    pub persist: bool,
}

impl Config {
    /// Whether the device runs the firmware in its flash, or only imitates the boot.
    pub fn runs_code(&self) -> bool {
        self.backend == Backend::Qemu || chip::by_name(&self.chip).is_some_and(esp_machine::firmware::runs)
    }
}

/// A TCP port of this machine that leads to one of the chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// Port of this machine, on loopback.
    pub host: u16,
    /// Port of the chip.
    pub guest: u16,
}

impl Config {
    /// A device of 4 MB that starts in download mode and ends with its starter.
    pub fn new(id: &str, chip: &str, backend: Backend) -> Self {
        Self {
            id: id.into(),
            chip: chip.into(),
            backend,
            boot_mode: BootMode::Download,
            loader_by_rom: false,
            radio_finishes: false,
            flash_size: 4 << 20,
            program: None,
            psram_mb: None,
            octal_psram: false,
            network: false,
            forwards: Vec::new(),
            gdb_port: None,
            wait_for_gdb: false,
            rfc2217_port: None,
            socket_port: None,
            keep: false,
            persist: false,
        }
    }
}

/// Where a running device can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The host process.
    pub pid: u32,
    /// Who knows this may command the host.
    pub token: String,
    /// TCP port of the control line.
    pub control_port: u16,
    /// TCP port of the RFC 2217 line.
    pub rfc2217_port: u16,
    /// TCP port of the plain line.
    pub socket_port: u16,
    /// TCP port for a debugger.
    #[serde(default)]
    pub gdb_port: Option<u16>,
    /// The emulator's process at the last start.
    pub emulator_pid: Option<u32>,
    /// When it was started, in seconds of Unix time.
    pub started_unix_s: u64,
}

/// The files of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory(pub PathBuf);

impl Directory {
    /// Flash content.
    pub fn flash(&self) -> PathBuf {
        self.0.join("flash.bin")
    }

    /// eFuse content.
    pub fn efuse(&self) -> PathBuf {
        self.0.join("efuse.bin")
    }

    /// A snapshot's directory.
    pub fn snapshot(&self, name: &str) -> PathBuf {
        self.0.join("snapshots").join(name)
    }

    /// Takes the lock that a host holds as long as it lives; none when another holds it.
    pub fn lock(&self) -> Result<Option<File>, VirtualError> {
        let path = self.0.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(VirtualError::file(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(VirtualError::file(path)(error)),
        }
    }

    /// What the device is made as.
    pub fn config(&self) -> Result<Config, VirtualError> {
        read(&self.0.join("config.json"))
    }

    /// Writes what the device is made as.
    pub fn set_config(&self, config: &Config) -> Result<(), VirtualError> {
        write(&self.0.join("config.json"), config)
    }

    /// Where it can be reached, if it was started.
    pub fn record(&self) -> Option<Record> {
        read(&self.record_path()).ok()
    }

    /// Writes where it can be reached.
    pub fn set_record(&self, record: &Record) -> Result<(), VirtualError> {
        write(&self.record_path(), record)
    }

    /// It can no longer be reached.
    pub fn clear_record(&self) {
        let _ = fs::remove_file(self.record_path());
    }

    fn record_path(&self) -> PathBuf {
        self.0.join("running.json")
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, VirtualError> {
    let bytes = fs::read(path).map_err(VirtualError::file(path))?;
    serde_json::from_slice(&bytes).map_err(|error| VirtualError::file(path)(error.into()))
}

fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), VirtualError> {
    let bytes = serde_json::to_vec_pretty(value).map_err(|error| VirtualError::file(path)(error.into()))?;
    write_whole(path, &bytes)
}
