#![cfg(unix)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::port::Locks;
use crate::port::faulty::Random;
use crate::port::pty::PtyMaster;

fn options(dir: &Path) -> OpenOptions {
    OpenOptions { locks: Some(Locks::at(dir)), write_stall: Duration::from_millis(100), ..OpenOptions::default() }
}

fn open(path: &Path, options: &OpenOptions) -> Result<SerialPort, PortError> {
    let path = path.to_str().unwrap();
    SerialPort::open(path, &PortUrl::Pty(path.into()), options)
}

const SOON: Duration = Duration::from_secs(10);

#[test]
fn bytes_pass_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let mut far = PtyMaster::new().unwrap();
    let mut near = open(far.path(), &options(dir.path())).unwrap();
    let all: Vec<u8> = (0..=255).collect(); // no byte means anything to the terminal
    let mut buf = [0; 512];
    near.write(&all).unwrap();
    assert_eq!(far.read(&mut buf, SOON).unwrap(), 256);
    assert_eq!(&buf[..256], &all);
    far.write(&all, SOON).unwrap();
    assert_eq!(near.read(&mut buf, SOON).unwrap(), 256);
    assert_eq!(&buf[..256], &all);
    assert_eq!(near.read(&mut buf, Duration::from_millis(5)).unwrap(), 0);
    assert_eq!(near.read(&mut buf, Duration::ZERO).unwrap(), 0);
}

#[test]
fn a_pseudo_terminal_takes_any_rate_and_has_no_lines() {
    let dir = tempfile::tempdir().unwrap();
    let far = PtyMaster::new().unwrap();
    let mut near = open(far.path(), &options(dir.path())).unwrap();
    assert_eq!(near.set_lines(true, false).unwrap_err().kind(), io::ErrorKind::Unsupported);
    assert!(!near.info().modem_lines);
    for baud in [74_880, 1_417_846, 2_000_000] {
        near.set_baud(baud).unwrap();
        assert_eq!((near.baud(), far.baud()), (baud, baud));
    }
}

#[test]
fn a_line_that_goes_is_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let far = PtyMaster::new().unwrap();
    let mut near = open(far.path(), &options(dir.path())).unwrap();
    let gone = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        drop(far);
    });
    let began = Instant::now();
    let error = near.read(&mut [0; 16], Duration::from_secs(30)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotConnected, "{error}");
    assert!(began.elapsed() < Duration::from_secs(5));
    gone.join().unwrap();
    assert_eq!(near.write(b"x").unwrap_err().kind(), io::ErrorKind::NotConnected);
}

#[test]
fn a_peer_that_takes_nothing_does_not_hang_a_write() {
    let dir = tempfile::tempdir().unwrap();
    let far = PtyMaster::new().unwrap();
    let mut near = open(far.path(), &options(dir.path())).unwrap();
    let began = Instant::now();
    let error = near.write(&vec![0; 1 << 20]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(error.to_string().contains("of 1048576 bytes"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_megabyte_at_two_megabaud_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut far = PtyMaster::new().unwrap();
    let mut near = open(far.path(), &OpenOptions { write_stall: SOON, ..options(dir.path()) }).unwrap();
    near.set_baud(2_000_000).unwrap();
    let mut random = Random::new(1);
    let sent: Vec<u8> = (0..1 << 20).map(|_| random.byte()).collect();
    let collect = |read: &mut dyn FnMut(&mut [u8]) -> io::Result<usize>| {
        let (mut got, mut buf) = (Vec::new(), vec![0; 64 * 1024]);
        while got.len() < 1 << 20 {
            let count = read(&mut buf).unwrap();
            assert!(count > 0, "{} bytes came", got.len());
            got.extend_from_slice(&buf[..count]);
        }
        got
    };
    std::thread::scope(|scope| {
        let arrived = scope.spawn(|| collect(&mut |buf| far.read(buf, SOON)));
        sent.chunks(16 * 1024).for_each(|chunk| near.write(chunk).unwrap());
        assert!(arrived.join().unwrap() == sent);
    });
    std::thread::scope(|scope| {
        let arrived = scope.spawn(|| collect(&mut |buf| near.read(buf, SOON)));
        far.write(&sent, SOON).unwrap();
        assert!(arrived.join().unwrap() == sent);
    });
}

#[test]
fn one_user_at_a_time_by_any_name() {
    let dir = tempfile::tempdir().unwrap();
    let far = PtyMaster::new().unwrap();
    let link = dir.path().join("board");
    symlink(far.path(), &link).unwrap();
    let near = open(far.path(), &options(dir.path())).unwrap();
    match open(&link, &options(dir.path())) {
        Err(PortError::Busy { holder: Some(holder), .. }) => assert_eq!(holder.pid, std::process::id()),
        other => panic!("{:?}", other.err()),
    }
    // Without our lock file there is still the lock on the device itself, which other programs take too.
    let without = OpenOptions { locks: None, ..options(dir.path()) };
    assert!(matches!(open(&link, &without), Err(PortError::Busy { .. })));
    drop(near);
    open(&link, &options(dir.path())).unwrap();
}

#[test]
fn names_what_cannot_be_opened() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let missing = open(&dir.path().join("ttyUSB7"), &options).err().unwrap();
    assert!(matches!(missing, PortError::NotFound { .. }), "{missing}");
    assert!(missing.to_string().ends_with("ttyUSB7 does not exist"), "{missing}");
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.as_path(), dir.path(), Path::new("/dev/null")] {
        let error = open(path, &options).err().unwrap();
        assert!(matches!(error, PortError::NotSerial { .. }), "{}: {error}", path.display());
    }
}

#[test]
fn names_the_group_that_may_open_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ttyUSB0");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o660)).unwrap();
    let denied = io::Error::from_raw_os_error(rustix::io::Errno::ACCESS.raw_os_error());
    let PortError::Permission { group: Some(group), .. } = explain(&file, "/dev/ttyUSB0", denied) else { panic!() };
    let ours = std::process::Command::new("id").arg("-gn").output().unwrap().stdout;
    assert_eq!(group, String::from_utf8(ours).unwrap().trim());
}

#[test]
fn opens_again_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = PtyMaster::new().unwrap();
    let link = dir.path().join("board");
    first.link_at(&link).unwrap();
    let path = link.to_str().unwrap();
    let mut near = SerialPort::open(path, &PortUrl::Pty(path.into()), &options(dir.path())).unwrap();
    near.set_baud(460_800).unwrap();
    near.reopen().unwrap();
    assert_eq!(near.baud(), 460_800);
    near.write(b"again").unwrap();
    let mut buf = [0; 16];
    assert_eq!(first.read(&mut buf, SOON).unwrap(), 5);
    assert_eq!(first.baud(), 460_800);
    drop(first);
    assert!(!link.exists(), "the link goes with the terminal");
}
