//! Child processes: those that end with this one, however it ends, and those that outlive it.

use std::io;
use std::process::Command;

/// The kernel kills the child when the thread that starts it ends: start it from one that lasts.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
pub(crate) fn end_with_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    let bind = || -> io::Result<()> {
        Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?)
    };
    // SAFETY: between fork and exec only one system call (prctl) is made; nothing is allocated or locked.
    unsafe {
        command.pre_exec(bind);
    }
}

/// Elsewhere an orphan is ended when its directory is next looked at.
#[cfg(not(target_os = "linux"))]
pub(crate) fn end_with_parent(_: &mut Command) {}

/// Children get only the streams that they are given. Windows hands all inheritable handles on, among them this process's own
/// streams: a child that outlives it would keep its pipes open, and whoever reads them to the end would wait for the child.
#[cfg(windows)]
#[allow(unsafe_code)]
pub fn keep_streams() {
    use std::os::windows::io::{AsRawHandle, RawHandle};
    const HANDLE_FLAG_INHERIT: u32 = 1;
    #[link(name = "kernel32")]
    unsafe extern "system" {
        fn SetHandleInformation(handle: RawHandle, mask: u32, flags: u32) -> i32;
    }
    let streams = [io::stdin().as_raw_handle(), io::stdout().as_raw_handle(), io::stderr().as_raw_handle()];
    for stream in streams {
        // SAFETY: a flag of a handle that this process owns is cleared; a stream that is not there is refused.
        unsafe {
            SetHandleInformation(stream, HANDLE_FLAG_INHERIT, 0);
        }
    }
}

/// Elsewhere children get only the streams that they are given.
#[cfg(not(windows))]
pub fn keep_streams() {}

/// Asks a process to end, or ends it. One that is gone is no error.
#[cfg(unix)]
pub(crate) fn signal(pid: u32, force: bool) -> io::Result<()> {
    use rustix::process::{Pid, Signal, kill_process};
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    match kill_process(pid, if force { Signal::KILL } else { Signal::TERM }) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Windows has no gentle way.
#[cfg(not(unix))]
pub(crate) fn signal(pid: u32, _: bool) -> io::Result<()> {
    Command::new("taskkill").args(["/F", "/PID", &pid.to_string()]).output().map(drop)
}

/// The process exists and its command line has `part` in it; process ids are used again.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn is_running(pid: u32, part: &str) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).contains(part)
}

/// The same where there is no `/proc`.
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
pub(crate) fn is_running(pid: u32, part: &str) -> bool {
    let line = Command::new("ps").args(["-ww", "-o", "command=", "-p", &pid.to_string()]).output();
    line.is_ok_and(|line| String::from_utf8_lossy(&line.stdout).contains(part))
}

/// Windows tells no command line without more rights: the process exists.
#[cfg(not(unix))]
pub(crate) fn is_running(pid: u32, _: &str) -> bool {
    let list = Command::new("tasklist").args(["/NH", "/FO", "CSV", "/FI", &format!("PID eq {pid}")]).output();
    list.is_ok_and(|list| String::from_utf8_lossy(&list.stdout).contains(&format!("\"{pid}\"")))
}
