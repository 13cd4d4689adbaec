//! The other end of GDB's remote protocol: asks a stub (the built-in device's, QEMU's) and waits for stops.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a halt may take.
const HALT: Duration = Duration::from_secs(5);
/// How long the line is waited for at a time.
const LOOK: Duration = Duration::from_millis(200);
/// Bytes of memory in one packet at most.
const MOST_AT_ONCE: usize = 4096;

/// Why the stub does not do as it should.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The line.
    #[error("the debug port: {0}")]
    Line(#[from] io::Error),
    /// No answer.
    #[error("the debug port does not answer; another debugger may be connected")]
    Silent,
    /// An error answer.
    #[error("{asked} is refused ({answer})")]
    Refused {
        /// What was asked.
        asked: String,
        /// Its answer.
        answer: String,
    },
}

/// Why the device stands still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// The stub's thread, as it writes it.
    pub thread: Option<String>,
    /// The signal: 5 for breakpoints and steps, 2 when it was asked to.
    pub signal: u8,
    /// The address that was watched.
    pub watched: Option<u32>,
}

/// A connection to a stub. The device stands still after it was made, and stays as it is when it is dropped.
pub struct Remote {
    stream: TcpStream,
    received: Vec<u8>,
    acknowledges: bool,
    packet: usize,
}

