//! A virtual chip as a port, in virtual time.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use esp_model::port::{ESPRESSIF_VID, Port, PortInfo, USB_SERIAL_JTAG_PID};

use crate::circuit::Wiring;
use crate::config::Config;
use crate::virtual_chip::VirtualChip;

/// Bytes that the host's driver takes before a write has to wait.
const WRITE_BUFFER: usize = 4096;

/// A device that lives on when its port is closed. Clones are the same device.
#[derive(Debug, Clone)]
pub struct SimDevice {
    shared: Arc<Mutex<Shared>>,
    url: String,
}

#[derive(Debug)]
struct Shared {
    chip: VirtualChip,
    now: Duration,
}

impl SimDevice {
    /// Makes the device that `url` (`sim://esp32c3-bench`) is to stand for.
    pub fn new(config: &Config, url: impl Into<String>) -> Self {
        let shared = Shared { chip: VirtualChip::new(config), now: Duration::ZERO };
        Self { shared: Arc::new(Mutex::new(shared)), url: url.into() }
    }

    /// The device's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Opens its line at 115200 baud with both modem lines released. The caller sees to it that only one client
    /// uses a device at a time.
    pub fn open(&self) -> SimPort {
        let mut port = SimPort { device: self.clone(), opened: Duration::ZERO, baud: 115_200 };
        port.opened = self.lock().now;
        let mut shared = self.lock();
        let now = shared.now;
        shared.chip.set_host_baud(now, Some(115_200));
        drop(shared);
        port
    }

    /// Looks into the chip, or changes it, at the device's present time.
    pub fn with<T>(&self, look: impl FnOnce(&mut VirtualChip, Duration) -> T) -> T {
        let mut shared = self.lock();
        let now = shared.now;
        look(&mut shared.chip, now)
    }

    /// The device, while it is plugged in.
    fn plugged(&self) -> io::Result<MutexGuard<'_, Shared>> {
        let shared = self.lock();
        match shared.chip.is_unplugged() {
            true => Err(io::Error::new(io::ErrorKind::BrokenPipe, "the device is gone")),
            false => Ok(shared),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open line to a [`SimDevice`].
///
/// Waiting costs no real time. A rate given to [`Port::set_baud`] holds from there on; when it is not the chip's,
/// both sides see noise.
#[derive(Debug)]
pub struct SimPort {
    device: SimDevice,
    opened: Duration,
    baud: u32,
}

impl SimPort {
    /// The device behind the line.
    pub fn device(&self) -> &SimDevice {
        &self.device
    }
}

impl Port for SimPort {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut shared = self.device.plugged()?;
        let Shared { chip, now } = &mut *shared;
        let left = chip.send(*now, bytes);
        // The call comes back when all but a buffer's worth has left.
        let buffered = crate::timing::byte_time(self.baud) * WRITE_BUFFER as u32;
        *now = left.saturating_sub(buffered).max(*now);
        chip.advance(*now);
        Ok(())
    }

    fn read(&mut self, buf: &mut [u8], wait: Duration) -> io::Result<usize> {
        let mut shared = self.device.plugged()?;
        let Shared { chip, now } = &mut *shared;
        let deadline = now.saturating_add(wait);
        loop {
            let got = chip.receive(*now, buf);
            if got > 0 || buf.is_empty() {
                return Ok(got);
            }
            match chip.next_event() {
                Some(next) if next <= deadline => *now = next.max(*now),
                _ => {
                    *now = deadline;
                    chip.advance(*now);
                    return Ok(0);
                }
            }
        }
    }

    fn set_lines(&mut self, dtr: bool, rts: bool) -> io::Result<()> {
        drop(self.device.plugged()?);
        self.device.with(|chip, now| chip.set_lines(now, dtr, rts));
        Ok(())
    }

    fn set_baud(&mut self, baud: u32) -> io::Result<()> {
        self.baud = baud;
        self.device.with(|chip, now| chip.set_host_baud(now, Some(baud)));
        Ok(())
    }

    fn baud(&self) -> u32 {
        self.baud
    }

    fn sleep(&mut self, time: Duration) {
        let mut shared = self.device.lock();
        shared.now += time;
        let Shared { chip, now } = &mut *shared;
        chip.advance(*now);
    }

    /// A receiver takes a break for one byte of zeros.
    fn send_break(&mut self, time: Duration) -> io::Result<()> {
        self.write(&[0])?;
        self.sleep(time);
        Ok(())
    }

    fn now(&self) -> Duration {
        self.device.lock().now.saturating_sub(self.opened)
    }

    fn info(&self) -> PortInfo {
        let wiring = self.device.with(|chip, _| chip.wiring());
        let usb = (wiring == Wiring::UsbSerialJtag).then_some((ESPRESSIF_VID, USB_SERIAL_JTAG_PID));
        PortInfo { url: self.device.url.clone(), usb, modem_lines: true, is_virtual: true }
    }
}
