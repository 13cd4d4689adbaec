//! One console: a thread that holds the port, and what it has heard. The thread gives the port to any other call that
//! wants it and takes it back afterwards.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use esp_link::port::PortUrl;
use esp_model::job::Job;
use esp_model::mac::Mac;
use esp_model::port::PortInfo;
use serde::{Deserialize, Serialize};

use super::pump::Pump;
use super::ring::{Piece, Ring};
use crate::error::{Code, ToolError};
use crate::session::device::Devices;
use crate::session::ports::Ports;

/// Longest wait for an order to be carried out: a reset of built-in USB takes half a second.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a console does just now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum State {
    /// It hears the device.
    #[default]
    Listening,
    /// Other work has the port; it is taken back afterwards.
    Paused {
        /// Whose work.
        by: String,
    },
    /// The device left; it is looked for.
    Gone {
        /// What the port said.
        why: String,
    },
    /// It has ended.
    Closed,
}

/// What can be said of a console without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The session: a console that is opened again has another one.
    pub session: String,
    /// The port's URL.
    pub url: String,
    /// What it does just now.
    pub state: State,
    /// Bytes that came in all.
    pub end: u64,
    /// Line rate.
    pub baud: u32,
    /// Times the device left and came back.
    pub returns: u32,
    /// The device's base MAC, where it was asked for.
    pub mac: Option<Mac>,
    /// The file with everything.
    pub log: Option<PathBuf>,
    /// Readers that are connected.
    pub readers: usize,
    /// Process that holds it.
    pub pid: u32,
    /// DTR and RTS reach the device.
    pub modem_lines: bool,
    /// The device is simulated or emulated.
    pub is_virtual: bool,
    /// USB vendor and product id.
    pub usb: Option<(u16, u16)>,
}

/// What a console is opened with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Wish {
    /// The port's URL.
    pub url: String,
    /// Line rate.
    pub baud: u32,
    /// Reset the device first.
    pub reset: bool,
    /// The device's base MAC, where it was asked for.
    pub mac: Option<Mac>,
    /// It goes on when its last reader leaves.
    pub keep: bool,
    /// The file for everything.
    pub log: PathBuf,
}

/// What a reader may want done on the line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Bytes for the device.
    Write(Vec<u8>),
    /// Both modem lines; `true` asserts.
    Lines {
        /// DTR.
        dtr: bool,
        /// RTS.
        rts: bool,
    },
    /// The line rate.
    Baud(u32),
    /// The pulse that starts the app, heard from its first byte.
    Reset,
    /// The sequence that leads into the loader.
    Bootloader,
    /// A break of this many milliseconds.
    Break(u64),
}

/// An order and who waits for it.
pub(super) type Asked = (Order, Sender<io::Result<()>>);

/// A console. It ends when it is closed, and when its last reader leaves unless it is kept.
pub struct Session {
    /// Its name: cursors of another session do not fit.
    pub id: String,
    /// The port.
    pub url: PortUrl,
    mac: Option<Mac>,
    began: Instant,
    pub(super) stop: Job,
    shared: Mutex<Shared>,
    changed: Condvar,
    orders: Mutex<Sender<Asked>>,
    readers: AtomicUsize,
    keep: AtomicBool,
    /// The device is to be reset when the port is taken back.
    reset_next: AtomicBool,
}

#[derive(Default)]
struct Shared {
    ring: Ring,
    state: State,
    baud: u32,
    returns: u32,
    info: PortInfo,
    log: Option<PathBuf>,
}

