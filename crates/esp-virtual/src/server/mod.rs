//! The one server of virtual chips: an engine, the lines that lead to it, and one thread that drives both.
//!
//! [`host`] serves a virtual device that a [`crate::Manager`] started; [`single`] serves one chip in the foreground.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};

use crate::engine::Engine;
use crate::log::Log;
use control::{Answer, Ask};
use debug::{Debugger, Line};
use lines::Client;

pub mod control;
mod debug;
pub mod host;
pub mod lines;
#[cfg(unix)]
mod pty;
pub mod single;

/// What happens to a server, in the order it happened.
pub(crate) enum Event {
    /// The engine has something.
    Wake,
    /// A client connected.
    Joined(Client),
    /// A client left.
    Left(u64),
    /// A client wants this done; the sender learns when it is.
    Ordered(Vec<Order>, Sender<()>),
    /// A debugger's line.
    Debugger(Line),
    /// A question or command on the control line.
    Asked(Ask, Sender<Answer>),
    /// Nobody needs the server any more: its starter ended, or a signal came.
    Stop,
}

/// What a client wants of the chip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// Bytes for the chip.
    Data(Vec<u8>),
    /// Both modem lines; `true` asserts.
    Lines { dtr: bool, rts: bool },
    /// The line rate that the client set, in baud.
    Baud(u32),
    /// The rate of a line where both ends always agree.
    #[cfg_attr(not(unix), expect(dead_code, reason = "only pseudo terminals are such lines"))]
    AgreedBaud(u32),
}

/// What a server leaves to its caller.
pub(crate) enum Request {
    /// A question or command on the control line.
    Asked(Ask, Sender<Answer>),
    /// End.
    Stop,
}

/// An engine and its clients.
pub(crate) struct Server {
    pub engine: Box<dyn Engine>,
    /// What the chip has sent.
    pub console: Log,
    clients: Vec<Client>,
    debugger: Debugger,
    events: Receiver<Event>,
}

impl Server {
    /// A server of `engine` that keeps `console_limit` bytes of what the chip sends.
    pub fn new(engine: Box<dyn Engine>, events: Receiver<Event>, console_limit: usize) -> Self {
        Self { engine, console: Log::new(console_limit), clients: Vec::new(), debugger: Debugger::default(), events }
    }

    /// Passes on what the chip has sent, then waits for the next event and handles it, if it concerns the chip's lines.
    pub fn step(&mut self) -> Option<Request> {
        let mut sent = Vec::new();
        let wait = self.engine.poll(&mut sent);
        if !sent.is_empty() {
            self.console.push(&sent);
            self.clients.retain_mut(|client| client.send(&sent));
        }
        self.debugger.poll(self.engine.as_mut());
        if self.engine.is_gone() {
            return Some(Request::Stop);
        }
        match self.events.recv_timeout(wait) {
            Ok(Event::Wake) | Err(RecvTimeoutError::Timeout) => None,
            Ok(Event::Joined(client)) => {
                match client.agreed_baud {
                    Some(baud) => self.engine.agree_baud(baud),
                    // Not the rate of the client before.
                    None if self.clients.is_empty() => self.engine.set_baud(lines::FIRST_BAUD),
                    None => {}
                }
                self.clients.push(client);
                None
            }
            Ok(Event::Left(id)) => {
                self.clients.retain(|client| client.id != id);
                if self.clients.is_empty() {
                    self.engine.left();
                    // The console that is kept hears the chip at its own rate again.
                    self.engine.set_baud(lines::FIRST_BAUD);
                }
                None
            }
            Ok(Event::Ordered(orders, done)) => {
                orders.into_iter().for_each(|order| self.order(order));
                let _ = done.send(());
                None
            }
            Ok(Event::Debugger(line)) => {
                self.debugger.take(line, self.engine.as_mut());
                None
            }
            Ok(Event::Asked(ask, answer)) => Some(Request::Asked(ask, answer)),
            Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => Some(Request::Stop),
        }
    }

    fn order(&mut self, order: Order) {
        // A chip that takes no bytes or lines is reported by `state`, as a dead board is by its silence.
        match order {
            Order::Data(bytes) => drop(self.engine.write(&bytes)),
            Order::Lines { dtr, rts } => drop(self.engine.set_lines(dtr, rts)),
            Order::Baud(baud) => self.engine.set_baud(baud),
            Order::AgreedBaud(baud) => self.engine.agree_baud(baud),
        }
    }
}
