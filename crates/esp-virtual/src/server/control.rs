//! The control line of a host: one JSON object in, one out, on loopback, with the token of the device's directory.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Event;
use crate::engine::EngineState;
use crate::instance::Record;
use crate::{BootMode, VirtualError};

/// What a host can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Ask {
    /// How are you?
    Status,
    /// Start or restart the chip.
    Boot {
        /// How.
        mode: BootMode,
    },
    /// Stop the chip, keep the host: its files may be changed.
    Halt,
    /// What the chip has sent.
    Console {
        /// From this offset of all it has sent.
        from: u64,
        /// At most this many bytes.
        limit: usize,
    },
    /// End.
    Stop,
}

/// What a host answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Why it was not done.
    pub error: Option<String>,
    /// The state of the chip.
    pub about: EngineState,
    /// Bytes that the chip has sent in all.
    pub console_end: u64,
    /// Offset of the first byte of `console`.
    pub console_from: u64,
    /// What was asked for of it.
    pub console: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Message {
    token: String,
    #[serde(flatten)]
    ask: Ask,
}

/// How long a restart of an emulator may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks a running host.
pub fn ask(record: &Record, ask: Ask) -> Result<Answer, VirtualError> {
    let lost = |error: std::io::Error| VirtualError::Host(error.to_string());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, record.control_port));
    let mut line = TcpStream::connect_timeout(&address, Duration::from_secs(5)).map_err(lost)?;
    line.set_read_timeout(Some(PATIENCE)).map_err(lost)?;
    let message = serde_json::to_string(&Message { token: record.token.clone(), ask });
    let message = message.map_err(|error| VirtualError::Host(error.to_string()))?;
    line.write_all(format!("{message}\n").as_bytes()).map_err(lost)?;
    let mut answer = String::new();
    BufReader::new(line).read_line(&mut answer).map_err(lost)?;
    let answer: Answer = serde_json::from_str(&answer).map_err(|error| VirtualError::Host(error.to_string()))?;
    match answer.error {
        Some(error) => Err(VirtualError::Host(error)),
        None => Ok(answer),
    }
}

/// Answers on `listener` until the process ends.
pub(super) fn serve(listener: TcpListener, token: String, events: Sender<Event>) {
    for line in listener.incoming().flatten() {
        let (token, events) = (token.clone(), events.clone());
        std::thread::spawn(move || answer(line, &token, &events));
    }
}

fn answer(mut line: TcpStream, token: &str, events: &Sender<Event>) -> Option<()> {
    line.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut text = String::new();
    BufReader::new((&line).take(64 * 1024)).read_line(&mut text).ok()?;
    let message: Message = serde_json::from_str(&text).ok()?;
    if message.token != token {
        return None;
    }
    let (sender, receiver) = channel();
    events.send(Event::Asked(message.ask, sender)).ok()?;
    let answer = receiver.recv_timeout(PATIENCE).ok()?;
    let answer = serde_json::to_string(&answer).ok()?;
    line.write_all(format!("{answer}\n").as_bytes()).ok()
}
