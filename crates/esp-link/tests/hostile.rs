//! Devices that mean no good, in virtual time: they never stop answering, and the client must come to an end with
//! bounded memory.

#![allow(clippy::unwrap_used)]

use std::io;
use std::time::Duration;

use esp_link::connect::CONNECT_TIME;
use esp_link::options::ConnectOptions;
use esp_link::{ConnectError, Loader, LoaderError};
use esp_model::job::Job;
use esp_model::port::{Port, PortInfo};

/// Time of a byte at 115200 baud.
const UART: Duration = Duration::from_micros(87);
/// The same of a quick network.
const FAST: Duration = Duration::from_micros(2);

/// Sends the same bytes over and over, at the rate of a line.
struct Flood {
    bytes: Vec<u8>,
    at: usize,
    /// Time that a byte takes.
    byte_time: Duration,
    clock: Duration,
    baud: u32,
}

impl Flood {
    fn of(frame: &[u8], byte_time: Duration) -> Self {
        let mut bytes = Vec::new();
        esp_model::wire::slip::encode(frame, &mut bytes);
        Self { bytes, at: 0, byte_time, clock: Duration::ZERO, baud: 115_200 }
    }
}

impl Port for Flood {
    fn write(&mut self, _: &[u8]) -> io::Result<()> {
        self.clock += Duration::from_micros(100);
        Ok(())
    }
    fn read(&mut self, buf: &mut [u8], _: Duration) -> io::Result<usize> {
        // What comes within a millisecond, or all there is room for.
        let room = buf.len().min((1000 / self.byte_time.as_micros().max(1) as usize).max(1));
        for byte in &mut buf[..room] {
            *byte = self.bytes[self.at];
            self.at = (self.at + 1) % self.bytes.len();
        }
        self.clock += self.byte_time * room as u32;
        assert!(self.clock < Duration::from_secs(3600), "the client never ends");
        Ok(room)
    }
    fn set_lines(&mut self, _: bool, _: bool) -> io::Result<()> {
        Ok(())
    }
    fn set_baud(&mut self, baud: u32) -> io::Result<()> {
        self.baud = baud;
        Ok(())
    }
    fn baud(&self) -> u32 {
        self.baud
    }
    fn sleep(&mut self, time: Duration) {
        self.clock += time;
    }
    fn now(&self) -> Duration {
        self.clock
    }
    fn info(&self) -> PortInfo {
        PortInfo { url: "flood".into(), modem_lines: true, ..PortInfo::default() }
    }
}

/// An answer to a command: direction, command, size, value, status.
fn answer(command: u8) -> Vec<u8> {
    let mut frame = vec![1, command, 4, 0];
    frame.extend_from_slice(&[0x07, 0x12, 0x20, 0x55]);
    frame.extend_from_slice(&[0; 4]);
    frame
}

/// What came of connecting, how long it took on the port's clock, and what is known of the line then.
fn connect(port: Flood) -> (Option<ConnectError>, Duration) {
    let shared = std::sync::Arc::new(std::sync::Mutex::new(Duration::ZERO));
    struct Watched(Flood, std::sync::Arc<std::sync::Mutex<Duration>>);
    impl Port for Watched {
        fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.0.write(bytes)
        }
        fn read(&mut self, buf: &mut [u8], wait: Duration) -> io::Result<usize> {
            let count = self.0.read(buf, wait);
            *self.1.lock().unwrap() = self.0.clock;
            count
        }
        fn set_lines(&mut self, dtr: bool, rts: bool) -> io::Result<()> {
            self.0.set_lines(dtr, rts)
        }
        fn set_baud(&mut self, baud: u32) -> io::Result<()> {
            self.0.set_baud(baud)
        }
        fn baud(&self) -> u32 {
            self.0.baud()
        }
        fn sleep(&mut self, time: Duration) {
            self.0.sleep(time);
        }
        fn now(&self) -> Duration {
            self.0.now()
        }
        fn info(&self) -> PortInfo {
            self.0.info()
        }
    }
    let watched = Watched(port, shared.clone());
    let result = Loader::connect(Box::new(watched), &ConnectOptions::default(), &Job::new());
    let took = *shared.lock().unwrap();
    (result.err(), took)
}

#[test]
fn endless_answers_end_within_the_time_for_connecting() {
    let slack = Duration::from_secs(5);
    for byte_time in [UART, FAST] {
        // Answers to SYNC, to another command, and to none.
        for command in [0x08, 0x0a, 0xff] {
            let (error, took) = connect(Flood::of(&answer(command), byte_time));
            let error = error.unwrap_or_else(|| panic!("connected to a flood of {command:#x}"));
            assert!(took <= CONNECT_TIME + slack, "{command:#x} at {byte_time:?}: {took:?}, {error}");
        }
    }
}

