//! Listens to a device: bounded by time, bytes, silence or a pattern, without losing a byte over a reset.

mod pattern;
mod shared;

use std::io;
use std::time::Duration;

use esp_model::job::Job;
use esp_model::port::{Port, PortInfo};

pub use pattern::{BadPattern, Pattern};
pub use shared::{SharedPort, SharedReader};

use crate::reset::Sequence;

/// Longest single wait for bytes: how late a cancel or the end of time is noticed.
const SLICE: Duration = Duration::from_millis(20);
/// Bytes asked of the port at once.
const READ_LEN: usize = 16 * 1024;

/// When text is sent to the device.
#[derive(Debug, Clone)]
pub enum SendWhen {
    /// As soon as the capture listens.
    Start,
    /// This long after that.
    After(Duration),
    /// When this was seen; once.
    Seen(Pattern),
}

/// How a capture runs and ends. It ends by whatever comes first.
#[derive(Debug, Clone, Default)]
pub struct CaptureOptions {
    /// Line rate in baud; none leaves it.
    pub baud: Option<u32>,
    /// Reset played first. What the device sent before it is dropped, what it sends from then on is kept.
    pub reset: Option<Sequence>,
    /// Ends after this time.
    pub time: Option<Duration>,
    /// Ends after this many bytes.
    pub bytes: Option<u64>,
    /// Ends after this much silence.
    pub silence: Option<Duration>,
    /// Ends when one of these was seen.
    pub until: Vec<Pattern>,
    /// What to send, and when.
    pub send: Vec<(SendWhen, Vec<u8>)>,
    /// How long a device that left the bus may stay away (built-in USB at a reset).
    pub absence: Duration,
}

/// Why a capture ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// The time was over.
    Time,
    /// The number of bytes was reached.
    Bytes,
    /// Nothing came for the given time.
    Silence,
    /// A pattern was seen.
    Pattern {
        /// The pattern as given.
        pattern: String,
        /// What it matched, untrusted.
        matched: Vec<u8>,
    },
    /// The caller cancelled, or the sink wanted no more.
    Cancelled,
    /// The device left and did not come back in time.
    Gone(String),
}

/// What a capture did. The bytes themselves went to the sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// Bytes received.
    pub bytes: u64,
    /// Bytes that had come before the reset and were dropped.
    pub dropped_before_reset: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Time it took on the port's clock.
    pub elapsed: Duration,
    /// Time from the capture's start to the first byte.
    pub first_byte: Option<Duration>,
    /// How often the device left the bus and came back.
    pub returns: u32,
    /// Why it ended.
    pub stopped: Stopped,
}

/// Takes bytes as they come, with the time since the capture's start. `false` ends the capture.
pub type Sink<'s> = dyn FnMut(Duration, &[u8]) -> bool + 's;

/// Listens to a device until one of the limits is reached.
///
/// Errors are those of setting up: the rate, the reset. A line that fails later ends the capture.
pub fn capture(port: &mut dyn Port, options: &CaptureOptions, job: &Job, sink: &mut Sink<'_>) -> io::Result<Capture> {
    if let Some(baud) = options.baud.filter(|baud| *baud != port.baud()) {
        port.set_baud(baud)?;
    }
    let mut dropped_before_reset = 0;
    let start;
    let mut kept = Vec::new();
    if let Some(sequence) = &options.reset {
        dropped_before_reset = drain(port)?;
        start = port.now();
        let mut listening = Listening { port, kept: Vec::new(), drops_old_run: true };
        sequence.run(&mut listening)?;
        kept = listening.kept;
    } else {
        start = port.now();
    }
    let mut run = Run::new(options, start, sink);
    run.result.dropped_before_reset = dropped_before_reset;
    for (at, bytes) in kept {
        run.take(at, &bytes);
    }
    run.listen(port, job);
    run.result.elapsed = port.now().saturating_sub(start);
    Ok(run.result)
}