impl Session {
    /// Opens the port and begins to listen. `job` cancels the wait for the device.
    pub fn begin(ports: &Arc<Ports>, devices: &Arc<Devices>, wish: &Wish, job: &Job) -> Result<Arc<Self>, ToolError> {
        let url: PortUrl = wish.url.parse()?;
        let (sender, orders) = channel();
        let session = Arc::new(Self {
            id: new_id()?,
            url,
            mac: wish.mac,
            began: Instant::now(),
            stop: Job::new(),
            shared: Mutex::new(Shared { baud: wish.baud, ..Shared::default() }),
            changed: Condvar::new(),
            orders: Mutex::new(sender),
            readers: AtomicUsize::new(0),
            keep: AtomicBool::new(wish.keep),
            reset_next: AtomicBool::new(false),
        });
        let pump = Pump::begin(session.clone(), ports.clone(), devices.clone(), orders, wish, job)?;
        std::thread::Builder::new()
            .name("console".into())
            .spawn(move || pump.run())
            .map_err(|error| ToolError::new(Code::Internal, format!("no thread for the console: {error}")))?;
        Ok(session)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What can be said of it.
    pub fn about(&self) -> About {
        let shared = self.lock();
        About {
            session: self.id.clone(),
            url: self.url.to_string(),
            state: shared.state.clone(),
            end: shared.ring.end(),
            baud: shared.baud,
            returns: shared.returns,
            mac: self.mac,
            log: shared.log.clone(),
            readers: self.readers.load(Ordering::Acquire),
            pid: std::process::id(),
            modem_lines: shared.info.modem_lines,
            is_virtual: shared.info.is_virtual,
            usb: shared.info.usb,
        }
    }

    /// At most `most` bytes from `from` on, waiting for the first one at most `wait`.
    pub fn read(&self, from: u64, most: usize, wait: Duration) -> (Piece, State) {
        let until = Instant::now() + wait;
        let mut shared = self.lock();
        while shared.ring.end() <= from && shared.state != State::Closed {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            shared = self.changed.wait_timeout(shared, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        (shared.ring.read(from, most), shared.state.clone())
    }

    /// Has something done on the line, and waits until it is done.
    pub fn order(&self, order: Order) -> io::Result<()> {
        match self.lock().state.clone() {
            State::Listening => {}
            State::Paused { by } => {
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, format!("the port is in use by {by}")));
            }
            State::Gone { why } => return Err(io::Error::new(io::ErrorKind::NotConnected, why)),
            State::Closed => return Err(closed()),
        }
        let (sender, done) = channel();
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        orders.send((order, sender)).map_err(|_| closed())?;
        drop(orders);
        done.recv_timeout(PATIENCE).map_err(|_| closed())?
    }

    /// Ends it.
    pub fn close(&self) {
        self.stop.cancel();
    }

    /// It ends or has ended.
    pub fn is_closed(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// It goes on when its last reader leaves.
    pub fn keep(&self) {
        self.keep.store(true, Ordering::Release);
    }

    /// The device is reset into its application when the port is taken back, heard from the first byte.
    pub fn reset_when_back(&self) {
        self.reset_next.store(true, Ordering::Release);
    }

    pub(super) fn take_reset(&self) -> bool {
        self.reset_next.swap(false, Ordering::AcqRel)
    }

    pub(super) fn hear(&self, bytes: &[u8]) {
        self.lock().ring.push(self.began.elapsed(), bytes);
        self.changed.notify_all();
    }

    pub(super) fn set_state(&self, state: State) {
        let mut shared = self.lock();
        if matches!((&shared.state, &state), (State::Gone { .. }, State::Listening)) {
            shared.returns += 1;
        }
        shared.state = state;
        drop(shared);
        self.changed.notify_all();
    }

    pub(super) fn set_line(&self, info: PortInfo, baud: u32) {
        let mut shared = self.lock();
        (shared.info, shared.baud) = (info, baud);
    }

    pub(super) fn set_log(&self, log: Option<PathBuf>) {
        self.lock().log = log;
    }

    pub(super) fn baud(&self) -> u32 {
        self.lock().baud
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the console was closed")
}

/// A reader is connected until this is dropped.
pub struct Reading(Arc<Session>);

impl Reading {
    /// Another reader.
    pub fn of(session: &Arc<Session>) -> Self {
        session.readers.fetch_add(1, Ordering::AcqRel);
        Self(session.clone())
    }

    /// What it reads.
    pub fn session(&self) -> &Arc<Session> {
        &self.0
    }
}

impl Clone for Reading {
    fn clone(&self) -> Self {
        Self::of(&self.0)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let was_last = self.0.readers.fetch_sub(1, Ordering::AcqRel) == 1;
        if was_last && !self.0.keep.load(Ordering::Acquire) {
            self.0.close();
        }
    }
}

/// A name that no other session has.
fn new_id() -> Result<String, ToolError> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes)
        .map_err(|error| ToolError::new(Code::Internal, format!("no random numbers: {error}")))?;
    Ok(format!("{:08x}", u32::from_be_bytes(bytes)))
}
