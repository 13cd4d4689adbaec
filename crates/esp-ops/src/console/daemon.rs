//! The user's daemon: it owns the ports of consoles, which so outlive the programs that read them. Started when it is
//! first needed, it ends when nobody has needed it for a while.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use esp_link::port::PortUrl;
use esp_link::port::lock::{private_dir, runtime_dir};
use esp_model::job::Job;
use esp_model::port::{Port, PortInfo};
use interprocess::local_socket::traits::{Listener as _, Stream as _};
use interprocess::local_socket::{GenericFilePath, Listener, ListenerOptions, Name, ToFsName};

use super::hub::Consoles;
use super::line::Line;
use super::lines::{self, Kept};
use super::link::{Link, There};
use super::session::{Reading, Session, Wish};
use super::wire::{self, Answer, Ask, Move};
use crate::error::{Code, ToolError};
use crate::session::device::Warm;
use crate::session::sessions::Lease;

pub use interprocess::local_socket::Stream as Connection;

/// How long a new daemon may take to listen.
const START: Duration = Duration::from_secs(5);
/// How long it stays when nobody needs it.
pub const IDLE: Duration = Duration::from_secs(30);
/// The daemon's subcommand.
pub const COMMAND: &str = "daemon";

/// Where the daemon is, and how it is started.
pub struct Place {
    dir: PathBuf,
    program: PathBuf,
    state: PathBuf,
}

impl Place {
    /// `program` is started when there is no daemon; it keeps its state in the folder `state`.
    pub fn new(program: PathBuf, state: PathBuf) -> Self {
        Self { dir: runtime_dir(), program, state }
    }

    /// The same, for a daemon that listens below another folder.
    #[cfg(test)]
    pub(super) fn below(self, dir: &Path) -> Self {
        Self { dir: dir.to_path_buf(), ..self }
    }

    /// A connection to the daemon that runs; `None` when none does.
    pub(super) fn connect(&self) -> io::Result<Option<BufReader<Connection>>> {
        let socket = socket(&self.dir);
        if cfg!(unix) && !socket.exists() {
            return Ok(None);
        }
        let Ok(stream) = Connection::connect(name(&socket)?) else { return Ok(None) };
        let mut connection = BufReader::new(stream);
        match ask(&mut connection, &Ask::Hello) {
            Ok(Answer::Hello { version: wire::VERSION, .. }) => Ok(Some(connection)),
            Ok(Answer::Hello { pid, .. }) => {
                Err(io::Error::other(format!("the daemon (process {pid}) is of another version; end it first")))
            }
            // It was just ending.
            _ => Ok(None),
        }
    }