/// Plays a reset sequence and gives what the device sent meanwhile, with its time on the port's clock.
pub fn reset_and_hear(port: &mut dyn Port, sequence: &Sequence) -> io::Result<Vec<(Duration, Vec<u8>)>> {
    let mut listening = Listening { port, kept: Vec::new(), drops_old_run: false };
    sequence.run(&mut listening)?;
    Ok(listening.kept)
}

/// Takes what lies in the line's buffers. Returns its length.
fn drain(port: &mut dyn Port) -> io::Result<u64> {
    let mut buffer = vec![0; READ_LEN];
    let mut total = 0;
    // An app that never stops printing must not hold the reset back.
    for _ in 0..64 {
        match port.read(&mut buffer, Duration::ZERO)? {
            0 => break,
            n => total += n as u64,
        }
    }
    Ok(total)
}

/// Something to send: when, how that is noticed, and the bytes.
type Sending = (SendWhen, Option<pattern::Watch>, Vec<u8>);

struct Run<'o, 's, 'f> {
    options: &'o CaptureOptions,
    start: Duration,
    sink: &'s mut Sink<'f>,
    watch: Vec<pattern::Watch>,
    /// What is left to send.
    send: Vec<Option<Sending>>,
    last_byte: Duration,
    done: bool,
    result: Capture,
}

impl<'o, 's, 'f> Run<'o, 's, 'f> {
    fn new(options: &'o CaptureOptions, start: Duration, sink: &'s mut Sink<'f>) -> Self {
        let send = options.send.iter().map(|(when, bytes)| {
            let watch = if let SendWhen::Seen(pattern) = when { Some(pattern.watch()) } else { None };
            Some((when.clone(), watch, bytes.clone()))
        });
        Self {
            options,
            start,
            sink,
            watch: options.until.iter().map(Pattern::watch).collect(),
            send: send.collect(),
            last_byte: start,
            done: false,
            result: Capture {
                bytes: 0,
                dropped_before_reset: 0,
                sent: 0,
                elapsed: Duration::ZERO,
                first_byte: None,
                returns: 0,
                stopped: Stopped::Time,
            },
        }
    }

    fn stop(&mut self, why: Stopped) {
        if !self.done {
            self.done = true;
            self.result.stopped = why;
        }
    }

