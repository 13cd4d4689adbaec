//! Where consoles are found: those of this process, and those of the user's daemon.

use std::io::BufReader;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use esp_link::port::{DeviceKey, PortUrl};
use esp_model::job::Job;
use esp_model::port::Port;

use super::daemon::{self, Connection, Place};
use super::line::Line;
use super::lines::Lines;
use super::link::Link;
use super::log;
use super::session::{About, Order, Reading, Session, Wish};
use super::wire::{Answer, Ask};
use crate::Call;
use crate::config::Config;
use crate::error::{Code, ToolError};
use crate::session::device::Devices;
use crate::session::ports::Ports;

/// All consoles that this process can reach.
pub struct Consoles {
    here: Mutex<Vec<Arc<Session>>>,
    /// Lines that wait for the next call, in the daemon.
    lines: Arc<Lines>,
    /// The daemon; none in the daemon itself, and where the configuration wants none.
    daemon: Option<Arc<Place>>,
    ports: Arc<Ports>,
    devices: Arc<Devices>,
    state: PathBuf,
}

/// A console of the daemon has given its port away; it takes it back when this is dropped.
pub struct Pause(BufReader<Connection>);

impl Pause {
    /// Has a console of this user's daemon give this port away.
    pub fn of(place: &Place, url: &PortUrl, holder: &str) -> Result<Option<Self>, ToolError> {
        let Ok(Some(mut connection)) = place.connect() else { return Ok(None) };
        let holder = format!("{holder}, process {}", std::process::id());
        match daemon::ask(&mut connection, &Ask::Pause { url: absolute(url), holder }) {
            Ok(Answer::Done) => Ok(Some(Self(connection))),
            Ok(Answer::Failed(failure)) => Err(failure.into()),
            _ => Ok(None),
        }
    }

    /// Gives the port back; `reset` starts the application then, heard from its first byte.
    pub fn resume(mut self, reset: bool) {
        // A daemon that died has no console that waits.
        let _ = daemon::ask(&mut self.0, &Ask::Resume { reset });
    }
}

impl Consoles {
    /// Reads the settings; starts nothing.
    pub fn new(config: &Config, ports: Arc<Ports>, devices: Arc<Devices>) -> Self {
        let program = config.path("program").or_else(|| std::env::current_exe().ok());
        let state = config.state_dir();
        let daemon =
            program.filter(|_| config.flag("console_daemon")).map(|program| Place::new(program, state.clone()));
        Self { here: Mutex::default(), lines: Arc::default(), daemon: daemon.map(Arc::new), ports, devices, state }
    }

    /// The same with this daemon.
    #[cfg(test)]
    pub(super) fn with_daemon(mut self, place: Place) -> Self {
        self.daemon = Some(Arc::new(place));
        self
    }

    pub(super) fn devices(&self) -> &Devices {
        &self.devices
    }

    pub(super) fn lines(&self) -> &Arc<Lines> {
        &self.lines
    }

    pub(super) fn open_port(&self, url: &PortUrl) -> Result<Box<dyn Port>, ToolError> {
        self.ports.open(url)
    }

    /// Borrows the line to this port from the daemon; `None` where it lends none.
    pub fn borrow(&self, url: &PortUrl, holder: &str) -> Result<Option<Line>, ToolError> {
        let Some(place) = self.daemon_for(url) else { return Ok(None) };
        place.borrow(&absolute(url), holder).unwrap_or_else(|error| {
            tracing::debug!("no daemon ({error}): this process opens the port");
            Ok(None)
        })
    }

