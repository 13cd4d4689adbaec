//! PostgreSQL servers of a test's own, reached over their sockets.
#![allow(clippy::unwrap_used)]

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

#[path = "../../../esp-ledger/tests/both/installed.rs"]
mod installed;

pub struct Postgres {
    bin: PathBuf,
    dir: tempfile::TempDir,
    child: Option<Child>,
}

impl Postgres {
    /// A new, empty server with these settings; `None` where PostgreSQL is not installed (with `CI` set: a failure).
    pub fn start(settings: &[&str]) -> Option<Self> {
        let mut server = Self::stopped()?;
        let (init, data) = (server.bin.join("initdb"), server.data());
        run(as_user(Command::new(init))
            .args(["-U", "ledger", "-A", "trust", "-E", "UTF8", "--no-sync", "-D"])
            .arg(data));
        server.run(settings);
        Some(server)
    }

    /// A standby that follows another server, by that server's `pg_basebackup`.
    pub fn standby_of(other: &Self, name: &str) -> Self {
        let mut server = Self::stopped().unwrap();
        let from = format!("{} application_name={name}", other.url("postgres"));
        let (backup, data) = (server.bin.join("pg_basebackup"), server.data());
        run(as_user(Command::new(backup)).args(["-R", "-X", "stream", "-c", "fast", "-d", &from, "-D"]).arg(data));
        server.run(&["hot_standby=on", "synchronous_standby_names="]);
        server
    }

    fn stopped() -> Option<Self> {
        let Some(bin) = installed::binaries() else {
            assert!(std::env::var_os("CI").is_none(), "PostgreSQL is not installed");
            eprintln!("ignored: PostgreSQL is not installed");
            return None;
        };
        let dir = tempfile::Builder::new().prefix("pg").tempdir_in("/tmp").unwrap();
        if let Some((uid, gid)) = installed::unprivileged() {
            std::os::unix::fs::chown(dir.path(), Some(uid), Some(gid)).unwrap();
        }
        Some(Self { bin, dir, child: None })
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn run(&mut self, settings: &[&str]) {
        let mut command = as_user(Command::new(self.bin.join("postgres")));
        command.arg("-D").arg(self.data()).arg("-k").arg(self.dir.path()).args(["-c", "listen_addresses="]);
        command.args(settings.iter().flat_map(|setting| ["-c", setting]));
        self.child = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        until("PostgreSQL answers", || self.psql("postgres", "SELECT 1").status.success());
    }

    fn psql(&self, database: &str, text: &str) -> std::process::Output {
        let mut command = Command::new(self.bin.join("psql"));
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", &self.url(database), "-c", text]);
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// What a statement prints.
    pub fn sql(&self, database: &str, text: &str) -> String {
        let output = self.psql(database, text);
        assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// The address of a database, as libpq and the setting `ledger` take it.
    pub fn url(&self, database: &str) -> String {
        format!("host={} user=ledger dbname={database}", self.dir.path().display())
    }

    /// A database with the schema of another server's, and without its rows.
    pub fn database_like(&self, name: &str, other: &Self, source: &str) {
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        let dump = Command::new(other.bin.join("pg_dump")).args(["--schema-only", "-d", &other.url(source)]).output();
        let dump = dump.unwrap();
        assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
        let file = self.dir.path().join("schema.sql");
        fs::write(&file, dump.stdout).unwrap();
        run(Command::new(self.bin.join("psql"))
            .args(["-Xq", "-v", "ON_ERROR_STOP=1", "-d", &self.url(name), "-f"])
            .arg(file));
    }

    /// The computer burns down: nothing more is written or sent.
    pub fn kill(mut self) {
        self.signal("-KILL");
    }

    fn signal(&mut self, signal: &str) {
        if let Some(mut child) = self.child.take() {
            let _ = Command::new("kill").args([signal, &child.id().to_string()]).status();
            let _ = child.wait();
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.signal("-INT");
    }
}

/// PostgreSQL refuses to run as root.
fn as_user(mut command: Command) -> Command {
    command.current_dir("/tmp");
    if let Some((uid, gid)) = installed::unprivileged() {
        command.uid(uid).gid(gid);
    }
    command
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Waits until something is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        thread::sleep(Duration::from_millis(100));
    }
}
