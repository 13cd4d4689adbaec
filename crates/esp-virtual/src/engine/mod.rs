//! What a server keeps running: an emulator, or a simulated chip.
//!
//! A new engine is one more file here, one more [`Backend`] and one more line of [`for_device`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::instance::{Backend, Config, Directory};
use crate::{BootMode, VirtualError};

mod chip_files;
pub mod imitation;
pub mod qemu;

pub use imitation::Imitation;

/// Makes the engine of a virtual device, not started yet. The directory has its flash and eFuse files.
pub fn for_device(config: &Config, dir: &Directory, wake: Waker) -> Result<Box<dyn Engine>, VirtualError> {
    Ok(match config.backend {
        Backend::Qemu => Box::new(qemu::Qemu::new(config.clone(), dir.clone(), wake)?),
        Backend::Builtin => Box::new(Imitation::for_device(config, dir)?),
    })
}

/// Wakes the server's loop from another thread: something is there to be polled.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// A virtual chip, driven by one thread.
pub trait Engine {
    /// Starts the chip, or restarts it, in this mode on the same files.
    fn boot(&mut self, mode: BootMode) -> Result<(), VirtualError>;

    /// Stops the chip; its files are then complete and may be changed.
    fn halt(&mut self);

    /// The client's line has no rate of its own (a plain socket, a pseudo terminal): host and chip always agree, and
    /// `baud` is the rate that the host believes in.
    fn agree_baud(&mut self, baud: u32) {
        let _ = baud;
    }

    /// The last client disconnected.
    fn left(&mut self) {}

    /// Sends bytes to the chip.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Sets the modem lines, with what that does on a board.
    fn set_lines(&mut self, dtr: bool, rts: bool) -> Result<(), VirtualError>;

    /// The client's line rate, in baud.
    fn set_baud(&mut self, baud: u32);

    /// Appends what the chip has sent, does what is due, and says after what time to call again at the latest.
    fn poll(&mut self, sent: &mut Vec<u8>) -> Duration;

    /// The state of the chip.
    fn state(&mut self) -> EngineState;

    /// A debugger speaks GDB's remote protocol: what it is answered. `None` ends its session: no code of the chip runs, or
    /// the engine serves its debuggers itself.
    fn debug(&mut self, what: Debug<'_>) -> Option<Vec<u8>> {
        let _ = what;
        None
    }

    /// The chip is gone for good (a simulated unplugging).
    fn is_gone(&self) -> bool {
        false
    }
}

/// What a debugger does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Debug<'a> {
    /// It connects: the chip stands still.
    Join,
    /// It sends this.
    Bytes(&'a [u8]),
    /// Nothing; the chip may have stopped by itself.
    Poll,
    /// Its line is closed. The chip stays as it is.
    Leave,
}

/// The state of an engine's chip.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EngineState {
    /// The chip runs.
    pub running: bool,
    /// How it was started last.
    pub boot_mode: Option<BootMode>,
    /// The emulator's process.
    pub emulator_pid: Option<u32>,
    /// The emulator's version.
    pub version: Option<String>,
    /// Why it does not run, where it should.
    pub problem: Option<String>,
    /// What the firmware met that is not modelled.
    #[serde(default)]
    pub notes: Vec<String>,
}
