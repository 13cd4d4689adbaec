//! Consoles on a pseudo terminal whose far end counts, in this process and over a daemon's socket.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use esp_link::port::PortUrl;
use esp_link::port::pty::PtyMaster;
use esp_model::job::Job;
use esp_model::port::Port;

use super::daemon::{self, Place};
use super::hub::Consoles;
use super::link::Link;
use super::reader::ConsoleReader;
use super::session::{Order, State, Wish};
use crate::Call;
use crate::config::{Config, Origin};

/// What a device sends: numbered lines.
fn numbered(lines: u32) -> Vec<u8> {
    (0..lines).flat_map(|number| format!("line {number:06}\r\n").into_bytes()).collect()
}

fn call(dir: &Path) -> Call {
    let mut config = Config::default();
    for (name, value) in [("state_dir", dir.display().to_string()), ("console_daemon", "false".into())] {
        config.set(name, value, Origin::Flag).unwrap();
    }
    Call::new(config).unwrap()
}

fn consoles(call: &Call) -> Consoles {
    Consoles::new(&call.config, call.ports.clone(), call.devices.clone())
}

fn wish(url: &str, dir: &Path) -> Wish {
    let log = dir.join("consoles").join("it.log");
    Wish { url: url.into(), baud: 115_200, reset: false, mac: None, keep: true, log }
}

