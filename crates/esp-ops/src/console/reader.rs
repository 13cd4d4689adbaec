//! A console as a port: captures and the terminal read it like any other line.

use std::io;
use std::time::{Duration, Instant};

use esp_model::port::{Port, PortInfo};

use super::link::Link;
use super::session::{Order, State};

/// A port whose bytes several readers see.
pub trait HeardPort: Port {
    /// Bytes that this reader missed because it lagged.
    fn lost(&self) -> u64;
}

impl HeardPort for esp_link::monitor::SharedReader {
    fn lost(&self) -> u64 {
        esp_link::monitor::SharedReader::lost(self)
    }
}

/// One reader of a console, from now on. What it writes goes to the device.
pub struct ConsoleReader {
    link: Link,
    at: u64,
    lost: u64,
    info: PortInfo,
    baud: u32,
    opened: Instant,
    /// What the console did when it was read last.
    pub state: State,
}

impl ConsoleReader {
    /// Reads what comes from now on.
    pub fn new(link: Link) -> io::Result<Self> {
        let about = link.about()?;
        let info =
            PortInfo { url: about.url, usb: about.usb, modem_lines: about.modem_lines, is_virtual: about.is_virtual };
        Ok(Self { link, at: about.end, lost: 0, info, baud: about.baud, opened: Instant::now(), state: about.state })
    }

    /// Reads everything that is still there.
    pub fn from_start(mut self) -> Self {
        self.at = 0;
        self
    }

    /// The way to the console.
    pub fn link(&self) -> &Link {
        &self.link
    }
}

impl HeardPort for ConsoleReader {
    fn lost(&self) -> u64 {
        self.lost
    }
}

impl Port for ConsoleReader {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.link.order(Order::Write(bytes.to_vec()))
    }

    fn read(&mut self, buf: &mut [u8], wait: Duration) -> io::Result<usize> {
        let until = Instant::now() + wait;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let (piece, state) = self.link.read(self.at, buf.len(), left)?;
            self.state = state;
            self.lost += piece.lost;
            self.at = piece.next();
            if let Some(room) = buf.get_mut(..piece.bytes.len()).filter(|room| !room.is_empty()) {
                room.copy_from_slice(&piece.bytes);
                return Ok(piece.bytes.len());
            }
            match &self.state {
                State::Closed => return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the console was closed")),
                State::Gone { why } => return Err(io::Error::new(io::ErrorKind::NotConnected, why.clone())),
                _ if left.is_zero() => return Ok(0),
                _ => {}
            }
        }
    }

    fn set_lines(&mut self, dtr: bool, rts: bool) -> io::Result<()> {
        self.link.order(Order::Lines { dtr, rts })
    }

    fn set_baud(&mut self, baud: u32) -> io::Result<()> {
        self.link.order(Order::Baud(baud))?;
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
        self.info.clone()
    }

    fn send_break(&mut self, time: Duration) -> io::Result<()> {
        self.link.order(Order::Break(time.as_millis() as u64))
    }

    /// The console itself looks for its device. One whose daemon died is opened in a new one.
    fn reopen(&mut self) -> io::Result<()> {
        if self.link.about().is_ok() {
            return Ok(());
        }
        let link = self.link.again().ok_or(io::ErrorKind::BrokenPipe)?;
        (self.link, self.at) = (link, 0);
        Ok(())
    }
}
