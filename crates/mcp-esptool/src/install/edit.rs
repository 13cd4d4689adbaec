//! Adds a server to the text of a configuration file; everything else in it stays as it is.

use std::path::Path;

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstInputValue, CstRootNode};
use serde_json::{Value, json};
use toml_edit::DocumentMut;

use super::clients::{Client, Entry, Format};

/// What is added: the server's name in the client, the program and its arguments.
pub struct Server<'a> {
    pub name: &'a str,
    pub program: &'a Path,
    pub args: &'a [String],
}

impl Server<'_> {
    fn entry(&self, form: Entry) -> Value {
        let command = self.program.display().to_string();
        match form {
            Entry::Plain => json!({ "command": command, "args": self.args }),
            Entry::Typed => json!({ "type": "stdio", "command": command, "args": self.args }),
            Entry::Zed => json!({ "source": "custom", "command": command, "args": self.args, "env": {} }),
            Entry::Opencode => {
                let line: Vec<&str> = [command.as_str()].into_iter().chain(self.args.iter().map(|a| &**a)).collect();
                json!({ "type": "local", "command": line, "enabled": true })
            }
            Entry::Goose => json!({
                "type": "stdio", "name": self.name, "cmd": command, "args": self.args, "enabled": true, "timeout": 300
            }),
        }
    }
}

/// The file's new text.
pub fn add(old: &str, client: &Client, server: &Server<'_>) -> Result<String, String> {
    match client.format {
        Format::Json => json_text(old, client, server),
        Format::Toml => toml_text(old, client, server),
        Format::Yaml => yaml_text(old, client, server),
    }
}

fn json_text(old: &str, client: &Client, server: &Server<'_>) -> Result<String, String> {
    let by_hand = |why: &str| by_hand(why, client, server);
    let text = if old.trim().is_empty() { "{}\n" } else { old };
    let root = CstRootNode::parse(text, &ParseOptions::default()).map_err(|error| by_hand(&error.to_string()))?;
    let settings = root.object_value().ok_or_else(|| by_hand("it does not hold an object"))?;
    let servers = match settings.get(&client.key) {
        Some(property) => property.object_value(),
        None => Some(settings.object_value_or_set(&client.key)),
    };
    let servers = servers.ok_or_else(|| by_hand(&format!("\"{}\" is not an object", client.key)))?;
    let entry = server.entry(client.entry);
    match servers.get(server.name) {
        Some(ours) if ours.value().and_then(|value| value.to_serde_value()) == Some(entry.clone()) => {}
        Some(ours) => ours.set_value(input(&entry)),
        None => drop(servers.append(server.name, input(&entry))),
    }
    Ok(root.to_string())
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(value) => CstInputValue::Bool(*value),
        Value::Number(value) => CstInputValue::Number(value.to_string()),
        Value::String(value) => CstInputValue::String(value.clone()),
        Value::Array(list) => CstInputValue::Array(list.iter().map(input).collect()),
        Value::Object(map) => {
            CstInputValue::Object(map.iter().map(|(key, value)| (key.clone(), input(value))).collect())
        }
    }
}

fn toml_text(old: &str, client: &Client, server: &Server<'_>) -> Result<String, String> {
    let mut document: DocumentMut =
        old.parse().map_err(|error: toml_edit::TomlError| by_hand(error.message(), client, server))?;
    let servers = document.entry(&client.key).or_insert_with(|| {
        let mut table = toml_edit::Table::new();
        table.set_implicit(true);
        toml_edit::Item::Table(table)
    });
    let servers = servers.as_table_like_mut().ok_or_else(|| by_hand("it is not a table", client, server))?;
    let mut entry = toml_edit::Table::new();
    entry["command"] = toml_edit::value(server.program.display().to_string());
    entry["args"] = toml_edit::value(server.args.iter().collect::<toml_edit::Array>());
    servers.insert(server.name, toml_edit::Item::Table(entry));
    Ok(document.to_string())
}

/// YAML has no editor that preserves comments: a file with comments is left alone.
fn yaml_text(old: &str, client: &Client, server: &Server<'_>) -> Result<String, String> {
    let refuse = |why: String| by_hand(&why, client, server);
    if old.lines().any(|line| line.trim_start().starts_with('#')) {
        return Err(refuse("it has comments, which would be lost".into()));
    }
    let mut settings: serde_yaml_ng::Mapping = match old.trim() {
        "" => serde_yaml_ng::Mapping::new(),
        text => serde_yaml_ng::from_str(text).map_err(|error| refuse(error.to_string()))?,
    };
    let key = serde_yaml_ng::Value::from(client.key.as_str());
    let servers = settings.entry(key).or_insert_with(|| serde_yaml_ng::Mapping::new().into());
    let servers = servers.as_mapping_mut().ok_or_else(|| refuse(format!("\"{}\" is not a mapping", client.key)))?;
    let entry = serde_yaml_ng::to_value(server.entry(client.entry)).map_err(|error| refuse(error.to_string()))?;
    servers.insert(server.name.into(), entry);
    serde_yaml_ng::to_string(&settings).map_err(|error| refuse(error.to_string()))
}

fn by_hand(why: &str, client: &Client, server: &Server<'_>) -> String {
    let entry = server.entry(client.entry);
    format!("cannot be edited ({why}). Add this under \"{}\" yourself: \"{}\": {entry}", client.key, server.name)
}
