//! A serial device of this machine, or one end of a pseudo terminal.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use esp_model::port::{Port, PortInfo};
use serial2::SerialPort as Line;

use super::error::{PortError, gone, stuck};
use super::lock::{DeviceKey, DeviceLock, LockError};
use super::scan::{self, UsbDevice};
use super::{OpenOptions, url::PortUrl};

#[cfg(unix)]
#[path = "serial/unix.rs"]
mod system;
#[cfg(not(unix))]
#[path = "serial/other.rs"]
mod system;

/// How long a device may take to come back after it left the bus.
const REENUMERATION: Duration = Duration::from_secs(10);
/// How often to look for it.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// An open serial line, which no other process has.
pub struct SerialPort {
    line: Option<Line>,
    path: PathBuf,
    url: String,
    options: OpenOptions,
    baud: u32,
    modem_lines: bool,
    usb: Option<UsbDevice>,
    opened: Instant,
    _lock: Option<DeviceLock>,
}

impl SerialPort {
    /// Opens the device at `path`, named `url` in messages, with `options.baud`, eight bits, no parity, one stop bit.
    ///
    /// The modem lines are left as the operating system sets them at opening (both asserted on Linux and macOS).
    pub fn open(path: &str, url: &PortUrl, options: &OpenOptions) -> Result<Self, PortError> {
        let url = url.to_string();
        let path = existing(path, &url)?;
        let lock = options.locks.as_ref().map(|locks| locks.acquire(&DeviceKey::of_path(&path), options.lock_wait));
        let lock = lock.transpose().map_err(|error| locked(&url, error))?;
        let line = system::open(&path, options).map_err(|error| explain(&path, &url, error))?;
        Ok(Self {
            modem_lines: system::has_modem_lines(&line),
            line: Some(line),
            usb: scan::usb_of(&path),
            path,
            url,
            options: options.clone(),
            baud: options.baud,
            opened: Instant::now(),
            _lock: lock,
        })
    }

    fn line(&mut self) -> io::Result<&mut Line> {
        self.line.as_mut().ok_or_else(|| gone("the device left the bus"))
    }

    /// The unit as it is on the bus now, if it is.
    fn find(&self) -> Option<(PathBuf, Option<UsbDevice>)> {
        let Some(unit) = &self.usb else {
            return self.path.exists().then(|| (self.path.clone(), None));
        };
        let found =
            scan::scan_unheld().into_iter().find(|port| port.usb.as_ref().is_some_and(|u| u.is_same_unit(unit)));
        found.map(|port| (PathBuf::from(port.path), port.usb))
    }

    fn still_there(&mut self) -> bool {
        let same = self.usb.is_some() && scan::usb_of(&self.path) == self.usb;
        same && self.line.as_ref().is_some_and(system::is_alive)
    }
}

/// The path with all links followed, as long as there is something.
fn existing(path: &str, url: &str) -> Result<PathBuf, PortError> {
    if cfg!(windows) {
        return Ok(PathBuf::from(path));
    }
    std::fs::canonicalize(path).map_err(|error| explain(Path::new(path), url, error))
}

/// Says what an error at opening means.
fn explain(path: &Path, url: &str, error: io::Error) -> PortError {
    let url = url.to_string();
    match (system::meaning(&error), error) {
        (Refusal::Missing, _) => {
            PortError::NotFound { url, present: scan::scan_unheld().into_iter().map(|port| port.path).collect() }
        }
        (Refusal::Busy, _) => PortError::Busy { url, holder: scan::holder_of(path) },
        (Refusal::Permission, _) => PortError::Permission { url, group: system::group_of(path) },
        (Refusal::NotSerial, _) => PortError::NotSerial { url },
        (Refusal::Other, source) => PortError::Io { url, source },
    }
}

pub(super) fn locked(url: &str, error: LockError) -> PortError {
    match error {
        LockError::Held(holder) => PortError::Busy { url: url.into(), holder },
        LockError::Directory { dir, source } => PortError::Io {
            url: url.into(),
            source: io::Error::new(source.kind(), format!("lock directory {}: {source}", dir.display())),
        },
    }
}

/// Why the operating system does not open a device.
enum Refusal {
    Missing,
    Busy,
    #[cfg_attr(not(unix), expect(dead_code, reason = "Windows does not tell it apart"))]
    Permission,
    #[cfg_attr(not(unix), expect(dead_code, reason = "Windows does not tell it apart"))]
    NotSerial,
    Other,
}

impl Port for SerialPort {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stall = self.options.write_stall;
        let line = self.line()?;
        line.set_write_timeout(stall)?;
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            match line.write(rest) {
                Ok(0) => return Err(gone("the device left the bus")),
                Ok(count) => done += count,
                Err(e) if e.kind() == io::ErrorKind::TimedOut => return Err(stuck(done, bytes.len())),
                Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                Err(e) => return Err(system::name_loss(e)),
            }
        }
        Ok(())
    }

    fn read(&mut self, buf: &mut [u8], wait: Duration) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let until = Instant::now() + wait;
        let line = self.line()?;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            // Whole milliseconds below: round up, or the last one would be spent spinning.
            line.set_read_timeout(left + Duration::from_micros(999))?;
            match line.read(buf) {
                Ok(0) => return Err(gone("the device left the bus")),
                Ok(count) => return Ok(count),
                Err(e) if e.kind() == io::ErrorKind::TimedOut => return Ok(0),
                Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
                    if left.is_zero() {
                        return Ok(0);
                    }
                }
                Err(e) => return Err(system::name_loss(e)),
            }
        }
    }

    fn set_lines(&mut self, dtr: bool, rts: bool) -> io::Result<()> {
        if !self.modem_lines {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "this line has no DTR and RTS"));
        }
        system::set_lines(self.line()?, dtr, rts).map_err(system::name_loss)
    }

    fn set_baud(&mut self, baud: u32) -> io::Result<()> {
        system::set_baud(self.line()?, baud)?;
        self.baud = baud;
        Ok(())
    }

    fn baud(&self) -> u32 {
        self.baud
    }

    fn sleep(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    fn now(&self) -> Duration {
        self.opened.elapsed()
    }

    fn info(&self) -> PortInfo {
        PortInfo {
            url: self.url.clone(),
            usb: self.usb.as_ref().map(|usb| (usb.vid, usb.pid)),
            modem_lines: self.modem_lines,
            is_virtual: false,
        }
    }

    fn send_break(&mut self, time: Duration) -> io::Result<()> {
        self.line()?.set_break(true).map_err(system::name_loss)?;
        std::thread::sleep(time);
        self.line()?.set_break(false).map_err(system::name_loss)
    }

    fn reopen(&mut self) -> io::Result<()> {
        if self.still_there() {
            return Ok(());
        }
        self.line = None;
        let until = Instant::now() + REENUMERATION;
        let mut last = gone("the device did not come back");
        loop {
            if let Some((path, usb)) = self.find() {
                // The node appears before udev has set its group, and a prober may look at it first: try again.
                match system::open(&path, &OpenOptions { baud: self.baud, ..self.options.clone() }) {
                    Ok(line) => {
                        self.modem_lines = system::has_modem_lines(&line);
                        (self.line, self.path, self.usb) = (Some(line), path, usb);
                        return Ok(());
                    }
                    Err(error) => last = error,
                }
            }
            if Instant::now() >= until {
                return Err(last);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

#[cfg(test)]
mod tests;
