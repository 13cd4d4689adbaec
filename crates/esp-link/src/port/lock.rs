//! One user per physical device, across processes.
//!
//! The lock is an OS lock on a file in a directory that all processes of a user share. The OS drops it with the
//! process, however that ends; the file beside it only says who holds it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Who uses a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Command line, shortened.
    pub command: String,
    /// Since when, in seconds of Unix time, where it is known.
    pub since_unix_s: Option<u64>,
}

impl Holder {
    /// This process, from now on.
    pub fn myself() -> Self {
        let arguments: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
        Self { pid: std::process::id(), command: shorten(&arguments.join(" ")), since_unix_s: Some(since) }
    }
}

/// Cuts a command line to a readable length.
pub(crate) fn shorten(command: &str) -> String {
    const LONGEST: usize = 120;
    if command.chars().count() <= LONGEST {
        return command.into();
    }
    command.chars().take(LONGEST - 1).chain(['…']).collect()
}

/// A held lock; dropped, the device is free.
#[derive(Debug)]
pub struct DeviceLock {
    _locked: File,
}

/// Why a lock was not given.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process, or another part of this one, holds it.
    #[error("locked")]
    Held(Option<Holder>),
    /// The lock's directory cannot be used.
    #[error("lock directory {dir}: {source}")]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What the OS says.
        source: io::Error,
    },
}

/// The locks of one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locks {
    dir: PathBuf,
}

impl Default for Locks {
    fn default() -> Self {
        Self::at(runtime_dir().join("locks"))
    }
}

impl Locks {
    /// Locks in `dir`, which is created when first needed.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Takes the lock of `device`, waiting at most `wait` for its holder to leave.
    pub fn acquire(&self, device: &DeviceKey, wait: Duration) -> Result<DeviceLock, LockError> {
        let fail = |source| LockError::Directory { dir: self.dir.clone(), source };
        private_dir(&self.dir).map_err(fail)?;
        let path = self.dir.join(format!("{}.lock", device.0));
        let file = File::options().create(true).truncate(false).write(true).open(path).map_err(fail)?;
        let until = Instant::now() + wait;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => return Err(LockError::Held(self.told(device))),
                Err(TryLockError::Error(source)) => return Err(fail(source)),
            }
        }
        let told = serde_json::to_vec(&Holder::myself()).unwrap_or_default();
        fs::write(self.told_path(device), told).map_err(fail)?;
        Ok(DeviceLock { _locked: file })
    }

    /// Who holds `device`, without waiting and without taking it.
    pub fn holder(&self, device: &DeviceKey) -> Option<Holder> {
        let file = File::options().write(true).open(self.dir.join(format!("{}.lock", device.0))).ok()?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => self.told(device),
            _ => None,
        }
    }

    fn told(&self, device: &DeviceKey) -> Option<Holder> {
        serde_json::from_slice(&fs::read(self.told_path(device)).ok()?).ok()
    }

    /// Beside the lock and not in it: on Windows a locked file cannot be read by others.
    fn told_path(&self, device: &DeviceKey) -> PathBuf {
        self.dir.join(format!("{}.holder", device.0))
    }
}

/// What names one physical device on this machine, whatever path leads to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeviceKey(String);

impl DeviceKey {
    /// A key of `kind` (`usb`, `tty`, `tcp` …) and the device's name there.
    pub fn new(kind: &str, name: &str) -> Self {
        let clean = name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-:".contains(c) { c } else { '_' });
        let clean: String = clean.map(|c| if cfg!(windows) && c == ':' { '_' } else { c }).collect();
        Self(format!("{kind}-{}", clean.trim_start_matches('_')))
    }

    /// The device behind a path: links are followed, and a USB device is its place on the bus, which stays the
    /// same when it enumerates again under another name.
    pub fn of_path(path: &Path) -> Self {
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        match super::scan::usb_location(&real) {
            Some(location) => Self::new("usb", &location),
            None => Self::new("tty", &real.to_string_lossy()),
        }
    }

    /// The device behind a TCP address; all names of this machine are one.
    pub fn of_endpoint(at: &super::url::Endpoint) -> Self {
        let host = at.host.to_ascii_lowercase();
        let loopback = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        Self::new("tcp", &format!("{}-{}", if loopback { "localhost" } else { &host }, at.port))
    }
}

/// A directory of this user's that goes with the session: `$XDG_RUNTIME_DIR/mcp-esptool`, or one in the temporary
/// directory.
pub fn runtime_dir() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute() && dir.is_dir()) {
        Some(dir) => dir.join("mcp-esptool"),
        None => std::env::temp_dir().join(format!("mcp-esptool-{}", user())),
    }
}

#[cfg(unix)]
fn user() -> u32 {
    rustix::process::getuid().as_raw()
}

#[cfg(not(unix))]
fn user() -> String {
    std::env::var("USERNAME").unwrap_or_default()
}

/// Creates a directory that only this user can enter, and refuses one that belongs to somebody else.
pub fn private_dir(dir: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, MetadataExt};
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let owner = fs::metadata(dir)?.uid();
        if owner != user() && owner != 0 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("belongs to user {owner}")));
        }
    }
    #[cfg(not(unix))]
    fs::create_dir_all(dir)?;
    Ok(())
}

#[cfg(test)]
mod tests;
