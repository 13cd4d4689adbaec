//! One simulated chip in the foreground: the same engine and the same lines as a virtual device.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use esp_link::Loader;
use esp_link::options::ConnectOptions;
use esp_link::port::{self, OpenOptions};
use esp_model::chip;
use esp_model::job::Job;
use esp_virtual::VirtualError;
use esp_virtual::server::single::{Options, Place, Stopper, serve};

struct Running {
    url: String,
    stopper: Stopper,
    server: JoinHandle<Result<(), VirtualError>>,
}

fn options(place: Place) -> Options {
    let chip = esp_sim::Config { boot_pin_low: true, ..esp_sim::Config::new(chip::all().first().unwrap(), "single") };
    Options { chip, place, flash: None, efuse: None, reset_on_disconnect: false, gdb_port: None }
}

fn start(options: Options) -> Running {
    let (sender, ready) = channel();
    let server =
        std::thread::spawn(move || serve(options, |place, stopper| sender.send((place.to_string(), stopper)).unwrap()));
    let (place, stopper) = ready.recv_timeout(Duration::from_secs(10)).unwrap();
    let url = place.split(' ').next().unwrap().to_string();
    Running { url, stopper, server }
}

fn connect(url: &str) -> Loader {
    let port = port::open(&url.parse().unwrap(), &OpenOptions::default()).unwrap();
    Loader::connect(port, &ConnectOptions::default(), &Job::new()).unwrap().0
}

#[test]
fn every_line_reaches_the_loader_and_stops_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let loopback = || "127.0.0.1:0".to_string();
    let places = [Place::Socket(loopback()), Place::Rfc2217(loopback()), Place::Terminal(dir.path().join("chip"))];
    for place in places {
        let running = start(options(place.clone()));
        assert_eq!(connect(&running.url).chip().id, chip::all().first().unwrap().id, "{place:?}");
        running.stopper.stop();
        running.server.join().unwrap().unwrap();
    }
    assert!(!dir.path().join("chip").is_symlink(), "the link goes with the terminal");
}

#[test]
fn second_client_waits_until_the_first_is_gone() {
    let running = start(options(Place::Socket("127.0.0.1:0".into())));
    let address = running.url.strip_prefix("socket://").unwrap();
    let first = TcpStream::connect(address).unwrap();
    let mut second = TcpStream::connect(address).unwrap();
    let sync = [&b"\xc0\0\x08\x24\0\0\0\0\0\x07\x07\x12\x20"[..], &[0x55; 32], b"\xc0"].concat();
    second.write_all(&sync).unwrap();
    second.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut buf = [0; 16];
    assert!(second.read(&mut buf).is_err(), "an answer while the first is connected");
    drop(first);
    second.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert!(second.read(&mut buf).unwrap() > 0, "its bytes have waited for it");
    running.stopper.stop();
    running.server.join().unwrap().unwrap();
}

#[test]
fn file_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let flash = Some(dir.path().join("flash.bin"));
    let running = start(Options { flash: flash.clone(), ..options(Place::Socket("127.0.0.1:0".into())) });
    let other = Options { flash, ..options(Place::Socket("127.0.0.1:0".into())) };
    assert!(matches!(serve(other, |_, _| {}), Err(VirtualError::FileInUse(_))));
    running.stopper.stop();
    running.server.join().unwrap().unwrap();
}
