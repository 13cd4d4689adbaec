//! The thread of a console: it alone touches the port.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use esp_link::monitor::reset_and_hear;
use esp_link::reset::Sequence;
use esp_model::job::Job;
use esp_model::port::Port;

use super::log::Log;
use super::session::{Asked, Order, Session, State, Wish};
use crate::error::{Code, ToolError};
use crate::session::device::{Devices, Warm};
use crate::session::ports::Ports;
use crate::session::sessions::Lease;

/// Longest wait for bytes: how late an order is carried out, or the port given to another call.
const SLICE: Duration = Duration::from_millis(10);
/// Time between two looks for a device that left.
const LOOK: Duration = Duration::from_millis(50);
/// What other calls see as the device's holder.
const HOLDER: &str = "the console";
/// A virtual device may run this much ahead of the clock on the wall.
const AHEAD: Duration = Duration::from_millis(5);

pub(super) struct Pump {
    session: Arc<Session>,
    ports: Arc<Ports>,
    devices: Arc<Devices>,
    orders: Receiver<Asked>,
    log: Log,
    /// The device's lock; none while other work has it.
    lease: Option<Lease<Warm>>,
    /// The line; none while the device is away.
    port: Option<Box<dyn Port>>,
    /// The line of a device that left.
    left: Option<Box<dyn Port>>,
    pace: Pace,
}

impl Pump {
    /// Gets the lock and opens the port.
    pub(super) fn begin(
        session: Arc<Session>,
        ports: Arc<Ports>,
        devices: Arc<Devices>,
        orders: Receiver<Asked>,
        wish: &Wish,
        job: &Job,
    ) -> Result<Self, ToolError> {
        let lease = devices.sessions.lease(&wish.url, HOLDER, job)?;
        let log = Log::begin(&wish.log);
        session.set_log(log.path().map(PathBuf::from));
        let pace = Pace { wall: Instant::now(), line: Duration::ZERO };
        let mut pump = Self { session, ports, devices, orders, log, lease: Some(lease), port: None, left: None, pace };
        pump.connect(wish.reset)?;
        Ok(pump)
    }

    pub(super) fn run(mut self) {
        while !self.session.is_closed() {
            match &self.lease {
                None => self.take_back(),
                Some(lease) => match lease.wanted_by() {
                    Some(by) => self.give_way(&by),
                    None if self.port.is_some() => self.listen(),
                    None => self.look(),
                },
            }
        }
        (self.port, self.left, self.lease) = (None, None, None);
        self.session.set_state(State::Closed);
    }

    /// Opens the port, or takes over the one that the call before left open with a loader on it.
    fn connect(&mut self, reset: bool) -> Result<(), ToolError> {
        let warm = self.lease.as_mut().and_then(|lease| lease.warm.take()).and_then(Warm::into_port);
        let (mut port, reset) = match warm {
            Some((port, to_app)) => (port, reset || to_app),
            None => (self.ports.open(&self.session.url)?, reset),
        };
        let failed = |error: io::Error| ToolError::new(Code::PortLost, error.to_string());
        port.set_baud(self.session.baud()).map_err(failed)?;
        self.pace.begin(&*port);
        self.session.set_line(port.info(), port.baud());
        self.session.set_state(State::Listening);
        let started = if reset { self.reset(&mut *port, Sequence::start) } else { Ok(()) };
        self.port = Some(port);
        match started {
            // A line without modem lines: whoever opened it learns that from its state.
            Err(error) if error.kind() != io::ErrorKind::Unsupported => Err(failed(error)),
            _ => Ok(()),
        }
    }

    fn give_way(&mut self, by: &str) {
        (self.port, self.left) = (None, None);
        self.session.set_state(State::Paused { by: by.into() });
        self.lease = None;
    }

    fn take_back(&mut self) {
        let key = self.session.url.to_string();
        self.lease = self.devices.sessions.lease_after_others(&key, HOLDER, LOOK);
        self.refuse_orders();
        if self.lease.is_some()
            && let Err(error) = self.connect(self.session.take_reset())
        {
            self.session.set_state(State::Gone { why: error.message });
        }
    }