/// A test's folder for state. One test at a time: a closed terminal's number is soon that of another one, which would find
/// the first one's lock.
struct Folder {
    dir: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Folder {
    fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// A device, its URL and a folder for state.
fn bench() -> (PtyMaster, PortUrl, Folder) {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut master, dir) = (PtyMaster::new().unwrap(), tempfile::tempdir().unwrap());
    // By a link, which goes with it: the terminal's own name is soon that of another test's.
    let link = dir.path().join("board");
    master.link_at(&link).unwrap();
    (master, PortUrl::Serial(link.display().to_string()), Folder { dir, _alone: alone })
}

/// All that a reader hears, until it has `length` bytes.
fn hear(mut reader: ConsoleReader, length: usize) -> (Vec<u8>, u64) {
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    let until = Instant::now() + Duration::from_secs(60);
    while all.len() < length && Instant::now() < until {
        let count = reader.read(&mut buffer, Duration::from_millis(500)).unwrap();
        all.extend_from_slice(&buffer[..count]);
    }
    (all, super::reader::HeardPort::lost(&reader))
}

fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn ten_readers(open: impl Fn(&PortUrl, &Wish) -> Link) {
    let (mut device, url, dir) = bench();
    let link = open(&url, &wish(&url.to_string(), dir.path()));
    let sent = numbered(20_000);
    let readers: Vec<_> = (0..10)
        .map(|_| {
            let (reader, length) = (ConsoleReader::new(link.another().unwrap()).unwrap(), sent.len());
            thread::spawn(move || hear(reader, length))
        })
        .collect();
    for piece in sent.chunks(1000) {
        device.write(piece, Duration::from_secs(10)).unwrap();
    }
    for reader in readers {
        let (heard, lost) = reader.join().unwrap();
        assert!(heard == sent && lost == 0, "{} of {} bytes, {lost} lost", heard.len(), sent.len());
    }
    soon("the log has everything", || std::fs::read(dir.path().join("consoles/it.log")).unwrap() == sent);
    end(&link, device);
}

/// Ends a console before its device: the next test's device may have the same name.
fn end(link: &Link, device: PtyMaster) {
    link.close().unwrap();
    soon("it ends", || link.about().unwrap().state == State::Closed);
    drop(device);
}

#[test]
fn ten_readers_in_this_process_hear_every_byte_once() {
    let dir = tempfile::tempdir().unwrap();
    let consoles = consoles(&call(dir.path()));
    ten_readers(|url, wish| consoles.open(url, wish, &Job::new()).unwrap());
}

/// A daemon that listens below `dir`, and its user.
fn daemon_and_user(dir: &Path) -> (Arc<Consoles>, Consoles) {
    let call = call(dir);
    let daemon = Arc::new(consoles(&call));
    let (served, at) = (daemon.clone(), dir.to_path_buf());
    thread::spawn(move || daemon::serve_below(&at, served, Duration::from_secs(60)));
    let place = || Place::new("/nonexistent".into(), dir.to_path_buf()).below(dir);
    soon("the daemon listens", || place().connect().unwrap().is_some());
    // Another process has locks of its own.
    let user = Call::new((*call.config).clone()).unwrap();
    (daemon, consoles(&user).with_daemon(place()))
}

#[test]
fn ten_readers_of_the_daemon_hear_every_byte_once() {
    let dir = tempfile::tempdir().unwrap();
    let (daemon, user) = daemon_and_user(dir.path());
    ten_readers(|url, wish| user.open(url, wish, &Job::new()).unwrap());
    assert!(daemon.list_here().is_empty(), "it was closed");
}

#[test]
fn a_console_gives_its_port_to_other_work_and_takes_it_back() {
    let (mut device, url, dir) = bench();
    let call = call(dir.path());
    let consoles = consoles(&call);
    let link = consoles.open(&url, &wish(&url.to_string(), dir.path()), &Job::new()).unwrap();
    device.write(b"before\r\n", Duration::from_secs(1)).unwrap();
    soon("it hears", || link.about().unwrap().end == 8);
    let lease = call.devices.sessions.lease(&url.to_string(), "esp_flash_read", &Job::new()).unwrap();
    assert_eq!(link.about().unwrap().state, State::Paused { by: "esp_flash_read".into() });
    let mut port = call.ports.open(&url).unwrap();
    device.write(b"for the loader", Duration::from_secs(1)).unwrap();
    let mut buffer = [0; 64];
    assert_eq!(port.read(&mut buffer, Duration::from_secs(5)).unwrap(), 14);
    let refused = link.order(Order::Write(b"x".to_vec())).unwrap_err();
    assert!(refused.to_string().contains("esp_flash_read"), "{refused}");
    drop((port, lease));
    soon("it listens again", || link.about().unwrap().state == State::Listening);
    device.write(b"after\r\n", Duration::from_secs(1)).unwrap();
    let (piece, _) = link.read(8, 100, Duration::from_secs(5)).unwrap();
    assert_eq!(piece.bytes, b"after\r\n");
    end(&link, device);
}

#[test]
fn the_daemons_console_pauses_for_work_elsewhere_and_for_one_that_dies() {
    let (mut device, url, dir) = bench();
    let (_daemon, user) = daemon_and_user(dir.path());
    let link = user.open(&url, &wish(&url.to_string(), dir.path()), &Job::new()).unwrap();
    let state = || link.about().unwrap().state;
    let pause = user.pause(&url, "esp_flash_firmware").unwrap().unwrap();
    let State::Paused { by } = state() else { panic!("{:?}", state()) };
    assert!(by.starts_with("esp_flash_firmware, process"), "{by}");
    // As by kill -9: the connection just ends.
    drop(pause);
    soon("it listens again", || state() == State::Listening);
    user.pause(&url, "esp_flash_firmware").unwrap().unwrap().resume(false);
    soon("it listens again", || state() == State::Listening);
    device.write(b"after\r\n", Duration::from_secs(1)).unwrap();
    assert_eq!(link.read(0, 100, Duration::from_secs(5)).unwrap().0.bytes, b"after\r\n");
    // Nobody has a console of this one.
    assert!(user.pause(&PortUrl::Serial("/dev/null".into()), "x").unwrap().is_none());
    end(&link, device);
}

#[test]
fn a_console_without_keep_ends_with_its_last_reader() {
    let (_device, url, dir) = bench();
    let consoles = consoles(&call(dir.path()));
    let wish = Wish { keep: false, ..wish(&url.to_string(), dir.path()) };
    let link = consoles.open(&url, &wish, &Job::new()).unwrap();
    let other = link.another().unwrap();
    drop(link);
    assert_eq!(other.about().unwrap().readers, 1);
    drop(other);
    assert!(consoles.find(&url).is_none());
    // The port is free again.
    soon("it can be opened anew", || match consoles.open(&url, &wish, &Job::new()) {
        Ok(link) => {
            link.close().unwrap();
            true
        }
        Err(_) => false,
    });
}

#[test]
fn a_device_that_leaves_is_told_of_and_the_console_can_be_closed() {
    let (mut device, url, dir) = bench();
    let consoles = consoles(&call(dir.path()));
    let link = consoles.open(&url, &wish(&url.to_string(), dir.path()), &Job::new()).unwrap();
    device.write(b"last words", Duration::from_secs(1)).unwrap();
    soon("it hears", || link.about().unwrap().end == 10);
    drop(device);
    soon("the device is gone", || matches!(link.about().unwrap().state, State::Gone { .. }));
    assert_eq!(link.read(0, 100, Duration::ZERO).unwrap().0.bytes, b"last words");
    link.close().unwrap();
    soon("it ends", || link.about().unwrap().state == State::Closed);
}

#[test]
fn a_stop_in_the_gdb_stub_is_known_by_its_packet() {
    let mut stub = super::view::GdbStub::default();
    assert!(!stub.is_in(b"Entering gdb stub now.\r\n$T0b#"));
    assert!(stub.is_in(b"e6"));
    assert!(!stub.is_in(b"\r\nmore"), "one packet is told of once");
    assert!(!stub.is_in(b"costs $T0b#e7 or $Tax#00"));
}

mod ring {
    use std::time::Duration;

    use super::super::ring::{Cursor, Ring};

    #[test]
    fn a_reader_that_lags_is_told_how_much_it_lost() {
        let mut ring = Ring::default();
        for _ in 0..10 {
            ring.push(Duration::from_millis(1), &[b'a'; 1 << 20]);
        }
        let piece = ring.read(0, 10);
        assert_eq!((piece.lost, piece.from, piece.bytes.len(), piece.end), (6 << 20, 6 << 20, 10, 10 << 20));
        assert!(ring.read(u64::MAX, 10).bytes.is_empty());
    }

    #[test]
    fn each_byte_has_the_time_of_its_piece() {
        let mut ring = Ring::default();
        ring.push(Duration::from_millis(5), b"abc");
        ring.push(Duration::from_millis(5), b"def");
        ring.push(Duration::from_millis(9), b"ghi");
        assert_eq!(ring.read(4, 3).marks, [(0, 5), (6, 9)]);
        assert_eq!(ring.read(6, 3).marks, [(6, 9)]);
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let cursor = Cursor { session: "00c0ffee".into(), at: 17 };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        assert!("17".parse::<Cursor>().is_err());
    }
}
