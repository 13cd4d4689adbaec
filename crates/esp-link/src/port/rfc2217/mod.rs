//! A serial port over TCP (RFC 2217): line rate and modem lines travel with the bytes.
//!
//! [`Rfc2217Port`] is the client; [`server::Session`] is what a server needs, without any I/O.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use esp_model::port::{Port, PortInfo};

use super::OpenOptions;
use super::error::{PortError, stuck};
use super::lock::DeviceLock;
use super::serial::locked;
use super::tcp::{Wire, lock};
use super::url::{Endpoint, PortUrl};
use telnet::{Decoder, Item, Verb, option};

pub mod server;
pub mod telnet;
pub mod token;

/// Commands of the COM-PORT-OPTION (RFC 2217, section 3), client to server. The server's answer is 100 more.
pub mod command {
    /// Text: what the other side is. A server with a token sends its challenge by it, and is answered by it.
    pub const SIGNATURE: u8 = 0;
    /// Four bytes, baud, most significant first.
    pub const SET_BAUDRATE: u8 = 1;
    /// One byte, bits.
    pub const SET_DATASIZE: u8 = 2;
    /// One byte; 1 is none.
    pub const SET_PARITY: u8 = 3;
    /// One byte; 1 is one stop bit.
    pub const SET_STOPSIZE: u8 = 4;
    /// One byte, of [`super::control`].
    pub const SET_CONTROL: u8 = 5;
    /// One byte, the state of CTS, DSR, RI and CD (high half) and what changed (low half); from the server only.
    pub const NOTIFY_MODEMSTATE: u8 = 7;
    /// The receiver of this is to stop sending data.
    pub const FLOW_SUSPEND: u8 = 8;
    /// The receiver of this may go on.
    pub const FLOW_RESUME: u8 = 9;
    /// One byte: 1 what was received, 2 what is to be sent, 3 both.
    pub const PURGE_DATA: u8 = 12;
    /// Added to a command in the server's answer.
    pub const ANSWER: u8 = 100;
}

/// Values of `SET_CONTROL`.
pub mod control {
    /// No flow control.
    pub const FLOW_NONE: u8 = 1;
    /// Begin a break.
    pub const BREAK_ON: u8 = 5;
    /// End it.
    pub const BREAK_OFF: u8 = 6;
    /// What is DTR?
    pub const DTR_QUERY: u8 = 7;
    /// Assert DTR.
    pub const DTR_ON: u8 = 8;
    /// Release DTR.
    pub const DTR_OFF: u8 = 9;
    /// What is RTS?
    pub const RTS_QUERY: u8 = 10;
    /// Assert RTS.
    pub const RTS_ON: u8 = 11;
    /// Release RTS.
    pub const RTS_OFF: u8 = 12;
}

/// How long a server may take to confirm a modem line. Espressif's `esp_rfc2217_server` confirms none.
const LINE_ANSWER: Duration = Duration::from_millis(500);
const BULK: usize = 64 * 1024;
/// Bytes of the line that are kept while the server is asked something; seconds of the fastest line.
const DATA_LIMIT: usize = 4 << 20;
/// Answers that are kept until they are looked at; what is asked at once has fewer.
const ANSWER_LIMIT: usize = 256;

/// A serial port behind an RFC 2217 server.
pub struct Rfc2217Port {
    wire: Wire,
    decoder: Decoder,
    data: VecDeque<u8>,
    /// Answers and requests of the server not looked at yet.
    answers: Vec<(u8, Vec<u8>)>,
    agreed: Option<bool>,
    /// What the server wants answered with the token.
    challenge: Option<String>,
    suspended: bool,
    lines: [Option<bool>; 2],
    confirms_lines: bool,
    url: String,
    is_virtual: bool,
    baud: u32,
    options: OpenOptions,
    opened: Instant,
    bulk: Vec<u8>,
    _lock: Option<DeviceLock>,
}

impl Rfc2217Port {
    /// Connects to the server at `at` and sets `options.baud`, eight bits, no parity, one stop bit, no flow control.
    pub fn open(at: &Endpoint, options: &OpenOptions) -> Result<Self, PortError> {
        let url = PortUrl::Rfc2217(at.clone()).to_string();
        let lock = lock(at, options).map_err(|error| locked(&url, error))?;
        let wire = Wire::connect(at, options).map_err(|source| PortError::Unreachable { url: url.clone(), source })?;
        let mut port = Self {
            wire,
            decoder: Decoder::default(),
            data: VecDeque::new(),
            answers: Vec::new(),
            agreed: None,
            challenge: None,
            suspended: false,
            lines: [None; 2],
            confirms_lines: true,
            url,
            is_virtual: false,
            baud: options.baud,
            options: options.clone(),
            opened: Instant::now(),
            bulk: vec![0; BULK],
            _lock: lock,
        };
        port.greet().map_err(|error| PortError::Rfc2217 { url: port.url.clone(), what: error.to_string() })?;
        Ok(port)
    }

