//! Virtual devices: emulated or simulated chips that live in a process of their own.
//!
//! A virtual device is a directory and a *host* process. The host ([`server::host::serve`]) keeps the chip running and
//! offers its serial line on loopback (`socket://`, and `rfc2217://` whose DTR and RTS do what they do on a board), its
//! console from the first byte, and a control line. The process that started it ([`Manager`]) holds the host's
//! standard input: the host ends when that closes, however the starter died. A device that is to be kept has no such
//! tie; any later process finds it by its directory.
//!
//! What runs in the host is an [`engine::Engine`]; [`engine::for_device`] is the only place that knows which there are.
//! [`server::single`] serves one chip in the foreground, for other people's tools, with the same engine and lines.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub mod engine;
pub mod files;
pub mod instance;
pub mod log;
pub mod manager;
mod process;
pub mod server;

pub use engine::qemu::discover;
pub use instance::{Config, Record};
pub use manager::Manager;
pub use process::keep_streams;
pub use server::control;

/// Where the chip boots from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootMode {
    /// Into the ROM's serial loader.
    Download,
    /// From flash.
    Normal,
}

/// Why a virtual device does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum VirtualError {
    /// No emulator for this chip was found.
    #[error("no QEMU for {chip} was found{}", searched(.looked_in))]
    NotInstalled {
        /// The chip.
        chip: String,
        /// The places that were searched.
        looked_in: Vec<String>,
    },
    /// QEMU does not emulate this chip.
    #[error("QEMU does not emulate {0}")]
    NoEmulation(String),
    /// The program cannot be run.
    #[error("{program} does not run: {what}")]
    BrokenProgram {
        /// The program.
        program: String,
        /// What it or the system says.
        what: String,
        /// The package that has what is missing, where it is known.
        package: Option<String>,
    },
    /// A file or directory cannot be used.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A flash size that the emulator does not take.
    #[error("flash of {0} bytes (possible: 2, 4, 8 or 16 MB)")]
    FlashSize(u64),
    /// Data that does not fit the device.
    #[error("{0}")]
    Image(String),
    /// A file that another virtual device uses.
    #[error("{} is in use by another virtual device", .0.display())]
    FileInUse(PathBuf),
    /// An option that this chip or backend lacks.
    #[error("{0}")]
    Option(String),
    /// No device has this id.
    #[error("there is no virtual device {0:?}")]
    Unknown(String),
    /// The id is taken.
    #[error("there is already a virtual device {0:?}")]
    Exists(String),
    /// The device is not running.
    #[error("the virtual device {0:?} is not running")]
    Stopped(String),
    /// Too many run already.
    #[error("{0} virtual devices are running, which is the limit")]
    Limit(usize),
    /// A port that was asked for is taken.
    #[error("TCP port {0} is taken")]
    PortTaken(u16),
    /// The emulator ended.
    #[error("QEMU ended ({status}){}", tail(.output))]
    Ended {
        /// Its exit status.
        status: String,
        /// The end of its output.
        output: String,
    },
    /// The emulator does not answer.
    #[error("QEMU does not answer: {what}{}", tail(.output))]
    Silent {
        /// What was waited for.
        what: String,
        /// The end of its output.
        output: String,
    },
    /// The emulator refuses a command.
    #[error("QEMU refuses {command}: {what}")]
    Refused {
        /// The QMP command.
        command: String,
        /// Its answer.
        what: String,
    },
    /// The host process does not do its part.
    #[error("the virtual device's process: {0}")]
    Host(String),
}

fn searched(places: &[String]) -> String {
    if places.is_empty() { String::new() } else { format!(" in {}", places.join(", ")) }
}

fn tail(output: &str) -> String {
    let output = output.trim();
    if output.is_empty() { String::new() } else { format!(": {output}") }
}

impl VirtualError {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