    fn listen(&mut self) {
        let Some(mut port) = self.port.take() else { return };
        match self.listen_to(&mut *port) {
            Ok(()) => self.port = Some(port),
            Err(error) => {
                self.session.set_state(State::Gone { why: error.to_string() });
                self.left = Some(port);
            }
        }
    }

    fn listen_to(&mut self, port: &mut dyn Port) -> io::Result<()> {
        while let Ok((order, done)) = self.orders.try_recv() {
            let _ = done.send(self.carry_out(port, order));
        }
        let mut buffer = [0; 16 * 1024];
        let count = port.read(&mut buffer, SLICE)?;
        self.hear(buffer.get(..count).unwrap_or_default());
        self.pace.keep(port);
        Ok(())
    }

    fn hear(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.log.add(bytes);
            self.session.hear(bytes);
        }
    }

    fn carry_out(&mut self, port: &mut dyn Port, order: Order) -> io::Result<()> {
        match order {
            Order::Write(bytes) => port.write(&bytes),
            Order::Lines { dtr, rts } => port.set_lines(dtr, rts),
            Order::Baud(baud) => {
                port.set_baud(baud)?;
                self.session.set_line(port.info(), port.baud());
                Ok(())
            }
            Order::Reset => self.reset(port, Sequence::start),
            Order::Bootloader => self.reset(port, Sequence::into_loader),
            Order::Break(ms) => port.send_break(Duration::from_millis(ms.min(10_000))),
        }
    }

    fn reset(
        &mut self,
        port: &mut dyn Port,
        sequence: fn(&esp_model::port::PortInfo) -> Option<Sequence>,
    ) -> io::Result<()> {
        let unsupported =
            || io::Error::new(io::ErrorKind::Unsupported, "this line has no modem lines to reset the device with");
        let sequence = sequence(&port.info()).ok_or_else(unsupported)?;
        for (_, bytes) in reset_and_hear(port, &sequence)? {
            self.hear(&bytes);
        }
        Ok(())
    }

    /// The device left: waits a little, and looks whether it is back.
    fn look(&mut self) {
        match self.orders.recv_timeout(LOOK) {
            Ok((_, done)) => drop(done.send(Err(io::ErrorKind::NotConnected.into()))),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(LOOK),
        }
        let Some(mut port) = self.left.take() else {
            if let Err(error) = self.connect(false) {
                self.session.set_state(State::Gone { why: error.message });
            }
            return;
        };
        // Ports that never leave answer "ok" and fail again at once.
        let mut buffer = [0; 4096];
        match port.reopen().and_then(|()| port.read(&mut buffer, Duration::ZERO)) {
            Ok(count) => {
                self.session.set_state(State::Listening);
                self.hear(buffer.get(..count).unwrap_or_default());
                self.port = Some(port);
            }
            // A USB device may come back under another name, which its port knows; any other line is opened anew.
            Err(_) if port.info().usb.is_some() => self.left = Some(port),
            Err(_) => {}
        }
    }

    /// While other work has the port nothing can be done on it.
    fn refuse_orders(&mut self) {
        while let Ok((_, done)) = self.orders.try_recv() {
            let _ = done.send(Err(io::ErrorKind::ResourceBusy.into()));
        }
    }
}

/// Simulated devices have a clock of their own, which must not run away while nobody but a console listens.
struct Pace {
    wall: Instant,
    line: Duration,
}

impl Pace {
    fn begin(&mut self, port: &dyn Port) {
        (self.wall, self.line) = (Instant::now(), port.now());
    }

    fn keep(&mut self, port: &dyn Port) {
        let (wall, line) = (self.wall.elapsed(), port.now().saturating_sub(self.line));
        match line.checked_sub(wall) {
            Some(ahead) if ahead > AHEAD => std::thread::sleep(ahead.min(SLICE * 2)),
            Some(_) => {}
            // A machine that is slower than its clock does not have to hurry later.
            None => self.begin(port),
        }
    }
}
