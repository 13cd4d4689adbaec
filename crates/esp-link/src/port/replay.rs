//! A recorded line as a port: the client must do what it did then, and is told what it was told then.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use esp_model::port::{Port, PortInfo};

use super::trace::{Event, Trace};

/// Plays a trace to a client, in the trace's own time.
///
/// What the client writes is compared byte by byte, in whatever pieces it writes; a difference fails with
/// `InvalidData` and says where. Bytes arrive at the time they arrived then. Reads that found nothing, and the exact
/// length of sleeps, are not part of the comparison.
pub struct Replay {
    steps: VecDeque<(Duration, Event)>,
    /// Bytes of the steps compared so far in the present direction, for messages.
    written: u64,
    now: Duration,
    baud: u32,
    info: PortInfo,
}

impl Replay {
    /// A port that plays `trace`.
    pub fn new(trace: Trace) -> Self {
        let lines = trace.steps.iter().any(|step| matches!(step.event, Event::Lines { .. }));
        Self {
            info: PortInfo { url: format!("replay of {}", trace.url), modem_lines: lines, ..PortInfo::default() },
            steps: trace.steps.into_iter().map(|step| (Duration::from_micros(step.at_us), step.event)).collect(),
            written: 0,
            now: Duration::ZERO,
            baud: 115_200,
        }
    }

    /// Everything that was recorded has happened again.
    pub fn is_done(&mut self) -> bool {
        self.skip_sleeps();
        self.steps.is_empty()
    }

    fn skip_sleeps(&mut self) {
        while let Some((_, Event::Sleep(_))) = self.steps.front() {
            self.steps.pop_front();
        }
    }

    /// The failure recorded for the operation just played, if it failed then.
    fn outcome(&mut self) -> io::Result<()> {
        if let Some((_, Event::Failed { .. })) = self.steps.front()
            && let Some((at, Event::Failed { kind, text })) = self.steps.pop_front()
        {
            self.now = self.now.max(at);
            return Err(io::Error::new(kind, text));
        }
        Ok(())
    }

    fn expect(&mut self, wanted: &Event) -> io::Result<()> {
        self.skip_sleeps();
        match self.steps.front() {
            Some((at, event)) if event == wanted => {
                self.now = self.now.max(*at);
                self.steps.pop_front();
                self.outcome()
            }
            other => Err(diverged(format!("{wanted:?} instead of {:?}", other.map(|(_, event)| event)))),
        }
    }
}

fn diverged(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the client differs from the trace: {what}"))
}

impl Port for Replay {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            self.skip_sleeps();
            let Some((at, Event::Wrote(wanted))) = self.steps.front_mut() else {
                let next = self.steps.front().map(|(_, event)| event);
                return Err(diverged(format!("it writes {} bytes more instead of {next:?}", rest.len())));
            };
            let count = wanted.len().min(rest.len());
            if let Some(at) = wanted.iter().zip(rest).position(|(a, b)| a != b) {
                return Err(diverged(format!("another byte at {} of all it writes", self.written + at as u64)));
            }
            self.now = self.now.max(*at);
            self.written += count as u64;
            wanted.drain(..count);
            rest = rest.get(count..).unwrap_or_default();
            if wanted.is_empty() {
                self.steps.pop_front();
                self.outcome()?;
            }
        }
        Ok(())
    }

    fn read(&mut self, buf: &mut [u8], wait: Duration) -> io::Result<usize> {
        self.skip_sleeps();
        let until = self.now + wait;
        match self.steps.front_mut() {
            Some((at, Event::Read(bytes))) if *at <= until => {
                self.now = self.now.max(*at);
                let count = bytes.len().min(buf.len());
                for (to, from) in buf.iter_mut().zip(bytes.drain(..count)) {
                    *to = from;
                }
                if bytes.is_empty() {
                    self.steps.pop_front();
                }
                Ok(count)
            }
            Some((at, Event::Failed { .. })) if *at <= until => self.outcome().map(|()| 0),
            None => Err(super::error::gone("the trace ends here")),
            _ => {
                self.now = until;
                Ok(0)
            }
        }
    }

    fn set_lines(&mut self, dtr: bool, rts: bool) -> io::Result<()> {
        self.expect(&Event::Lines { dtr, rts })
    }

    fn set_baud(&mut self, baud: u32) -> io::Result<()> {
        self.expect(&Event::Baud(baud))?;
        self.baud = baud;
        Ok(())
    }

    fn baud(&self) -> u32 {
        self.baud
    }

    fn sleep(&mut self, time: Duration) {
        self.now += time;
    }

    fn now(&self) -> Duration {
        self.now
    }

    fn info(&self) -> PortInfo {
        self.info.clone()
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.expect(&Event::Reopened)
    }
}
