//! The program is told to end in the middle of a burn on a slow line: a burn that has begun is finished.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::Client;
use super::{Board, approve, command};

/// How long the slow line holds back what it carries.
const DELAY: Duration = Duration::from_millis(5);

/// A line to the board that takes its time: several steps of a burn take seconds.
fn slow_line(board: &Board) -> String {
    let target = board.1.trim_start_matches("socket://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("socket://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let far = TcpStream::connect(&target).unwrap();
            for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(count) = from.read(&mut buffer)
                        && count > 0
                    {
                        std::thread::sleep(DELAY);
                        if to.write_all(&buffer[..count]).is_err() {
                            break;
                        }
                    }
                });
            }
        }
    });
    url
}

/// Two blocks, and what names their purposes.
fn burns(port: &str) -> Value {
    let key = |number: u8| {
        json!({"kind": "key", "block": format!("BLOCK_KEY{number}"), "key_file": format!("key{number}.bin"), "purpose": "USER",
               "read_protect": false, "write_protect": false})
    };
    json!({"port": port, "burns": [key(0), key(1)]})
}

fn call(dir: &Path, input: &Value) -> Value {
    let output = command(dir, &["call", "--json", "esp_efuse_burn", &input.to_string()]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Files, a board, and a plan that a person approved: its hash, and what confirms it over the slow line.
fn prepared(dir: &Path) -> (Board, String, Value) {
    fs::write(dir.join("policy.toml"), "burn_macs = [\"*\"]\n").unwrap();
    for number in 0..2u8 {
        fs::write(dir.join(format!("key{number}.bin")), [0x31 + number; 32]).unwrap();
    }
    let board = Board::start("02:00:00:00:12:34");
    let planned = call(dir, &burns(&board.1));
    assert_eq!(planned["state"], "planned", "{planned:#}");
    let plan = planned["plan"].as_str().unwrap().to_owned();
    assert!(approve(dir, &plan, "12:34").0);
    let mut confirmed = burns(&slow_line(&board));
    confirmed["confirm_token"] = planned["confirm_token"].clone();
    (board, plan, confirmed)
}

/// Waits until the first step is being burned, and tells the process to end.
fn end_in_burn(dir: &Path, plan: &str, process: u32) {
    let begun = Instant::now();
    let burning = || {
        let log = fs::read_to_string(dir.join("state/audit.jsonl")).unwrap_or_default();
        log.lines().any(|line| line.contains(plan) && line.contains("\"burning\""))
    };
    while !burning() {
        assert!(begun.elapsed() < Duration::from_secs(120), "the burn never began");
        std::thread::sleep(Duration::from_millis(1));
    }
    let told = Command::new("kill").args(["-TERM", &process.to_string()]).status().unwrap();
    assert!(told.success());
    let log = fs::read_to_string(dir.join("state/audit.jsonl")).unwrap();
    assert!(!log.contains("\"burned\""), "the burn was over before the program was told to end");
}

/// Every step was burned, and the device was read back afterwards.
fn is_whole(dir: &Path) {
    let log = fs::read_to_string(dir.join("state/audit.jsonl")).unwrap();
    let burned = log.lines().find(|line| line.contains("\"burned\"")).unwrap_or_else(|| panic!("{log}"));
    assert!(burned.contains("read back") && !log.contains("\"failed\""), "{log}");
}

#[test]
fn a_command_told_to_end_in_a_burn_finishes_it() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let (_board, plan, confirmed) = prepared(dir);
    let mut command = command(dir, &["call", "--json", "esp_efuse_burn", &confirmed.to_string()]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    end_in_burn(dir, &plan, child.id());
    let output = child.wait_with_output().unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["state"], "burned", "{said:#}");
    is_whole(dir);
}

#[test]
fn a_server_told_to_end_in_a_burn_finishes_it() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let (_board, plan, confirmed) = prepared(dir);
    let state = format!("state_dir={}", dir.join("state").display());
    let policy = format!("policy_file={}", dir.join("policy.toml").display());
    let mut client = Client::initialized(dir, &["serve", "--set", &state, "--set", &policy]);
    client.send("tools/call", json!({"name": "esp_efuse_burn", "arguments": confirmed}));
    end_in_burn(dir, &plan, client.pid());
    assert_eq!(client.wait(), Some(0), "it ends by itself, and cleanly");
    is_whole(dir);
}