    /// The same port as the line of a virtual device that the user knows as `url`.
    pub fn as_virtual(mut self, url: String) -> Self {
        (self.url, self.is_virtual) = (url, true);
        self
    }

    fn greet(&mut self) -> io::Result<()> {
        let mut out = Vec::new();
        for option in [option::BINARY, option::SUPPRESS_GO_AHEAD, option::COM_PORT] {
            telnet::negotiate(Verb::Will, option, &mut out);
        }
        for option in [option::BINARY, option::SUPPRESS_GO_AHEAD] {
            telnet::negotiate(Verb::Do, option, &mut out);
        }
        self.wire.write(&out)?;
        let until = Instant::now() + self.options.connect;
        while self.agreed.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.pump(left)?;
        }
        match self.agreed {
            Some(true) => {}
            Some(false) => return Err(io::Error::other("the server refuses the COM-PORT option")),
            None => return Err(io::Error::other("no answer to the COM-PORT option; another client may be using it")),
        }
        let mut out = Vec::new();
        for (command, value) in [
            (command::SET_DATASIZE, 8),
            (command::SET_PARITY, 1),
            (command::SET_STOPSIZE, 1),
            (command::SET_CONTROL, control::FLOW_NONE),
        ] {
            telnet::sub(option::COM_PORT, &[command, value], &mut out);
        }
        self.wire.write(&out)?;
        self.set_baud(self.options.baud)
    }

    /// Answers the server's challenge, where it has one: the token itself does not travel.
    fn prove(&mut self) -> io::Result<()> {
        let Some(challenge) = self.challenge.take() else { return Ok(()) };
        let what = "the server wants a token: put it into a file and name that in the setting share_token_file";
        let token = self.options.token.as_ref();
        let token = token.ok_or_else(|| io::Error::new(io::ErrorKind::PermissionDenied, what))?;
        let mut body = vec![command::SIGNATURE];
        body.extend_from_slice(token::proof(token, &challenge).as_bytes());
        let mut out = Vec::new();
        telnet::sub(option::COM_PORT, &body, &mut out);
        self.wire.write(&out)
    }

    /// Takes in what the server sends, waiting at most `wait` for it.
    fn pump(&mut self, wait: Duration) -> io::Result<()> {
        let count = self.wire.read(&mut self.bulk, wait)?;
        let items = self.decoder.push(self.bulk.get(..count).unwrap_or_default());
        for item in items {
            match item {
                Item::Data(data) if self.data.len() + data.len() > DATA_LIMIT => {
                    let what = format!("more than {DATA_LIMIT} bytes came before the server answered");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                }
                Item::Data(data) => self.data.extend(data),
                Item::Negotiate(verb, option) => self.negotiate(verb, option)?,
                Item::Sub(option::COM_PORT, body) => {
                    self.told(&body);
                    // It may come at any time after the greeting.
                    self.prove()?;
                }
                Item::Sub(..) => {}
            }
        }
        Ok(())
    }

    fn negotiate(&mut self, verb: Verb, option: u8) -> io::Result<()> {
        let wanted = [option::BINARY, option::SUPPRESS_GO_AHEAD, option::COM_PORT].contains(&option);
        match (verb, option) {
            (Verb::Do | Verb::Will, option::COM_PORT) => self.agreed = Some(true),
            (Verb::Dont, option::COM_PORT) => self.agreed = Some(false),
            _ => {}
        }
        let refusal = match verb {
            Verb::Do if !wanted => Verb::Wont,
            Verb::Will if !wanted => Verb::Dont,
            _ => return Ok(()), // what is wanted was said at the beginning
        };
        let mut out = Vec::new();
        telnet::negotiate(refusal, option, &mut out);
        self.wire.write(&out)
    }

    fn told(&mut self, body: &[u8]) {
        let Some((&command, value)) = body.split_first() else { return };
        match command.checked_sub(command::ANSWER) {
            Some(command::SIGNATURE) => self.challenge = token::challenge_in(value).map(str::to_owned),
            Some(command::FLOW_SUSPEND) => self.suspended = true,
            Some(command::FLOW_RESUME) => self.suspended = false,
            Some(of @ (command::SET_BAUDRATE | command::SET_CONTROL)) if self.answers.len() < ANSWER_LIMIT => {
                self.answers.push((of, value.to_vec()))
            }
            _ => {}
        }
    }

    /// Sends a command and waits for the answer that `wanted` accepts.
    fn ask(
        &mut self,
        messages: &[Vec<u8>],
        wait: Duration,
        mut done: impl FnMut(u8, &[u8]) -> bool,
    ) -> io::Result<bool> {
        self.answers.clear();
        let mut out = Vec::new();
        for message in messages {
            telnet::sub(option::COM_PORT, message, &mut out);
        }
        self.wire.write(&out)?;
        let until = Instant::now() + wait;
        loop {
            for (command, value) in std::mem::take(&mut self.answers) {
                if done(command, &value) {
                    return Ok(true);
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            self.pump(left)?;
        }
    }
}

impl Port for Rfc2217Port {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let until = Instant::now() + self.options.write_stall;
        while self.suspended {
            if Instant::now() >= until {
                return Err(stuck(0, bytes.len()));
            }
            self.pump(Duration::from_millis(50))?;
        }
        let mut out = Vec::new();
        telnet::escape(bytes, &mut out);
        self.wire.write(&out)
    }

    fn read(&mut self, buf: &mut [u8], wait: Duration) -> io::Result<usize> {
        let until = Instant::now() + wait;
        while self.data.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            self.pump(left)?;
            if left.is_zero() && self.data.is_empty() {
                return Ok(0);
            }
        }
        io::Read::read(&mut self.data, buf)
    }

    /// Sends what changes, DTR first, and waits until the server confirms it: the time between two calls is then the
    /// time between two states of the lines, however long the network takes.
    fn set_lines(&mut self, dtr: bool, rts: bool) -> io::Result<()> {
        let values = [
            (0, dtr, if dtr { control::DTR_ON } else { control::DTR_OFF }),
            (1, rts, if rts { control::RTS_ON } else { control::RTS_OFF }),
        ];
        let changed: Vec<u8> = values
            .iter()
            .filter(|(line, on, _)| self.lines.get(*line).copied().flatten() != Some(*on))
            .map(|(.., value)| *value)
            .collect();
        if changed.is_empty() {
            return Ok(());
        }
        let messages: Vec<Vec<u8>> = changed.iter().map(|value| vec![command::SET_CONTROL, *value]).collect();
        let mut open = changed;
        let wait = if self.confirms_lines { LINE_ANSWER } else { Duration::ZERO };
        let confirmed = self.ask(&messages, wait, |command, value| {
            if let (command::SET_CONTROL, [value]) = (command, value) {
                open.retain(|wanted| wanted != value);
            }
            open.is_empty()
        })?;
        self.confirms_lines &= confirmed;
        self.lines = [Some(dtr), Some(rts)];
        Ok(())
    }

    fn set_baud(&mut self, baud: u32) -> io::Result<()> {
        let mut message = vec![command::SET_BAUDRATE];
        message.extend_from_slice(&baud.to_be_bytes());
        let mut actual = None;
        self.ask(&[message], self.options.connect, |command, value| {
            if let (command::SET_BAUDRATE, Ok(value)) = (command, <[u8; 4]>::try_from(value)) {
                actual = Some(u32::from_be_bytes(value));
            }
            actual.is_some()
        })?;
        match actual {
            Some(actual) if actual == baud => {
                self.baud = baud;
                Ok(())
            }
            Some(actual) => {
                let what = format!("the server set {actual} baud instead of {baud}");
                Err(io::Error::new(io::ErrorKind::InvalidInput, what))
            }
            None => Err(io::Error::new(io::ErrorKind::TimedOut, "the server does not confirm the baud rate")),
        }
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

    fn send_break(&mut self, time: Duration) -> io::Result<()> {
        for value in [control::BREAK_ON, control::BREAK_OFF] {
            self.ask(&[vec![command::SET_CONTROL, value]], LINE_ANSWER, |command, _| command == command::SET_CONTROL)?;
            if value == control::BREAK_ON {
                std::thread::sleep(time);
            }
        }
        Ok(())
    }

    fn info(&self) -> PortInfo {
        PortInfo { url: self.url.clone(), modem_lines: true, is_virtual: self.is_virtual, ..PortInfo::default() }
    }
}

#[cfg(test)]
mod tests;
