use std::net::TcpListener;

use super::*;
use crate::port::Locks;

const SOON: Duration = Duration::from_secs(10);

fn options(dir: &std::path::Path) -> OpenOptions {
    OpenOptions { locks: Some(Locks::at(dir)), write_stall: Duration::from_millis(200), ..OpenOptions::default() }
}

fn listener() -> (TcpListener, Endpoint) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, Endpoint { host: "127.0.0.1".into(), port })
}

#[test]
fn bytes_pass_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let (listener, at) = listener();
    let echo = std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let mut copy = peer.try_clone().unwrap();
        io::copy(&mut peer, &mut copy).unwrap();
    });
    let mut port = TcpPort::open(&at, &options(dir.path())).unwrap();
    assert!(matches!(TcpPort::open(&at, &options(dir.path())), Err(PortError::Busy { holder: Some(_), .. })));
    let mut buf = [0; 512];
    assert_eq!(port.read(&mut buf, Duration::ZERO).unwrap(), 0);
    let all: Vec<u8> = (0..=255).collect();
    for _ in 0..100 {
        port.write(&all).unwrap();
        let mut got = Vec::new();
        while got.len() < all.len() {
            // Mixes waits that have to change the socket's mode.
            let wait = if got.len() % 2 == 0 { SOON } else { Duration::ZERO };
            let count = port.read(&mut buf, wait).unwrap();
            got.extend_from_slice(&buf[..count]);
        }
        assert_eq!(got, all);
    }
    let began = Instant::now();
    assert_eq!(port.read(&mut buf, Duration::from_millis(20)).unwrap(), 0);
    assert!(began.elapsed() >= Duration::from_millis(20));
    assert_eq!(port.set_lines(true, true).unwrap_err().kind(), io::ErrorKind::Unsupported);
    drop(port);
    echo.join().unwrap();
}

#[test]
fn a_peer_that_closes_is_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (listener, at) = listener();
    let mut port = TcpPort::open(&at, &options(dir.path())).unwrap();
    let (peer, _) = listener.accept().unwrap();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        drop(peer);
    });
    let began = Instant::now();
    assert_eq!(port.read(&mut [0; 16], Duration::from_secs(30)).unwrap_err().kind(), io::ErrorKind::NotConnected);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_peer_that_takes_nothing_does_not_hang_a_write() {
    let dir = tempfile::tempdir().unwrap();
    let (listener, at) = listener();
    let mut port = TcpPort::open(&at, &options(dir.path())).unwrap();
    let (_peer, _) = listener.accept().unwrap();
    let began = Instant::now();
    let error = port.write(&vec![0; 64 << 20]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn nobody_there_is_unreachable() {
    let dir = tempfile::tempdir().unwrap();
    let (listener, at) = listener();
    drop(listener);
    let error = TcpPort::open(&at, &options(dir.path())).err().unwrap();
    assert!(
        matches!(&error, PortError::Unreachable { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused)
    );
    let nowhere = Endpoint { host: "no-such-host.invalid".into(), port: 1 };
    assert!(matches!(TcpPort::open(&nowhere, &options(dir.path())), Err(PortError::Unreachable { .. })));
}

#[test]
fn waits_below_a_microsecond_are_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let (listener, at) = listener();
    let mut port = TcpPort::open(&at, &options(dir.path())).unwrap();
    let _peer = listener.accept().unwrap();
    for nanos in [1, 20, 500, 999] {
        port.wire.set_waits(Waits::For(Duration::from_nanos(nanos))).unwrap();
        assert_eq!(port.read(&mut [0; 8], Duration::from_nanos(nanos)).unwrap(), 0);
    }
}
