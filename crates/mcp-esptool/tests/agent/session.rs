//! A session that counts its calls and keeps only text.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::client::Client;
use super::reference::{self, Skip};

pub struct Session {
    client: Client,
    pub dir: tempfile::TempDir,
    calls: usize,
    budget: usize,
}

impl Session {
    /// A server in an empty project folder; the job may take `budget` calls.
    pub fn new(budget: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state").display().to_string();
        let client = Client::initialized(dir.path(), &["--set", &format!("state_dir={state}")]);
        Self { client, dir, calls: 0, budget }
    }

    /// The text of a call that must go well.
    pub fn ok(&mut self, tool: &str, arguments: Value) -> String {
        let (failed, text) = self.call(tool, arguments);
        assert!(!failed, "{tool}: {text}");
        text
    }

    /// The text of a call that must fail: it says what to do next.
    pub fn refused(&mut self, tool: &str, arguments: Value) -> String {
        let (failed, text) = self.call(tool, arguments);
        assert!(failed, "{tool} was not refused: {text}");
        assert!(text.contains("\nnext: "), "no next step: {text}");
        text
    }

    fn call(&mut self, tool: &str, arguments: Value) -> (bool, String) {
        self.calls += 1;
        assert!(self.calls <= self.budget, "more than {} calls: {tool} {arguments}", self.budget);
        self.quietly(tool, arguments)
    }

    /// A call that prepares the scene or looks at the end: it is not the assistant's.
    pub fn aside(&mut self, tool: &str, arguments: Value) -> String {
        let (failed, text) = self.quietly(tool, arguments);
        assert!(!failed, "{tool}: {text}");
        text
    }

    fn quietly(&mut self, tool: &str, arguments: Value) -> (bool, String) {
        let answer = self.client.call(tool, arguments);
        let content = answer["content"].as_array().unwrap();
        let texts = content.iter().filter_map(|part| part["text"].as_str());
        (answer["isError"] == json!(true), texts.collect::<Vec<_>>().join("\n"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// Firmware of the demonstration for a chip, as `files` of a flash call: it has all headers and imitates a start.
    pub fn firmware(&self, chip: &str) -> Value {
        let parts = esp_ops::firmware::sample::make(esp_model::chip::by_name(chip).unwrap()).unwrap();
        let files = parts.iter().map(|part| {
            self.write(part.name, &part.bytes);
            json!({"path": part.name, "address": part.address})
        });
        Value::Array(files.collect())
    }
}

/// The text holds all of these.
pub fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

/// A file of the corpus of other people's builds; without it the job is ignored, and says so.
pub fn corpus(name: &str) -> Result<PathBuf, Skip> {
    let path = reference::corpus()?.join(name);
    if path.exists() { Ok(path) } else { Err(Skip(format!("the corpus has no {name}"))) }
}
