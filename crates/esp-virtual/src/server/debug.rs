//! The line of a debugger: GDB's remote protocol on loopback, one debugger at a time.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::Event;
use crate::engine::{Debug, Engine};

/// A debugger may stall for so long before it is dropped.
const STALL: Duration = Duration::from_secs(5);

/// What a debugger's line brings.
pub(crate) enum Line {
    /// A debugger connected.
    Joined(TcpStream),
    /// It has sent this.
    Bytes(Vec<u8>),
    /// Its line was closed.
    Left,
}

/// Serves debuggers until the process ends. The next one waits until the one before it is gone.
pub(super) fn serve(listener: &TcpListener, events: &Sender<Event>) {
    for stream in listener.incoming().flatten() {
        let _ = stream.set_nodelay(true);
        let _ = stream.set_write_timeout(Some(STALL));
        let Ok(writer) = stream.try_clone() else { continue };
        if events.send(Event::Debugger(Line::Joined(writer))).is_err() {
            return;
        }
        pass_on(stream, events);
        if events.send(Event::Debugger(Line::Left)).is_err() {
            return;
        }
    }
}

fn pass_on(mut stream: TcpStream, events: &Sender<Event>) {
    let mut buf = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut buf) {
        let bytes = buf.get(..count).unwrap_or_default().to_vec();
        if events.send(Event::Debugger(Line::Bytes(bytes))).is_err() {
            return;
        }
    }
}

/// The debugger that is connected, if one is.
#[derive(Default)]
pub(super) struct Debugger(Option<TcpStream>);

impl Debugger {
    /// Something came on its line.
    pub fn take(&mut self, line: Line, engine: &mut dyn Engine) {
        match line {
            Line::Joined(stream) => {
                self.0 = Some(stream);
                self.answer(engine.debug(Debug::Join));
            }
            Line::Bytes(bytes) if self.0.is_some() => self.answer(engine.debug(Debug::Bytes(&bytes))),
            Line::Bytes(_) => {}
            Line::Left => {
                self.0 = None;
                engine.debug(Debug::Leave);
            }
        }
    }

    /// The chip has lived on.
    pub fn poll(&mut self, engine: &mut dyn Engine) {
        if self.0.is_some() {
            self.answer(engine.debug(Debug::Poll));
        }
    }

    /// `None`: nothing is there to be debugged, or the debugger has ended the session.
    fn answer(&mut self, bytes: Option<Vec<u8>>) {
        let Some(stream) = &mut self.0 else { return };
        let sent = bytes.is_some_and(|bytes| stream.write_all(&bytes).is_ok());
        if !sent {
            let _ = stream.shutdown(Shutdown::Both);
            self.0 = None;
        }
    }
}
