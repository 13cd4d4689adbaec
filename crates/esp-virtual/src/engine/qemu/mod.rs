//! Espressif's QEMU as an engine.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use esp_model::chip::Emulation;
use serde_json::json;

use super::{Engine, EngineState, Waker};
use crate::instance::{Config, Directory};
use crate::log::Log;
use crate::{BootMode, VirtualError, process as processes};
use circuit::{Circuit, Effect};
use qmp::Qmp;

pub mod circuit;
pub mod discover;
pub mod qmp;

#[cfg(unix)]
type ControlLine = std::os::unix::net::UnixStream;
#[cfg(not(unix))]
type ControlLine = TcpStream;

/// How long QEMU may take from its start until it answers.
const START: Duration = Duration::from_secs(20);
/// How long it may take to end after it was asked in one way, before the next is tried.
const END: Duration = Duration::from_secs(2);
/// Bytes of the chip that wait for the host, at most: a flood is held back, not collected.
const HELD: usize = 1 << 20;

/// A QEMU process and how to start it again.
pub struct Qemu {
    config: Config,
    dir: Directory,
    emulation: &'static Emulation,
    program: PathBuf,
    efuse_driver: String,
    wake: Waker,
    running: Option<Running>,
    /// What a chip said whose emulator ended while it was being started.
    last_words: Vec<u8>,
    circuit: Circuit,
    began: Instant,
    mode: BootMode,
    output: Arc<Mutex<Log>>,
    problem: Option<String>,
}

struct Running {
    process: Child,
    qmp: Qmp<ControlLine>,
    serial: TcpStream,
    sent: Arc<Sent>,
}