impl Remote {
    /// Connects to a port of this computer.
    pub fn connect(port: u16) -> Result<Self, RemoteError> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, ANSWER)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(ANSWER))?;
        let mut remote = Self { stream, received: Vec::new(), acknowledges: true, packet: 400 };
        let features = remote.ask("qSupported:swbreak+;hwbreak+;vContSupported+")?;
        let size =
            features.split(';').find_map(|word| usize::from_str_radix(word.strip_prefix("PacketSize=")?, 16).ok());
        remote.packet = size.unwrap_or(remote.packet);
        if remote.ask("QStartNoAckMode")? == "OK" {
            remote.acknowledges = false;
        }
        Ok(remote)
    }

    /// A packet and its answer.
    pub fn ask(&mut self, packet: &str) -> Result<String, RemoteError> {
        self.send(packet)?;
        self.receive(Instant::now() + ANSWER)?.ok_or(RemoteError::Silent)
    }

    /// The same; an error answer is an error, an empty one too.
    pub fn order(&mut self, packet: &str) -> Result<String, RemoteError> {
        let answer = self.ask(packet)?;
        let is_error = answer.is_empty() || (answer.len() == 3 && answer.starts_with('E'));
        if is_error { Err(RemoteError::Refused { asked: packet.into(), answer }) } else { Ok(answer) }
    }

    fn send(&mut self, packet: &str) -> Result<(), RemoteError> {
        let sum = packet.bytes().fold(0u8, u8::wrapping_add);
        Ok(self.stream.write_all(format!("${packet}#{sum:02x}").as_bytes())?)
    }

    /// The next packet; `None` when none comes in time.
    fn receive(&mut self, deadline: Instant) -> Result<Option<String>, RemoteError> {
        loop {
            if let Some(packet) = self.next_packet() {
                if self.acknowledges {
                    self.stream.write_all(b"+")?;
                }
                return Ok(Some(packet));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut buf = [0; 4096];
            match self.stream.read(&mut buf) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(count) => self.received.extend_from_slice(buf.get(..count).unwrap_or_default()),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn next_packet(&mut self) -> Option<String> {
        let start = self.received.iter().position(|byte| *byte == b'$')?;
        let length = self.received.get(start..)?.iter().position(|byte| *byte == b'#')?;
        let end = start + length + 3;
        if self.received.len() < end {
            return None;
        }
        let packet = unpacked(self.received.get(start + 1..start + length)?);
        self.received.drain(..end);
        Some(packet)
    }

    /// Lets the device go on, or a thread carry out one instruction; [`Remote::wait`] tells when it stops.
    pub fn resume(&mut self, stepped: Option<&str>) -> Result<(), RemoteError> {
        match stepped {
            Some(thread) => self.send(&format!("vCont;s:{thread}")),
            None => self.send("vCont;c"),
        }
    }

    /// Waits until the device stops. After that time, or when it `is_over` for the caller, it is halted, and `false` says so.
    pub fn wait(&mut self, deadline: Instant, is_over: impl Fn() -> bool) -> Result<(Stopped, bool), RemoteError> {
        while Instant::now() < deadline && !is_over() {
            if let Some(stopped) = self.stop(deadline.min(Instant::now() + LOOK))? {
                return Ok((stopped, true));
            }
        }
        self.stream.write_all(&[3])?;
        self.stop(Instant::now() + HALT)?.map(|stopped| (stopped, false)).ok_or(RemoteError::Silent)
    }

    fn stop(&mut self, deadline: Instant) -> Result<Option<Stopped>, RemoteError> {
        while let Some(packet) = self.receive(deadline)? {
            // What comes before it is output.
            if let Some(stopped) = stopped(&packet) {
                return Ok(Some(stopped));
            }
        }
        Ok(None)
    }

    /// The stub's threads: its cores.
    pub fn threads(&mut self) -> Result<Vec<String>, RemoteError> {
        let mut threads = Vec::new();
        let mut answer = self.order("qfThreadInfo")?;
        while let Some(list) = answer.strip_prefix('m') {
            threads.extend(list.split(',').map(str::to_owned));
            answer = self.order("qsThreadInfo")?;
        }
        Ok(threads)
    }

    /// The registers of a thread that go in one packet.
    pub fn registers(&mut self, thread: &str) -> Result<Vec<u32>, RemoteError> {
        self.order(&format!("Hg{thread}"))?;
        let bytes = bytes(&self.order("g")?);
        Ok(bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect())
    }

    /// Memory; an error when its first byte is nowhere.
    pub fn memory(&mut self, address: u32, length: usize) -> Result<Vec<u8>, RemoteError> {
        let mut found = Vec::with_capacity(length.min(1 << 20));
        while found.len() < length {
            let count = (length - found.len()).min(self.packet.saturating_sub(16) / 2).clamp(1, MOST_AT_ONCE);
            let packet = format!("m{:x},{count:x}", address.wrapping_add(found.len() as u32));
            match self.order(&packet) {
                Ok(answer) => {
                    let part = bytes(&answer);
                    let short = part.len() < count;
                    found.extend(part);
                    if short {
                        break;
                    }
                }
                Err(RemoteError::Refused { .. }) if !found.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Sets or removes a breakpoint (kind 0) or watchpoint (2 stores, 3 loads, 4 both).
    pub fn breakpoint(&mut self, kind: u8, address: u32, length: u32, there: bool) -> Result<(), RemoteError> {
        let letter = if there { 'Z' } else { 'z' };
        self.order(&format!("{letter}{kind},{address:x},{length:x}")).map(drop)
    }

    /// A `monitor` command and what it says.
    pub fn monitor(&mut self, command: &str) -> Result<String, RemoteError> {
        self.send(&format!("qRcmd,{}", esp_model::hex::encode(command)))?;
        let mut said = String::new();
        loop {
            let packet = self.receive(Instant::now() + ANSWER)?.ok_or(RemoteError::Silent)?;
            match packet.strip_prefix('O').filter(|rest| !rest.is_empty() && *rest != "K") {
                Some(hex) => said += &String::from_utf8_lossy(&bytes(hex)),
                None if packet == "OK" => return Ok(said),
                None => return Err(RemoteError::Refused { asked: format!("monitor {command}"), answer: packet }),
            }
        }
    }

    /// Ends the session: no breakpoints any more, the device goes on.
    pub fn detach(mut self) -> Result<(), RemoteError> {
        self.order("D").map(drop)
    }
}

/// Escapes and repetitions undone.
fn unpacked(packet: &[u8]) -> String {
    let mut out: Vec<u8> = Vec::with_capacity(packet.len());
    let mut bytes = packet.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'}' => out.extend(bytes.next().map(|byte| byte ^ 0x20)),
            b'*' => {
                let count = bytes.next().map_or(0, |byte| byte.saturating_sub(29));
                let last = out.last().copied();
                out.extend(last.into_iter().flat_map(|last| std::iter::repeat_n(last, count.into())));
            }
            byte => out.push(*byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Bytes from hex digits; what is not there (`xx`) is 0.
fn bytes(hex: &str) -> Vec<u8> {
    let (pairs, _) = hex.as_bytes().as_chunks::<2>();
    pairs
        .iter()
        .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()).unwrap_or(0))
        .collect()
}

fn stopped(packet: &str) -> Option<Stopped> {
    let rest = packet.strip_prefix('T').or_else(|| packet.strip_prefix('S'))?;
    let signal = u8::from_str_radix(rest.get(..2)?, 16).ok()?;
    let mut stopped = Stopped { thread: None, signal, watched: None };
    for (name, value) in rest.get(2..)?.split(';').filter_map(|pair| pair.split_once(':')) {
        match name {
            "thread" => stopped.thread = Some(value.into()),
            "watch" | "rwatch" | "awatch" => stopped.watched = u32::from_str_radix(value, 16).ok(),
            _ => {}
        }
    }
    Some(stopped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_with_escapes_and_repetitions_are_read() {
        assert_eq!(unpacked(b"0* x}\x03"), "0000x#");
        assert_eq!(bytes("0aXXff"), [10, 0, 255]);
    }

    #[test]
    fn stop_replies_name_thread_and_watched_address() {
        let watch = stopped("T05thread:02;watch:3fc80000;").unwrap();
        assert_eq!((watch.thread.as_deref(), watch.signal, watch.watched), (Some("02"), 5, Some(0x3fc8_0000)));
        assert_eq!(stopped("S02").unwrap().signal, 2);
        assert_eq!(stopped("OK"), None);
    }
}
