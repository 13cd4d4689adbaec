//! Many clients at once on many virtual devices, and input that is no protocol. Short by default; the long form:
//! `LOAD_SECONDS=60 cargo test --release -p mcp-esptool --test load`.
#![allow(clippy::unwrap_used)]

#[path = "support/client.rs"]
mod client;
#[path = "support/http.rs"]
mod http;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use client::Client;
use http::Server;
use serde_json::{Value, json};

const CLIENTS: usize = 32;
const DEVICES: usize = 16;

fn seconds() -> u64 {
    std::env::var("LOAD_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

/// Memory and open files of a process, where the system tells.
fn held(pid: u32) -> Option<(u64, usize)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some((kib, std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count()))
}

/// One call: detect, read a little, list, in turn. Every answer must be a good one.
fn call(server: &Server, client: usize, round: usize) {
    let port = format!("sim://esp32c3-load{}", client % DEVICES);
    let answer = match round % 3 {
        0 => server.modern("tools/call", json!({"name": "esp_detect_chip", "arguments": {"port": port}})),
        1 => {
            let arguments = json!({"port": port, "address": 0, "size": 4096, "output_file": format!("{client}.bin")});
            server.modern("tools/call", json!({"name": "esp_flash_read", "arguments": arguments}))
        }
        _ => server.modern("tools/list", json!({})),
    };
    assert_eq!(answer.status, 200, "{answer:?}");
    let result = answer.result();
    assert!(result.is_object() && result["isError"] != true, "client {client}: {answer:?}");
}

#[test]
fn thirty_two_clients_on_sixteen_devices() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--set", "device_timeout_s=60", "--set", "session_idle_s=1"]);
    // Every device has been used once before anything is counted.
    (0..DEVICES).for_each(|device| call(&server, device, 0));
    std::thread::sleep(Duration::from_millis(1500));
    let before = held(server.pid());
    let calls = AtomicUsize::new(0);
    let until = Instant::now() + Duration::from_secs(seconds());
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (server, calls) = (&server, &calls);
            scope.spawn(move || {
                for round in client.. {
                    if Instant::now() > until {
                        break;
                    }
                    call(server, client, round);
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    std::thread::sleep(Duration::from_secs(2));
    let after = held(server.pid());
    let calls = calls.into_inner();
    eprintln!("{calls} calls in {} s; memory (KiB) and open files before {before:?}, after {after:?}", seconds());
    assert!(calls >= CLIENTS, "{calls}");
    if let (Some((kib, files)), Some((kib_after, files_after))) = (before, after) {
        assert!(files_after <= files + 4, "open files: {files}, then {files_after}");
        // Threads that have ended leave their stacks to the allocator; what is held does not grow with the calls.
        assert!(kib_after < kib + 48 * 1024, "memory: {kib} KiB, then {kib_after} KiB after {calls} calls");
    }
    #[cfg(unix)]
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn ten_thousand_malformed_lines_are_survived() {
    let dir = tempfile::tempdir().unwrap();
    let mut client = Client::initialized(dir.path(), &[]);
    let good = json!({"jsonrpc": "2.0", "id": "x", "method": "tools/call",
        "params": {"name": "esp_job", "arguments": {"action": "list"}}})
    .to_string();
    // A small generator of its own, so that a failure can be repeated.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for _ in 0..10_000 {
        let mut line: Vec<u8> = good.clone().into_bytes();
        for _ in 0..=random(4) {
            match random(4) {
                0 => line.truncate(random(line.len() + 1)),
                1 if !line.is_empty() => {
                    let at = random(line.len());
                    line[at] = b"{}[]\",:x0\\"[random(10)];
                }
                2 => line.insert(random(line.len() + 1), b"{}[]\",:x0\\"[random(10)]),
                _ => line.extend_from_within(random(line.len() + 1)..),
            }
        }
        client.raw(&String::from_utf8_lossy(&line));
        client.drain();
    }
    let listed = client.request("tools/list", json!({})).unwrap();
    assert!(!listed["tools"].as_array().unwrap().is_empty());
    let code: Option<i32> = client.close().0;
    assert_eq!(code, Some(0));
    let _: Value = listed;
}