#[test]
fn endless_answers_to_sync_are_told_as_that() {
    let (error, _) = connect(Flood::of(&answer(0x08), UART));
    match error.unwrap() {
        ConnectError::Loader { error: LoaderError::TooLong { limit }, .. } => assert_eq!(limit, CONNECT_TIME),
        ConnectError::NoSync { .. } | ConnectError::Loader { .. } => {}
        other => panic!("{other}"),
    }
}

/// A device whose answers come late, or twice, once it is connected.
struct Late {
    line: Box<dyn Port>,
    delay: Duration,
    twice: bool,
    on: std::sync::Arc<std::sync::atomic::AtomicBool>,
    /// What came, and when it is handed over.
    held: std::collections::VecDeque<(Duration, Vec<u8>)>,
}

impl Port for Late {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.line.write(bytes)
    }
    fn read(&mut self, buf: &mut [u8], wait: Duration) -> io::Result<usize> {
        if !self.on.load(std::sync::atomic::Ordering::Relaxed) {
            return self.line.read(buf, wait);
        }
        let until = self.line.now() + wait;
        loop {
            let mut more = vec![0; buf.len().min(512)];
            let count = self.line.read(&mut more, Duration::from_millis(1))?;
            if count > 0 {
                more.truncate(count);
                let at = self.line.now() + self.delay;
                self.held.extend(std::iter::repeat_n((at, more), 1 + usize::from(self.twice)));
            }
            let due = self.held.front().is_some_and(|(at, _)| *at <= self.line.now());
            if let Some((_, bytes)) = due.then(|| self.held.pop_front()).flatten() {
                buf[..bytes.len()].copy_from_slice(&bytes);
                return Ok(bytes.len());
            }
            if self.line.now() >= until {
                return Ok(0);
            }
        }
    }
    fn set_lines(&mut self, dtr: bool, rts: bool) -> io::Result<()> {
        self.line.set_lines(dtr, rts)
    }
    fn set_baud(&mut self, baud: u32) -> io::Result<()> {
        self.line.set_baud(baud)
    }
    fn baud(&self) -> u32 {
        self.line.baud()
    }
    fn sleep(&mut self, time: Duration) {
        self.line.sleep(time);
    }
    fn now(&self) -> Duration {
        self.line.now()
    }
    fn info(&self) -> PortInfo {
        self.line.info()
    }
}

#[test]
fn late_and_double_answers_end_a_write_in_bounded_time() {
    let chip = esp_model::chip::all().iter().find(|chip| esp_link::stub::Stub::is_built_in(chip)).unwrap();
    for (millis, twice) in [(0, true), (90, false), (1000, false), (2900, true), (3100, false), (10_000, true)] {
        let device = esp_sim::SimDevice::new(&esp_sim::Config::new(chip, "late"), format!("sim://{}-late", chip.id));
        let on = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (delay, held) = (Duration::from_millis(millis), std::collections::VecDeque::new());
        let line = Late { line: Box::new(device.open()), delay, twice, on: on.clone(), held };
        let (mut loader, _) = Loader::connect(Box::new(line), &ConnectOptions::default(), &Job::new()).unwrap();
        on.store(true, std::sync::atomic::Ordering::Relaxed);
        let began = loader.port().now();
        let bytes = vec![0x5a; 0x2000];
        let mut parts = [esp_link::flash::Part::bytes(0x1_0000, bytes.clone())];
        let written = loader.write_flash(&Job::new(), &mut parts, &esp_link::flash::WriteOptions::default());
        let took = loader.port().now() - began;
        assert!(took < Duration::from_secs(300), "{millis} ms, twice {twice}: {took:?}, {written:?}");
        if written.is_ok_and(|report| report.verified) {
            let found = device.with(|chip, _| chip.flash().read(0x1_0000, bytes.len()).unwrap());
            assert!(found == bytes, "{millis} ms, twice {twice}: a false success");
        }
    }
}

/// Peak memory of this process, in KiB.
#[cfg(target_os = "linux")]
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn floods_fill_no_memory() {
    let before = peak_kib();
    for command in [0x08, 0xff] {
        let _ = connect(Flood::of(&answer(command), FAST));
    }
    let grown = peak_kib() - before;
    assert!(grown < 24 * 1024, "{grown} KiB");
}