/// What the chip has sent and the host has not taken yet.
#[derive(Default)]
struct Sent {
    bytes: Mutex<Vec<u8>>,
    /// The host knows that there are bytes: a flood of single ones wakes it once.
    told: AtomicBool,
    ended: AtomicBool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Qemu {
    /// A machine that is not started yet. The directory has its flash and eFuse files.
    pub fn new(config: Config, dir: Directory, wake: Waker) -> Result<Self, VirtualError> {
        let chip = esp_model::chip::by_name(&config.chip);
        let emulation = chip.and_then(|chip| chip.emulation());
        let emulation = emulation.ok_or_else(|| VirtualError::NoEmulation(config.chip.clone()))?;
        let program = config.program.clone().unwrap_or_else(|| PathBuf::from(&emulation.program));
        let mode = config.boot_mode;
        check(&config, emulation)?;
        Ok(Self {
            efuse_driver: emulation.efuse_drivers.first().cloned().unwrap_or_default(),
            config,
            dir,
            emulation,
            program,
            wake,
            running: None,
            last_words: Vec::new(),
            circuit: Circuit::default(),
            began: Instant::now(),
            mode,
            output: Arc::new(Mutex::new(Log::new(64 * 1024))),
            problem: None,
        })
    }

    fn start(&mut self, mode: BootMode) -> Result<(), VirtualError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_start(mode) {
                // Between our look at a port and QEMU's somebody else may have taken it.
                Err(VirtualError::Ended { output, .. }) if tries < 5 && output.contains("Address already in use") => {}
                Err(VirtualError::Option(_)) if tries < 5 => {} // started with another eFuse driver's name
                result => return result,
            }
        }
    }

    fn try_start(&mut self, mode: BootMode) -> Result<(), VirtualError> {
        let serial = free_port()?;
        let (qmp, qmp_argument) = self.qmp_address()?;
        let mut command = Command::new(&self.program);
        command.args(self.arguments(mode, serial, &qmp_argument));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        processes::end_with_parent(&mut command);
        let process = command.spawn().map_err(|error| VirtualError::BrokenProgram {
            program: self.program.display().to_string(),
            what: error.to_string(),
            package: None,
        })?;
        let mut process = Starting(Some(process));
        if let Some(started) = &mut process.0 {
            self.drain(started.stdout.take());
            self.drain(started.stderr.take());
        }
        let until = Instant::now() + START;
        let control = self.connect(&mut process, until, "its QMP line", || connect_control(&qmp))?;
        let mut control = Qmp::handshake(control).map_err(|error| self.with_output(&mut process, error))?;
        let serial = SocketAddr::from((Ipv4Addr::LOCALHOST, serial));
        let serial = self.connect(&mut process, until, "its serial line", || {
            TcpStream::connect_timeout(&serial, Duration::from_secs(1))
        })?;
        self.check_efuse_driver(&mut control)?;
        self.wait_for_line(&mut control, until)?;
        let sent = Arc::new(Sent::default());
        let reader = serial.try_clone().map_err(|error| VirtualError::Host(error.to_string()))?;
        let (shared, wake) = (sent.clone(), self.wake.clone());
        std::thread::spawn(move || read(reader, &shared, &wake));
        let _ = serial.set_nodelay(true);
        let _ = serial.set_write_timeout(Some(Duration::from_secs(5)));
        if !self.config.wait_for_gdb {
            let going = control.run("cont", json!({}));
            going.map_err(|error| {
                let error = self.with_output(&mut process, error);
                self.last_words.append(&mut locked(&sent.bytes));
                error
            })?;
        }
        if let Some(process) = process.0.take() {
            self.running = Some(Running { process, qmp: control, serial, sent });
        }
        (self.mode, self.problem) = (mode, None);
        Ok(())
    }

    /// The system has taken our connection, but has QEMU? Until then it throws away what the chip sends.
    fn wait_for_line(&self, control: &mut Qmp<ControlLine>, until: Instant) -> Result<(), VirtualError> {
        while let Ok(lines) = control.run("query-chardev", json!({})) {
            let is_serial = |line: &&serde_json::Value| line.get("label").is_some_and(|label| label == "serial0");
            let serial = lines.as_array().into_iter().flatten().find(is_serial);
            let state = serial.and_then(|line| line.get("filename")?.as_str()).unwrap_or_default();
            if !state.starts_with("disconnected") {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(VirtualError::Silent { what: "its serial line".into(), output: self.tail() });
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(()) // a build without this command
    }

    /// Older builds name the eFuse driver differently; with the wrong name burned eFuses would not be kept.
    fn check_efuse_driver(&mut self, control: &mut Qmp<ControlLine>) -> Result<(), VirtualError> {
        let Ok(types) = control.run("qom-list-types", json!({})) else { return Ok(()) };
        let names: Vec<&str> = types.as_array().into_iter().flatten().filter_map(|t| t.get("name")?.as_str()).collect();
        let known = |driver: &String| names.contains(&driver.as_str());
        if names.is_empty() || known(&self.efuse_driver) {
            return Ok(());
        }
        match self.emulation.efuse_drivers.iter().find(|driver| known(driver)) {
            Some(driver) => {
                self.efuse_driver.clone_from(driver);
                Err(VirtualError::Option("another eFuse driver".into()))
            }
            None => Ok(()),
        }
    }

    fn connect<T>(
        &self,
        process: &mut Starting,
        until: Instant,
        what: &str,
        mut connect: impl FnMut() -> io::Result<T>,
    ) -> Result<T, VirtualError> {
        loop {
            let error = match connect() {
                Ok(line) => return Ok(line),
                Err(error) => error,
            };
            if let Some(process) = &mut process.0
                && let Ok(Some(status)) = process.try_wait()
            {
                std::thread::sleep(Duration::from_millis(20)); // its last words are on their way
                return Err(VirtualError::Ended { status: status.to_string(), output: self.tail() });
            }
            if Instant::now() >= until {
                return Err(VirtualError::Silent { what: format!("{what}: {error}"), output: self.tail() });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// An error of the control line, or rather the end of the process where that is its cause.
    fn with_output(&self, process: &mut Starting, error: VirtualError) -> VirtualError {
        std::thread::sleep(Duration::from_millis(50));
        match (process.0.as_mut().and_then(|process| process.try_wait().ok().flatten()), error) {
            (Some(status), _) => VirtualError::Ended { status: status.to_string(), output: self.tail() },
            (None, VirtualError::Silent { what, .. }) => VirtualError::Silent { what, output: self.tail() },
            (None, error) => error,
        }
    }

    fn tail(&self) -> String {
        locked(&self.output).tail(2000).trim().to_string()
    }

    /// Reads the emulator's own output as long as it lives: a full pipe would stop it.
    fn drain(&self, pipe: Option<impl Read + Send + 'static>) {
        let Some(mut pipe) = pipe else { return };
        let output = self.output.clone();
        std::thread::spawn(move || {
            let mut buf = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut buf) {
                locked(&output).push(buf.get(..count).unwrap_or_default());
            }
        });
    }

    /// Where QMP listens: a socket in the device's own directory, where only this user can reach it.
    #[cfg(unix)]
    fn qmp_address(&self) -> Result<(PathBuf, OsString), VirtualError> {
        /// Longest path of a socket (`sun_path`; 104 on macOS).
        const LONGEST: usize = 100;
        let mut path = self.dir.0.join("qmp.sock");
        if path.as_os_str().len() > LONGEST {
            let dir = esp_link::port::lock::runtime_dir();
            esp_link::port::lock::private_dir(&dir).map_err(VirtualError::file(&dir))?;
            path = dir.join(format!("qmp-{}.sock", std::process::id()));
        }
        let _ = std::fs::remove_file(&path);
        let mut argument = OsString::from("unix:");
        argument.push(escaped(&path));
        argument.push(",server=on,wait=off");
        Ok((path, argument))
    }

    #[cfg(not(unix))]
    fn qmp_address(&self) -> Result<(u16, OsString), VirtualError> {
        let port = free_port()?;
        Ok((port, format!("tcp:127.0.0.1:{port},server=on,wait=off").into()))
    }

    fn arguments(&self, mode: BootMode, serial: u16, qmp: &OsString) -> Vec<OsString> {
        let (config, emulation) = (&self.config, self.emulation);
        let mut list: Vec<OsString> = Vec::new();
        let mut add = |parts: &[&str]| list.extend(parts.iter().map(OsString::from));
        add(&["-M", &emulation.machine]);
        if let Some(mb) = config.psram_mb.or(emulation.memory_mb) {
            add(&["-m", &format!("{mb}M")]);
        }
        add(&["-display", "none", "-monitor", "none", "-S"]);
        // The chip's UART sends byte by byte: without `nodelay` each answer waits 40 ms for the first byte's acknowledgement.
        add(&["-serial", &format!("tcp:127.0.0.1:{serial},server=on,wait=off,nodelay=on")]);
        let strap = match mode {
            BootMode::Download => emulation.download_strap,
            BootMode::Normal => emulation.flash_strap,
        };
        add(&["-global", &format!("driver={},property=strap_mode,value={strap:#04x}", emulation.gpio_driver)]);
        add(&["-global", &format!("driver={},property=wdt_disable,value=true", emulation.watchdog_driver)]);
        add(&["-global", &format!("driver={},property=drive,value=efuse", self.efuse_driver)]);
        if config.octal_psram {
            add(&["-global", "driver=ssi_psram,property=is_octal,value=true"]);
        }
        if config.network {
            let forwards = config.forwards.iter().map(|f| format!(",hostfwd=tcp:127.0.0.1:{}-:{}", f.host, f.guest));
            add(&["-nic", &format!("user,model=open_eth{}", forwards.collect::<String>())]);
        }
        if let Some(port) = config.gdb_port {
            add(&["-gdb", &format!("tcp:127.0.0.1:{port}")]);
        }
        for (path, kind) in
            [(self.dir.flash(), ",if=mtd,format=raw"), (self.dir.efuse(), ",if=none,format=raw,id=efuse")]
        {
            let mut drive = OsString::from("file=");
            drive.push(escaped(&path));
            drive.push(kind);
            list.extend(["-drive".into(), drive]);
        }
        list.extend(["-qmp".into(), qmp.clone()]);
        list
    }
}

/// Options that this chip's emulation lacks, and ports that are taken, before anything is started.
fn check(config: &Config, emulation: &Emulation) -> Result<(), VirtualError> {
    if !crate::files::FLASH_SIZES.contains(&config.flash_size) {
        return Err(VirtualError::FlashSize(config.flash_size));
    }
    if let Some(mb) = config.psram_mb.filter(|mb| !emulation.psram_mb.contains(mb)) {
        let possible = &emulation.psram_mb;
        return Err(VirtualError::Option(format!("{mb} MB of PSRAM on {} (possible: {possible:?})", config.chip)));
    }
    if config.octal_psram && !emulation.octal_psram {
        return Err(VirtualError::Option(format!("{} has no octal PSRAM", config.chip)));
    }
    if !config.network && !config.forwards.is_empty() {
        return Err(VirtualError::Option("forwarded ports without a network".into()));
    }
    let mut ports = config.forwards.iter().map(|forward| forward.host).chain(config.gdb_port);
    ports.try_for_each(|port| crate::server::lines::listen_on_loopback(Some(port)).map(drop))
}

/// QEMU reads a comma as the end of a value; two are one.
fn escaped(path: &Path) -> OsString {
    OsString::from(path.to_string_lossy().replace(',', ",,"))
}

/// A TCP port that is free now.
fn free_port() -> Result<u16, VirtualError> {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    free.map(|address| address.port()).map_err(|error| VirtualError::Host(format!("no free TCP port: {error}")))
}

#[cfg(unix)]
fn connect_control(path: &PathBuf) -> io::Result<ControlLine> {
    let line = ControlLine::connect(path)?;
    line.set_read_timeout(Some(Duration::from_secs(10)))?;
    line.set_write_timeout(Some(Duration::from_secs(5)))?;
    Ok(line)
}

#[cfg(not(unix))]
fn connect_control(port: &u16) -> io::Result<ControlLine> {
    let line = TcpStream::connect((Ipv4Addr::LOCALHOST, *port))?;
    line.set_read_timeout(Some(Duration::from_secs(10)))?;
    line.set_write_timeout(Some(Duration::from_secs(5)))?;
    Ok(line)
}

fn read(mut line: TcpStream, sent: &Sent, wake: &Waker) {
    let mut buf = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = line.read(&mut buf) {
        locked(&sent.bytes).extend_from_slice(buf.get(..count).unwrap_or_default());
        if !sent.told.swap(true, Ordering::AcqRel) {
            wake();
        }
        while locked(&sent.bytes).len() > HELD {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    sent.ended.store(true, Ordering::Release);
    wake();
}

/// A process that is not fully started: ended when the start fails.
struct Starting(Option<Child>);

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(mut process) = self.0.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Running {
    /// Asks in three ways, each more urgent.
    fn end(mut self) {
        let _ = self.qmp.run("quit", json!({}));
        if self.ends() {
            return;
        }
        let _ = processes::signal(self.process.id(), false);
        if self.ends() {
            return;
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    fn ends(&mut self) -> bool {
        let until = Instant::now() + END;
        while Instant::now() < until {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }
}

impl Engine for Qemu {
    fn boot(&mut self, mode: BootMode) -> Result<(), VirtualError> {
        if mode == self.mode
            && let Some(running) = &mut self.running
            && matches!(running.process.try_wait(), Ok(None))
            && running.qmp.run("system_reset", json!({})).is_ok()
        {
            return Ok(()); // the strap stays with the process, so only another mode needs another process
        }
        self.halt();
        let result = self.start(mode);
        self.problem = result.as_ref().err().map(ToString::to_string);
        result
    }

    fn halt(&mut self) {
        if let Some(running) = self.running.take() {
            running.end();
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.running {
            Some(running) => running.serial.write_all(bytes),
            None => Ok(()), // a line to a chip without power takes anything
        }
    }

    fn set_lines(&mut self, dtr: bool, rts: bool) -> Result<(), VirtualError> {
        match self.circuit.set_lines(dtr, rts, self.began.elapsed()) {
            Effect::Start(mode) => self.boot(mode),
            Effect::Hold | Effect::None => Ok(()),
        }
    }

    fn set_baud(&mut self, _: u32) {}

    fn poll(&mut self, sent: &mut Vec<u8>) -> Duration {
        let now = self.began.elapsed();
        if let Effect::Start(mode) = self.circuit.elapsed(now) {
            let _ = self.boot(mode); // the reason is kept in `problem`
        }
        sent.append(&mut self.last_words);
        let mut ended = None;
        if let Some(running) = &mut self.running {
            // Before the bytes: what came ahead of the end is then surely there.
            let over = running.sent.ended.load(Ordering::Acquire);
            running.sent.told.store(false, Ordering::Release);
            sent.append(&mut locked(&running.sent.bytes));
            if over {
                let status = running.process.try_wait().ok().flatten();
                ended = Some(status.map_or("it closed its serial line".into(), |status| status.to_string()));
            }
        }
        if let Some(status) = ended {
            self.problem = Some(VirtualError::Ended { status, output: self.tail() }.to_string());
            self.halt();
        }
        self.circuit.due().map_or(Duration::from_secs(60), |due| due.saturating_sub(now))
    }

    fn state(&mut self) -> EngineState {
        EngineState {
            running: self.running.is_some(),
            boot_mode: Some(self.mode),
            emulator_pid: self.running.as_ref().map(|running| running.process.id()),
            version: self.running.as_ref().map(|running| running.qmp.version.clone()),
            problem: self.problem.clone(),
            notes: Vec::new(),
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.halt();
    }
}