    fn connect_or_start(&self) -> io::Result<BufReader<Connection>> {
        if let Some(connection) = self.connect()? {
            return Ok(connection);
        }
        self.start()?;
        let until = Instant::now() + START;
        loop {
            match self.connect()? {
                Some(connection) => return Ok(connection),
                None if Instant::now() >= until => return Err(io::Error::other("the daemon did not start")),
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    fn start(&self) -> io::Result<()> {
        let mut command = Command::new(&self.program);
        let state = std::path::absolute(&self.state)?;
        command.arg("--set").arg(format!("state_dir={}", state.display())).arg(COMMAND);
        // It must not keep anybody's folder busy.
        #[cfg(unix)]
        command.current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Ctrl-C in the terminal of whoever starts it is not for it.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        #[cfg(windows)]
        std::os::windows::process::CommandExt::creation_flags(&mut command, 0x0000_0208);
        esp_virtual::keep_streams();
        let mut child = command.spawn()?;
        // No zombie stays where it ends before this process.
        std::thread::spawn(move || child.wait());
        Ok(())
    }

    /// Joins the console of this port, if there is one.
    pub(super) fn join(self: &Arc<Self>, url: &str) -> io::Result<Option<Link>> {
        let Some(mut connection) = self.connect()? else { return Ok(None) };
        match ask(&mut connection, &Ask::Join { url: url.into() })? {
            Answer::About(_) => Ok(Some(Link::There(There::new(self.clone(), None, url.into(), connection)))),
            _ => Ok(None),
        }
    }

    /// Borrows the line to this port; starts the daemon where none runs. `None`: it does not lend it, or cannot open it.
    pub(super) fn borrow(&self, url: &str, holder: &str) -> io::Result<Result<Option<Line>, ToolError>> {
        let mut connection = self.connect_or_start()?;
        let ask = Ask::Lend { url: url.into(), holder: format!("{holder}, process {}", std::process::id()) };
        Ok(match self::ask(&mut connection, &ask)? {
            Answer::Lent { url, baud, usb, modem_lines, is_warm } => {
                let info = PortInfo { url, usb, modem_lines, is_virtual: false };
                Ok(Some(Line::new(connection, info, baud, is_warm)))
            }
            Answer::Failed(failure) => Err(failure.into()),
            _ => Ok(None),
        })
    }

    /// Opens a console, or joins the one of that device; starts the daemon where none runs.
    pub(super) fn open(self: &Arc<Self>, wish: &Wish) -> io::Result<Result<Link, ToolError>> {
        let mut connection = self.connect_or_start()?;
        Ok(match ask(&mut connection, &Ask::Open(wish.clone()))? {
            Answer::About(about) => {
                Ok(Link::There(There::new(self.clone(), Some(wish.clone()), about.url, connection)))
            }
            Answer::Failed(failure) => Err(failure.into()),
            other => Err(ToolError::new(Code::Internal, format!("the daemon answered {other:?}"))),
        })
    }
}

/// Asks, and waits for the answer.
pub(super) fn ask(connection: &mut BufReader<Connection>, ask: &Ask) -> io::Result<Answer> {
    wire::send(connection.get_mut(), ask)?;
    answer(connection)
}

/// Waits for an answer.
pub(super) fn answer(connection: &mut BufReader<Connection>) -> io::Result<Answer> {
    wire::take(connection)?.ok_or_else(|| io::Error::new(io::ErrorKind::ConnectionAborted, "the daemon has ended"))
}

/// Where the daemon listens: only this user can reach it.
fn socket(dir: &Path) -> PathBuf {
    if cfg!(windows) {
        let user = std::env::var("USERNAME").unwrap_or_default();
        return PathBuf::from(format!(r"\\.\pipe\mcp-esptool-{user}"));
    }
    dir.join("daemon.sock")
}

fn name(path: &Path) -> io::Result<Name<'_>> {
    path.to_fs_name::<GenericFilePath>()
}

/// Serves until nobody has needed it for `idle`. Returns at once where another daemon of this user runs.
pub fn serve(consoles: Arc<Consoles>, idle: Duration) -> io::Result<()> {
    serve_below(&runtime_dir(), consoles, idle)
}

/// The same below this folder, which only this user may enter.
pub(super) fn serve_below(dir: &Path, consoles: Arc<Consoles>, idle: Duration) -> io::Result<()> {
    private_dir(dir)?;
    let lock = File::options().create(true).truncate(false).write(true).open(dir.join("daemon.lock"))?;
    if lock.try_lock().is_err() {
        return Ok(());
    }
    let socket = socket(dir);
    // The lock says that its daemon is dead.
    let _ = std::fs::remove_file(&socket);
    let listener = ListenerOptions::new().name(name(&socket)?).create_sync()?;
    #[cfg(unix)]
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let clients = Arc::new(AtomicUsize::new(0));
    let (serving, counted) = (consoles.clone(), clients.clone());
    std::thread::spawn(move || accept(&listener, &serving, &counted));
    let mut needed = Instant::now();
    while needed.elapsed() < idle {
        std::thread::sleep(Duration::from_millis(100).min(idle));
        if clients.load(Ordering::Acquire) > 0 || !consoles.list_here().is_empty() || !consoles.lines().is_empty() {
            needed = Instant::now();
        }
    }
    let _ = std::fs::remove_file(&socket);
    Ok(())
}

fn accept(listener: &Listener, consoles: &Arc<Consoles>, clients: &Arc<AtomicUsize>) {
    loop {
        let Ok(stream) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        let (consoles, clients) = (consoles.clone(), clients.clone());
        clients.fetch_add(1, Ordering::AcqRel);
        std::thread::spawn(move || {
            // A client that breaks its connection has left; what it held goes with it.
            let _ = Client::default().serve(&consoles, BufReader::new(stream));
            clients.fetch_sub(1, Ordering::AcqRel);
        });
    }
}

/// What one connection has.
#[derive(Default)]
struct Client {
    reading: Option<Reading>,
    /// The console whose port this client uses, and the device's lock.
    paused: Option<(Arc<Session>, Lease<Warm>)>,
    /// The line that is lent to this client.
    lent: Option<Lent>,
}

/// A line on loan, with the device's lock.
struct Lent {
    url: PortUrl,
    port: Box<dyn Port>,
    lease: Lease<Warm>,
}

impl Client {
    fn serve(&mut self, consoles: &Arc<Consoles>, mut connection: BufReader<Connection>) -> io::Result<()> {
        while let Some(message) = wire::take(&mut connection)? {
            if let Ask::Line(what) = message {
                self.line(consoles, &mut connection, what)?;
                continue;
            }
            let answer = self.answer(consoles, message);
            wire::send(connection.get_mut(), &answer)?;
        }
        Ok(())
    }

    fn answer(&mut self, consoles: &Arc<Consoles>, message: Ask) -> Answer {
        match message {
            Ask::Hello => Answer::Hello { version: wire::VERSION, pid: std::process::id() },
            Ask::List => Answer::List(consoles.list_here()),
            Ask::Open(wish) => match consoles.open_here(&wish, &Job::new()) {
                Ok(reading) => self.joined(reading),
                Err(error) => Answer::Failed(error.into()),
            },
            Ask::Join { url } => match url.parse().ok().and_then(|url: PortUrl| consoles.find_here(&url)) {
                Some(session) => self.joined(Reading::of(&session)),
                None => Answer::None,
            },
            Ask::Pause { url, holder } => match url.parse() {
                Ok(url) => self.pause(consoles, &url, &holder),
                Err(_) => Answer::None,
            },
            Ask::Resume { reset } => {
                if let Some((session, lease)) = self.paused.take() {
                    if reset {
                        session.reset_when_back();
                    }
                    drop(lease);
                }
                Answer::Done
            }
            Ask::Lend { url, holder } => match url.parse() {
                Ok(url) => self.lend(consoles, url, &holder).unwrap_or_else(|error| Answer::Failed(error.into())),
                Err(_) => Answer::None,
            },
            other => match &self.reading {
                Some(reading) => about_one(reading.session(), other),
                None => Answer::None,
            },
        }
    }

    fn joined(&mut self, reading: Reading) -> Answer {
        let about = reading.session().about();
        self.reading = Some(reading);
        Answer::About(about)
    }

    /// Opens a line for this client, or gives it the one that the call before left connected.
    fn lend(&mut self, consoles: &Arc<Consoles>, url: PortUrl, holder: &str) -> Result<Answer, ToolError> {
        // A console has the lock, too, and gives way.
        let key = consoles.lease_key(&url);
        let lease = consoles.devices().sessions.lease(&key, holder, &Job::new())?;
        let (port, is_warm) = match consoles.lines().take(&url).and_then(Kept::into_port) {
            Some(port) => (port, true),
            None => match consoles.open_port(&url) {
                Ok(port) => (port, false),
                Err(error) if error.code == Code::DeviceBusy => return Err(error),
                // Whoever asks may know more, such as a token, or say better why not.
                Err(_) => return Ok(Answer::None),
            },
        };
        let (info, baud) = (port.info(), port.baud());
        self.lent = Some(Lent { url, port, lease });
        Ok(Answer::Lent { url: info.url, baud, usb: info.usb, modem_lines: info.modem_lines, is_warm })
    }

    /// One request about the line that is lent.
    fn line(&mut self, consoles: &Arc<Consoles>, connection: &mut BufReader<Connection>, what: Move) -> io::Result<()> {
        let mut bytes = Vec::new();
        if let Move::Write { count } = what {
            bytes.resize(count.min(wire::LONGEST as usize), 0);
            connection.read_exact(&mut bytes)?;
        }
        if let Move::Leave { to_app, idle_ms } = what {
            if let Some(lent) = self.lent.take() {
                lent.leave(consoles, to_app, Duration::from_millis(idle_ms));
            }
            return wire::send(connection.get_mut(), &Answer::Done);
        }
        let done = match &mut self.lent {
            Some(lent) => moved(&mut *lent.port, what, &mut bytes),
            None => Err(lines::not_lent()),
        };
        match done {
            Ok(None) => wire::send(connection.get_mut(), &Answer::Done),
            Ok(Some(count)) => {
                wire::send(connection.get_mut(), &Answer::Bytes { count })?;
                connection.get_mut().write_all(bytes.get(..count).unwrap_or_default())
            }
            Err(error) => wire::send(connection.get_mut(), &Answer::from(error)),
        }
    }

    fn pause(&mut self, consoles: &Arc<Consoles>, url: &PortUrl, holder: &str) -> Answer {
        let Some(session) = consoles.find_here(url) else { return free(consoles, url, holder) };
        match consoles.devices().sessions.lease(&session.url.to_string(), holder, &Job::new()) {
            Ok(lease) => {
                self.paused = Some((session, lease));
                Answer::Done
            }
            Err(error) => Answer::Failed(error.into()),
        }
    }
}

impl Lent {
    /// Keeps the line for the next call, where no console waits for it.
    fn leave(self, consoles: &Consoles, to_app: bool, idle: Duration) {
        let Self { url, port, lease } = self;
        let kept = Kept::new(port, to_app);
        match consoles.find_here(&url) {
            Some(session) => {
                if to_app {
                    session.reset_when_back();
                }
                drop(kept.into_port());
            }
            None if idle.is_zero() => drop(kept),
            None => consoles.lines().keep(&url, kept, idle),
        }
        drop(lease);
    }
}

/// Closes a line that nobody uses, so that another process can open the port; waits for one that is lent.
fn free(consoles: &Consoles, url: &PortUrl, holder: &str) -> Answer {
    match consoles.devices().sessions.lease(&url.to_string(), holder, &Job::new()) {
        Ok(_lease) => {
            consoles.lines().forget(url);
            Answer::None
        }
        Err(error) => Answer::Failed(error.into()),
    }
}

/// Carries out what is asked for; the count of bytes that were read into `bytes`.
fn moved(port: &mut dyn Port, what: Move, bytes: &mut Vec<u8>) -> io::Result<Option<usize>> {
    match what {
        Move::Write { .. } => port.write(bytes)?,
        Move::Read { most, wait_us } => {
            bytes.resize(most.min(1 << 20), 0);
            return port.read(bytes, Duration::from_micros(wait_us.min(1_000_000))).map(Some);
        }
        Move::Lines { dtr, rts } => port.set_lines(dtr, rts)?,
        Move::Baud { baud } => port.set_baud(baud)?,
        Move::Break { ms } => port.send_break(Duration::from_millis(ms.min(2000)))?,
        Move::Reopen => port.reopen()?,
        Move::Leave { .. } => {}
    }
    Ok(None)
}

fn about_one(session: &Arc<Session>, message: Ask) -> Answer {
    match message {
        Ask::Read { from, most, wait_ms } => {
            let (piece, state) = session.read(from, most.min(1 << 20), Duration::from_millis(wait_ms.min(1000)));
            Answer::Piece { piece, state }
        }
        Ask::Do(order) => session.order(order).map_or_else(Answer::from, |()| Answer::Done),
        Ask::About => Answer::About(session.about()),
        Ask::Keep => {
            session.keep();
            Answer::Done
        }
        Ask::Close => {
            session.close();
            Answer::Done
        }
        _ => Answer::None,
    }
}
