//! Starts, finds and ends virtual devices.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use esp_link::port::rfc2217::Rfc2217Port;
use esp_link::port::url::Endpoint;
use esp_link::port::{OpenOptions, PortError, PortUrl};

use crate::engine::EngineState;
use crate::instance::{Config, Directory, Record};
use crate::server::control::{Answer, Ask, ask};
use crate::server::host::{Ready, make_files};
use crate::{BootMode, VirtualError, files, process};

/// How long a device may take to come up. A machine with many starts at once is slow.
const COME_UP: Duration = Duration::from_secs(60);
/// How long a host may take to end when asked; QEMU alone may take three times two seconds.
const GO_DOWN: Duration = Duration::from_secs(15);

/// The virtual devices of one state directory, whoever started them.
pub struct Manager {
    root: PathBuf,
    limit: usize,
    host: Box<dyn Fn(&Path) -> Command + Send + Sync>,
    /// Hosts that this process started; dropping one closes its standard input.
    mine: Mutex<HashMap<String, Child>>,
}

/// A virtual device as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// What it is made as.
    pub config: Config,
    /// Where it can be reached; none when it is stopped.
    pub record: Option<Record>,
    /// The state of its chip.
    pub about: EngineState,
    /// Bytes that its chip has sent since its host started.
    pub console_bytes: u64,
    /// Its directory.
    pub dir: PathBuf,
}

impl Manager {
    /// Devices below `root`, at most `limit` of them running. `host` makes the command that runs
    /// [`crate::server::host::serve`] on a directory.
    pub fn new(
        root: impl Into<PathBuf>,
        limit: usize,
        host: impl Fn(&Path) -> Command + Send + Sync + 'static,
    ) -> Self {
        Self { root: root.into(), limit, host: Box::new(host), mine: Mutex::default() }
    }

    /// The directory of a device.
    pub fn directory(&self, id: &str) -> Result<Directory, VirtualError> {
        let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if id.is_empty() || id.len() > 64 || id.starts_with('.') || !id.chars().all(legal) {
            return Err(VirtualError::Unknown(id.into()));
        }
        Ok(Directory(self.root.join(id)))
    }

    /// Makes a device and starts it. An empty `config.id` takes the first free one of its chip.
    ///
    /// `flash` is the content from address 0; the rest is erased. Nothing stays behind when it fails.
    pub fn start(&self, mut config: Config, flash: &[u8], efuse: &[u8]) -> Result<Status, VirtualError> {
        esp_link::port::lock::private_dir(&self.root).map_err(VirtualError::file(&self.root))?;
        let running = self.list()?.iter().filter(|status| status.record.is_some()).count();
        if running >= self.limit {
            return Err(VirtualError::Limit(running));
        }
        let dir = self.claim(&mut config)?;
        let made = dir.set_config(&config).and_then(|()| make_files(&dir, config.flash_size, flash, efuse));
        let started = made.and_then(|()| self.bring_up(&config, &dir));
        if started.is_err() {
            let _ = fs::remove_dir_all(&dir.0);
        }
        started
    }

    /// Starts a stopped device again on its files.
    pub fn resume(&self, id: &str, mode: BootMode) -> Result<Status, VirtualError> {
        let dir = self.directory(id)?;
        let mut config = dir.config().map_err(|_| VirtualError::Unknown(id.into()))?;
        config.boot_mode = mode;
        dir.set_config(&config)?;
        self.bring_up(&config, &dir)
    }

