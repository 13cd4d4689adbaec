//! Windows: the system itself gives a port to one user only.

use std::io;
use std::path::Path;

use serial2::{SerialPort as Line, Settings};

use super::{OpenOptions, Refusal};

/// `ERROR_FILE_NOT_FOUND`, `ERROR_PATH_NOT_FOUND`, `ERROR_ACCESS_DENIED`, `ERROR_SHARING_VIOLATION` (winerror.h).
const FILE_NOT_FOUND: i32 = 2;
const PATH_NOT_FOUND: i32 = 3;
const ACCESS_DENIED: i32 = 5;
const SHARING_VIOLATION: i32 = 32;

pub(super) fn open(path: &Path, options: &OpenOptions) -> io::Result<Line> {
    let baud = options.baud;
    Line::open(path, move |mut settings: Settings| {
        settings.set_raw();
        settings.set_baud_rate(baud)?;
        Ok(settings)
    })
}

pub(super) fn set_baud(line: &mut Line, baud: u32) -> io::Result<()> {
    let mut settings = line.get_configuration()?;
    settings.set_baud_rate(baud)?;
    line.set_configuration(&settings)
}

pub(super) fn has_modem_lines(_: &Line) -> bool {
    true
}

pub(super) fn set_lines(line: &mut Line, dtr: bool, rts: bool) -> io::Result<()> {
    line.set_dtr(dtr)?;
    line.set_rts(rts)
}

pub(super) fn is_alive(line: &Line) -> bool {
    line.read_cts().is_ok()
}

/// A port that another program has open answers "access denied" here.
pub(super) fn meaning(error: &io::Error) -> Refusal {
    match error.raw_os_error() {
        Some(FILE_NOT_FOUND | PATH_NOT_FOUND) => Refusal::Missing,
        Some(ACCESS_DENIED | SHARING_VIOLATION) => Refusal::Busy,
        _ => Refusal::Other,
    }
}

pub(super) fn name_loss(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound => super::gone("the device left the bus"),
        _ => error,
    }
}

pub(super) fn group_of(_: &Path) -> Option<String> {
    None
}
