use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::server::{Event, Session};
use super::*;

const SOON: Duration = Duration::from_secs(10);

fn listener() -> (TcpListener, Endpoint) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, Endpoint { host: "127.0.0.1".into(), port })
}

fn options() -> OpenOptions {
    OpenOptions { locks: None, connect: Duration::from_secs(2), ..OpenOptions::default() }
}

/// An echoing server; what the client ordered comes out of the channel.
fn serve(listener: TcpListener, events: Sender<Event>, greets: bool) {
    let (mut peer, _) = listener.accept().unwrap();
    let mut session = Session::new(9600);
    if greets {
        peer.write_all(&session.greeting()).unwrap();
    }
    let mut buf = [0; 4096];
    loop {
        let Ok(count @ 1..) = peer.read(&mut buf) else { return };
        let mut answer = Vec::new();
        for event in session.receive(&buf[..count], &mut answer) {
            if let Event::Data(data) = &event {
                answer.extend(session.encode(data));
            }
            events.send(event).unwrap();
        }
        peer.write_all(&answer).unwrap();
    }
}

fn client(greets: bool) -> (Rfc2217Port, Receiver<Event>) {
    let (listener, at) = listener();
    let (sender, events) = channel();
    std::thread::spawn(move || serve(listener, sender, greets));
    (Rfc2217Port::open(&at, &options()).unwrap(), events)
}

#[test]
fn carries_bytes_rate_and_lines() {
    for greets in [true, false] {
        let (mut port, events) = client(greets);
        assert_eq!(events.recv_timeout(SOON).unwrap(), Event::Baud(115_200));
        port.set_baud(921_600).unwrap();
        assert_eq!(events.recv_timeout(SOON).unwrap(), Event::Baud(921_600));

        for (dtr, rts) in [(false, true), (true, false), (false, false)] {
            port.set_lines(dtr, rts).unwrap();
        }
        let lines: Vec<Event> = events.try_iter().collect();
        let line = |dtr, rts| Event::Lines { dtr, rts };
        assert_eq!(
            lines,
            [line(false, false), line(false, true), line(true, true), line(true, false), line(false, false)],
            "DTR first, and only what changes"
        );

        let all: Vec<u8> = (0..=255).rev().collect();
        port.write(&all).unwrap();
        let (mut got, mut buf) = (Vec::new(), [0; 100]);
        while got.len() < all.len() {
            let count = port.read(&mut buf, SOON).unwrap();
            assert!(count > 0);
            got.extend_from_slice(&buf[..count]);
        }
        assert_eq!(got, all);
        assert_eq!(port.read(&mut buf, Duration::from_millis(5)).unwrap(), 0);
    }
}

/// The least that a server has to say: yes, and the baud it has set.
fn agree_on(baud: u32, peer: &mut TcpStream) {
    let mut out = Vec::new();
    telnet::negotiate(Verb::Do, option::COM_PORT, &mut out);
    peer.write_all(&out).unwrap();
    let (mut asked, mut buf) = (Vec::new(), [0; 256]);
    while !asked.windows(2).any(|pair| pair == [option::COM_PORT, command::SET_BAUDRATE]) {
        let count = peer.read(&mut buf).unwrap();
        asked.extend_from_slice(&buf[..count]);
    }
    let mut body = vec![command::SET_BAUDRATE + command::ANSWER];
    body.extend(baud.to_be_bytes());
    out.clear();
    telnet::sub(option::COM_PORT, &body, &mut out);
    peer.write_all(&out).unwrap();
}

/// A server that agrees and sets the baud, but confirms no modem line, as Espressif's does.
#[test]
fn goes_on_with_a_server_that_confirms_no_line() {
    let (listener, at) = listener();
    std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        agree_on(115_200, &mut peer);
        let _ = peer.read_to_end(&mut Vec::new());
    });
    let mut port = Rfc2217Port::open(&at, &options()).unwrap();
    let began = Instant::now();
    port.set_lines(true, false).unwrap();
    assert!(began.elapsed() >= LINE_ANSWER);
    let began = Instant::now();
    port.set_lines(false, true).unwrap();
    assert!(began.elapsed() < LINE_ANSWER, "asked once, not again");
    let error = port.set_baud(1).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
}

fn fails_to_open(peer: impl FnOnce(TcpStream) + Send + 'static) -> String {
    let (listener, at) = listener();
    std::thread::spawn(move || peer(listener.accept().unwrap().0));
    let began = Instant::now();
    let error =
        Rfc2217Port::open(&at, &OpenOptions { connect: Duration::from_millis(300), ..options() }).err().unwrap();
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(matches!(error, PortError::Rfc2217 { .. }), "{error}");
    error.to_string()
}

#[test]
fn names_what_the_peer_lacks() {
    let says = |bytes: Vec<u8>| {
        fails_to_open(move |mut peer| {
            peer.write_all(&bytes).unwrap();
            let _ = peer.read_to_end(&mut Vec::new());
        })
    };
    let mut refusal = Vec::new();
    telnet::negotiate(Verb::Dont, option::COM_PORT, &mut refusal);
    assert!(says(refusal).contains("refuses the COM-PORT option"));
    assert!(says(b"SSH-2.0-x\r\n".to_vec()).contains("no answer to the COM-PORT option"));
    let other = fails_to_open(|mut peer| {
        agree_on(9600, &mut peer);
        let _ = peer.read_to_end(&mut Vec::new());
    });
    assert!(other.contains("set 9600 baud instead of 115200"), "{other}");
    let closed = fails_to_open(|mut peer| drop(peer.read(&mut [0; 4096])));
    assert!(closed.contains("closed the connection"), "{closed}");
}

#[test]
fn a_server_answers_any_bytes_without_harm() {
    let mut random = crate::port::faulty::Random::new(3);
    for _ in 0..20_000 {
        let mut session = Session::new(115_200);
        let alphabet = [255, 250, 240, 253, 251, 44, 1, 5, 8, 12, 0, 200];
        let bytes: Vec<u8> = (0..random.below(48)).map(|_| alphabet[random.below(alphabet.len())]).collect();
        let mut answer = Vec::new();
        session.receive(&bytes, &mut answer);
        assert!(answer.len() <= 4 * bytes.len() + 16);
    }
}

#[test]
fn floods_before_an_answer_are_bounded_in_memory_and_time() {
    let (listener, at) = listener();
    std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let chunk = [b'x'; 64 * 1024];
        while peer.write_all(&chunk).is_ok() {}
    });
    let began = Instant::now();
    let error = Rfc2217Port::open(&at, &options()).err().unwrap().to_string();
    assert!(began.elapsed() < SOON, "{error}");
    assert!(error.contains("bytes came before the server answered"), "{error}");
}
