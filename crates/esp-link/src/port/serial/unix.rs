//! What is special to Unix: exclusive use, modem lines in one request, no hang-up at closing.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use rustix::termios::{ControlModes, OptionalActions, ioctl_tiocexcl, isatty, tcgetattr, tcsetattr};
use serial2::{SerialPort as Line, Settings};

use super::{OpenOptions, Refusal};
use crate::port::{scan, tty};

pub(super) fn open(path: &Path, options: &OpenOptions) -> io::Result<Line> {
    let device = fs::metadata(path)?;
    if !device.file_type().is_char_device() {
        return Err(Errno::NOTTY.into());
    }
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let tty = rustix::fs::open(path, flags, Mode::empty())?;
    if !isatty(&tty) {
        return Err(Errno::NOTTY.into());
    }
    // Before any setting is touched: the present user of the line must not notice.
    flock(&tty, FlockOperation::NonBlockingLockExclusive).map_err(|_| Errno::BUSY)?;
    if tty::has_modem_lines(&tty) && scan::holder_of(path).is_some() {
        return Err(Errno::BUSY.into());
    }
    ioctl_tiocexcl(&tty)?;
    let mut line = Line::from(tty);
    let mut settings = line.get_configuration()?;
    raw(&mut settings, options.baud)?;
    line.set_configuration(&settings)?;
    keep_lines_at_close(&line)?;
    if scan::driver_of(path).as_deref() == Some("ftdi_sio") {
        let _ = tty::set_low_latency(&line); // slower without it, no more
    }
    Ok(line)
}

fn raw(settings: &mut Settings, baud: u32) -> io::Result<()> {
    settings.set_raw();
    settings.set_baud_rate(baud)
}

/// Clears HUPCL: closing the port would drop the modem lines, which resets some boards.
fn keep_lines_at_close(line: &Line) -> io::Result<()> {
    let mut termios = tcgetattr(line)?;
    termios.control_modes.remove(ControlModes::HUPCL);
    Ok(tcsetattr(line, OptionalActions::Now, &termios)?)
}

pub(super) fn set_baud(line: &mut Line, baud: u32) -> io::Result<()> {
    let mut settings = line.get_configuration()?;
    settings.set_baud_rate(baud)?;
    line.set_configuration(&settings)
}

pub(super) fn has_modem_lines(line: &Line) -> bool {
    tty::has_modem_lines(line)
}

pub(super) fn set_lines(line: &mut Line, dtr: bool, rts: bool) -> io::Result<()> {
    tty::set_modem_lines(line, dtr, rts)
}

/// The device still answers its driver.
pub(super) fn is_alive(line: &Line) -> bool {
    tcgetattr(line).is_ok()
}

pub(super) fn meaning(error: &io::Error) -> Refusal {
    match Errno::from_io_error(error) {
        Some(Errno::NOENT | Errno::NXIO | Errno::NODEV | Errno::NOTDIR) => Refusal::Missing,
        Some(Errno::BUSY) => Refusal::Busy,
        Some(Errno::ACCESS | Errno::PERM) => Refusal::Permission,
        Some(Errno::NOTTY | Errno::INVAL | Errno::ISDIR) => Refusal::NotSerial,
        _ => Refusal::Other,
    }
}

/// An unplugged device reads as end of file or as an I/O error, by driver.
pub(super) fn name_loss(error: io::Error) -> io::Error {
    match Errno::from_io_error(&error) {
        Some(Errno::IO | Errno::NXIO | Errno::NODEV) => super::gone("the device left the bus"),
        _ => error,
    }
}

/// The name of the group that owns the node.
pub(super) fn group_of(path: &Path) -> Option<String> {
    let gid = fs::metadata(path).ok()?.gid().to_string();
    let groups = fs::read_to_string("/etc/group").ok()?;
    let mut rows = groups.lines().map(|row| row.split(':').collect::<Vec<_>>());
    let row = rows.find(|row| row.get(2) == Some(&gid.as_str()));
    Some(row.and_then(|row| row.first().map(|name| name.to_string())).unwrap_or(gid))
}
