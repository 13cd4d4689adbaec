//! A port that writes down everything that happens on the line.

use std::io::{self, Write};
use std::time::Duration;

use esp_model::port::{Port, PortInfo};

use super::trace::{self, Event, Step};

/// Records a port in the format of [`super::trace`].
pub struct Traced<P, W> {
    port: P,
    sink: W,
    /// The trace cannot be written any more (disk full); the line goes on.
    broken: bool,
}

impl<P: Port, W: Write + Send> Traced<P, W> {
    /// Records `port` into `sink`. Errors of the sink end the recording, never the work on the line.
    pub fn new(port: P, sink: W) -> Self {
        let mut traced = Self { port, sink, broken: false };
        let header = trace::header(&traced.port.info().url);
        traced.line(&header);
        traced
    }

    /// The port and the sink.
    pub fn into_parts(mut self) -> (P, W) {
        let _ = self.sink.flush();
        (self.port, self.sink)
    }

    fn line(&mut self, text: &str) {
        if !self.broken {
            self.broken = writeln!(self.sink, "{text}").is_err();
        }
    }

    fn note(&mut self, event: Event) {
        let at_us = u64::try_from(self.port.now().as_micros()).unwrap_or(u64::MAX);
        self.line(&Step { at_us, event }.to_string());
    }

    fn result<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            self.note(Event::Failed { kind: error.kind(), text: error.to_string() });
            let _ = self.sink.flush();
        }
        result
    }
}

impl<P: Port, W: Write + Send> Port for Traced<P, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.note(Event::Wrote(bytes.to_vec()));
        let result = self.port.write(bytes);
        self.result(result)
    }

    fn read(&mut self, buf: &mut [u8], wait: Duration) -> io::Result<usize> {
        let result = self.port.read(buf, wait);
        if let Ok(count @ 1..) = result {
            self.note(Event::Read(buf.get(..count).unwrap_or_default().to_vec()));
        }
        self.result(result)
    }

    fn set_lines(&mut self, dtr: bool, rts: bool) -> io::Result<()> {
        self.note(Event::Lines { dtr, rts });
        let result = self.port.set_lines(dtr, rts);
        self.result(result)
    }

    fn set_baud(&mut self, baud: u32) -> io::Result<()> {
        self.note(Event::Baud(baud));
        let result = self.port.set_baud(baud);
        self.result(result)
    }

    fn baud(&self) -> u32 {
        self.port.baud()
    }

    fn sleep(&mut self, time: Duration) {
        self.note(Event::Sleep(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)));
        self.port.sleep(time);
    }

    fn now(&self) -> Duration {
        self.port.now()
    }

    fn info(&self) -> PortInfo {
        self.port.info()
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.note(Event::Reopened);
        let result = self.port.reopen();
        self.result(result)
    }
}

#[cfg(test)]
mod tests;
