//! One simulated chip in the foreground, in real time, for other people's tools.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};

use super::lines::{self, Protocol, Sharing};
use super::{Event, Request, Server, debug};
use crate::VirtualError;
use crate::engine::Imitation;

/// How the chip is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A plain line on this address (`HOST:PORT`).
    Socket(String),
    /// RFC 2217 on this address (`HOST:PORT`).
    Rfc2217(String),
    /// A pseudo terminal that this link leads to.
    Terminal(PathBuf),
}

/// The chip and how it is served.
#[derive(Debug, Clone)]
pub struct Options {
    /// The chip.
    pub chip: esp_sim::Config,
    /// How it is reached.
    pub place: Place,
    /// File with the flash content; made when it is missing, written as the flash is.
    pub flash: Option<PathBuf>,
    /// File with the eFuse words; made when it is missing, written when eFuses are burned.
    pub efuse: Option<PathBuf>,
    /// Restart the chip when a client disconnects.
    pub reset_on_disconnect: bool,
    /// Serve GDB on this port of loopback; 0 takes any free one.
    pub gdb_port: Option<u16>,
}

/// Ends a server from another thread.
pub struct Stopper(Sender<Event>);

impl Stopper {
    /// Ends it.
    pub fn stop(&self) {
        let _ = self.0.send(Event::Stop);
    }
}

/// Serves the chip until it is stopped or, by a fault, unplugged. `ready` learns where it is reached and how to stop it.
pub fn serve(options: Options, ready: impl FnOnce(&str, Stopper)) -> Result<(), VirtualError> {
    let Options { chip, place, flash, efuse, reset_on_disconnect, gdb_port } = options;
    let engine = Imitation::powered(chip, flash, efuse, reset_on_disconnect)?;
    let (sender, events) = channel();
    let mut place = listen(place, sender.clone())?;
    if let Some(port) = gdb_port {
        let listener = lines::listen_on_loopback(Some(port))?;
        let here = listener.local_addr().map_err(|error| VirtualError::Host(error.to_string()))?;
        place += &format!(", GDB on {here}");
        let sender = sender.clone();
        std::thread::spawn(move || debug::serve(&listener, &sender));
    }
    ready(&place, Stopper(sender));
    // What the chip said before anybody listened is gone, as on a real line.
    let mut server = Server::new(Box::new(engine), events, 0);
    while server.step().is_none_or(|request| !matches!(request, Request::Stop)) {
        if let Some(problem) = server.engine.state().problem {
            return Err(VirtualError::Host(format!("writing the flash or eFuse file: {problem}")));
        }
    }
    Ok(())
}

/// Opens the line and feeds `events` from it. Returns where it is.
fn listen(place: Place, events: Sender<Event>) -> Result<String, VirtualError> {
    let (at, scheme, protocol) = match place {
        Place::Socket(at) => (at, "socket", Protocol::Plain),
        Place::Rfc2217(at) => (at, "rfc2217", Protocol::Rfc2217),
        #[cfg(unix)]
        Place::Terminal(link) => return super::pty::serve(&link, events),
        #[cfg(not(unix))]
        Place::Terminal(_) => return Err(VirtualError::Option("pseudo terminals need a Unix system".into())),
    };
    let failed = |error| VirtualError::Host(format!("{at}: {error}"));
    let listener = TcpListener::bind(&at).map_err(failed)?;
    let here = listener.local_addr().map_err(failed)?;
    std::thread::spawn(move || lines::serve(&listener, protocol, Sharing::OneByOne, &events));
    Ok(format!("{scheme}://{here}"))
}
