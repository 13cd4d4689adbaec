//! A board for other computers: RFC 2217 in front of its port, for one client at a time.
//!
//! The port is held only while a client is connected: in between it is free for work here, and a console that is open
//! on it pauses for a client as for any other work.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use esp_link::port::PortUrl;
use esp_link::port::rfc2217::server::{Event, Session};
use esp_link::port::rfc2217::token;
use esp_model::job::Job;
use esp_model::port::Port;

use crate::Call;
use crate::error::{Code, ToolError};

mod lines;

use lines::Lines;

/// Longest wait for bytes of the board: how late bytes of the client go on.
const SLICE: Duration = Duration::from_millis(2);
/// How long a client may take to answer the challenge.
const PROOF: Duration = Duration::from_secs(5);
/// A client may stall for so long before it is dropped.
const STALL: Duration = Duration::from_secs(10);
/// How long a client is waited for that may be leaving.
const GOODBYE: Duration = Duration::from_secs(1);
/// Time between two looks for a new client.
const LOOK: Duration = Duration::from_millis(50);

/// A shared board.
pub struct Share<'c> {
    call: &'c Call,
    port: PortUrl,
    token: Option<String>,
    /// What clients are told that it is: chip and MAC.
    name: String,
    busy: Arc<Mutex<Option<(SocketAddr, Instant)>>>,
}

/// What happens, for people.
pub type Said<'s> = dyn FnMut(&str) + 's;

impl<'c> Share<'c> {
    /// Asks the board who it is. `token`: what clients have to prove that they have.
    pub fn new(call: &'c Call, port: Option<&PortUrl>, token: Option<String>, job: &Job) -> Result<Self, ToolError> {
        let url = call.find_port(port, job)?;
        let name = call.with_device(Some(&url), job, |connected| {
            let mac = connected.identify(job)?.map(|found| found.mac.to_string());
            Ok(format!("{} {}", connected.loader.chip().name, mac.as_deref().unwrap_or("of unknown MAC")))
        })?;
        // The application starts again, and the port is free until a client comes.
        call.devices.sessions.forget(&call.consoles.lease_key(&url));
        Ok(Self { call, port: url, token, name, busy: Arc::default() })
    }

    /// Chip and MAC.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Serves clients until `job` is cancelled.
    pub fn serve(&self, listener: &TcpListener, job: &Job, said: &mut Said<'_>) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        std::thread::scope(|scope| {
            let (sender, events) = channel::<String>();
            while job.check().is_ok() {
                events.try_iter().for_each(|text| said(&text));
                match listener.accept() {
                    Ok((stream, peer)) => {
                        let sender = sender.clone();
                        scope.spawn(move || {
                            let _ = sender.send(self.client(stream, peer, job));
                        });
                    }
                    // Nobody, or one that has gone again.
                    Err(_) => std::thread::sleep(LOOK),
                }
            }
            Ok(())
        })
    }

    /// One client, from its first byte to its last. Gives what is to be said of it.
    fn client(&self, mut stream: TcpStream, peer: SocketAddr, job: &Job) -> String {
        let prepared = stream.set_nonblocking(false).and_then(|()| stream.set_nodelay(true));
        if let Err(error) = prepared.and_then(|()| stream.set_write_timeout(Some(STALL))) {
            return format!("{peer}: {error}");
        }
        if let Some((other, since)) = self.take_soon(peer) {
            let text = format!("{} is in use by {other} for {} s\r\n", self.name, since.elapsed().as_secs());
            let _ = stream.write_all(text.as_bytes());
            return format!("{peer} was sent away: {other} has the board");
        }
        let ended = self.served(&mut stream, peer, job);
        *self.busy.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if let Err(error) = &ended {
            let _ = stream.write_all(format!("{error}\r\n").as_bytes());
        }
        let _ = stream.shutdown(Shutdown::Both);
        match ended {
            Ok(()) => format!("{peer} has left"),
            Err(error) => format!("{peer}: {error}"),
        }
    }

    /// The same, once the client before has left: on a slow network its goodbye may arrive after the next one's greeting.
    fn take_soon(&self, peer: SocketAddr) -> Option<(SocketAddr, Instant)> {
        let until = Instant::now() + GOODBYE;
        loop {
            let other = self.take(peer);
            if other.is_none() || Instant::now() >= until {
                return other;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Gives the board to this client, or says who has it.
    fn take(&self, peer: SocketAddr) -> Option<(SocketAddr, Instant)> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if busy.is_none() {
            *busy = Some((peer, Instant::now()));
            return None;
        }
        *busy
    }

    fn served(&self, stream: &mut TcpStream, peer: SocketAddr, job: &Job) -> Result<(), ToolError> {
        let failed = |error: io::Error| ToolError::new(Code::PortLost, error.to_string());
        let mut session = Session::new(115_200);
        stream.write_all(&session.greeting()).map_err(failed)?;
        let received = receive(stream.try_clone().map_err(failed)?);
        // Bytes that came with the proof are looked at afterwards.
        let early = self.admit(stream, &mut session, &received)?;
        let call = self.call.for_client(&peer.to_string());
        let (mut lease, url) = call.lease_port(Some(&self.port), job)?;
        drop(lease.warm.take());
        let port = self.call.ports.open(&url)?;
        let mut relay = Relay { port, lines: Lines::default(), name: &self.name };
        relay.apply(early, stream).map_err(failed)?;
        relay.run(stream, &mut session, &received, job).map_err(failed)
    }

    /// Waits until the client has proved that it has the token. Gives what it wants already.
    fn admit(
        &self,
        stream: &mut TcpStream,
        session: &mut Session,
        received: &Receiver<Vec<u8>>,
    ) -> Result<Vec<Event>, ToolError> {
        let failed = |error: io::Error| ToolError::new(Code::PortLost, error.to_string());
        let Some(token) = &self.token else { return Ok(Vec::new()) };
        let nonce = esp_model::hex::encode(random()?);
        stream.write_all(&Session::signature(&token::challenge(&nonce))).map_err(failed)?;
        let until = Instant::now() + PROOF;
        let mut events = Vec::new();
        while let Ok(bytes) = received.recv_timeout(until.saturating_duration_since(Instant::now())) {
            let (mut answer, mut is_proved) = (Vec::new(), false);
            for event in session.receive(&bytes, &mut answer) {
                match event {
                    Event::Signature(text) => is_proved |= token::is_proof(token, &nonce, &text),
                    other => events.push(other),
                }
            }
            stream.write_all(&answer).map_err(failed)?;
            if is_proved {
                return Ok(events);
            }
        }
        Err(ToolError::new(
            Code::PolicyRefused,
            "this board wants a token, and the client has not shown that it has it",
        )
        .next("set share_token_file in the configuration of the client"))
    }
}

/// Thirty-two bytes that nobody can guess.
fn random() -> Result<[u8; 32], ToolError> {
    crate::random::with(|fill| {
        let mut bytes = [0; 32];
        fill(&mut bytes);
        bytes
    })
}

/// What a client sends, piece by piece, until it ends.
fn receive(mut stream: TcpStream) -> Receiver<Vec<u8>> {
    let (sender, received) = channel();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            if sender.send(buffer.get(..count).unwrap_or_default().to_vec()).is_err() {
                return;
            }
        }
    });
    received
}

