//! Our RFC 2217 client and server against pyserial's, and through Espressif's `esp_rfc2217_server`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use esp_link::port::rfc2217::server::{Event, Session};
use esp_link::port::{OpenOptions, PortUrl};
use esp_model::port::Port;
use libtest_mimic::Trial;

use crate::reference::{self, Stop, fail, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("rfc2217: pyserial's client against our server", client_of_pyserial),
        trial("rfc2217: our client against pyserial's server", server_of_pyserial),
        trial("rfc2217: our client through esp_rfc2217_server", through_espressif),
    ]
}

const SOON: Duration = Duration::from_secs(20);

/// Every byte value, and the one that has a meaning to Telnet many times.
fn payload() -> Vec<u8> {
    (0..=255).chain(std::iter::repeat_n(255, 50)).collect()
}

/// Our server with an echoing device behind it; what the client ordered comes out of the channel.
fn our_server() -> Result<(u16, Receiver<Event>), Stop> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let (sender, events) = channel();
    std::thread::spawn(move || {
        for peer in listener.incoming().flatten() {
            echo(peer, &sender);
        }
    });
    Ok((port, events))
}

fn echo(mut peer: TcpStream, events: &Sender<Event>) {
    let mut session = Session::new(115_200);
    let _ = peer.write_all(&session.greeting());
    let mut buf = [0; 4096];
    while let Ok(count @ 1..) = peer.read(&mut buf) {
        let mut answer = Vec::new();
        for event in session.receive(&buf[..count], &mut answer) {
            if let Event::Data(data) = &event {
                answer.extend(session.encode(data));
            }
            let _ = events.send(event);
        }
        if peer.write_all(&answer).is_err() {
            return;
        }
    }
}

const CLIENT: &str = r#"
import serial, sys
s = serial.serial_for_url(sys.argv[1], baudrate=115200, timeout=10)
s.baudrate = 921600
s.dtr = False; s.rts = True; s.dtr = True; s.rts = False
data = bytes(range(256)) + b"\xff" * 50
s.write(data)
assert s.read(len(data)) == data, "bytes differ"
s.reset_input_buffer(); s.reset_output_buffer()
assert s.cts and s.dsr and s.cd, "modem state"
s.close()
"#;

fn client_of_pyserial() -> Result<(), Stop> {
    let (port, events) = our_server()?;
    let url = format!("rfc2217://127.0.0.1:{port}");
    reference::run(Command::new(reference::tool("python")?).args(["-c", CLIENT, &url]))?;
    let events: Vec<Event> = events.try_iter().collect();
    let bauds: Vec<u32> = events.iter().filter_map(|e| if let Event::Baud(b) = e { Some(*b) } else { None }).collect();
    if bauds.last() != Some(&921_600) {
        return fail(format!("baud rates {bauds:?}"));
    }
    let lines: Vec<_> = events
        .iter()
        .filter_map(|e| if let Event::Lines { dtr, rts } = e { Some((*dtr, *rts)) } else { None })
        .collect();
    if !lines.windows(4).any(|four| four == [(false, true), (false, true), (true, true), (true, false)]) {
        return fail(format!("modem lines {lines:?}"));
    }
    let purges = events.iter().filter(|event| matches!(event, Event::Purge { .. })).count();
    if purges < 2 { fail(format!("{purges} purges")) } else { Ok(()) }
}

const SERVER: &str = r#"
import serial, serial.rfc2217, socket, threading
line = serial.serial_for_url("loop://", baudrate=9600, timeout=0.02)
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
peer, _ = listener.accept()
class Connection:
    def write(self, data): peer.sendall(data)
manager = serial.rfc2217.PortManager(line, Connection())
def back():
    while True:
        data = line.read(line.in_waiting or 1)
        if data: peer.sendall(b"".join(manager.escape(data)))
