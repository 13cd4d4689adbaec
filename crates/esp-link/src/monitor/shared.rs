//! One device, several readers: each sees every byte, whoever fetched it from the line.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use esp_model::port::{Port, PortInfo};

/// What is kept for readers that lag, in bytes.
const KEPT: usize = 8 << 20;
/// Longest time one reader holds the line while the others wait.
const SLICE: Duration = Duration::from_millis(10);

/// A port that several readers share.
#[derive(Clone)]
pub struct SharedPort(Arc<Shared>);

struct Shared {
    port: Mutex<Box<dyn Port>>,
    ring: Mutex<Ring>,
}

/// The last bytes of the stream. Positions count from its beginning.
#[derive(Default)]
struct Ring {
    bytes: VecDeque<u8>,
    end: u64,
}

impl Ring {
    fn start(&self) -> u64 {
        self.end - self.bytes.len() as u64
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        self.end += bytes.len() as u64;
        let surplus = self.bytes.len().saturating_sub(KEPT);
        self.bytes.drain(..surplus);
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A reader that panicked leaves both in a usable state.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SharedPort {
    /// Shares a port.
    pub fn new(port: Box<dyn Port>) -> Self {
        Self(Arc::new(Shared { port: Mutex::new(port), ring: Mutex::default() }))
    }

    /// A reader that sees what comes from now on.
    pub fn reader(&self) -> SharedReader {
        let at = lock(&self.0.ring).end;
        SharedReader { shared: Arc::clone(&self.0), at, lost: 0 }
    }

    /// Readers there are besides this handle and its copies.
    pub fn users(&self) -> usize {
        Arc::strong_count(&self.0).saturating_sub(1)
    }
}

/// One reader of a shared port. It is a port itself: what it writes goes to the device.
pub struct SharedReader {
    shared: Arc<Shared>,
    at: u64,
    /// Bytes that were overwritten before this reader took them.
    lost: u64,
}

impl SharedReader {
    /// Bytes that this reader missed because it lagged by more than 8 MiB.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// What is there for this reader already.
    fn kept(&mut self, buf: &mut [u8]) -> usize {
        let ring = lock(&self.shared.ring);
        let start = ring.start();
        if self.at < start {
            self.lost += start - self.at;
            self.at = start;
        }
        let from = usize::try_from(self.at - start).unwrap_or(usize::MAX);
        let mut n = 0;
        for (slot, byte) in buf.iter_mut().zip(ring.bytes.iter().skip(from)) {
            *slot = *byte;
            n += 1;
        }
        self.at += n as u64;
        n
    }
}

impl Port for SharedReader {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        lock(&self.shared.port).write(bytes)
    }

    fn read(&mut self, buf: &mut [u8], wait: Duration) -> io::Result<usize> {
        let end = self.now() + wait;
        loop {
            let n = self.kept(buf);
            if n > 0 {
                return Ok(n);
            }
            let shared = Arc::clone(&self.shared);
            let mut port = lock(&shared.port);
            // Another reader may have fetched something while this one waited for the line.
            let n = self.kept(buf);
            if n > 0 {
                return Ok(n);
            }
            let left = end.saturating_sub(port.now());
            let mut fetched = [0; 16 * 1024];
            let got = port.read(&mut fetched, left.min(SLICE))?;
            lock(&shared.ring).push(fetched.get(..got).unwrap_or_default());
            if got == 0 && left <= SLICE {
                return Ok(0);
            }
        }
    }

    fn set_lines(&mut self, dtr: bool, rts: bool) -> io::Result<()> {
        lock(&self.shared.port).set_lines(dtr, rts)
    }

    fn set_baud(&mut self, baud: u32) -> io::Result<()> {
        lock(&self.shared.port).set_baud(baud)
    }

    fn baud(&self) -> u32 {
        lock(&self.shared.port).baud()
    }

    fn sleep(&mut self, time: Duration) {
        lock(&self.shared.port).sleep(time);
    }

    fn now(&self) -> Duration {
        lock(&self.shared.port).now()
    }

    fn info(&self) -> PortInfo {
        lock(&self.shared.port).info()
    }

    fn reopen(&mut self) -> io::Result<()> {
        lock(&self.shared.port).reopen()
    }
}
