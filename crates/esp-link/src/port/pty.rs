//! The far end of a pseudo terminal: what a program that *is* a device holds (a simulator, a test).
//!
//! The near end is opened like any serial device. It carries no modem lines.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use super::error::{gone, stuck};

/// A pseudo terminal, seen from the device's side.
pub struct PtyMaster {
    master: File,
    /// Held open so that the terminal keeps its settings, and reads do not fail, while nobody is connected.
    _near: Option<OwnedFd>,
    path: PathBuf,
    link: Option<PathBuf>,
}

impl PtyMaster {
    /// Makes a pseudo terminal in raw mode.
    pub fn new() -> io::Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        rustix::io::fcntl_setfd(&master, rustix::io::FdFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let path = PathBuf::from(name.to_string_lossy().into_owned());
        let near = rustix::fs::open(&path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        let mut termios = tcgetattr(&near)?;
        termios.make_raw();
        tcsetattr(&near, OptionalActions::Now, &termios)?;
        rustix::io::ioctl_fionbio(&master, true)?;
        Ok(Self { master: File::from(master), _near: Some(near), path, link: None })
    }

    /// Another handle to the same terminal, for a second thread. The link stays with the first.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { master: self.master.try_clone()?, _near: None, path: self.path.clone(), link: None })
    }

    /// The device to open, `/dev/pts/3`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes `link` lead to the device, until this is dropped. A link that is there already is replaced; anything
    /// else is an error.
    pub fn link_at(&mut self, link: &Path) -> io::Result<()> {
        if link.is_symlink() {
            std::fs::remove_file(link)?;
        }
        std::os::unix::fs::symlink(&self.path, link)?;
        self.link = Some(link.to_path_buf());
        Ok(())
    }

    /// Lets a reader see the end of the line when the near side closes, as with an unplugged device.
    pub fn hang_up_with_peer(&mut self) {
        self._near = None;
    }

    /// The line rate the near side has set, in baud; 0 where the system does not tell.
    pub fn baud(&self) -> u32 {
        tcgetattr(&self.master).map_or(0, |termios| termios.output_speed())
    }

    /// Reads what is there, waiting at most `wait` for the first byte; 0 when nothing came.
    pub fn read(&mut self, buf: &mut [u8], wait: Duration) -> io::Result<usize> {
        if !self.ready(PollFlags::IN, wait)? {
            return Ok(0);
        }
        match (&self.master).read(buf) {
            Ok(0) => Err(gone("the terminal is closed")),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(0),
            other => other,
        }
    }

    /// Writes all of `bytes`; fails with `TimedOut` when the near side takes none for `stall`.
    pub fn write(&mut self, bytes: &[u8], stall: Duration) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            if !self.ready(PollFlags::OUT, stall)? {
                return Err(stuck(done, bytes.len()));
            }
            match (&self.master).write(rest) {
                Ok(count) => done += count,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn ready(&self, event: PollFlags, wait: Duration) -> io::Result<bool> {
        let until = Instant::now() + wait;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&self.master, event)], Some(&timeout)) {
                Ok(count) => return Ok(count > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for PtyMaster {
    fn drop(&mut self) {
        if let Some(link) = self.link.take().filter(|link| std::fs::read_link(link).is_ok_and(|to| to == self.path)) {
            let _ = std::fs::remove_file(link);
        }
    }
}