threading.Thread(target=back, daemon=True).start()
while True:
    data = peer.recv(1024)
    if not data: break
    line.write(b"".join(manager.filter(data)))
    print("state", line.baudrate, line.dtr, line.rts, flush=True)
"#;

/// A program of ours that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn open(port: u16) -> Result<Box<dyn Port>, Stop> {
    let url: PortUrl = format!("rfc2217://127.0.0.1:{port}").parse()?;
    let options = OpenOptions { locks: None, connect: SOON, ..OpenOptions::default() };
    let until = Instant::now() + SOON;
    loop {
        match esp_link::port::open(&url, &options) {
            Ok(port) => return Ok(port),
            Err(esp_link::port::PortError::Unreachable { .. }) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn round_trip(port: &mut dyn Port) -> Result<(), Stop> {
    let sent = payload();
    port.write(&sent)?;
    let (mut got, mut buf) = (Vec::new(), [0; 1024]);
    while got.len() < sent.len() {
        match port.read(&mut buf, SOON)? {
            0 => return fail(format!("{} of {} bytes came back", got.len(), sent.len())),
            count => got.extend_from_slice(&buf[..count]),
        }
    }
    reference::same_bytes("echo", &got, &sent)
}

fn server_of_pyserial() -> Result<(), Stop> {
    let mut server =
        Running(Command::new(reference::tool("python")?).args(["-c", SERVER]).stdout(Stdio::piped()).spawn()?);
    let mut output = std::io::BufReader::new(server.0.stdout.take().ok_or(reference::Skip("no output".into()))?);
    let mut line = String::new();
    std::io::BufRead::read_line(&mut output, &mut line)?;
    let mut port = open(line.trim().parse()?)?;
    port.set_baud(460_800)?;
    round_trip(&mut *port)?;
    let began = Instant::now();
    port.set_lines(true, false)?;
    port.set_lines(false, true)?;
    if began.elapsed() > Duration::from_millis(400) {
        return fail("the confirmation of the modem lines was not seen");
    }
    port.write(b"x")?;
    port.read(&mut [0; 1], SOON)?;
    drop(port);
    let mut states = String::new();
    output.read_to_string(&mut states)?;
    match states.lines().last() {
        Some("state 460800 False True") => Ok(()),
        other => fail(format!("at the end {other:?}")),
    }
}

/// The server is put in front of our own RFC 2217 server: it needs modem lines, which a pseudo terminal lacks. Its
/// usual reset sequence needs a file descriptor, so it is given the classic one.
fn through_espressif() -> Result<(), Stop> {
    let (behind, events) = our_server()?;
    let front = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let settings = reference::scratch("rfc2217").join("esptool.cfg");
    std::fs::write(&settings, "[esptool]\ncustom_reset_sequence = D0|R1|W0.1|D1|R0|W0.05|D0\n")?;
    let _server = Running(
        Command::new(reference::tool("esp_rfc2217_server")?)
            .env("ESPTOOL_CFGFILE", &settings)
            .args(["-p", &front.to_string(), &format!("rfc2217://127.0.0.1:{behind}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?,
    );
    let mut port = open(front)?;
    port.set_baud(460_800)?;
    round_trip(&mut *port)?;
    let _ = events.try_iter().count();
    // The classic sequence; the server knows it by its beginning and does its own.
    port.set_lines(false, true)?;
    port.sleep(Duration::from_millis(100));
    port.set_lines(true, false)?;
    port.sleep(Duration::from_millis(50));
    port.set_lines(false, false)?;
    port.sleep(Duration::from_secs(1));
    let lines: Vec<Event> = events.try_iter().collect();
    let reset = lines.iter().position(|event| *event == Event::Lines { dtr: false, rts: true });
    let strapped = lines.iter().position(|event| *event == Event::Lines { dtr: true, rts: false });
    match (reset, strapped) {
        (Some(reset), Some(strapped)) if reset < strapped => Ok(()),
        _ => fail(format!("no reset into the loader in {lines:?}")),
    }
}
