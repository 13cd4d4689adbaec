//! Consoles that live: opened, read and written over MCP and by other processes, while boards are flashed, unplugged
//! and while whoever holds or reads them is killed.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[path = "support/client.rs"]
mod client;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use client::Client;
use esp_link::port::pty::PtyMaster;
use serde_json::{Value, json};

/// A folder for one user: project, state and sockets.
struct Desk {
    dir: tempfile::TempDir,
    daemons: Vec<u32>,
}

impl Desk {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), daemons: Vec::new() }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
        command.current_dir(self.path()).env("XDG_CONFIG_HOME", self.path()).env("XDG_RUNTIME_DIR", self.path());
        command.env("MCP_ESPTOOL_STATE_DIR", self.path().join("state"));
        command.args(args);
        command
    }

    fn serve(&self) -> Client {
        let mut client = Client::of(self.command(&[]));
        client.hello();
        client
    }

    /// A tool called by the command line.
    fn call(&self, args: &[&str]) -> Result<Value, Value> {
        let run = self.command(&[&["call"], args, &["--json"]].concat()).output().unwrap();
        let text = String::from_utf8_lossy(&run.stdout).into_owned();
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{args:?}: {run:?}"));
        match value.get("error") {
            Some(error) => Err(error.clone()),
            None => Ok(value),
        }
    }

    fn console(&mut self, port: &str, args: &[&str]) -> Value {
        let port = format!("port={port}");
        let answer = self.call(&[&["esp_console", port.as_str()], args].concat()).unwrap();
        self.pid();
        answer
    }

    /// A server, and the URL that it says.
    fn start(&self, args: &[&str]) -> (Child, String) {
        let mut server = self.command(args).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(server.stderr.take().unwrap()));
        let url = lines
            .by_ref()
            .find_map(|line| line.unwrap().split(' ').find(|word| word.contains("://")).map(String::from));
        std::thread::spawn(move || lines.for_each(drop));
        (server, url.unwrap())
    }

    /// A board and its port: a link that goes with it, for the terminal's own name is soon another one's.
    fn board(&self) -> (PtyMaster, String) {
        let (mut board, link) = (PtyMaster::new().unwrap(), self.path().join("board"));
        board.link_at(&link).unwrap();
        (board, link.display().to_string())
    }

    /// The daemon that has the console.
    fn pid(&mut self) -> Option<u32> {
        let list = self.call(&["esp_console", "action=list"]).unwrap();
        let pid = list["consoles"][0]["pid"].as_u64()? as u32;
        if !self.daemons.contains(&pid) {
            self.daemons.push(pid);
        }
        Some(pid)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.daemons.iter().for_each(|pid| kill(*pid));
    }
}

fn kill(pid: u32) {
    let _ = Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status();
}

fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn say(board: &mut PtyMaster, text: &str) {
    board.write(text.as_bytes(), Duration::from_secs(5)).unwrap();
}

/// What the tool answered.
fn good(answer: Value) -> Value {
    assert_ne!(answer["isError"], true, "{answer}");
    answer["structuredContent"].clone()
}

#[test]
fn a_simulated_board_is_flashed_under_its_open_console() {
    let desk = Desk::new();
    let (mut client, port) = (desk.serve(), "sim://esp32");
    let opened = good(client.call("esp_console_open", json!({"port": port, "reset": true})));
    assert_eq!(opened["state"], "listening");
    let first = json!({"port": port, "cursor": opened["cursor"], "pattern": "rst:|boot:|header", "timeout_s": 30});
    let booted = good(client.call("esp_console_expect", first));
    assert_eq!(booted["passed"], true, "{booted}");
    std::fs::write(desk.path().join("data.bin"), [7; 4096]).unwrap();
    let flash = json!({"port": port, "files": [{"path": "data.bin", "address": "0x100000"}]});
    let flashed = client.call("esp_flash_firmware", flash);
    assert_ne!(flashed["isError"], true, "the port was in use by its own console: {flashed}");
    let again = json!({"port": port, "cursor": booted["cursor"], "wait_for": "rst:|boot:|header", "timeout_s": 30});
    let again = good(client.call("esp_console", again));
    assert!(again["matched"].is_string() && again["state"] == "listening", "{again}");
    // A capture listens to the same console.
    let captured = good(client.call("esp_console_capture", json!({"port": port, "duration_s": 2, "reset": true})));
    assert!(captured["bytes"].as_u64().unwrap() > 0, "{captured}");
    assert_eq!(good(client.call("esp_console_close", json!({"port": port})))["state"], "closed");
    soon("no console is left", || {
        client.call("esp_console_read", json!({"port": port}))["_meta"]["mcp-esptool/error"]["code"] == "no_console"
    });
}

