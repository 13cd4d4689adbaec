//! The other engine: something that runs what lies in flash, handed in by the caller.

use std::time::Duration;

use esp_model::chip::Chip;

use crate::efuse::Efuse;
use crate::nor::Nor;

/// How a run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Content of the reset cause register.
    pub cause: u32,
    /// The boot pin is low.
    pub download: bool,
    /// Something holds the boot pin low: a reset of the whole chip leads into download mode again.
    pub pin_is_held: bool,
    /// The host is on the chip's own USB unit, not on UART0.
    pub usb: bool,
    /// Something other than the firmware has changed the flash since the last run.
    pub flash_changed: bool,
    /// What waits for the radio's calibration is let through.
    pub radio_finishes: bool,
}

/// Runs a chip's own code. Times count from [`Firmware::start`].
pub trait Firmware: std::fmt::Debug + Send {
    /// The chip comes out of reset.
    fn start(&mut self, flash: &mut Nor, efuse: &mut Efuse, start: Start);
    /// Goes on until that time; what the chip has sent to the host.
    fn run(&mut self, flash: &mut Nor, efuse: &mut Efuse, until: Duration) -> Vec<u8>;
    /// The host's bytes arrive.
    fn receive(&mut self, bytes: &[u8]);
    /// What the run met that is not modelled, in words; each is told once.
    fn notes(&mut self) -> Vec<String>;
    /// For those who know which engine it is: a debugger.
    fn as_any(&mut self) -> &mut dyn std::any::Any;
}

/// Makes the engine for a chip of a revision (major × 100 + minor); `None` when there is none for it.
pub type MakeFirmware = fn(&'static Chip, u16) -> Option<Box<dyn Firmware>>;
