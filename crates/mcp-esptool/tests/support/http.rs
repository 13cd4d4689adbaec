//! The server over HTTP, and a small client for it: one request a connection.
#![allow(dead_code, clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

/// The program: this build's, or the one to be tried instead (such as the static release).
fn program() -> std::ffi::OsString {
    std::env::var_os("MCP_ESPTOOL_TEST_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_mcp-esptool").into())
}

/// A running server.
pub struct Server {
    child: Child,
    /// `127.0.0.1:PORT`
    pub address: String,
    /// Its bearer token; empty for none.
    pub token: String,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Header lines, names in small letters.
    pub head: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The JSON-RPC messages in the body, be it one or a stream of events.
    pub fn messages(&self) -> Vec<Value> {
        if let Ok(value) = serde_json::from_str(&self.body) {
            return vec![value];
        }
        let data = self.body.lines().filter_map(|line| line.strip_prefix("data:"));
        data.filter_map(|text| serde_json::from_str(text.trim()).ok()).collect()
    }

    /// The result of the last message.
    pub fn result(&self) -> Value {
        self.messages().last().map(|message| message["result"].clone()).unwrap_or_default()
    }
}

impl Server {
    /// Starts the program in `dir`, which is also where it keeps its state.
    pub fn start(dir: &Path, args: &[&str]) -> Self {
        let mut command = Command::new(program());
        command.current_dir(dir).args(["serve", "--http", "127.0.0.1:0"]).args(args);
        command.env("MCP_ESPTOOL_STATE_DIR", dir.join("state")).env_remove("MCP_ESP_PROJECT_DIR");
        let mut child = command.stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines.find_map(|line| {
            let line = line.unwrap();
            line.split("http://").nth(1).map(|rest| rest.trim_end_matches("/mcp").to_string())
        });
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let token = std::fs::read_to_string(dir.join("state/http-token")).unwrap_or_default();
        Self { child, address: address.unwrap(), token: token.trim().into() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends one request with these header lines and reads the whole answer.
    pub fn send(&self, method: &str, path: &str, head: &[(&str, &str)], body: &str) -> Answer {
        let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        if !head.iter().any(|(name, _)| *name == "Host") {
            text += &format!("Host: {}\r\n", self.address);
        }
        head.iter().for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(format!("{text}\r\n").as_bytes()).unwrap();
        // A server that refuses a large body closes before all of it is sent.
        let _ = stream.write_all(body.as_bytes());
        read_answer(stream)
    }

    /// Sends a JSON-RPC message as a client with the token would.
    pub fn post(&self, head: &[(&str, &str)], message: &Value) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        let mut all = vec![
            ("Accept", "application/json, text/event-stream"),
            ("Content-Type", "application/json"),
            ("Authorization", bearer.as_str()),
        ];
        all.extend_from_slice(head);
        self.send("POST", "/mcp", &all, &message.to_string())
    }

    /// A request of the revision without `initialize`.
    pub fn modern(&self, method: &str, params: Value) -> Answer {
        self.modern_as(&json!({}), method, params)
    }

    /// The same by a client with capabilities.
    pub fn modern_as(&self, capabilities: &Value, method: &str, mut params: Value) -> Answer {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": capabilities,
        });
        let name = params["name"].as_str().or(params["uri"].as_str()).unwrap_or_default().to_string();
        let mut head = vec![("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", method)];
        if !name.is_empty() {
            head.push(("Mcp-Name", &name));
        }
        self.post(&head, &json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
    }

    /// Opens a session's stream of what the server sends by itself.
    pub fn listen(&self, head: &[(&str, &str)]) -> TcpStream {
        let mut text = format!(
            "GET /mcp HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\nAuthorization: Bearer {}\r\n",
            self.address, self.token
        );
        head.iter().for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(format!("{text}\r\n").as_bytes()).unwrap();
        stream
    }

    /// Asks the server to end and waits for it.
    #[cfg(unix)]
    pub fn stop(mut self) -> Option<i32> {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a stream brings until nothing comes for this long.
pub fn heard(mut stream: TcpStream, silence: Duration) -> String {
    stream.set_read_timeout(Some(silence)).unwrap();
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(count) = stream.read(&mut buffer)
        && count > 0
    {
        bytes.extend(&buffer[..count]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn read_answer(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or(0);
    let head: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_string()))
        .collect();
    let chunked = head.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    Answer { status, body: if chunked { unchunk(body) } else { body.into() }, head }
}

fn unchunk(mut text: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = text.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 || rest.len() < size {
            break;
        }
        out += &rest[..size];
        text = rest[size..].trim_start_matches("\r\n");
    }
    out
}