    /// Simulated devices live in this process, and emulated ones share their line themselves.
    fn daemon_for(&self, url: &PortUrl) -> Option<&Arc<Place>> {
        let is_here = matches!(url, PortUrl::Sim { .. } | PortUrl::Qemu(_) | PortUrl::Image(_));
        self.daemon.as_ref().filter(|_| !is_here)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Session>>> {
        let mut here = self.here.lock().unwrap_or_else(PoisonError::into_inner);
        here.retain(|session| !session.is_closed());
        here
    }

    /// The console of this device in this process.
    pub(super) fn find_here(&self, url: &PortUrl) -> Option<Arc<Session>> {
        let here = self.lock();
        if here.is_empty() {
            return None;
        }
        let wanted = Key::of(url);
        here.iter().find(|session| session.url == *url || Key::of(&session.url) == wanted).cloned()
    }

    /// The consoles of this process.
    pub(super) fn list_here(&self) -> Vec<About> {
        self.lock().iter().map(|session| session.about()).collect()
    }

    pub(super) fn open_here(&self, wish: &Wish, job: &Job) -> Result<Reading, ToolError> {
        let url: PortUrl = wish.url.parse()?;
        if let Some(session) = self.find_here(&url) {
            return Ok(join(&session, wish));
        }
        self.lines.forget(&url);
        let session = Session::begin(&self.ports, &self.devices, wish, job)?;
        let reading = Reading::of(&session);
        self.lock().push(session);
        Ok(reading)
    }

    pub(super) fn open(&self, url: &PortUrl, wish: &Wish, job: &Job) -> Result<Link, ToolError> {
        if let Some(place) = self.daemon_for(url) {
            // A line that broke while the daemon opened the port: the second request joins its console.
            match place.open(wish).or_else(|_| place.open(wish)) {
                Ok(opened) => return opened,
                Err(error) => tracing::warn!("no daemon ({error}): the console lives in this process"),
            }
        }
        Ok(Link::Here(self.open_here(wish, job)?))
    }

    /// The console of this device, if it has one.
    pub fn find(&self, url: &PortUrl) -> Option<Link> {
        if let Some(session) = self.find_here(url) {
            return Some(Link::Here(Reading::of(&session)));
        }
        self.daemon_for(url)?.join(&absolute(url)).ok()?
    }

    /// All consoles.
    pub fn list(&self) -> Vec<About> {
        let mut all = self.list_here();
        if let Some(Ok(Some(mut connection))) = self.daemon.as_ref().map(|place| place.connect())
            && let Ok(Answer::List(more)) = daemon::ask(&mut connection, &Ask::List)
        {
            all.extend(more);
        }
        all
    }

    /// What locks the device of this port in this process: a console may have opened it by another name.
    pub fn lease_key(&self, url: &PortUrl) -> String {
        self.find_here(url).map_or_else(|| url.to_string(), |session| session.url.to_string())
    }

    /// Has a console of the daemon give this port away.
    pub fn pause(&self, url: &PortUrl, holder: &str) -> Result<Option<Pause>, ToolError> {
        self.daemon_for(url).map_or(Ok(None), |place| Pause::of(place, url, holder))
    }

    /// Ends the consoles of this process.
    pub fn close(&self) {
        self.lock().iter().for_each(|session| session.close());
    }
}

/// What nobody can find any more listens to nobody.
impl Drop for Consoles {
    fn drop(&mut self) {
        self.close();
    }
}

/// Another reader, as it wishes.
fn join(session: &Arc<Session>, wish: &Wish) -> Reading {
    if wish.keep {
        session.keep();
    }
    Reading::of(session)
}

/// What is the same for all names of one device.
#[derive(PartialEq, Eq)]
pub(super) enum Key {
    Device(DeviceKey),
    Url(String),
}

impl Key {
    pub(super) fn of(url: &PortUrl) -> Self {
        match url {
            PortUrl::Serial(path) | PortUrl::Pty(path) => Self::Device(DeviceKey::of_path(path.as_ref())),
            PortUrl::Socket(at) | PortUrl::Rfc2217(at) => Self::Device(DeviceKey::of_endpoint(at)),
            PortUrl::Mac(mac) => match esp_link::port::path_of_mac(*mac) {
                Some(path) => Self::Device(DeviceKey::of_path(path.as_ref())),
                None => Self::Url(url.to_string()),
            },
            other => Self::Url(other.to_string()),
        }
    }
}

/// How a call wants its console.
#[derive(Debug, Clone, Copy)]
pub struct Opening {
    /// Line rate; the one it has, or 115200.
    pub baud: Option<u32>,
    /// Reset the device.
    pub reset: bool,
    /// It goes on when its last reader leaves.
    pub keep: bool,
}

impl Call {
    /// Opens the console of a device, or joins it.
    pub fn open_console(&self, port: Option<&PortUrl>, opening: Opening, job: &Job) -> Result<Link, ToolError> {
        let url = self.find_port(port, job)?;
        if let Some(link) = self.consoles.find(&url) {
            self.may_read(&url, &link)?;
            return adjust(link, opening);
        }
        let mac = match self.must_identify(&url) {
            // Only a loader tells who the device is; leaving it starts the application again.
            true => self.with_device(port, job, |connected| connected.identify(job))?.map(|found| found.mac),
            false => None,
        };
        if self.must_identify(&url) {
            self.devices.sessions.forget(&url.to_string());
        }
        let wish = Wish {
            url: absolute(&url),
            baud: opening.baud.unwrap_or(115_200),
            reset: opening.reset,
            mac,
            keep: opening.keep,
            log: log::place(&self.consoles.state, &url.to_string()),
        };
        self.consoles.open(&url, &wish, job)
    }

