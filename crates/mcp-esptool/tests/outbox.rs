//! The outbox against real receivers: a web server and a broker, with a sender that is killed again and again.
#![allow(clippy::unwrap_used)]

#[path = "outbox/mes.rs"]
mod mes;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How often the sender is killed; 100 with `MCP_ESPTOOL_LONG=1`.
fn kills() -> u64 {
    if std::env::var_os("MCP_ESPTOOL_LONG").is_some() { 100 } else { 10 }
}

struct Line {
    dir: tempfile::TempDir,
    settings: Vec<String>,
}

impl Line {
    /// A station with a recipe and pools.
    fn new(settings: &[String]) -> Self {
        let line = Self { dir: tempfile::tempdir().unwrap(), settings: settings.to_vec() };
        line.run(&["recipe", "new", "blink.toml", "--chip", "esp32c3"]);
        line.run(&["ledger", "add-pool", "pool=serials", "kind=serial", "prefix=SN-", "count=1000"]);
        line.run(&["ledger", "add-pool", "pool=macs", "kind=mac", "first=02:00:00:00:10:00", "step=4", "count=1000"]);
        line
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null()).stdout(Stdio::null());
        command.env("MCP_ESPTOOL_STATE_DIR", self.dir.path().join("state"));
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        command
    }

    fn run(&self, args: &[&str]) {
        let output = self.command(args).stderr(Stdio::piped()).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn produce(&self, name: &str) {
        let ports = format!("ports=[\"sim://esp32c3-{name}-[1-3]\"]");
        self.run(&["call", "esp_batch_program", "firmware=blink.toml", &ports]);
    }

    /// Starts the sender and kills it after a while that is another one each time.
    fn send_and_kill(&self, round: u64) {
        let mut sender = self.command(&["ledger", "send"]).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(30 + round * 37 % 400));
        let _ = sender.kill();
        let _ = sender.wait();
    }

    /// The keys of all events in the ledger.
    fn events(&self) -> BTreeSet<String> {
        let _ = std::fs::remove_file(self.dir.path().join("all.json"));
        self.run(&["ledger", "export", "file=all.json"]);
        let all: Value =
            serde_json::from_str(&std::fs::read_to_string(self.dir.path().join("all.json")).unwrap()).unwrap();
        let hashes =
            all["tables"]["event"].as_array().unwrap().iter().map(|event| event["hash"].as_str().unwrap().to_owned());
        hashes.collect()
    }

    /// Produces and sends with kills, then to the end.
    fn through_kills(&self) {
        for round in 0..kills() {
            if round % 5 == 0 {
                self.produce(&format!("r{round}"));
            }
            self.send_and_kill(round);
        }
        self.run(&["ledger", "send"]);
    }
}

/// What a receiver got: key and body of each delivery, in order.
type Got = Arc<Mutex<Vec<(String, String)>>>;

/// Every event arrived; what came more than once came with the same key and body; firsts are in the order of the chain.
fn complete(got: &Got, wanted: &BTreeSet<String>) {
    let got = got.lock().unwrap();
    let keys: BTreeSet<String> = got.iter().map(|(key, _)| key.clone()).collect();
    assert_eq!(&keys, wanted);
    let mut firsts: Vec<i64> = Vec::new();
    let mut seen = std::collections::BTreeMap::new();
    for (key, body) in got.iter() {
        let event: Value = serde_json::from_str(body).unwrap();
        assert_eq!(event["hash"], key.as_str());
        if seen.insert(key, body).is_none_or(|before| before == body)
            && !firsts.contains(&event["seq"].as_i64().unwrap())
        {
            firsts.push(event["seq"].as_i64().unwrap());
        }
    }
    assert!(firsts.is_sorted() && firsts.len() == wanted.len());
}

/// A web server that notes each event and checks its signature.
fn web_server(secret: &'static str) -> (u16, Got) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, got) = (listener.local_addr().unwrap().port(), Got::default());
    let notes = got.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let notes = notes.clone();
            std::thread::spawn(move || serve(stream, &notes, secret));
        }
    });
    (port, got)
}

fn serve(stream: TcpStream, notes: &Got, secret: &str) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    loop {
        let mut head = std::collections::BTreeMap::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some((name, value)) => drop(head.insert(name.to_lowercase(), value.to_owned())),
                None if line.trim_end().is_empty() => break,
                None => {}
            }
        }
        let mut body = vec![0; head.get("content-length")?.parse().ok()?];
        reader.read_exact(&mut body).ok()?;
        let body = String::from_utf8(body).ok()?;
        let wanted = format!("sha256={}", signature(secret, &format!("{}.{body}", head.get("x-esp-timestamp")?)));
        let answer = if head.get("x-esp-signature") == Some(&wanted) {
            notes.lock().ok()?.push((head.get("idempotency-key")?.clone(), body));
            "204 No Content"
        } else {
            "401 Unauthorized"
        };
        write!(stream, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").ok()?;
    }
}

