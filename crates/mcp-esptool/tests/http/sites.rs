//! Several stations on one PostgreSQL ledger, a copy of it at another site, and a standby: what docs/production.md says.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::http::Server;
use super::postgres::{Postgres, until};

/// What the page's stream of events brings.
struct Events(BufReader<TcpStream>);

impl Events {
    fn of(server: &Server) -> Self {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let head = format!(
            "GET /station/events HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n",
            server.address, server.token
        );
        std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
        Self(BufReader::new(stream))
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the stream ended");
            if let Some(data) = line.strip_prefix("data:") {
                return serde_json::from_str(data.trim()).unwrap();
            }
        }
    }

    /// Reads until a status shows it; the status.
    fn until(&mut self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let begin = Instant::now();
        loop {
            let status = self.next();
            if is_so(&status) {
                return status;
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "not within a minute: {what}: {status}");
        }
    }
}

/// Runs the program in a folder with a ledger; what it printed.
fn program(dir: &Path, ledger: &str, args: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
    command
        .current_dir(dir)
        .args(args)
        .env("MCP_ESPTOOL_STATE_DIR", dir.join("state"))
        .env("MCP_ESPTOOL_LEDGER", ledger);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

/// A folder with a recipe.
fn site() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (made, text) = program(dir.path(), "unused.db", &["recipe", "new", "blink.toml", "--chip", "esp32c3"]);
    assert!(made, "{text}");
    dir
}

/// Pools for the recipe.
fn fill(dir: &Path, ledger: &str) {
    for pool in [
        ["pool=serials", "kind=serial", "prefix=SN-", "count=100"],
        ["pool=macs", "kind=mac", "first=02:00:00:00:10:00", "count=100"],
    ] {
        let (made, text) = program(dir, ledger, &[&["ledger", "add-pool"], &pool[..]].concat());
        assert!(made, "{text}");
    }
}

fn station(dir: &Path, name: &str, ledger: &str) -> Server {
    let (station, ledger) = (format!("station={name}"), format!("ledger={ledger}"));
    Server::start(dir, &["--set", &station, "--set", &ledger])
}

/// Produces a unit at a station; its serial number.
fn produce(server: &Server, unit: &str) -> String {
    let port = format!("sim://esp32c3-{unit}");
    let call = json!({"name": "esp_factory_program", "arguments": {"port": port, "config": "blink.toml"}});
    let result = server.modern("tools/call", call).result();
    let made = &result["structuredContent"];
    assert_eq!(made["verdict"], "pass", "{result}");
    made["identities"]["serial"].as_str().unwrap().to_owned()
}

/// How many units passed at a station, by the page's data.
fn passed(status: &Value, station: &str) -> u64 {
    let all = status["production"]["stations"].as_array().cloned().unwrap_or_default();
    let found = all.iter().find(|found| found["station"] == station);
    found.and_then(|found| found["passed"].as_u64()).unwrap_or(0)
}

/// Asked every two seconds, a page would show a run of another station up to two seconds later. It is told of it.
fn hears_at_once(events: &mut Events, run: impl Fn(usize)) -> bool {
    (0..5).any(|attempt| {
        events.next();
        let begin = Instant::now();
        run(attempt);
        events.next();
        begin.elapsed() < Duration::from_millis(1500)
    })
}

#[test]
fn station_page_shows_runs_of_other_stations_at_once() {
    let Some(postgres) = Postgres::start(&[]) else { return };
    postgres.sql("postgres", "CREATE DATABASE line");
    let (ledger, dirs) = (postgres.url("line"), [site(), site()]);
    fill(dirs[0].path(), &ledger);
    let one = station(dirs[0].path(), "line-1", &ledger);
    let two = station(dirs[1].path(), "line-2", &ledger);
    let (mut at_one, mut at_two) = (Events::of(&one), Events::of(&two));
    assert_eq!(produce(&two, "a"), "SN-00001");
    assert_eq!(produce(&one, "b"), "SN-00002");
    for events in [&mut at_one, &mut at_two] {
        events.until("both stations", |status| passed(status, "line-1") == 1 && passed(status, "line-2") == 1);
    }
    assert!(hears_at_once(&mut at_one, |attempt| drop(produce(&two, &format!("c{attempt}")))), "only by asking");
}

#[test]
fn copy_at_another_site_is_whole_live_and_read_only() {
    let Some(north) = Postgres::start(&["wal_level=logical"]) else { return };
    let Some(centre) = Postgres::start(&[]) else { return };
    let dir = site();
    north.sql("postgres", "CREATE DATABASE ledger");
    fill(dir.path(), &north.url("ledger"));
    let line = station(dir.path(), "north-1", &north.url("ledger"));
    produce(&line, "a");

    north.sql("ledger", "CREATE PUBLICATION line FOR ALL TABLES");
    centre.database_like("site_north", &north, "ledger");
    let subscription = format!("CREATE SUBSCRIPTION north CONNECTION '{}' PUBLICATION line", north.url("ledger"));
    centre.sql("site_north", &subscription);
    centre.sql("site_north", "ALTER TABLE run ENABLE ALWAYS TRIGGER run_changed");
    centre.sql("site_north", "CREATE ROLE reader LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader");
    let left = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'";
    until("every table is copied", || centre.sql("site_north", left) == "0");

    let copy = centre.url("site_north").replace("user=ledger", "user=reader");
    let (good, text) = program(dir.path(), &copy, &["ledger", "verify"]);
    assert!(good, "{text}");
    // Who shows the copy may not produce into it.
    let (made, text) = program(dir.path(), &copy, &["ledger", "add-pool", "pool=x", "kind=serial", "count=1"]);
    assert!(!made && text.contains("permission denied"), "{text}");

    let far = tempfile::tempdir().unwrap();
    let page = station(far.path(), "centre", &copy);
    let mut seen = Events::of(&page);
    produce(&line, "b");
    seen.until("what was made at the other site", |status| passed(status, "north-1") == 2);
    assert!(hears_at_once(&mut seen, |attempt| drop(produce(&line, &format!("c{attempt}")))), "only by asking");
}

#[test]
fn standby_has_every_issued_value_and_issues_the_next() {
    let Some(first) = Postgres::start(&["wal_level=replica"]) else { return };
    let standby = Postgres::standby_of(&first, "second");
    first.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = 'second'");
    first.sql("postgres", "SELECT pg_reload_conf()");
    first.sql("postgres", "CREATE DATABASE ledger");
    let dir = site();
    fill(dir.path(), &first.url("ledger"));
    let before = produce(&station(dir.path(), "line-1", &first.url("ledger")), "a");
    first.kill();
    standby.sql("postgres", "SELECT pg_promote()");
    let after = station(dir.path(), "line-1", &standby.url("ledger"));
    assert_eq!((before.as_str(), produce(&after, "b").as_str()), ("SN-00001", "SN-00002"));
    // The same unit again: what it was given is known.
    assert_eq!(produce(&after, "a"), "SN-00001");
    let (good, text) = program(dir.path(), &standby.url("ledger"), &["ledger", "verify"]);
    assert!(good, "{text}");
    // Without synchronous replication the newest values may be unknown: a person puts as many out of use (`void-gap`).
    let mut ledger = esp_ledger::Ledger::open(&standby.url("ledger"), "line-1", "this computer").unwrap();
    assert_eq!(ledger.void_gap(10).unwrap(), 20, "of two pools");
    assert_eq!(produce(&after, "c"), "SN-00013");
}
