//! The ways to reach a virtual chip: sockets with and without RFC 2217, and a pseudo terminal.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{SendError, Sender};
use std::thread;

use esp_link::port::rfc2217::server::{Event as Rfc2217Event, Session};

use super::engine::{Event, Line};
use super::{Args, SimError};

/// Opens the line that is asked for and feeds `events` from it. Returns where it is.
pub fn listen(args: &Args, events: Sender<Event>) -> Result<String, SimError> {
    match (&args.tcp, &args.rfc2217, &args.pty) {
        (Some(at), _, _) => accept(at, "socket", events, plain),
        (_, Some(at), _) => accept(at, "rfc2217", events, rfc2217),
        (_, _, Some(link)) => terminal(link, events),
        _ => Err(SimError::Usage("no line given".into())),
    }
}

/// Serves one client after the other; the next one waits until the present one is gone.
fn accept(
    at: &str,
    scheme: &str,
    events: Sender<Event>,
    serve: fn(TcpStream, &Sender<Event>) -> io::Result<()>,
) -> Result<String, SimError> {
    let listener = TcpListener::bind(at).map_err(SimError::io(at))?;
    let place = listener.local_addr().map_err(SimError::io(at))?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that breaks its connection is no reason to stop serving.
            let _ = stream.set_nodelay(true).and_then(|()| serve(stream, &events));
            if events.send(Event::Disconnected).is_err() {
                return;
            }
        }
    });
    Ok(format!("{scheme}://{place}"))
}

/// Reads until the client is gone.
fn pump(mut stream: TcpStream, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buf = vec![0; 65536];
    loop {
        match stream.read(&mut buf) {
            Ok(0) => return Ok(()),
            Ok(got) => take(&buf[..got])?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// The engine is gone: there is nobody to serve.
fn ended<T>(_: SendError<T>) -> io::Error {
    io::Error::other("the simulation has ended")
}

fn plain(stream: TcpStream, events: &Sender<Event>) -> io::Result<()> {
    events.send(Event::Connected(Box::new(Plain(stream.try_clone()?)))).map_err(ended)?;
    pump(stream, |bytes| events.send(Event::Bytes(bytes.to_vec())).map_err(ended))
}

struct Plain(TcpStream);

impl Line for Plain {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }
}

fn rfc2217(stream: TcpStream, events: &Sender<Event>) -> io::Result<()> {
    let mut session = Session::new(115_200);
    events.send(Event::Connected(Box::new(Telnet(stream.try_clone()?)))).map_err(ended)?;
    // A new client finds the lines released and the rate at its start.
    for event in [Event::Baud(115_200), Event::Answer(session.greeting())] {
        events.send(event).map_err(ended)?;
    }
    pump(stream, |bytes| {
        let mut answer = Vec::new();
        for event in session.receive(bytes, &mut answer) {
            match event {
                Rfc2217Event::Data(data) => events.send(Event::Bytes(data)).map_err(ended)?,
                Rfc2217Event::Lines { dtr, rts } => events.send(Event::Lines { dtr, rts }).map_err(ended)?,
                Rfc2217Event::Baud(baud) => events.send(Event::Baud(baud)).map_err(ended)?,
                // Nothing waits here: bytes go on at once in both directions.
                Rfc2217Event::Purge { .. } => {}
            }
        }
        if !answer.is_empty() {
            events.send(Event::Answer(answer)).map_err(ended)?;
        }
        Ok(())
    })
}

struct Telnet(TcpStream);

impl Line for Telnet {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Only IAC needs care.
        let mut escaped = Vec::with_capacity(bytes.len() + 16);
        esp_link::port::rfc2217::telnet::escape(bytes, &mut escaped);
        self.0.write_all(&escaped)
    }

    fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn has_modem_lines(&self) -> bool {
        true
    }
}

#[cfg(not(unix))]
fn terminal(_link: &std::path::Path, _events: Sender<Event>) -> Result<String, SimError> {
    Err(SimError::Usage("pseudo terminals need a Unix system".into()))
}

#[cfg(unix)]
use unix::terminal;

#[cfg(unix)]
mod unix {
    use std::path::Path;
    use std::time::Duration;

    use esp_link::port::pty::PtyMaster;

    use super::*;

    /// How long bytes may wait for a reader before they are dropped.
    const STALL: Duration = Duration::from_millis(500);
    /// How often the reader looks whether the simulation has ended.
    const LOOK: Duration = Duration::from_secs(3600);

    pub fn terminal(link: &Path, events: Sender<Event>) -> Result<String, SimError> {
        let what = || link.display().to_string();
        let mut master = PtyMaster::new().map_err(SimError::io("pseudo terminal"))?;
        master.link_at(link).map_err(SimError::io(what()))?;
        let mut reader = master.try_clone().map_err(SimError::io("pseudo terminal"))?;
        let place = format!("{} ({})", link.display(), master.path().display());
        let line = Terminal { master, clogged: false };
        let _ = events.send(Event::Connected(Box::new(line)));
        thread::spawn(move || {
            let mut buf = vec![0; 65536];
            loop {
                match reader.read(&mut buf, LOOK) {
                    Ok(0) => {}
                    Ok(got) if events.send(Event::Bytes(buf[..got].to_vec())).is_ok() => {}
                    _ => return,
                }
            }
        });
        Ok(place)
    }

    struct Terminal {
        master: PtyMaster,
        /// Nobody reads: the next bytes are dropped unless there is room at once.
        clogged: bool,
    }

    impl Line for Terminal {
        fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
            let wait = if self.clogged { Duration::ZERO } else { STALL };
            match self.master.write(bytes, wait) {
                Ok(()) => self.clogged = false,
                Err(e) if e.kind() == io::ErrorKind::TimedOut => self.clogged = true,
                Err(e) => return Err(e),
            }
            Ok(())
        }

        fn baud(&self) -> Option<u32> {
            Some(self.master.baud()).filter(|baud| *baud > 0)
        }
    }
}
