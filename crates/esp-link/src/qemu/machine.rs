//! What a host keeps running: an emulator, or a simulated chip.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::{BootMode, QemuError};

/// Wakes the host's loop from another thread: something is there to be polled.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// A virtual chip, driven by one thread.
pub trait Machine {
    /// Starts the chip, or restarts it, in this mode on the same files.
    fn boot(&mut self, mode: BootMode) -> Result<(), QemuError>;

    /// Stops the chip; its files are then complete and may be changed.
    fn halt(&mut self);

    /// A client connected; one without a rate of its own (a plain socket) always agrees with the chip.
    fn joined(&mut self, has_rate: bool) {
        let _ = has_rate;
    }

    /// Sends bytes to the chip.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Sets the modem lines, with what that does on a board.
    fn set_lines(&mut self, dtr: bool, rts: bool) -> Result<(), QemuError>;

    /// The client's line rate, in baud.
    fn set_baud(&mut self, baud: u32);

    /// Appends what the chip has sent, does what is due, and says after what time to call again at the latest.
    fn poll(&mut self, sent: &mut Vec<u8>) -> Duration;

    /// How it is.
    fn about(&mut self) -> About;
}

/// How a machine is.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct About {
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
}