#[test]
fn a_console_is_a_resource_that_tells_of_changes() {
    let desk = Desk::new();
    let mut client = desk.serve();
    let port = "sim://esp32";
    good(client.call("esp_console", json!({"action": "open", "port": port})));
    let uri = "esp://console/sim%3A%2F%2Fesp32";
    client.request("resources/subscribe", json!({"uri": uri})).unwrap();
    good(client.call("esp_reset_chip", json!({"port": port})));
    let is_it =
        |message: &Value| message["method"] == "notifications/resources/updated" && message["params"]["uri"] == uri;
    let until = Instant::now() + Duration::from_secs(30);
    while !client.seen.iter().any(is_it) {
        assert!(Instant::now() < until, "nothing was told: {:?}", client.seen);
        client.receive_within(Duration::from_secs(1));
    }
    let read = client.request("resources/read", json!({"uri": uri})).unwrap();
    assert!(read["contents"][0]["text"].as_str().unwrap().contains("listening"), "{read}");
}

#[test]
fn a_console_outlives_who_opened_it_and_is_read_by_another_process() {
    let mut desk = Desk::new();
    let (mut board, port) = desk.board();
    let opened = desk.console(&port, &["action=open"]);
    say(&mut board, "hello 1\r\n");
    let cursor = format!("cursor={}", opened["cursor"].as_str().unwrap());
    let heard = desk.console(&port, &["action=expect", "wait_for=hello \\d", &cursor]);
    assert_eq!((heard["matched"].as_str(), heard["passed"].as_bool()), (Some("hello 1"), Some(true)));
    // A client of MCP has the same one, and what it sends reaches the board.
    let mut client = desk.serve();
    let sent = client.call("esp_console_send", json!({"port": port, "text": "ping\\n", "timeout_s": 0}));
    good(sent);
    let mut buffer = [0; 64];
    let count = board.read(&mut buffer, Duration::from_secs(5)).unwrap();
    assert_eq!(&buffer[..count], b"ping\n");
    let log = std::fs::read(heard["log_file"].as_str().unwrap()).unwrap();
    assert_eq!(log, b"hello 1\r\n");
    // Another call has the port for its attempts: the console is not in its way.
    let silent = desk.call(&["esp_detect_chip", &format!("port={port}")]).unwrap_err();
    assert!(silent["evidence"]["attempts"].is_array(), "{silent}");
    assert_eq!(desk.console(&port, &["action=close"])["state"], "closed");
}

