//! Lines that the daemon lends: a call of the command line works through it, and what the call leaves connected is there
//! for the next one. Nothing is reset in between.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use esp_link::port::PortUrl;
use esp_link::reset::Sequence;
use esp_model::port::Port;

use super::hub::Key;

/// A line with a flasher stub at its other end. Dropped, it starts the device's application.
pub(super) struct Kept {
    port: Option<Box<dyn Port>>,
    /// The device is to be reset into its application.
    to_app: bool,
}

impl Kept {
    pub(super) fn new(port: Box<dyn Port>, to_app: bool) -> Self {
        Self { port: Some(port), to_app }
    }

    /// The port, with the device as it is.
    pub(super) fn into_port(mut self) -> Option<Box<dyn Port>> {
        self.port.take()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let Some(port) = &mut self.port else { return };
        if let Some(start) = Sequence::start(&port.info()).filter(|_| self.to_app)
            && let Err(error) = start.run(&mut **port)
        {
            tracing::debug!("{} was not reset: {error}", port.info().url);
        }
    }
}

struct Entry {
    key: Key,
    kept: Kept,
    left: Instant,
}

/// The lines that wait for the next call.
#[derive(Default)]
pub(super) struct Lines(Mutex<Vec<Entry>>);

impl Lines {
    /// The line to this port, if the last call left it connected.
    pub(super) fn take(&self, url: &PortUrl) -> Option<Kept> {
        let key = Key::of(url);
        let mut entries = self.lock();
        let at = entries.iter().position(|entry| entry.key == key)?;
        Some(entries.swap_remove(at).kept)
    }

    /// Starts the device's application, as nobody goes on where the last call ended.
    pub(super) fn forget(&self, url: &PortUrl) {
        drop(self.take(url));
    }

    /// No line waits.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Keeps a line for `idle`.
    pub(super) fn keep(self: &Arc<Self>, url: &PortUrl, kept: Kept, idle: Duration) {
        let left = Instant::now();
        self.lock().push(Entry { key: Key::of(url), kept, left });
        let (lines, key) = (self.clone(), Key::of(url));
        std::thread::spawn(move || {
            std::thread::sleep(idle);
            let mut entries = lines.lock();
            let at = entries.iter().position(|entry| entry.key == key && entry.left == left);
            // Resetting takes time: outside of the lock.
            let old = at.map(|at| entries.swap_remove(at));
            drop(entries);
            drop(old);
        });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error of a line that is not open.
pub(super) fn not_lent() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "no line is lent")
}
