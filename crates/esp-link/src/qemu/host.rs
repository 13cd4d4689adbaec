//! The process that keeps one virtual device running.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::control::{self, Answer, Ask};
use super::front::{self, Client, Protocol};
use super::instance::{Config, Directory, Record};
use super::launch::Qemu;
use super::log::Log;
use super::machine::{Machine, Waker};
use super::{QemuError, files};
use crate::port::rfc2217::server::Event as Ordered;

/// What happens to a host.
pub(super) enum Event {
    /// The machine has something.
    Wake,
    /// A client connected.
    Joined(Client),
    /// A client left.
    Left(u64),
    /// A client wants this done; told when it is.
    Ordered(Vec<Ordered>, Sender<()>),
    /// The control line wants to know, or to have it.
    Asked(Ask, Sender<Answer>),
    /// Whoever started this device is gone.
    Orphaned,
}

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
///
/// `builtin` makes the machine of a device that is not QEMU's.
pub fn serve(
    dir: &Path,
    ready: &mut dyn Write,
    builtin: impl FnOnce(&Config, &Directory, Waker) -> Result<Box<dyn Machine>, QemuError>,
) -> Result<(), QemuError> {
    let dir = Directory(dir.to_path_buf());
    let mut host = match Host::start(&dir, builtin) {
        Ok(host) => host,
        Err(error) => {
            let told = match &error {
                QemuError::PortTaken(port) => Ready::PortTaken(*port),
                other => Ready::Failed(other.to_string()),
            };
            tell(ready, &told);
            return Err(error);
        }
    };
    tell(ready, &Ready::Up(host.record.clone()));
    let orphaned = host.run() == End::Orphaned;
    host.machine.halt();
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
    machine: Box<dyn Machine>,
    dir: Directory,
    record: Record,
    events: Receiver<Event>,
    clients: Vec<Client>,
    console: Log,
    _lock: std::fs::File,
}

impl Host {
    fn start(
        dir: &Directory,
        builtin: impl FnOnce(&Config, &Directory, Waker) -> Result<Box<dyn Machine>, QemuError>,
    ) -> Result<Self, QemuError> {
        let lock = dir.lock()?.ok_or_else(|| QemuError::Host("it is running already".into()))?;
        let config = dir.config()?;
        let rfc2217 = front::listen(config.rfc2217_port)?;
        let socket = front::listen(config.socket_port)?;
        let control = front::listen(None)?;
        let (sender, events) = channel();
        let wake: Waker = Arc::new({
            let sender = sender.clone();
            move || drop(sender.send(Event::Wake))
        });
        let mut machine: Box<dyn Machine> = match config.backend {
            super::instance::Backend::Qemu => Box::new(Qemu::new(config.clone(), dir.clone(), wake)?),
            super::instance::Backend::Builtin => builtin(&config, dir, wake)?,
        };
        machine.boot(config.boot_mode)?;
        let port = |listener: &std::net::TcpListener| {
            listener.local_addr().map(|at| at.port()).map_err(|error| QemuError::Host(error.to_string()))
        };
        let record = Record {
            pid: std::process::id(),
            token: token(),
            control_port: port(&control)?,
            rfc2217_port: port(&rfc2217)?,
            socket_port: port(&socket)?,
            emulator_pid: machine.about().emulator_pid,
            started_unix_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs()),
        };
        dir.set_record(&record)?;
        let spawn = |listener, protocol, first| {
            let sender = sender.clone();
            std::thread::spawn(move || front::serve(listener, protocol, first, sender));
        };
        spawn(rfc2217, Protocol::Rfc2217, 0);
        spawn(socket, Protocol::Plain, 1);
        let (token, asked) = (record.token.clone(), sender.clone());
        std::thread::spawn(move || control::serve(control, token, asked));
        if !config.keep {
            std::thread::spawn(move || wait_for_starter(&sender));
        }
        Ok(Self {
            persist: config.persist,
            machine,
            dir: dir.clone(),
            record,
            events,
            clients: Vec::new(),
            console: Log::new(CONSOLE),
            _lock: lock,
        })
    }

    fn run(&mut self) -> End {
        let mut sent = Vec::new();
        loop {
            let wait = self.machine.poll(&mut sent);
            if !sent.is_empty() {
                self.console.push(&sent);
                self.clients.retain(|client| client.send(&sent));
                sent.clear();
            }
            match self.events.recv_timeout(wait) {
                Ok(Event::Wake) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Event::Joined(client)) => {
                    self.machine.joined(client.protocol == Protocol::Rfc2217);
                    self.clients.push(client);
                }
                Ok(Event::Left(id)) => self.clients.retain(|client| client.id != id),
                Ok(Event::Ordered(orders, done)) => {
                    orders.into_iter().for_each(|order| self.order(order));
                    let _ = done.send(());
                }
                Ok(Event::Asked(ask, answer)) => {
                    let stop = ask == Ask::Stop;
                    if stop {
                        self.machine.halt();
                        self.dir.clear_record();
                    }
                    let _ = answer.send(self.answer(ask));
                    if stop {
                        // The answer is written by another thread.
                        std::thread::sleep(std::time::Duration::from_millis(20));
                        return End::Told;
                    }
                }
                Ok(Event::Orphaned) | Err(RecvTimeoutError::Disconnected) => return End::Orphaned,
            }
            self.note_emulator();
        }
    }

    fn order(&mut self, order: Ordered) {
        // A chip that does not take bytes or lines is reported by `about`, as a dead board is by its silence.
        match order {
            Ordered::Data(bytes) => drop(self.machine.write(&bytes)),
            Ordered::Lines { dtr, rts } => drop(self.machine.set_lines(dtr, rts)),
            Ordered::Baud(baud) => self.machine.set_baud(baud),
            Ordered::Purge { .. } => {} // everything is passed on at once
        }
    }

    fn answer(&mut self, ask: Ask) -> Answer {
        let mut answer = Answer::default();
        match ask {
            Ask::Status | Ask::Stop => {}
            Ask::Boot { mode } => answer.error = self.machine.boot(mode).err().map(|error| error.to_string()),
            Ask::Halt => self.machine.halt(),
            Ask::Console { from, limit } => {
                (answer.console_from, answer.console) = self.console.read(from, limit.min(CONSOLE));
            }
        }
        answer.about = self.machine.about();
        answer.console_end = self.console.end();
        answer
    }

    /// Keeps the emulator's process id in the directory, so that whoever finds an orphan can end it.
    fn note_emulator(&mut self) {
        let pid = self.machine.about().emulator_pid;
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
    let _ = events.send(Event::Orphaned);
}

/// Something that no other user can guess, from the operating system's random numbers.
fn token() -> String {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let part = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", part(), part())
}

/// Makes the files that a new device starts with, those that are not there.
pub fn make_files(dir: &Directory, size: u64, flash: &[u8], efuse: &[u8]) -> Result<(), QemuError> {
    files::make_flash(&dir.flash(), size, flash)?;
    files::write_whole(&dir.efuse(), efuse)
}
