//! Which serial ports this machine has, learnt without opening (and so without resetting) any of them.

use esp_model::mac::Mac;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::lock::{DeviceKey, Holder, Locks};
use super::{PortError, PortUrl};

#[cfg(target_os = "linux")]
#[path = "scan/linux.rs"]
mod system;
#[cfg(not(target_os = "linux"))]
#[path = "scan/other.rs"]
mod system;

/// A serial port of this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FoundPort {
    /// What to open: `/dev/ttyUSB0`, `COM3`.
    pub path: String,
    /// The USB device it is on.
    pub usb: Option<UsbDevice>,
    /// The driver's name, such as `ftdi_sio`.
    pub driver: Option<String>,
    /// Other names of the port that stay the same when it enumerates again (`/dev/serial/by-id/…`).
    pub links: Vec<String>,
    /// Who uses it now, as far as that can be seen.
    pub holder: Option<Holder>,
}

/// What a USB device says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UsbDevice {
    /// Vendor id.
    pub vid: u16,
    /// Product id.
    pub pid: u16,
    /// Product name.
    pub product: Option<String>,
    /// Manufacturer's name.
    pub manufacturer: Option<String>,
    /// Serial number; the base MAC for an Espressif chip's own USB-Serial/JTAG.
    pub serial_number: Option<String>,
    /// Place on the bus with the interface, `1-1.4:1.0`: stays when the device enumerates again.
    pub location: Option<String>,
    /// Which enumeration this is (Linux `devnum`); changes when the device left the bus and came back.
    pub enumeration: Option<u32>,
}

impl UsbDevice {
    /// The base MAC in the serial number, where it is one.
    pub fn mac(&self) -> Option<Mac> {
        self.serial_number.as_deref()?.parse().ok()
    }

    /// The same unit, possibly under another name or after it enumerated again: the same serial number, or the
    /// same place on the bus.
    pub fn is_same_unit(&self, other: &Self) -> bool {
        let interface = |usb: &Self| usb.location.as_deref().and_then(|l| l.rsplit(':').next()).map(str::to_string);
        match (&self.serial_number, &other.serial_number) {
            (Some(a), Some(b)) if a == b && self.vid == other.vid => {
                interface(self) == interface(other) || self.pid != other.pid
            }
            _ => self.location.is_some() && self.location == other.location,
        }
    }
}

/// The port fits this name by what its USB device says of itself.
pub fn fits(found: &FoundPort, url: &PortUrl) -> bool {
    let Some(usb) = &found.usb else { return false };
    match url {
        PortUrl::Usb { vid, pid } => usb.vid == *vid && pid.is_none_or(|pid| usb.pid == pid),
        PortUrl::SerialNumber(number) => usb.serial_number.as_deref() == Some(number.as_str()),
        // The place with its interface (`1-1.4:1.0`), or the device's place alone.
        PortUrl::Location(place) => usb
            .location
            .as_deref()
            .is_some_and(|location| location == place || location.split(':').next() == Some(place.as_str())),
        PortUrl::Mac(mac) => usb.mac() == Some(*mac),
        _ => false,
    }
}

/// The path of the only port that fits.
pub fn the_one(url: &PortUrl, ports: &[FoundPort]) -> Result<String, PortError> {
    let paths = |ports: &mut dyn Iterator<Item = &FoundPort>| ports.map(|port| port.path.clone()).collect::<Vec<_>>();
    let matches = paths(&mut ports.iter().filter(|port| fits(port, url)));
    match matches.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(PortError::NoMatch { url: url.to_string(), present: paths(&mut ports.iter()) }),
        _ => Err(PortError::Several { url: url.to_string(), matches }),
    }
}

/// All serial ports, by name; a machine's unused UART slots are left out.
pub fn scan() -> Vec<FoundPort> {
    scan_with(&Locks::default())
}

/// All serial ports, with the holders that these locks know of.
pub fn scan_with(locks: &Locks) -> Vec<FoundPort> {
    let mut ports = system::ports();
    let paths: Vec<PathBuf> = ports.iter().map(|port| PathBuf::from(&port.path)).collect();
    let open = holders(&paths);
    for (port, open) in ports.iter_mut().zip(open) {
        port.holder = locks.holder(&DeviceKey::of_path(Path::new(&port.path))).or(open);
    }
    ports.sort_by_key(|port| natural(&port.path));
    ports
}

/// All serial ports, without asking who uses them.
pub(crate) fn scan_unheld() -> Vec<FoundPort> {
    system::ports()
}

/// The USB device behind a path, if it is one.
pub(crate) fn usb_of(path: &Path) -> Option<UsbDevice> {
    system::usb_of(path)
}

/// The driver behind a path.
#[cfg(unix)]
pub(crate) fn driver_of(path: &Path) -> Option<String> {
    system::driver_of(path)
}

/// The place on the bus of a path that is a USB serial port.
pub(crate) fn usb_location(path: &Path) -> Option<String> {
    usb_of(path)?.location
}

/// The process that has this path open, this one apart. Many programs open a port without locking it: it can be opened
/// beside them, and both then get a part of what arrives.
pub fn holder_of(path: &Path) -> Option<Holder> {
    holders(&[path.to_path_buf()]).pop().flatten()
}

/// For each path the process that has it open, this one apart.
fn holders(paths: &[PathBuf]) -> Vec<Option<Holder>> {
    system::holders(paths)
}

/// Sorts `ttyUSB10` behind `ttyUSB9`.
fn natural(path: &str) -> (String, u64) {
    let stem = path.trim_end_matches(|c: char| c.is_ascii_digit());
    (stem.to_string(), path.get(stem.len()..).and_then(|n| n.parse().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests;
