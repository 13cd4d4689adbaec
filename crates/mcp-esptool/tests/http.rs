//! The server over HTTP: who is let in, both eras, several clients.
#![allow(clippy::unwrap_used)]

#[path = "support/http.rs"]
mod http;

use http::Server;
use serde_json::{Value, json};

fn server(args: &[&str]) -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), args);
    (dir, server)
}

fn hello(revision: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": revision, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}})
}

#[test]
fn both_eras_are_spoken() {
    let (_dir, server) = server(&[]);
    let found = server.modern("server/discover", json!({}));
    assert_eq!(found.status, 200, "{found:?}");
    assert!(found.result()["supportedVersions"].as_array().unwrap().contains(&json!("2026-07-28")));
    let called = server.modern("tools/call", json!({"name": "esp_job", "arguments": {"action": "list"}}));
    assert_eq!(called.result()["structuredContent"], json!({"jobs": []}), "{called:?}");
    for revision in ["2025-03-26", "2025-06-18", "2025-11-25"] {
        let answer = server.post(&[], &hello(revision));
        assert_eq!(answer.result()["protocolVersion"], revision, "{answer:?}");
        let session = answer.header("mcp-session-id").unwrap().to_string();
        let head = [("Mcp-Session-Id", session.as_str()), ("MCP-Protocol-Version", revision)];
        let ready = server.post(&head, &json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        assert_eq!(ready.status, 202);
        let listed = server.post(&head, &json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}));
        assert!(listed.result()["tools"].as_array().unwrap().len() > 50, "{listed:?}");
    }
}

#[test]
fn a_request_without_the_right_host_origin_or_token_is_refused() {
    let (_dir, server) = server(&[]);
    let status = |head: &[(&str, &str)]| server.post(head, &hello("2025-11-25")).status;
    assert_eq!(status(&[]), 200);
    assert_eq!(status(&[("Host", "evil.example")]), 403);
    assert_eq!(status(&[("Host", "localhost.evil.example:80")]), 403);
    assert_eq!(status(&[("Origin", "http://evil.example")]), 403);
    assert_eq!(status(&[("Origin", "null")]), 403);
    assert_eq!(status(&[("Origin", &format!("http://{}", server.address))]), 200);
    let without = |authorization: &str| {
        let head = [("Accept", "application/json, text/event-stream"), ("Authorization", authorization)];
        server.send("POST", "/mcp", &head, &hello("2025-11-25").to_string())
    };
    for wrong in ["", "Bearer", "Bearer x", "Basic Og==", &format!("Bearer {}0", server.token)] {
        let answer = without(wrong);
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{wrong}");
    }
    assert_eq!(server.send("GET", "/health", &[], "").status, 401);
    assert_eq!(server.send("GET", "/.well-known/oauth-protected-resource", &[], "").status, 404);
}

#[test]
fn large_and_broken_bodies_are_refused_and_the_server_goes_on() {
    let (_dir, server) = server(&["--set", "http_max_body_bytes=20000"]);
    let large = json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"x": "y".repeat(30_000)}});
    assert_eq!(server.post(&[], &large).status, 413);
    let bearer = format!("Bearer {}", server.token);
    let head = [
        ("Accept", "application/json, text/event-stream"),
        ("Content-Type", "application/json"),
        ("Authorization", &bearer),
    ];
    for body in ["", "{", "[]", "null", "\u{0}", "{\"jsonrpc\":\"2.0\"}", "{\"id\":{}}"] {
        let status = server.send("POST", "/mcp", &head, body).status;
        assert!((400..500).contains(&status), "{body:?}: {status}");
    }
    assert_eq!(server.send("PUT", "/mcp", &head, "").status, 405);
    assert_eq!(server.post(&[], &hello("2025-11-25")).status, 200);
}

#[test]
fn an_open_server_is_refused_off_this_computer() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
    let args = ["serve", "--http", "0.0.0.0:0", "--set", "http_auth=none"];
    let output = command.args(args).env("MCP_ESPTOOL_STATE_DIR", dir.path()).output().unwrap();
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("open to the network"));
}

#[test]
fn oauth_names_the_authorization_server() {
    let dir = tempfile::tempdir().unwrap();
    let (x, y) = ("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
    let keys = json!({"keys": [{"kty": "EC", "crv": "P-256", "x": x, "y": y}]});
    std::fs::write(dir.path().join("keys.json"), keys.to_string()).unwrap();
    let settings = ["http_auth=oauth", "oauth_resource=https://esp.example/mcp", "oauth_issuers=https://login.example"];
    let mut args: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    args.extend(["--set", "oauth_keys_file=keys.json"]);
    let server = Server::start(dir.path(), &args);
    let answer = server.send("POST", "/mcp", &[], "{}");
    let challenge = answer.header("www-authenticate").unwrap();
    assert_eq!(answer.status, 401);
    assert!(challenge.contains("https://esp.example/.well-known/oauth-protected-resource/mcp"), "{challenge}");
    let metadata = server.send("GET", "/.well-known/oauth-protected-resource/mcp", &[], "");
    let metadata: Value = serde_json::from_str(&metadata.body).unwrap();
    assert_eq!(metadata["authorization_servers"], json!(["https://login.example"]));
    assert_eq!(server.send("POST", "/mcp", &[("Authorization", "Bearer a.b.c")], "{}").status, 401);
}

#[cfg(unix)]
#[test]
fn it_ends_when_told_to() {
    let (_dir, server) = server(&[]);
    assert_eq!(server.post(&[], &hello("2025-11-25")).status, 200);
    let began = std::time::Instant::now();
    assert_eq!(server.stop(), Some(0));
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
}

#[test]
fn a_busy_device_names_its_holder_to_other_clients() {
    let (_dir, server) = server(&["--set", "device_timeout_s=0.2"]);
    let job = json!({"name": "esp_console_capture",
        "arguments": {"port": "sim://esp32c3", "duration_s": 600, "background": true}});
    assert_eq!(server.modern("tools/call", job).result()["structuredContent"]["job_id"], "job-1");
    let detect = json!({"name": "esp_detect_chip", "arguments": {"port": "sim://esp32c3"}});
    let answer = server.modern("tools/call", detect).result();
    let text = answer["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("device_busy") && text.contains("esp_console_capture (called by t)"), "{text}");
}
