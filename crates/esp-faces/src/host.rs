//! What a face needs from the program around it.

use esp_link::port::{PortError, PortUrl};
use esp_model::port::Port;

/// The program that a face runs in.
pub trait Host {
    /// Opens a virtual device (`sim://`, `qemu://`).
    fn open_virtual(&self, url: &PortUrl) -> Result<Box<dyn Port>, PortError>;

    /// The policy allows to use this port.
    fn allows_port(&self, url: &PortUrl) -> Result<(), String>;

    /// The policy allows to burn eFuses of the device with this base MAC although nobody confirms at the keyboard.
    fn burns_unasked(&self, mac: &str) -> bool;
}