#[test]
fn kill_of_reader_daemon_and_board_leaves_nothing_stuck() {
    let mut desk = Desk::new();
    let (mut board, port) = desk.board();
    desk.console(&port, &["action=open"]);
    let first = desk.pid().unwrap();
    // A reader that is killed leaves the console as it was.
    let mut reader: Child =
        desk.command(&["monitor", &port]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let readers = |desk: &Desk| desk.call(&["esp_console", "action=list"]).unwrap()["consoles"][0]["readers"].clone();
    soon("the reader reads", || readers(&desk) != 0);
    kill(reader.id());
    reader.wait().unwrap();
    soon("the reader is gone", || readers(&desk) == 0);
    say(&mut board, "still here\r\n");
    assert_eq!(desk.console(&port, &["action=expect", "wait_for=here", "cursor=x.0"])["passed"], true);
    // A daemon that is killed leaves no lock and no socket that is in the way.
    kill(first);
    let opened = desk.console(&port, &["action=open"]);
    assert!(opened["cursor"].is_string());
    let second = desk.pid().unwrap();
    assert_ne!(first, second);
    say(&mut board, "once more\r\n");
    assert_eq!(desk.console(&port, &["action=expect", "wait_for=more", "cursor=x.0"])["passed"], true);
    // A board that goes away is told of, and its console can still be closed.
    drop(board);
    soon("the board is gone", || desk.console(&port, &[])["state"] == "gone");
    assert_eq!(desk.console(&port, &["action=close"])["state"], "closed");
}

#[test]
fn a_monitor_goes_on_when_its_daemon_is_killed() {
    let mut desk = Desk::new();
    let (mut board, port) = desk.board();
    let shown = desk.path().join("shown.txt");
    let mut command = desk.command(&["monitor", "-p", &port]);
    command.stdin(Stdio::piped()).stdout(std::fs::File::create(&shown).unwrap()).stderr(Stdio::null());
    let mut monitor = command.spawn().unwrap();
    let shows = |text: &str| std::fs::read_to_string(&shown).unwrap().contains(text);
    soon("the console is open", || desk.pid().is_some());
    soon("the monitor hears", || {
        say(&mut board, "one\r\n");
        shows("one")
    });
    kill(desk.pid().unwrap());
    soon("the monitor hears by another daemon", || {
        say(&mut board, "two\r\n");
        shows("two")
    });
    desk.pid();
    monitor.kill().unwrap();
    monitor.wait().unwrap();
}

#[test]
fn a_daemon_ends_when_nobody_needs_it() {
    let desk = Desk::new();
    let began = Instant::now();
    let run = desk.command(&["daemon", "--idle-s", "0"]).status().unwrap();
    assert!(run.success() && began.elapsed() < Duration::from_secs(30));
    assert!(!desk.path().join("mcp-esptool/daemon.sock").exists());
}

#[test]
fn a_board_on_the_network_is_flashed_by_another_process_under_its_console() {
    let mut desk = Desk::new();
    let (mut sim, port) = desk.start(&["sim", "esp32", "--rfc2217", "127.0.0.1:0"]);
    let opened = desk.console(&port, &["action=open", "reset=true"]);
    let cursor = |of: &Value| format!("cursor={}", of["cursor"].as_str().unwrap());
    let expect = ["action=expect", "wait_for=rst:|boot:|header", "timeout_s=30"];
    let booted = desk.console(&port, &[&expect[..], &[&cursor(&opened)]].concat());
    assert_eq!(booted["passed"], true, "{booted}");
    std::fs::write(desk.path().join("data.bin"), vec![7; 65536]).unwrap();
    let files = r#"files=[{"path": "data.bin", "address": "0x100000"}]"#;
    let flashed = desk.call(&["esp_flash_firmware", &format!("port={port}"), files]).unwrap();
    assert!(flashed["written_bytes"].as_u64().unwrap() > 0, "{flashed}");
    // The console itself starts the app afterwards, and hears its first byte.
    let after = desk.console(&port, &[&expect[..], &[&cursor(&booted)]].concat());
    assert_eq!((after["passed"].clone(), after["state"].clone()), (json!(true), json!("listening")), "{after}");
    desk.console(&port, &["action=close"]);
    sim.kill().unwrap();
    sim.wait().unwrap();
}

#[test]
fn a_shared_board_lets_in_who_has_the_token() {
    let desk = Desk::new();
    let (mut sim, board) = desk.start(&["sim", "esp32", "--rfc2217", "127.0.0.1:0"]);
    let token = desk.path().join("token").display().to_string();
    let (mut share, port) = desk.start(&["share", &board, "--rfc2217", "127.0.0.1:0", "--token-file", &token]);
    let call = |file: &str| {
        let mut command = desk.command(&["call", "esp_detect_chip", &format!("port={port}"), "--json"]);
        let run = command.env("MCP_ESPTOOL_SHARE_TOKEN_FILE", file).output().unwrap();
        (run.status.success(), String::from_utf8_lossy(&run.stdout).into_owned())
    };
    let (good, said) = call(&token);
    assert!(good, "{said}");
    let other = desk.path().join("other").display().to_string();
    std::fs::write(&other, "another token of some length").unwrap();
    assert!(!call(&other).0, "a wrong token");
    let (good, said) = call("");
    assert!(!good && said.contains("share_token_file"), "{said}");
    for server in [&mut share, &mut sim] {
        server.kill().unwrap();
        server.wait().unwrap();
    }
}
