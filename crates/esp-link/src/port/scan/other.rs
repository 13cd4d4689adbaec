//! macOS, Windows and the BSDs: what the `serialport` crate enumerates (IOKit, the registry).

use std::path::{Path, PathBuf};

use serialport::SerialPortType;

use super::{FoundPort, UsbDevice};
use crate::port::lock::Holder;

pub(super) fn ports() -> Vec<FoundPort> {
    let found = serialport::available_ports().unwrap_or_default();
    // macOS lists each port twice; opening the "tty." one waits for a carrier that never comes.
    let usable = found.into_iter().filter(|port| !port.port_name.starts_with("/dev/tty."));
    usable
        .map(|port| FoundPort {
            usb: match port.port_type {
                SerialPortType::UsbPort(usb) => Some(UsbDevice {
                    vid: usb.vid,
                    pid: usb.pid,
                    product: usb.product,
                    manufacturer: usb.manufacturer,
                    serial_number: usb.serial_number,
                    ..UsbDevice::default()
                }),
                _ => None,
            },
            path: port.port_name,
            ..FoundPort::default()
        })
        .collect()
}

pub(super) fn usb_of(path: &Path) -> Option<UsbDevice> {
    let path = path.to_string_lossy();
    ports().into_iter().find(|port| port.path == path)?.usb
}

#[cfg(unix)]
pub(super) fn driver_of(_: &Path) -> Option<String> {
    None
}

/// Not visible here; the lock's file still tells of our own processes.
pub(super) fn holders(paths: &[PathBuf]) -> Vec<Option<Holder>> {
    vec![None; paths.len()]
}