    /// One piece of input, wherever it came from.
    fn take(&mut self, at: Duration, bytes: &[u8]) {
        if self.done || bytes.is_empty() {
            return;
        }
        let room = self.options.bytes.map_or(u64::MAX, |limit| limit.saturating_sub(self.result.bytes));
        let bytes = bytes.get(..usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len())).unwrap_or(bytes);
        let since = at.saturating_sub(self.start);
        self.result.bytes += bytes.len() as u64;
        self.result.first_byte.get_or_insert(since);
        self.last_byte = at;
        if !(self.sink)(since, bytes) {
            self.stop(Stopped::Cancelled);
        }
        let found = self.watch.iter_mut().find_map(|watch| watch.feed(bytes).map(|hit| (watch.pattern.clone(), hit)));
        if let Some((pattern, matched)) = found {
            self.stop(Stopped::Pattern { pattern, matched });
        }
        if self.options.bytes.is_some_and(|limit| self.result.bytes >= limit) {
            self.stop(Stopped::Bytes);
        }
        for (when, watch, _) in self.send.iter_mut().flatten() {
            if watch.as_mut().is_some_and(|watch| watch.feed(bytes).is_some()) {
                (*when, *watch) = (SendWhen::Start, None);
            }
        }
    }

    fn listen(&mut self, port: &mut dyn Port, job: &Job) {
        let mut buffer = vec![0; READ_LEN];
        while !self.done {
            if job.check().is_err() {
                return self.stop(Stopped::Cancelled);
            }
            let outcome = self.send_due(port).and_then(|()| {
                let wait = self.wait(port.now());
                port.read(&mut buffer, wait)
            });
            match outcome {
                Ok(n) => self.take(port.now(), buffer.get(..n).unwrap_or_default()),
                Err(error) => self.wait_for_return(port, job, &error),
            }
            self.check_clock(port.now());
        }
    }

    /// How long the next read may wait.
    fn wait(&self, now: Duration) -> Duration {
        let time_left = self.options.time.map(|time| (self.start + time).saturating_sub(now));
        let quiet_left = self.options.silence.map(|silence| (self.last_byte + silence).saturating_sub(now));
        [Some(SLICE), time_left, quiet_left].into_iter().flatten().min().unwrap_or(SLICE)
    }

    fn check_clock(&mut self, now: Duration) {
        if self.options.time.is_some_and(|time| now.saturating_sub(self.start) >= time) {
            self.stop(Stopped::Time);
        }
        if self.options.silence.is_some_and(|silence| now.saturating_sub(self.last_byte) >= silence) {
            self.stop(Stopped::Silence);
        }
    }

    fn send_due(&mut self, port: &mut dyn Port) -> io::Result<()> {
        let since = port.now().saturating_sub(self.start);
        for slot in &mut self.send {
            let due = match slot {
                Some((SendWhen::Start, ..)) => true,
                Some((SendWhen::After(time), ..)) => since >= *time,
                _ => false,
            };
            if let Some((_, _, bytes)) = slot.take_if(|_| due) {
                port.write(&bytes)?;
                self.result.sent += bytes.len() as u64;
            }
        }
        Ok(())
    }

    /// The line failed: the device may come back.
    fn wait_for_return(&mut self, port: &mut dyn Port, job: &Job, error: &io::Error) {
        let left = port.now();
        let mut probe = [0; 1];
        while port.now().saturating_sub(left) < self.options.absence && job.check().is_ok() {
            port.sleep(SLICE * 2);
            self.check_clock(port.now());
            if self.done {
                return;
            }
            if port.reopen().is_ok() {
                // Ports that never leave answer "ok" and fail again at once.
                match port.read(&mut probe, Duration::ZERO) {
                    Ok(n) => {
                        self.result.returns += 1;
                        return self.take(port.now(), probe.get(..n).unwrap_or_default());
                    }
                    Err(_) => continue,
                }
            }
        }
        self.stop(Stopped::Gone(error.to_string()));
    }
}

/// A port that keeps what comes in while a reset sequence sleeps, so that no buffer on the way overflows.
struct Listening<'p> {
    port: &'p mut dyn Port,
    kept: Vec<(Duration, Vec<u8>)>,
    /// What came before EN went low is not kept.
    drops_old_run: bool,
}

impl Listening<'_> {
    fn listen(&mut self, wait: Duration) -> io::Result<()> {
        let mut buffer = [0; 4096];
        let n = self.port.read(&mut buffer, wait)?;
        if let Some(bytes) = buffer.get(..n).filter(|bytes| !bytes.is_empty()) {
            self.kept.push((self.port.now(), bytes.to_vec()));
        }
        Ok(())
    }
}

impl Port for Listening<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.port.write(bytes)
    }

    fn read(&mut self, buf: &mut [u8], wait: Duration) -> io::Result<usize> {
        self.port.read(buf, wait)
    }

    fn set_lines(&mut self, dtr: bool, rts: bool) -> io::Result<()> {
        // EN goes low: what came until now is of the old run.
        if rts && !dtr && self.drops_old_run {
            self.listen(Duration::ZERO).ok();
            self.kept.clear();
        }
        self.port.set_lines(dtr, rts)
    }

    fn set_baud(&mut self, baud: u32) -> io::Result<()> {
        self.port.set_baud(baud)
    }

    fn baud(&self) -> u32 {
        self.port.baud()
    }

    fn sleep(&mut self, time: Duration) {
        let end = self.port.now() + time;
        while let Some(left) = end.checked_sub(self.port.now()).filter(|left| !left.is_zero()) {
            if self.listen(left.min(SLICE)).is_err() {
                // Built-in USB is away during its reset.
                self.port.sleep(left);
                return;
            }
        }
    }

    fn now(&self) -> Duration {
        self.port.now()
    }

    fn info(&self) -> PortInfo {
        self.port.info()
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.port.reopen()
    }
}

#[cfg(test)]
mod tests;
