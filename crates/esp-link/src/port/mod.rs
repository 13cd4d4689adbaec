//! Ports: every way to reach a device, opened by its URL in one place.

use std::time::Duration;

use esp_model::mac::Mac;
use esp_model::port::Port;

pub mod error;
pub mod faulty;
pub mod lock;
#[cfg(unix)]
pub mod pty;
pub mod replay;
pub mod rfc2217;
pub mod scan;
pub mod serial;
pub mod tcp;
pub mod trace;
pub mod traced;
#[cfg(unix)]
mod tty;
pub mod url;

pub use error::PortError;
pub use lock::{DeviceKey, DeviceLock, Holder, Locks};
pub use url::{PortUrl, UrlError};

/// How to open a port.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Line rate at opening, in baud. ROM loaders start at 115200.
    pub baud: u32,
    /// Where the locks are; none opens without a lock, for a caller that holds it already.
    pub locks: Option<Locks>,
    /// How long to wait for a device that another user is about to leave.
    pub lock_wait: Duration,
    /// How long a network peer may take to answer.
    pub connect: Duration,
    /// How long a write may stand still before it fails with `TimedOut`.
    pub write_stall: Duration,
    /// Answers the challenge of a shared board; does not travel itself.
    pub token: Option<String>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            baud: 115_200,
            locks: Some(Locks::default()),
            lock_wait: Duration::ZERO,
            connect: Duration::from_secs(5),
            write_stall: Duration::from_secs(5),
            token: None,
        }
    }
}

/// Opens the port that `url` names, except virtual devices: their owner is one level up.
pub fn open(url: &PortUrl, options: &OpenOptions) -> Result<Box<dyn Port>, PortError> {
    open_with(url, options, |url| {
        Err(PortError::Unsupported { url: url.to_string(), what: "no virtual devices here".into() })
    })
}

/// Opens the port that `url` names; `open_virtual` opens `sim://`, `qemu://` and `image:`.
pub fn open_with(
    url: &PortUrl,
    options: &OpenOptions,
    open_virtual: impl FnOnce(&PortUrl) -> Result<Box<dyn Port>, PortError>,
) -> Result<Box<dyn Port>, PortError> {
    Ok(match url {
        PortUrl::Serial(path) | PortUrl::Pty(path) => Box::new(serial::SerialPort::open(path, url, options)?),
        PortUrl::Socket(at) => Box::new(tcp::TcpPort::open(at, options)?),
        PortUrl::Rfc2217(at) => Box::new(rfc2217::Rfc2217Port::open(at, options)?),
        PortUrl::Sim { .. } | PortUrl::Qemu(_) | PortUrl::Image(_) => open_virtual(url)?,
        PortUrl::Mac(mac) => {
            let path = path_of_mac(*mac).ok_or_else(|| PortError::UnknownMac { url: url.to_string() })?;
            Box::new(serial::SerialPort::open(&path, url, options)?)
        }
        PortUrl::Usb { .. } | PortUrl::SerialNumber(_) | PortUrl::Location(_) => {
            let path = scan::the_one(url, &scan::scan_unheld())?;
            Box::new(serial::SerialPort::open(&path, url, options)?)
        }
    })
}

/// The port whose USB serial number is this base MAC: a chip's own USB-Serial/JTAG. A chip behind a bridge can only
/// be known by asking it.
pub fn path_of_mac(mac: Mac) -> Option<String> {
    let mut ports = scan::scan_unheld().into_iter();
    ports.find(|port| port.usb.as_ref().and_then(scan::UsbDevice::mac) == Some(mac)).map(|port| port.path)
}
