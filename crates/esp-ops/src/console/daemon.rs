//! The user's daemon: it owns the ports of consoles, which so outlive the programs that read them. Started when it is
//! first needed, it ends when nobody has needed it for a while.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use esp_link::port::PortUrl;
use esp_link::port::lock::{private_dir, runtime_dir};
use esp_model::job::Job;
use interprocess::local_socket::traits::{Listener as _, Stream as _};
use interprocess::local_socket::{GenericFilePath, Listener, ListenerOptions, Name, ToFsName};

use super::hub::Consoles;
use super::link::{Link, There};
use super::session::{Reading, Session, Wish};
use super::wire::{self, Answer, Ask};
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
        if clients.load(Ordering::Acquire) > 0 || !consoles.list_here().is_empty() {
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
}

impl Client {
    fn serve(&mut self, consoles: &Arc<Consoles>, mut connection: BufReader<Connection>) -> io::Result<()> {
        while let Some(message) = wire::take(&mut connection)? {
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

    fn pause(&mut self, consoles: &Arc<Consoles>, url: &PortUrl, holder: &str) -> Answer {
        let Some(session) = consoles.find_here(url) else { return Answer::None };
        match consoles.devices().sessions.lease(&session.url.to_string(), holder, &Job::new()) {
            Ok(lease) => {
                self.paused = Some((session, lease));
                Answer::Done
            }
            Err(error) => Answer::Failed(error.into()),
        }
    }
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
