//! The serial line of a virtual device on TCP: plain, and as RFC 2217 with rate and modem lines.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::QemuError;
use super::host::Event;
use crate::port::rfc2217::server::{Event as Ordered, Session};
use crate::port::rfc2217::telnet;

/// Which protocol a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Bytes only.
    Plain,
    /// RFC 2217.
    Rfc2217,
}

/// A client may stand still for so long before it is dropped: one that reads nothing must not hold up the chip.
const STALL: Duration = Duration::from_secs(2);
/// pyserial waits three seconds for the confirmation of a modem line; a restart may take longer.
const CONFIRM: Duration = Duration::from_secs(2);

/// Listens on loopback; any free port without `port`.
pub(super) fn listen(port: Option<u16>) -> Result<TcpListener, QemuError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port.unwrap_or(0))).map_err(|error| match port {
        Some(port) if error.kind() == io::ErrorKind::AddrInUse => QemuError::PortTaken(port),
        _ => QemuError::Host(format!("cannot listen: {error}")),
    })
}

/// One connected client, as the host sees it.
pub(super) struct Client {
    pub(super) id: u64,
    line: Arc<Mutex<TcpStream>>,
    pub(super) protocol: Protocol,
}

impl Client {
    /// Passes on what the chip sent; false when the client is gone.
    pub(super) fn send(&self, bytes: &[u8]) -> bool {
        match self.protocol {
            Protocol::Plain => send(&self.line, bytes).is_ok(),
            Protocol::Rfc2217 => {
                let mut out = Vec::new();
                telnet::escape(bytes, &mut out);
                send(&self.line, &out).is_ok()
            }
        }
    }
}

fn send(line: &Mutex<TcpStream>, bytes: &[u8]) -> io::Result<()> {
    line.lock().unwrap_or_else(PoisonError::into_inner).write_all(bytes)
}

/// Serves clients until the process ends.
pub(super) fn serve(listener: TcpListener, protocol: Protocol, first_id: u64, events: Sender<Event>) {
    for (count, stream) in listener.incoming().flatten().enumerate() {
        let events = events.clone();
        let id = first_id + count as u64 * 2;
        std::thread::spawn(move || {
            let _ = client(stream, protocol, id, &events);
            let _ = events.send(Event::Left(id));
        });
    }
}

fn client(mut stream: TcpStream, protocol: Protocol, id: u64, events: &Sender<Event>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(STALL))?;
    let line = Arc::new(Mutex::new(stream.try_clone()?));
    let mut session = Session::new(115_200);
    if protocol == Protocol::Rfc2217 {
        send(&line, &session.greeting())?;
    }
    let gone = |_| io::Error::other("the host ends");
    events.send(Event::Joined(Client { id, line: line.clone(), protocol })).map_err(gone)?;
    let mut buf = vec![0; 64 * 1024];
    loop {
        let count = stream.read(&mut buf)?;
        let bytes = buf.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(());
        }
        let mut answer = Vec::new();
        let orders = match protocol {
            Protocol::Plain => vec![Ordered::Data(bytes.to_vec())],
            Protocol::Rfc2217 => session.receive(bytes, &mut answer),
        };
        let (done, is_done) = channel();
        events.send(Event::Ordered(orders, done)).map_err(gone)?;
        // In order with what it answers, and no faster than the chip takes it.
        let _ = is_done.recv_timeout(CONFIRM);
        send(&line, &answer)?;
    }
}