/// A client and the port.
struct Relay<'n> {
    port: Box<dyn Port>,
    lines: Lines,
    name: &'n str,
}

impl Relay<'_> {
    fn run(
        &mut self,
        stream: &mut TcpStream,
        session: &mut Session,
        received: &Receiver<Vec<u8>>,
        job: &Job,
    ) -> io::Result<()> {
        let mut buffer = vec![0; 16 * 1024];
        while job.check().is_ok() {
            loop {
                match received.try_recv() {
                    Ok(bytes) => {
                        let mut answer = Vec::new();
                        let events = session.receive(&bytes, &mut answer);
                        self.apply(events, stream)?;
                        // What it confirms is done by then.
                        stream.write_all(&answer)?;
                    }
                    Err(std::sync::mpsc::TryRecvError::Empty) => break,
                    Err(std::sync::mpsc::TryRecvError::Disconnected) => return Ok(()),
                }
            }
            self.settle_lines()?;
            let count = self.read(&mut buffer)?;
            if let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) {
                stream.write_all(&session.encode(bytes))?;
            }
        }
        Ok(())
    }

    /// A device with built-in USB leaves the bus at a reset: its client waits.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.port.read(buffer, SLICE) {
            Err(_) => {
                self.port.reopen()?;
                self.port.read(buffer, SLICE)
            }
            read => read,
        }
    }

    fn settle_lines(&mut self) -> io::Result<()> {
        match self.lines.due(Instant::now()) {
            Some((dtr, rts)) => self.set_lines(dtr, rts),
            None => Ok(()),
        }
    }

    /// A port without modem lines is as good as one whose lines lead nowhere.
    fn set_lines(&mut self, dtr: bool, rts: bool) -> io::Result<()> {
        match self.port.set_lines(dtr, rts) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            done => done,
        }
    }

    fn apply(&mut self, events: Vec<Event>, stream: &mut TcpStream) -> io::Result<()> {
        for event in events {
            match event {
                Event::Data(bytes) => {
                    if let Some((dtr, rts)) = self.lines.now() {
                        self.set_lines(dtr, rts)?;
                    }
                    self.port.write(&bytes)?;
                }
                Event::Lines { dtr, rts } => {
                    if let Some((dtr, rts)) = self.lines.want(dtr, rts, Instant::now()) {
                        self.set_lines(dtr, rts)?;
                    }
                }
                // pyserial says it again with each of its settings, and a line may be disturbed by that.
                Event::Baud(baud) if baud == self.port.baud() => {}
                // A rate that the line cannot do leaves it at its own, as on a cable.
                Event::Baud(baud) => drop(self.port.set_baud(baud)),
                Event::Signature(text) if text.is_empty() => {
                    stream.write_all(&Session::signature(&format!("mcp-esptool share: {}", self.name)))?;
                }
                Event::Signature(_) => {}
                Event::Purge { received, .. } => {
                    let mut buffer = [0; 4096];
                    while received && self.port.read(&mut buffer, Duration::ZERO)? > 0 {}
                }
            }
        }
        Ok(())
    }
}
