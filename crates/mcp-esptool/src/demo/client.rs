//! The smallest MCP client that will do: one request at a time over a child's standard input and output.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use esp_model::job::Progress;
use serde_json::{Value, json};

use crate::cli::job_with_bar;

pub struct Client {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    next: u64,
}

impl Client {
    /// Starts `program serve` with `dir` as its project root.
    pub fn start(program: &Path, dir: &Path) -> Result<Self, String> {
        let mut command = Command::new(program);
        command.arg("serve").current_dir(dir).env("MCP_ESP_PROJECT_DIR", dir);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(|e| e.to_string())?;
        let output = child.stdout.take().ok_or("the server has no output")?;
        Ok(Self { input: child.stdin.take(), child, output: BufReader::new(output), next: 0 })
    }

    /// The first request of a client.
    pub fn initialize(&mut self) -> Result<Value, String> {
        let info = json!({"name": "demo", "version": env!("CARGO_PKG_VERSION")});
        let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info});
        let answer = self.request("initialize", hello)?;
        self.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))?;
        Ok(answer)
    }

    /// Calls a tool and draws its progress.
    pub fn call(&mut self, tool: &str, arguments: Value) -> Result<Value, String> {
        self.request("tools/call", json!({"name": tool, "arguments": arguments, "_meta": {"progressToken": self.next}}))
    }

    /// Sends a request and waits for its answer.
    pub fn request(&mut self, method: &str, params: Value) -> Result<Value, String> {
        self.next += 1;
        let id = self.next;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))?;
        let (job, bar) = job_with_bar();
        let answer = loop {
            let message = self.receive()?;
            if message["id"] == id {
                break message;
            }
            if message["method"] == "notifications/progress" {
                let number = |name: &str| message["params"][name].as_f64().unwrap_or(0.0) as u64;
                let text = message["params"]["message"].as_str().unwrap_or_default();
                let Progress { done, total, message } =
                    Progress { done: number("progress"), total: number("total"), message: text.into() };
                job.progress(done, total, message);
            }
        };
        bar.finish_and_clear();
        match answer.get("error") {
            Some(error) => Err(format!("{method}: {error}")),
            None => Ok(answer["result"].clone()),
        }
    }

    /// Closes the connection; the server ends.
    pub fn close(mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }

    fn send(&mut self, message: &Value) -> Result<(), String> {
        let input = self.input.as_mut().ok_or("the connection is closed")?;
        writeln!(input, "{message}").and_then(|()| input.flush()).map_err(|error| error.to_string())
    }

    fn receive(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        match self.output.read_line(&mut line) {
            Ok(0) => Err("the server ended".into()),
            Ok(_) => serde_json::from_str(&line).map_err(|error| format!("{error}: {line}")),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if self.input.is_some() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
