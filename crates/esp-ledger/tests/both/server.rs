//! A PostgreSQL server of the test's own, from the installed binaries, as an unprivileged user.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::installed::{binaries, unprivileged};

pub struct Server {
    bin: PathBuf,
    dir: tempfile::TempDir,
    child: Option<Child>,
    user: Option<(u32, u32)>,
    /// Where it listens beside its socket, with TLS only.
    port: Option<u16>,
}

impl Server {
    /// None: no binaries on this machine.
    ///
    /// Its files are in memory where that is possible, for processes die here and no power fails; in the long mode they
    /// are on the disk, whose speed the throughput then shows.
    pub fn start() -> Option<Self> {
        let memory = Path::new("/dev/shm");
        Self::start_in(if memory.is_dir() && !crate::is_long() { memory } else { Path::new("/tmp") })
    }

    /// The same with its files below a folder.
    pub fn start_in(folder: &Path) -> Option<Self> {
        let bin = binaries()?;
        let dir = tempfile::Builder::new().prefix("ledger-pg").tempdir_in(folder).unwrap();
        let user = unprivileged();
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(dir.path(), Some(uid), Some(gid)).unwrap();
        }
        let mut server = Self { bin, dir, child: None, user, port: None };
        let data = server.dir.path().join("data");
        let init = server
            .command("initdb")
            .args(["-U", "ledger", "-A", "trust", "-E", "UTF8", "--no-sync", "--wal-segsize=1", "-D"])
            .arg(&data)
            .output();
        let init = init.unwrap();
        assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
        server.run();
        Some(server)
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.current_dir("/tmp").stdout(Stdio::null()).stderr(Stdio::null());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Starts the server and waits until it answers.
    pub fn run(&mut self) {
        let dir = self.dir.path();
        let mut command = self.command("postgres");
        command.arg("-D").arg(dir.join("data")).arg("-k").arg(dir).args([
            "-c",
            "max_connections=60",
            "-c",
            "max_wal_size=64MB",
        ]);
        if self.port.is_none() {
            command.args(["-c", "listen_addresses="]);
        }
        self.child = Some(command.spawn().unwrap());
        let begin = Instant::now();
        loop {
            match postgres::Client::connect(&self.url(), postgres::NoTls) {
                Ok(_) => return,
                // After a crash it reads its log again, and waits for the disk to take each of its files.
                Err(error) => assert!(begin.elapsed() < Duration::from_secs(300), "{error:?}"),
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Takes the server down at once, as a crash would, and starts it again.
    pub fn crash_and_restart(&mut self) {
        self.stop("-QUIT");
        self.run();
    }

    /// Starts the server if it has ended.
    pub fn run_again(&mut self) {
        if self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None))) {
            self.run();
        }
    }

    /// Starts the server anew with TLS on a port of the loopback address, where nothing comes in without. The certificate
    /// is for `localhost`; returns the port and the authority's file.
    pub fn with_tls(&mut self) -> (u16, PathBuf) {
        self.stop("-INT");
        let dir = self.dir.path();
        let (authority, data) = (dir.join("ca.pem"), dir.join("data"));
        let script = "set -e; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ca \
             -keyout ca.key -out ca.pem
             openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout data/server.key \
             -out server.csr
             printf 'subjectAltName=DNS:localhost\\n' > ext
             openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext \
             -out data/server.crt
             openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=other \
             -keyout other.key -out other.pem
             chmod 600 data/server.key";
        let made = Command::new("sh").args(["-c", script]).current_dir(dir).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        if let Some((uid, gid)) = self.user {
            for file in ["server.key", "server.crt"] {
                std::os::unix::fs::chown(data.join(file), Some(uid), Some(gid)).unwrap();
            }
        }
        fs::write(data.join("pg_hba.conf"), "local all all trust\nhostssl all all 127.0.0.1/32 trust\n").unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = format!("ssl = on\nlisten_addresses = '127.0.0.1'\nport = {port}\n");
        let mut config = fs::OpenOptions::new().append(true).open(data.join("postgresql.conf")).unwrap();
        std::io::Write::write_all(&mut config, settings.as_bytes()).unwrap();
        self.port = Some(port);
        self.run();
        (port, authority)
    }

    fn stop(&mut self, signal: &str) {
        if let Some(mut child) = self.child.take() {
            let _ = Command::new("kill").args([signal, &child.id().to_string()]).status();
            let _ = child.wait();
        }
    }

    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    fn url_of(&self, database: &str) -> String {
        let port = self.port.map(|port| format!(" port={port}")).unwrap_or_default();
        format!("host={} user=ledger dbname={database}{port}", Path::new(self.dir.path()).display())
    }

    /// A new, empty database.
    pub fn database(&self, name: &str) -> String {
        let mut client = postgres::Client::connect(&self.url(), postgres::NoTls).unwrap();
        client.batch_execute(&format!("CREATE DATABASE {name}")).unwrap();
        self.url_of(name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop("-INT");
    }
}
