//! The process that keeps one virtual device running.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::control::{self, Answer, Ask};
use super::debug;
use super::lines::{self, Protocol, Sharing};
use super::{Event, Request, Server};
use crate::engine::{self, Waker};
use crate::instance::{Backend, Directory, Record};
use crate::{VirtualError, files};

/// What a host says when it is up, or why it is not: one line of JSON on its standard output.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ready {
    /// It is up.
    Up(Record),
    /// It is not.
    Failed(String),
    /// A port that was asked for is taken.
    PortTaken(u16),
}

/// Bytes of console kept.
const CONSOLE: usize = 4 << 20;

/// Runs the device of the directory `dir` until it is told to stop; `ready` is told whether it came up.
pub fn serve(dir: &Path, ready: &mut dyn Write) -> Result<(), VirtualError> {
    let dir = Directory(dir.to_path_buf());
    let mut host = match Host::start(&dir) {
        Ok(host) => host,
        Err(error) => {
            let told = match &error {
                VirtualError::PortTaken(port) => Ready::PortTaken(*port),
                other => Ready::Failed(other.to_string()),
            };
            tell(ready, &told);
            return Err(error);
        }
    };
    tell(ready, &Ready::Up(host.record.clone()));
    let orphaned = host.run() == End::Orphaned;
    host.server.engine.halt();
    dir.clear_record();
    if orphaned && !host.persist {
        let _ = std::fs::remove_dir_all(&dir.0); // nobody else will
    }
    Ok(())
}

fn tell(ready: &mut dyn Write, what: &Ready) {
    if let Ok(line) = serde_json::to_string(what) {
        let _ = writeln!(ready, "{line}");
        let _ = ready.flush();
    }
}

/// Why a host ends.
#[derive(PartialEq)]
enum End {
    Told,
    Orphaned,
}

struct Host {
    persist: bool,
    server: Server,
    dir: Directory,
    record: Record,
    _lock: std::fs::File,
}

impl Host {
    fn start(dir: &Directory) -> Result<Self, VirtualError> {
        let lock = dir.lock()?.ok_or_else(|| VirtualError::Host("it is running already".into()))?;
        let config = dir.config()?;
        let rfc2217 = lines::listen_on_loopback(config.rfc2217_port)?;
        let socket = lines::listen_on_loopback(config.socket_port)?;
        let control = lines::listen_on_loopback(None)?;
        let serves_gdb = config.backend == Backend::Builtin && config.runs_code();
        let gdb = serves_gdb.then(|| lines::listen_on_loopback(config.gdb_port)).transpose()?;
        let (sender, events) = channel();
        let wake: Waker = Arc::new({
            let sender = sender.clone();
            move || drop(sender.send(Event::Wake))
        });
        let mut engine = engine::for_device(&config, dir, wake)?;
        engine.boot(config.boot_mode)?;
        let port = |listener: &std::net::TcpListener| {
            listener.local_addr().map(|at| at.port()).map_err(|error| VirtualError::Host(error.to_string()))
        };
        let record = Record {
            pid: std::process::id(),
            token: token()?,
            control_port: port(&control)?,
            rfc2217_port: port(&rfc2217)?,
            socket_port: port(&socket)?,
            gdb_port: gdb.as_ref().map(port).transpose()?.or(config.gdb_port),
            emulator_pid: engine.state().emulator_pid,
            started_unix_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs()),
        };
        dir.set_record(&record)?;
        for (listener, protocol) in [(rfc2217, Protocol::Rfc2217), (socket, Protocol::Plain)] {
            let sender = sender.clone();
            std::thread::spawn(move || lines::serve(&listener, protocol, Sharing::Many, &sender));
        }
        if let Some(gdb) = gdb {
            let sender = sender.clone();
            std::thread::spawn(move || debug::serve(&gdb, &sender));
        }
        let (token, asked) = (record.token.clone(), sender.clone());
        std::thread::spawn(move || control::serve(control, token, asked));
        if !config.keep {
            std::thread::spawn(move || wait_for_starter(&sender));
        }
        let server = Server::new(engine, events, CONSOLE);
        Ok(Self { persist: config.persist, server, dir: dir.clone(), record, _lock: lock })
    }

    fn run(&mut self) -> End {
        loop {
            match self.server.step() {
                None => {}
                Some(Request::Stop) => return End::Orphaned,
                Some(Request::Asked(ask, answer)) => {
                    let stop = ask == Ask::Stop;
                    if stop {
                        self.server.engine.halt();
                        self.dir.clear_record();
                    }
                    let _ = answer.send(self.answer(ask));
                    if stop {
                        // The answer is written by another thread.
                        std::thread::sleep(Duration::from_millis(20));
                        return End::Told;
                    }
                }
            }
            self.note_emulator();
        }
    }

    fn answer(&mut self, ask: Ask) -> Answer {
        let Server { engine, console, .. } = &mut self.server;
        let mut answer = Answer::default();
        match ask {
            Ask::Status | Ask::Stop => {}
            Ask::Boot { mode } => answer.error = engine.boot(mode).err().map(|error| error.to_string()),
            Ask::Halt => engine.halt(),
            Ask::Console { from, limit } => {
                (answer.console_from, answer.console) = console.read(from, limit.min(CONSOLE));
            }
        }
        answer.about = engine.state();
        answer.console_end = console.end();
        answer
    }

    /// Keeps the emulator's process id in the directory, so that whoever finds an orphan can end it.
    fn note_emulator(&mut self) {
        let pid = self.server.engine.state().emulator_pid;
        if pid != self.record.emulator_pid && self.dir.record().is_some() {
            self.record.emulator_pid = pid;
            let _ = self.dir.set_record(&self.record);
        }
    }
}

/// Standard input is held by whoever started this device; it closes when that ends, even by SIGKILL.
fn wait_for_starter(events: &Sender<Event>) {
    let mut buf = [0; 64];
    while let Ok(1..) = std::io::stdin().read(&mut buf) {}
    let _ = events.send(Event::Stop);
}

/// Something that no other user can guess.
fn token() -> Result<String, VirtualError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| VirtualError::Host(format!("no random numbers: {error}")))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// Makes the files that a new device starts with, those that are not there.
pub fn make_files(dir: &Directory, size: u64, flash: &[u8], efuse: &[u8]) -> Result<(), VirtualError> {
    files::make_flash(&dir.flash(), size, flash)?;
    files::write_whole(&dir.efuse(), efuse)
}
