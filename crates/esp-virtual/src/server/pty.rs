//! The serial line of a virtual chip as a pseudo terminal. It has a rate that both ends agree on, and no modem lines.

use std::io;
use std::path::Path;
use std::sync::mpsc::Sender;
use std::time::Duration;

use esp_link::port::pty::PtyMaster;

use super::lines::{Client, FIRST_BAUD, Outlet, order};
use super::{Event, Order};
use crate::VirtualError;

/// How long bytes may wait for a reader before they are dropped.
const STALL: Duration = Duration::from_millis(500);
/// How long the reader waits at a time; nothing depends on it.
const READ_TIMEOUT: Duration = Duration::from_secs(3600);

/// Makes a pseudo terminal, lets `link` lead to it and feeds `events` from it. Returns where it is.
pub(super) fn serve(link: &Path, events: Sender<Event>) -> Result<String, VirtualError> {
    let failed = |error| VirtualError::Host(format!("pseudo terminal: {error}"));
    let mut master = PtyMaster::new().map_err(failed)?;
    master.link_at(link).map_err(VirtualError::file(link))?;
    let mut reader = master.try_clone().map_err(failed)?;
    let place = format!("{} ({})", link.display(), master.path().display());
    let agreed_baud = Some(baud(&master).unwrap_or(FIRST_BAUD));
    let outlet = Box::new(Terminal { master, clogged: false });
    let _ = events.send(Event::Joined(Client { id: 0, outlet, agreed_baud }));
    std::thread::spawn(move || {
        let mut buf = vec![0; 64 * 1024];
        while let Ok(count) = reader.read(&mut buf, READ_TIMEOUT) {
            let bytes = buf.get(..count).unwrap_or_default();
            let rate = baud(&reader).map(Order::AgreedBaud);
            let orders = rate.into_iter().chain([Order::Data(bytes.to_vec())]).collect();
            if !bytes.is_empty() && order(orders, &events).is_err() {
                return;
            }
        }
    });
    Ok(place)
}

/// The rate that the program at the other end has set, where the system tells it.
fn baud(terminal: &PtyMaster) -> Option<u32> {
    Some(terminal.baud()).filter(|baud| *baud > 0)
}

struct Terminal {
    master: PtyMaster,
    /// Nobody reads: the next bytes are dropped unless there is room at once.
    clogged: bool,
}

impl Outlet for Terminal {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let wait = if self.clogged { Duration::ZERO } else { STALL };
        match self.master.write(bytes, wait) {
            Ok(()) => self.clogged = false,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => self.clogged = true,
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