    /// Takes an id: making a directory is all or nothing, also between processes.
    fn claim(&self, config: &mut Config) -> Result<Directory, VirtualError> {
        let given = !config.id.is_empty();
        for number in 1.. {
            if !given {
                config.id = format!("{}-{number}", config.chip);
            }
            let dir = self.directory(&config.id)?;
            match fs::create_dir(&dir.0) {
                Ok(()) => return Ok(dir),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    if given {
                        return Err(VirtualError::Exists(config.id.clone()));
                    }
                }
                Err(error) => return Err(VirtualError::file(dir.0)(error)),
            }
        }
        Err(VirtualError::Limit(self.limit))
    }

    fn bring_up(&self, config: &Config, dir: &Directory) -> Result<Status, VirtualError> {
        let mut command = (self.host)(&dir.0);
        command.stdin(if config.keep { Stdio::null() } else { Stdio::piped() });
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0); // Ctrl-C is for the starter
        process::keep_streams();
        let mut host = command.spawn().map_err(|error| VirtualError::Host(format!("does not start: {error}")))?;
        let ready = wait_for_ready(&mut host);
        match ready {
            Ok(Ready::Up(_)) => {
                self.mine().insert(config.id.clone(), host);
                self.status(&config.id)
            }
            Ok(Ready::PortTaken(port)) => {
                let _ = host.wait();
                Err(VirtualError::PortTaken(port))
            }
            Ok(Ready::Failed(what)) => {
                let _ = host.wait();
                Err(VirtualError::Host(what))
            }
            Err(error) => {
                let _ = host.kill();
                let _ = host.wait();
                Err(error)
            }
        }
    }

    fn mine(&self) -> MutexGuard<'_, HashMap<String, Child>> {
        self.mine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All devices, by id. What dead hosts left behind is removed on the way.
    pub fn list(&self) -> Result<Vec<Status>, VirtualError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let Ok(id) = entry.file_name().into_string() else { continue };
            if let Ok(status) = self.status(&id) {
                found.push(status);
            }
        }
        found.sort_by(|a, b| a.config.id.cmp(&b.config.id));
        Ok(found)
    }

    /// One device. One that is not kept and whose host died is gone.
    pub fn status(&self, id: &str) -> Result<Status, VirtualError> {
        let dir = self.directory(id)?;
        let config = dir.config().map_err(|_| VirtualError::Unknown(id.into()))?;
        let stopped = |dir: Directory, config| Status {
            config,
            record: None,
            about: EngineState::default(),
            console_bytes: 0,
            dir: dir.0,
        };
        let Some(record) = dir.record() else {
            if !config.persist && is_abandoned(&dir) {
                let _ = fs::remove_dir_all(&dir.0);
                return Err(VirtualError::Unknown(id.into()));
            }
            return Ok(stopped(dir, config)); // stopped, or just being started
        };
        if let Some(lock) = dir.lock()? {
            // Its host is dead: the lock goes with the process.
            self.forget(id);
            end_orphan(&dir, &record);
            dir.clear_record();
            drop(lock);
            if !config.persist {
                let _ = fs::remove_dir_all(&dir.0);
                return Err(VirtualError::Unknown(id.into()));
            }
            return Ok(stopped(dir, config));
        }
        let answer = ask(&record, Ask::Status)?;
        Ok(Status { config, record: Some(record), about: answer.about, console_bytes: answer.console_end, dir: dir.0 })
    }

    /// Asks a running device.
    pub fn ask(&self, id: &str, what: Ask) -> Result<Answer, VirtualError> {
        let status = self.status(id)?;
        let record = status.record.ok_or_else(|| VirtualError::Stopped(id.into()))?;
        ask(&record, what)
    }

    /// Stops a device; its files go with it unless they are to persist.
    pub fn stop(&self, id: &str) -> Result<(), VirtualError> {
        let status = self.status(id)?;
        let dir = Directory(status.dir);
        if let Some(record) = &status.record {
            let _ = ask(record, Ask::Stop);
            let until = Instant::now() + GO_DOWN;
            while dir.lock()?.is_none() {
                if Instant::now() >= until {
                    process::signal(record.pid, true).map_err(|error| VirtualError::Host(error.to_string()))?;
                    end_orphan(&dir, record);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            self.forget(id);
            dir.clear_record();
        }
        if !status.config.persist {
            match fs::remove_dir_all(&dir.0) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(VirtualError::file(dir.0)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes the files of a stopped device.
    pub fn remove(&self, id: &str) -> Result<(), VirtualError> {
        let dir = self.directory(id)?;
        let _lock = dir.lock()?.ok_or_else(|| VirtualError::Host("it is running".into()))?;
        fs::remove_dir_all(&dir.0).map_err(VirtualError::file(&dir.0))
    }

    /// Lets go of the child process, so that no zombie stays.
    fn forget(&self, id: &str) {
        let host = self.mine().remove(id);
        if let Some(mut host) = host {
            drop(host.stdin.take());
            let _ = host.wait();
        }
    }

    /// Changes a device's files: its chip is stopped meanwhile and started again as before.
    pub fn with_files<T>(
        &self,
        id: &str,
        change: impl FnOnce(&Directory) -> Result<T, VirtualError>,
    ) -> Result<T, VirtualError> {
        let status = self.status(id)?;
        let dir = Directory(status.dir);
        let Some(record) = status.record else {
            let _lock = dir.lock()?.ok_or_else(|| VirtualError::Host("it is being started".into()))?;
            return change(&dir);
        };
        ask(&record, Ask::Halt)?;
        let changed = change(&dir);
        let mode = status.about.boot_mode.unwrap_or(status.config.boot_mode);
        let started = ask(&record, Ask::Boot { mode });
        let changed = changed?;
        started.map(|_| changed)
    }

    /// Keeps the flash and eFuses of now under a name.
    pub fn snapshot(&self, id: &str, name: &str) -> Result<PathBuf, VirtualError> {
        self.directory(name).map_err(|_| VirtualError::Option(format!("{name:?} is not a name for a snapshot")))?;
        self.with_files(id, |dir| {
            let to = dir.snapshot(name);
            fs::create_dir_all(&to).map_err(VirtualError::file(&to))?;
            files::copy_whole(&dir.flash(), &to.join("flash.bin"))?;
            files::copy_whole(&dir.efuse(), &to.join("efuse.bin"))?;
            Ok(to)
        })
    }

    /// Goes back to a snapshot.
    pub fn restore(&self, id: &str, name: &str) -> Result<(), VirtualError> {
        self.directory(name).map_err(|_| VirtualError::Option(format!("{name:?} is not a name for a snapshot")))?;
        self.with_files(id, |dir| {
            let from = dir.snapshot(name);
            if !from.join("flash.bin").is_file() {
                return Err(VirtualError::Option(format!("there is no snapshot {name:?}")));
            }
            files::copy_whole(&from.join("flash.bin"), &dir.flash())?;
            files::copy_whole(&from.join("efuse.bin"), &dir.efuse())
        })
    }

    /// Opens a device's serial line.
    pub fn open(&self, id: &str, options: &OpenOptions) -> Result<Rfc2217Port, PortError> {
        let url = PortUrl::Qemu(id.into()).to_string();
        let fail = |error: VirtualError| PortError::Virtual { url: url.clone(), what: error.to_string() };
        let status = self.status(id).map_err(fail)?;
        let record = status.record.ok_or_else(|| fail(VirtualError::Stopped(id.into())))?;
        let at = Endpoint { host: "127.0.0.1".into(), port: record.rfc2217_port };
        Ok(Rfc2217Port::open(&at, options)?.as_virtual(url.clone()))
    }
}

impl Drop for Manager {
    /// Ends what this process started and nobody is to keep.
    fn drop(&mut self) {
        let mine: Vec<String> = self.mine().keys().cloned().collect();
        for id in mine {
            if self.status(&id).is_ok_and(|status| !status.config.keep) {
                let _ = self.stop(&id);
            }
        }
    }
}

/// Made so long ago that its start must have failed, and nobody is at it.
fn is_abandoned(dir: &Directory) -> bool {
    let made = fs::metadata(dir.0.join("config.json")).and_then(|file| file.modified());
    let age = made.ok().and_then(|made| made.elapsed().ok()).unwrap_or_default();
    age > COME_UP * 2 && matches!(dir.lock(), Ok(Some(_)))
}

/// Reads the host's one line, in bounded time.
fn wait_for_ready(host: &mut Child) -> Result<Ready, VirtualError> {
    let Some(output) = host.stdout.take() else { return Err(VirtualError::Host("has no output".into())) };
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = BufReader::new(output).read_line(&mut line);
        let _ = sender.send(read.map(|_| line));
    });
    match receiver.recv_timeout(COME_UP) {
        Ok(Ok(line)) if !line.is_empty() => {
            serde_json::from_str(&line).map_err(|_| VirtualError::Host(format!("says {:?}", line.trim())))
        }
        Ok(_) => Err(VirtualError::Host("ended before it was up".into())),
        Err(_) => Err(VirtualError::Host(format!("was not up after {} s", COME_UP.as_secs()))),
    }
}

/// Ends an emulator whose host died.
fn end_orphan(dir: &Directory, record: &Record) {
    if let Some(pid) = record.emulator_pid.filter(|pid| process::is_running(*pid, &dir.0.to_string_lossy())) {
        let _ = process::signal(pid, true);
    }
}
