//! Bytes over TCP (`socket://`): QEMU's serial line, a simulator, a raw terminal server. No modem lines.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use esp_model::port::{Port, PortInfo};
use socket2::{SockRef, TcpKeepalive};

use super::error::{PortError, gone, stuck};
use super::lock::{DeviceKey, DeviceLock};
use super::serial::locked;
use super::url::{Endpoint, PortUrl};
use super::{OpenOptions, lock::LockError};

/// A raw TCP connection to a device.
pub struct TcpPort {
    wire: Wire,
    url: String,
    baud: u32,
    opened: Instant,
    _lock: Option<DeviceLock>,
}

impl TcpPort {
    /// Connects to `at`.
    pub fn open(at: &Endpoint, options: &OpenOptions) -> Result<Self, PortError> {
        let url = PortUrl::Socket(at.clone()).to_string();
        let lock = lock(at, options).map_err(|error| locked(&url, error))?;
        let wire = Wire::connect(at, options).map_err(|source| PortError::Unreachable { url: url.clone(), source })?;
        Ok(Self { wire, url, baud: options.baud, opened: Instant::now(), _lock: lock })
    }
}

pub(super) fn lock(at: &Endpoint, options: &OpenOptions) -> Result<Option<DeviceLock>, LockError> {
    options.locks.as_ref().map(|locks| locks.acquire(&DeviceKey::of_endpoint(at), options.lock_wait)).transpose()
}

impl Port for TcpPort {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.write(bytes)
    }

    fn read(&mut self, buf: &mut [u8], wait: Duration) -> io::Result<usize> {
        self.wire.read(buf, wait)
    }

    fn set_lines(&mut self, _: bool, _: bool) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "a socket has no DTR and RTS"))
    }

    fn set_baud(&mut self, baud: u32) -> io::Result<()> {
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
        PortInfo { url: self.url.clone(), ..PortInfo::default() }
    }
}

/// A TCP connection with bounded waits in both directions.
pub(super) struct Wire {
    stream: TcpStream,
    waits: Waits,
}

/// What the socket is set to now, so that it is only told of changes.
#[derive(PartialEq, Clone, Copy)]
enum Waits {
    No,
    For(Duration),
}

impl Wire {
    pub(super) fn connect(at: &Endpoint, options: &OpenOptions) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in (at.host.as_str(), at.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, options.connect.max(Duration::from_millis(1))) {
                Ok(stream) => return Self::new(stream, options),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn new(stream: TcpStream, options: &OpenOptions) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(options.write_stall.max(Duration::from_millis(1))))?;
        // A peer that vanished without a word (power, cable) is noticed within half a minute even when only reading.
        let probe = TcpKeepalive::new().with_time(Duration::from_secs(10)).with_interval(Duration::from_secs(5));
        #[cfg(not(target_os = "openbsd"))]
        let probe = probe.with_retries(3);
        // A help against peers that vanish, which not every system has in full (Wine refuses the number of retries): a
        // connection without it works.
        if SockRef::from(&stream).set_tcp_keepalive(&probe).is_err() {
            let _ = SockRef::from(&stream).set_keepalive(true);
        }
        let waits = Waits::For(Duration::from_secs(1));
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        Ok(Self { stream, waits })
    }

    /// As `Port::write`.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.set_waits(match self.waits {
            Waits::No => Waits::For(Duration::from_secs(1)),
            waits => waits,
        })?;
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return Err(gone("the peer closed the connection")),
                Ok(count) => done += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if is_timeout(&e) => return Err(stuck(done, bytes.len())),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// As `Port::read`.
    pub(super) fn read(&mut self, buf: &mut [u8], wait: Duration) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let until = Instant::now() + wait;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            self.set_waits(if left.is_zero() { Waits::No } else { Waits::For(left) })?;
            match self.stream.read(buf) {
                Ok(0) => return Err(gone("the peer closed the connection")),
                Ok(count) => return Ok(count),
                Err(e) if is_timeout(&e) => return Ok(0),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn set_waits(&mut self, wanted: Waits) -> io::Result<()> {
        // Sub-millisecond differences come from the clock, not from the caller.
        let rounded = match wanted {
            Waits::For(time) => {
                // Rounded up: a socket refuses a time of 0, which the last nanoseconds would become.
                let millis = time.as_nanos().div_ceil(1_000_000);
                Waits::For(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
            }
            no => no,
        };
        if rounded == self.waits {
            return Ok(());
        }
        if (rounded == Waits::No) != (self.waits == Waits::No) {
            self.stream.set_nonblocking(rounded == Waits::No)?;
        }
        if let Waits::For(time) = rounded {
            self.stream.set_read_timeout(Some(time))?;
        }
        self.waits = rounded;
        Ok(())
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests;
