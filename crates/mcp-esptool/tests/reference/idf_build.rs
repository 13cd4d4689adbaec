//! Real ESP-IDF builds, flashed over MCP onto a virtual chip of their kind and read back by esptool.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::client::Client;
use crate::reference::{self, Stop, fail, run, same_bytes, trial};

pub fn trials() -> Vec<Trial> {
    // The H2's bootloader was built for revisions below 1.0 only.
    let builds =
        [("blink-esp32", None), ("blink-s3", None), ("hello-c3", None), ("main-h2", Some("0.2")), ("sht40-c2", None)];
    let name = |build| format!("ESP-IDF build {build} over MCP, read back by esptool");
    builds.map(|(build, revision)| trial(name(build), move || flash(build, revision))).into()
}

struct Sim(Child);

impl Drop for Sim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a virtual chip on a socket of its own; its address.
fn sim(chip: &str, revision: Option<&str>) -> Result<(Sim, String), Stop> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let address = format!("127.0.0.1:{port}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
    command.args(["sim", chip, "--flash-size", "4MB", "--tcp", &address]);
    if let Some(revision) = revision {
        command.args(["--revision", revision]);
    }
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    if let Some(stderr) = child.stderr.take() {
        BufReader::new(stderr).read_line(&mut String::new())?;
    }
    Ok((Sim(child), format!("socket://{address}")))
}

/// The build's files at the places that its `flasher_args.json` names; the corpus keeps them in one folder.
fn unfold(build: &str, to: &Path) -> Result<(Value, Vec<(u64, PathBuf)>), Stop> {
    let from = reference::corpus()?.join("build").join(build);
    let arguments: Value = serde_json::from_slice(&fs::read(from.join("flasher_args.json"))?)?;
    let mut files = Vec::new();
    for (offset, path) in arguments["flash_files"].as_object().into_iter().flatten() {
        let path = path.as_str().unwrap_or_default();
        let flat = from.join(path.replace('/', "_"));
        if !flat.is_file() {
            continue;
        }
        let target = to.join(path);
        fs::create_dir_all(target.parent().unwrap_or(to))?;
        fs::copy(&flat, &target)?;
        files.push((u64::from_str_radix(offset.trim_start_matches("0x"), 16)?, target));
    }
    fs::copy(from.join("flasher_args.json"), to.join("flasher_args.json"))?;
    let complete = arguments["flash_files"].as_object().is_some_and(|all| all.len() == files.len());
    Ok((json!({"complete": complete, "chip": arguments["extra_esptool_args"]["chip"]}), files))
}

fn flash(build: &str, revision: Option<&str>) -> Result<(), Stop> {
    let esptool = reference::tool("esptool")?;
    let dir = reference::scratch(&format!("idf-{build}"));
    let (facts, files) = unfold(build, &dir)?;
    let (_sim, port) = sim(facts["chip"].as_str().unwrap_or_default(), revision)?;
    let mut client = Client::initialized(&dir, &[]);
    let arguments = match facts["complete"] == true {
        true => json!({"port": port, "project": "."}),
        false => {
            let path = |path: &Path| path.strip_prefix(&dir).unwrap_or(path).display().to_string();
            let list: Vec<Value> = files.iter().map(|(at, file)| json!({"path": path(file), "address": at})).collect();
            json!({"port": port, "files": list})
        }
    };
    let answer = client.call("esp_flash_firmware", arguments);
    if answer["structuredContent"]["verified"] != true {
        return fail(format!("not flashed: {answer}"));
    }
    // A socket carries no reset: the server has to let go of the line before esptool takes it.
    drop(client);
    for (at, file) in files {
        let wanted = fs::read(&file)?;
        let out = dir.join("read.bin");
        let mut read = Command::new(&esptool);
        read.args(["--port", &port, "--after", "no-reset-stub", "read-flash"]);
        run(read.args([format!("{at:#x}"), format!("{:#x}", wanted.len())]).arg(&out))?;
        same_bytes(&file.display().to_string(), &fs::read(&out)?, &wanted)?;
    }
    Ok(())
}
