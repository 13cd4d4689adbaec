//! `--trace`: what goes over the line, in the lines that esptool prints.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use esp_model::hex;
use esp_model::port::{Port, PortInfo};
use esp_model::wire::Command;
use esp_model::wire::slip::{Decoder, Event};

use crate::terminal::Terminal;

/// Bytes in a line of a longer dump.
const ROW: usize = 16;
/// Longest frame that is shown whole.
const FRAME_LIMIT: usize = 1 << 16;

/// A port that prints what passes.
pub struct Shown<P> {
    port: P,
    terminal: Terminal,
    /// When the line before was printed.
    last: Option<Duration>,
    sent: Decoder,
    received: Decoder,
}

impl<P: Port> Shown<P> {
    /// Prints what passes over `port`.
    pub fn new(port: P, terminal: Terminal) -> Self {
        let decoder = || Decoder::new(FRAME_LIMIT);
        Self { port, terminal, last: None, sent: decoder(), received: decoder() }
    }

    fn line(&mut self, text: &str) {
        let now = self.port.now();
        let since = now.saturating_sub(self.last.unwrap_or(now));
        self.last = Some(now);
        self.terminal.say(format_args!(" TRACE +{:.3}   {text}", since.as_secs_f64()));
    }

    fn bytes(&mut self, what: &str, bytes: &[u8]) {
        self.line(&format!("{:<21} {}", format!("{what} {} bytes:", bytes.len()), dump(bytes)));
    }
}

impl<P: Port> Port for Shown<P> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        for request in frames(&mut self.sent, bytes) {
            if let Some(text) = command(&request) {
                self.terminal.say("");
                self.line(&text);
            }
        }
        self.bytes("Write", bytes);
        self.port.write(bytes)
    }

    fn read(&mut self, buf: &mut [u8], wait: Duration) -> io::Result<usize> {
        let count = self.port.read(buf, wait)?;
        let bytes = buf.get(..count).unwrap_or_default();
        if !bytes.is_empty() {
            self.bytes("Read", bytes);
        }
        for frame in frames(&mut self.received, bytes) {
            self.line(&format!("Received full packet: {}", dump(&frame)));
        }
        Ok(count)
    }

    fn set_lines(&mut self, dtr: bool, rts: bool) -> io::Result<()> {
        self.port.set_lines(dtr, rts)
    }

    fn set_baud(&mut self, baud: u32) -> io::Result<()> {
        self.port.set_baud(baud)
    }

    fn baud(&self) -> u32 {
        self.port.baud()
    }

    fn sleep(&mut self, time: Duration) {
        self.port.sleep(time);
    }

    fn now(&self) -> Duration {
        self.port.now()
    }

    fn info(&self) -> PortInfo {
        self.port.info()
    }

    fn send_break(&mut self, time: Duration) -> io::Result<()> {
        self.port.send_break(time)
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.port.reopen()
    }
}

fn frames(decoder: &mut Decoder, bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    decoder.push(bytes, |event| {
        if let Event::Frame(frame) = event {
            found.push(frame);
        }
    });
    found
}

/// A request by its name. Its head: direction, command, length (16 bits), checksum (32 bits).
fn command(frame: &[u8]) -> Option<String> {
    let (code, data) = (*frame.get(1)?, frame.get(8..)?);
    let name = Command::from_code(code).filter(|_| frame.first() == Some(&0))?.name();
    Some(format!("--- Cmd {name} ({code:#04x}) | data_len {} | data {} ---", data.len(), dump(data)))
}

/// Up to 16 bytes in one piece, more in rows with their characters.
fn dump(bytes: &[u8]) -> String {
    if bytes.len() <= ROW {
        return hex::joined(bytes, "");
    }
    let mut out = String::new();
    for row in bytes.chunks(ROW) {
        let (left, right) = row.split_at(row.len().min(ROW / 2));
        let seen = |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' };
        let text: String = row.iter().map(seen).collect();
        // Writing to a string cannot fail.
        let _ = write!(out, "\n    {:<16} {:<16} | {text}", hex::joined(left, ""), hex::joined(right, ""));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{command, dump};

    #[test]
    fn dump_of_many_bytes_has_rows_with_characters() {
        assert_eq!(dump(b"OHAI"), "4f484149");
        assert_eq!(dump(&[b'A'; 17]).lines().nth(1), Some("    4141414141414141 4141414141414141 | AAAAAAAAAAAAAAAA"));
        assert_eq!(dump(&[0; 17]).lines().nth(2), Some("    00                                | ."));
    }

    #[test]
    fn command_of_a_request_has_a_name() {
        let text = command(&[0, 0x0a, 4, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!(text.as_deref(), Some("--- Cmd READ_REG (0x0a) | data_len 4 | data 01020304 ---"));
        assert_eq!(command(&[1, 0x0a, 4, 0, 0, 0, 0, 0, 1, 2, 3, 4]), None);
    }
}