    /// The console of a device that has one; of the only one there is where no port is named.
    pub fn console(&self, port: Option<&PortUrl>, job: &Job) -> Result<Link, ToolError> {
        let open = self.consoles.list();
        let url: PortUrl = match (port, open.as_slice()) {
            (None, [only]) => self.choose_port(Some(&only.url.parse()?))?,
            (None, [_, _, ..]) => {
                let ports = open.iter().map(|about| about.url.as_str()).collect::<Vec<_>>().join(", ");
                let text = "no port was named and several consoles are open";
                return Err(ToolError::new(Code::WhichPort, text).seen("ports", ports));
            }
            _ => self.find_port(port, job)?,
        };
        let link = self.consoles.find(&url);
        let link = link.ok_or_else(|| ToolError::new(Code::NoConsole, format!("no console of {url} is open")))?;
        self.may_read(&url, &link)?;
        Ok(link)
    }

    /// Who the device is cannot be asked while its console is open.
    pub(crate) fn may_read(&self, url: &PortUrl, link: &Link) -> Result<(), ToolError> {
        if !self.must_identify(url) {
            return Ok(());
        }
        match link.about().map_err(lost)?.mac {
            Some(mac) => self.policy.allows_mac(mac),
            None => Err(ToolError::new(
                Code::PolicyRefused,
                "the policy names devices by MAC, and this one was not identified when its console was opened",
            )),
        }
    }
}

/// The URL as every process of this computer understands it.
fn absolute(url: &PortUrl) -> String {
    match url {
        PortUrl::Serial(path) if path.contains('/') => {
            std::path::absolute(path).map_or_else(|_| path.clone(), |path| path.display().to_string())
        }
        other => other.to_string(),
    }
}

/// A console that is open already, as this call wants it.
fn adjust(link: Link, opening: Opening) -> Result<Link, ToolError> {
    let about = link.about().map_err(lost)?;
    if let Some(baud) = opening.baud.filter(|baud| *baud != about.baud) {
        link.order(Order::Baud(baud)).map_err(lost)?;
    }
    if opening.keep {
        link.keep().map_err(lost)?;
    }
    if opening.reset {
        link.order(Order::Reset).map_err(lost)?;
    }
    Ok(link)
}

/// An error of a console's line.
pub fn lost(error: std::io::Error) -> ToolError {
    let code = match error.kind() {
        std::io::ErrorKind::Unsupported => Code::ResetUnsupported,
        std::io::ErrorKind::ResourceBusy => Code::DeviceBusy,
        std::io::ErrorKind::BrokenPipe => Code::NoConsole,
        _ => Code::PortLost,
    };
    ToolError::new(code, error.to_string())
}
