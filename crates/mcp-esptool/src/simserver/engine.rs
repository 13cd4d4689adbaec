//! The chip's clockwork: real time, one thread, no work while nothing happens.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use esp_sim::{Config, VirtualChip};

use super::SimError;
use super::files::Files;

/// What the lines tell the engine, in the order it happened.
pub enum Event {
    /// A client connected; what the chip says goes to it from now on.
    Connected(Box<dyn Line>),
    /// The client is gone.
    Disconnected,
    /// Bytes for the chip.
    Bytes(Vec<u8>),
    /// Both modem lines.
    Lines { dtr: bool, rts: bool },
    /// The line rate that the client set, in baud.
    Baud(u32),
    /// Bytes for the client that are none of the chip's (telnet negotiation).
    Answer(Vec<u8>),
    /// End of the simulation.
    Stop,
}

/// Where the chip's bytes go.
pub trait Line: Send {
    /// Sends bytes of the chip. An error ends the connection.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Sends bytes as they are.
    fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.send(bytes)
    }

    /// The line carries DTR, RTS and a rate of its own.
    fn has_modem_lines(&self) -> bool {
        false
    }

    /// The rate that the client has set, where only asking tells.
    fn baud(&self) -> Option<u32> {
        None
    }
}

/// The chip, its files and whoever listens.
pub struct Engine {
    chip: VirtualChip,
    files: Files,
    line: Option<Box<dyn Line>>,
    born: Instant,
    reset_on_disconnect: bool,
}

/// A USB bridge hands over what came in a frame of the bus, not each byte: what is not due now waits for the next.
fn bridged(wait: Duration) -> Duration {
    const FRAME: Duration = Duration::from_millis(1);
    if wait.is_zero() { wait } else { wait.max(FRAME) }
}

impl Engine {
    pub fn new(config: &Config, files: Files, reset_on_disconnect: bool) -> Self {
        let chip = VirtualChip::new(config);
        Self { chip, files, line: None, born: Instant::now(), reset_on_disconnect }
    }

    fn now(&self) -> Duration {
        self.born.elapsed()
    }

    /// Runs until told to stop.
    pub fn run(&mut self, inbox: &Receiver<Event>) -> Result<(), SimError> {
        self.files.load(&mut self.chip).map_err(SimError::io("loading the flash or eFuse file"))?;
        // Bytes that the chip said before anybody listened are gone, as on a real line.
        loop {
            self.deliver()?;
            if self.chip.is_unplugged() {
                return Ok(());
            }
            let event = match self.chip.next_event() {
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(next) => inbox.recv_timeout(bridged(next.saturating_sub(self.now()))),
            };
            match event {
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Ok(event) => self.handle(event),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn handle(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Connected(line) => {
                if !line.has_modem_lines() {
                    self.chip.agree_baud(now, line.baud().unwrap_or(115_200));
                }
                self.line = Some(line);
            }
            Event::Disconnected => {
                self.line = None;
                if self.reset_on_disconnect {
                    self.chip.power_cycle(now);
                }
            }
            Event::Bytes(bytes) => {
                if let Some(baud) = self.line.as_ref().and_then(|line| line.baud())
                    && baud != self.chip.baud()
                {
                    self.chip.agree_baud(now, baud);
                }
                self.chip.send(now, &bytes);
            }
            Event::Lines { dtr, rts } => self.chip.set_lines(now, dtr, rts),
            Event::Baud(baud) => self.chip.set_host_baud(now, Some(baud)),
            Event::Answer(bytes) => self.pass_on(|line| line.send_raw(&bytes)),
            Event::Stop => {}
        }
    }

    /// Passes on what the chip has said by now, and saves what it changed.
    fn deliver(&mut self) -> Result<(), SimError> {
        let mut buf = [0; 16384];
        let now = self.now();
        loop {
            let got = self.chip.receive(now, &mut buf);
            if got == 0 {
                break;
            }
            self.pass_on(|line| line.send(&buf[..got]));
        }
        self.files.save(&mut self.chip).map_err(SimError::io("writing the flash or eFuse file"))
    }

    fn pass_on(&mut self, send: impl FnOnce(&mut dyn Line) -> io::Result<()>) {
        if let Some(line) = &mut self.line
            && send(line.as_mut()).is_err()
        {
            self.line = None;
        }
    }
}
