//! The serial line of a virtual chip on TCP: plain, and as RFC 2217 with rate and modem lines.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use esp_link::port::rfc2217::server::{Event as Rfc2217Event, Session};
use esp_link::port::rfc2217::telnet;

use super::{Event, Order};
use crate::VirtualError;

/// Which protocol a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Bytes only.
    Plain,
    /// RFC 2217.
    Rfc2217,
}

/// How many clients a line has at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// One; the next waits until it is gone.
    OneByOne,
    /// Any number; all of them hear the chip.
    Many,
}

/// The rate at which a line begins, in baud.
pub(super) const FIRST_BAUD: u32 = 115_200;
/// A client may stall for so long before it is dropped: one that reads nothing must not hold up the chip.
const STALL: Duration = Duration::from_secs(2);
/// pyserial waits three seconds for the confirmation of a modem line; a restart may take longer.
const CONFIRM: Duration = Duration::from_secs(2);

/// Listens on loopback; any free port without `port`.
pub(crate) fn listen_on_loopback(port: Option<u16>) -> Result<TcpListener, VirtualError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port.unwrap_or(0))).map_err(|error| match port {
        Some(port) if error.kind() == io::ErrorKind::AddrInUse => VirtualError::PortTaken(port),
        _ => VirtualError::Host(format!("cannot listen: {error}")),
    })
}

/// Where the chip's bytes go.
pub(super) trait Outlet: Send {
    /// Sends bytes of the chip. An error ends the connection.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// One connected client, as the server sees it.
pub(crate) struct Client {
    pub(super) id: u64,
    pub(super) outlet: Box<dyn Outlet>,
    /// Its rate, where its line has none of its own.
    pub(super) agreed_baud: Option<u32>,
}

impl Client {
    /// Passes on what the chip sent; false when the client is gone.
    pub(super) fn send(&mut self, bytes: &[u8]) -> bool {
        self.outlet.send(bytes).is_ok()
    }
}

/// A connection that the chip's bytes and the answers of RFC 2217 share.
struct Connection {
    stream: Arc<Mutex<TcpStream>>,
    protocol: Protocol,
}

impl Outlet for Connection {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.protocol {
            Protocol::Plain => send(&self.stream, bytes),
            Protocol::Rfc2217 => {
                let mut out = Vec::with_capacity(bytes.len() + 16); // only IAC needs more room
                telnet::escape(bytes, &mut out);
                send(&self.stream, &out)
            }
        }
    }
}

fn send(stream: &Mutex<TcpStream>, bytes: &[u8]) -> io::Result<()> {
    stream.lock().unwrap_or_else(PoisonError::into_inner).write_all(bytes)
}

/// Serves clients until the process ends. Ids of clients are even for plain lines and odd for RFC 2217.
pub(super) fn serve(listener: &TcpListener, protocol: Protocol, sharing: Sharing, events: &Sender<Event>) {
    let first = u64::from(protocol == Protocol::Rfc2217);
    for (count, stream) in listener.incoming().flatten().enumerate() {
        let events = events.clone();
        let id = first + count as u64 * 2;
        let serve_client = move || {
            // A client that breaks its connection is no reason to stop serving.
            let _ = client(stream, protocol, id, &events);
            let _ = events.send(Event::Left(id));
        };
        match sharing {
            Sharing::OneByOne => serve_client(),
            Sharing::Many => drop(std::thread::spawn(serve_client)),
        }
    }
}

fn client(mut stream: TcpStream, protocol: Protocol, id: u64, events: &Sender<Event>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(STALL))?;
    let shared = Arc::new(Mutex::new(stream.try_clone()?));
    let mut session = Session::new(FIRST_BAUD);
    if protocol == Protocol::Rfc2217 {
        send(&shared, &session.greeting())?;
    }
    let outlet = Box::new(Connection { stream: shared.clone(), protocol });
    let agreed_baud = (protocol == Protocol::Plain).then_some(FIRST_BAUD);
    events.send(Event::Joined(Client { id, outlet, agreed_baud })).map_err(ended)?;
    let mut buf = vec![0; 64 * 1024];
    loop {
        let count = match stream.read(&mut buf) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            count => count?,
        };
        let bytes = buf.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(());
        }
        let mut answer = Vec::new();
        let orders = match protocol {
            Protocol::Plain => vec![Order::Data(bytes.to_vec())],
            Protocol::Rfc2217 => session.receive(bytes, &mut answer).into_iter().filter_map(from_rfc2217).collect(),
        };
        // In order with what it answers, and no faster than the chip takes it.
        order(orders, events)?;
        if !answer.is_empty() {
            send(&shared, &answer)?;
        }
    }
}

/// Has the chip do something, and waits until it is done.
pub(super) fn order(orders: Vec<Order>, events: &Sender<Event>) -> io::Result<()> {
    let (done, is_done) = channel();
    events.send(Event::Ordered(orders, done)).map_err(ended)?;
    let _ = is_done.recv_timeout(CONFIRM);
    Ok(())
}

fn from_rfc2217(event: Rfc2217Event) -> Option<Order> {
    match event {
        Rfc2217Event::Data(bytes) => Some(Order::Data(bytes)),
        Rfc2217Event::Lines { dtr, rts } => Some(Order::Lines { dtr, rts }),
        Rfc2217Event::Baud(baud) => Some(Order::Baud(baud)),
        // Whoever wants to know what this is, or has a token, is served without it.
        Rfc2217Event::Signature(_) => None,
        Rfc2217Event::Purge { .. } => None, // nothing waits here: bytes go on at once in both directions
    }
}

/// The server is gone: nothing is left to talk to.
pub(super) fn ended<T>(_: T) -> io::Error {
    io::Error::other("the server has ended")
}