/// HMAC-SHA256 as RFC 2104 writes it, not by the library that signs.
fn signature(secret: &str, text: &str) -> String {
    use sha2::{Digest, Sha256};
    let mut key = [0u8; 64];
    key[..secret.len()].copy_from_slice(secret.as_bytes());
    let pad = |with: u8| key.iter().map(|byte| byte ^ with).collect::<Vec<u8>>();
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
    outer.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn web_server_gets_every_event_from_a_killed_sender() {
    const SECRET: &str = "0123456789abcdef0123";
    let (port, got) = web_server(SECRET);
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), SECRET).unwrap();
    let line = Line::new(&[
        format!("events_webhook=http://127.0.0.1:{port}/events"),
        format!("events_secret_file={}", secret.path().display()),
    ]);
    line.through_kills();
    complete(&got, &line.events());
}

#[test]
fn file_holds_every_event_once_after_kills() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events.ndjson");
    let line = Line::new(&[format!("events_file={}", file.display())]);
    line.through_kills();
    let text = std::fs::read_to_string(&file).unwrap();
    let keys: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["hash"].as_str().unwrap().to_owned())
        .collect();
    let once: BTreeSet<String> = keys.iter().cloned().collect();
    assert_eq!((keys.len(), &once), (once.len(), &line.events()));
}

/// The example receiver of `contrib/` checks and keeps them.
#[test]
fn example_receiver_keeps_each_event_once() {
    let dir = tempfile::tempdir().unwrap();
    let (secret, file) = (dir.path().join("secret"), dir.path().join("events.ndjson"));
    std::fs::write(&secret, "0123456789abcdef0123").unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contrib/mes.py");
    let mut command = Command::new("python3");
    let mut child = command.arg(script).arg("0").arg(&secret).arg(&file).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let line = Line::new(&[
        format!("events_webhook={}events", said.trim()),
        format!("events_secret_file={}", secret.display()),
    ]);
    line.produce("a");
    line.run(&["ledger", "send"]);
    line.run(&["ledger", "send"]);
    let text = std::fs::read_to_string(&file).unwrap();
    let keys: BTreeSet<String> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["hash"].as_str().unwrap().to_owned())
        .collect();
    let lines = text.lines().count();
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!((lines, keys), (line.events().len(), line.events()));
}

#[test]
fn a_receiver_that_is_away_keeps_events_pending() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let line = Line::new(&[format!("events_webhook=http://127.0.0.1:{port}/events")]);
    line.produce("a");
    let output = line.command(&["ledger", "send"]).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("events_not_sent"), "{said}");
}

/// Mosquitto, as a broker that is killed with the test.
struct Broker(Child);

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn mosquitto() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let places = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    places.map(|dir| dir.join("mosquitto")).find(|place| place.is_file())
}

fn broker(program: &Path) -> (Broker, u16) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new(program);
    let child = command.args(["-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begin = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begin.elapsed() < Duration::from_secs(20), "mosquitto does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    (Broker(child), port)
}

/// Subscribes; the callback's list grows as messages come.
fn subscriber(port: u16) -> Got {
    use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
    let got = Got::default();
    let notes = got.clone();
    let (client, mut connection) = Client::new(MqttOptions::new("test", "127.0.0.1", port), 16);
    client.subscribe("factory/line", QoS::AtLeastOnce).unwrap();
    std::thread::spawn(move || {
        let _client = client;
        for event in connection.iter().map_while(Result::ok) {
            if let Event::Incoming(Packet::Publish(message)) = event {
                let body = String::from_utf8(message.payload.to_vec()).unwrap();
                let key = serde_json::from_str::<Value>(&body).unwrap()["hash"].as_str().unwrap().to_owned();
                notes.lock().unwrap().push((key, body));
            }
        }
    });
    std::thread::sleep(Duration::from_millis(500));
    got
}

#[test]
fn broker_gets_every_event_from_a_killed_sender() {
    let Some(program) = mosquitto() else {
        assert!(std::env::var_os("CI").is_none(), "mosquitto is missing");
        eprintln!("skipped: mosquitto is not installed");
        return;
    };
    let (_broker, port) = broker(&program);
    let got = subscriber(port);
    let line = Line::new(&[format!("events_mqtt=mqtt://127.0.0.1:{port}/factory/line")]);
    line.through_kills();
    let wanted = line.events();
    let begin = Instant::now();
    while got.lock().unwrap().iter().map(|(key, _)| key).collect::<BTreeSet<_>>().len() < wanted.len() {
        assert!(begin.elapsed() < Duration::from_secs(20), "messages are missing");
        std::thread::sleep(Duration::from_millis(50));
    }
    complete(&got, &wanted);
}
