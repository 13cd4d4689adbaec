//! A plain JSON-RPC client over a child's standard input and output, for tests: it sees every byte.
#![allow(dead_code, clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Longest wait for any message.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program: this build's, or the one to be tried instead (such as the static release).
fn program() -> std::ffi::OsString {
    std::env::var_os("MCP_ESPTOOL_TEST_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_mcp-esptool").into())
}

pub struct Client {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    next: u64,
    /// Everything that came, in order.
    pub seen: Vec<Value>,
}

impl Client {
    /// Starts the server with `args`, in `dir`.
    pub fn start(dir: &Path, args: &[&str]) -> Self {
        let mut command = Command::new(program());
        command.args(args).current_dir(dir).env("XDG_CONFIG_HOME", dir);
        Self::of(command)
    }

    /// Starts the server that this is the command of.
    pub fn of(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok()));
        Self { input: child.stdin.take(), child, lines, next: 0, seen: Vec::new() }
    }

    /// Starts and initializes a server in this revision of the protocol.
    pub fn initialized(dir: &Path, args: &[&str]) -> Self {
        let mut client = Self::start(dir, args);
        client.hello();
        client
    }

    /// Initializes the server.
    pub fn hello(&mut self) {
        let hello = json!({
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"},
        });
        self.request("initialize", hello).unwrap();
        self.notify("notifications/initialized", json!({}));
    }

    /// Sends a line as it is.
    pub fn raw(&mut self, line: &str) {
        let input = self.input.as_mut().unwrap();
        input.write_all(line.as_bytes()).unwrap();
        input.write_all(b"\n").unwrap();
        input.flush().unwrap();
    }

    pub fn notify(&mut self, method: &str, params: Value) {
        self.raw(&json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string());
    }

    /// Sends a request and returns its id.
    pub fn send(&mut self, method: &str, params: Value) -> u64 {
        self.next += 1;
        let id = self.next;
        self.raw(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string());
        id
    }

    /// The next message; every line on standard output must be one.
    pub fn receive(&mut self) -> Value {
        self.receive_within(PATIENCE).expect("no message came in time")
    }

    /// Takes what has come without waiting, and forgets it.
    pub fn drain(&mut self) {
        while self.lines.try_recv().is_ok() {}
    }

    pub fn receive_within(&mut self, time: Duration) -> Option<Value> {
        let line = self.lines.recv_timeout(time).ok()?;
        let message: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("not JSON: {error}: {line}"));
        assert_eq!(message["jsonrpc"], "2.0", "{message}");
        self.seen.push(message.clone());
        Some(message)
    }

    /// The answer to this request; other messages before it stay in `seen`.
    pub fn answer(&mut self, id: u64) -> Result<Value, Value> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let mut message = self.receive();
            if message["id"] == id {
                return match message.get("error") {
                    Some(error) => Err(error.clone()),
                    None => Ok(message["result"].take()),
                };
            }
        }
        panic!("no answer to {id}");
    }

    pub fn request(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        let id = self.send(method, params);
        self.answer(id)
    }

    /// Calls a tool.
    pub fn call(&mut self, tool: &str, arguments: Value) -> Value {
        self.request("tools/call", json!({"name": tool, "arguments": arguments})).unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The exit code, once the server ends by itself.
    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Closes the server's input and returns its exit code and what else it said.
    pub fn close(mut self) -> (Option<i32>, Vec<Value>) {
        drop(self.input.take());
        while self.receive_within(Duration::from_secs(10)).is_some() {}
        let code = self.child.wait().unwrap().code();
        (code, std::mem::take(&mut self.seen))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
