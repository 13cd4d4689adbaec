//! `mcp-esptool demo`: starts the server as a child, speaks MCP to it, and takes a virtual chip from blank to booted.

mod client;

use std::fs;
use std::io;
use std::time::Instant;

use esp_ops::firmware::sample;
use serde_json::{Value, json};

use crate::cli::print;
use client::Client;

/// The device of the demonstration.
const PORT: &str = "sim://esp32c3-first";

/// What the program says after a second and more.
const BEAT: &str = "demo: beat 3";

/// Runs it. The error says what went wrong, for people.
pub fn run() -> Result<(), String> {
    let began = Instant::now();
    let dir = tempfile::tempdir().map_err(text)?;
    let program = std::env::current_exe().map_err(text)?;
    let mut client = Client::start(&program, dir.path())?;
    let hello = client.initialize()?;
    let server = &hello["serverInfo"];
    say(&format!(
        "{} {} answers in {}",
        name(&server["title"]),
        name(&server["version"]),
        name(&hello["protocolVersion"])
    ))?;
    let tools = client.request("tools/list", json!({}))?;
    let count = tools["tools"].as_array().map_or(0, Vec::len);
    say(&format!("tools/list: {count} tools"))?;

    step(&mut client, "esp_detect_chip", json!({"port": PORT}))?;
    let (_, parts) = sample::program()?;
    let mut files = Vec::new();
    for part in &parts {
        fs::write(dir.path().join(part.name), &part.bytes).map_err(text)?;
        files.push(json!({"path": part.name, "address": format!("{:#x}", part.address)}));
    }
    step(&mut client, "esp_flash_firmware", json!({"port": PORT, "files": files}))?;
    let verified = step(&mut client, "esp_flash_verify", json!({"port": PORT, "files": files}))?;
    let booted = step(&mut client, "esp_run_firmware", json!({"port": PORT, "capture_s": 2}))?;
    let log = booted["console"]["text"].as_str().unwrap_or_default();
    client.close();
    if verified["matches"] != true || booted["console"]["verdict"] != "app_loaded" || !log.contains(BEAT) {
        return Err(format!("the demo went wrong: verdict {}", booted["console"]["verdict"]));
    }
    say(&format!(
        "flashed and booted in {:.1} s. Next: `mcp-esptool tools`, or add the server to your MCP client (README).",
        began.elapsed().as_secs_f64()
    ))
}

/// Calls a tool, draws its progress, prints its summary.
fn step(client: &mut Client, tool: &str, arguments: Value) -> Result<Value, String> {
    say(&format!("\n> {tool} {arguments}"))?;
    let result = client.call(tool, arguments)?;
    let summary = result["content"][0]["text"].as_str().unwrap_or_default();
    say(&summary.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"))?;
    if result["isError"] == true {
        return Err(format!("{tool} failed"));
    }
    Ok(result["structuredContent"].clone())
}

fn name(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

fn say(line: &str) -> Result<(), String> {
    print(line).map_err(text)
}

fn text(error: io::Error) -> String {
    error.to_string()
}
