//! A line that the user's daemon lends, as this process uses it.

use std::io::{self, BufReader, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use esp_model::port::{Port, PortInfo};

use super::daemon::{self, Connection};
use super::wire::{self, Answer, Ask, Move};

/// Longest wait in one request: how long the daemon is busy with it.
const SLICE: Duration = Duration::from_secs(1);

/// The line; given back when the last handle goes.
#[derive(Clone)]
pub struct Line {
    connection: Arc<Mutex<BufReader<Connection>>>,
    info: PortInfo,
    baud: u32,
    /// A stub runs there since an earlier call, at the line's rate.
    pub is_warm: bool,
}

impl Line {
    pub(super) fn new(connection: BufReader<Connection>, info: PortInfo, baud: u32, is_warm: bool) -> Self {
        Self { connection: Arc::new(Mutex::new(connection)), info, baud, is_warm }
    }

    /// Another handle of the port.
    pub fn port(&self) -> Box<dyn Port> {
        Box::new(LinePort { line: self.clone(), baud: self.baud, begin: Instant::now() })
    }

    /// The rate of a line that is warm, in baud.
    pub fn baud(&self) -> u32 {
        self.baud
    }

    /// Leaves the stub running for the next call, for this time. `to_app`: the device is then reset into its application.
    pub fn leave(&self, to_app: bool, idle: Duration) {
        // A daemon that died has closed the port.
        let _ = self.ask(Move::Leave { to_app, idle_ms: idle.as_millis() as u64 }, &[], &mut []);
    }

    /// One request, with the bytes that go with it; the bytes that come back land in `into`.
    fn ask(&self, what: Move, bytes: &[u8], into: &mut [u8]) -> io::Result<usize> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let head = serde_json::to_vec(&Ask::Line(what))?;
        let mut message = Vec::with_capacity(head.len() + 1 + bytes.len());
        message.extend(head);
        message.push(b'\n');
        message.extend(bytes);
        connection.get_mut().write_all(&message)?;
        match daemon::answer(&mut connection)? {
            Answer::Bytes { count } => {
                let into = into.get_mut(..count).ok_or(io::ErrorKind::InvalidData)?;
                connection.read_exact(into)?;
                Ok(count)
            }
            Answer::Refused { kind, why } => Err(wire::refused(&kind, why)),
            Answer::Done => Ok(0),
            other => Err(io::Error::other(format!("the daemon answered {other:?}"))),
        }
    }
}

struct LinePort {
    line: Line,
    baud: u32,
    begin: Instant,
}

impl Port for LinePort {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.line.ask(Move::Write { count: bytes.len() }, bytes, &mut []).map(drop)
    }

    fn read(&mut self, buf: &mut [u8], wait: Duration) -> io::Result<usize> {
        let until = Instant::now() + wait;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let wait_us = left.min(SLICE).as_micros() as u64;
            match self.line.ask(Move::Read { most: buf.len(), wait_us }, &[], buf)? {
                0 if left > SLICE => {}
                count => return Ok(count),
            }
        }
    }

    fn set_lines(&mut self, dtr: bool, rts: bool) -> io::Result<()> {
        self.line.ask(Move::Lines { dtr, rts }, &[], &mut []).map(drop)
    }

    fn set_baud(&mut self, baud: u32) -> io::Result<()> {
        self.line.ask(Move::Baud { baud }, &[], &mut [])?;
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
        self.begin.elapsed()
    }

    fn info(&self) -> PortInfo {
        self.line.info.clone()
    }

    fn send_break(&mut self, time: Duration) -> io::Result<()> {
        self.line.ask(Move::Break { ms: time.as_millis() as u64 }, &[], &mut []).map(drop)
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.line.ask(Move::Reopen, &[], &mut []).map(drop)
    }
}
