//! The server over HTTP: who is let in, both eras, several clients.
#![allow(clippy::unwrap_used)]

#[path = "support/http.rs"]
mod http;
#[cfg(unix)]
#[path = "support/postgres.rs"]
mod postgres;
#[cfg(unix)]
#[path = "http/sites.rs"]
mod sites;

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
fn the_first_page_leads_to_the_station_and_its_data_needs_the_token() {
    let (_dir, server) = server(&["--set", "slots=sim://esp32c3-a=left,sim://esp32c3-b", "--set", "shift=night"]);
    let first = server.send("GET", "/", &[], "");
    assert_eq!((first.status, first.header("location")), (307, Some("/station")));
    assert_eq!(server.send("GET", "/station", &[], "").status, 200);
    let bearer = format!("Bearer {}", server.token);
    let own = [("Authorization", bearer.as_str())];
    for (method, path) in
        [("GET", "/metrics"), ("GET", "/station/status"), ("POST", "/station/label/24:0a:c4:00:11:22")]
    {
        assert_eq!(server.send(method, path, &[], "").status, 401, "{path}");
    }
    let metrics = server.send("GET", "/metrics", &own, "").body;
    assert!(metrics.contains("esp_ledger_up{") && metrics.contains("state=\"empty\"} 2"), "{metrics}");
    let status: Value = serde_json::from_str(&server.send("GET", "/station/status", &own, "").body).unwrap();
    assert_eq!((&status["slots"][0]["name"], &status["slots"][1]["number"]), (&json!("left"), &json!(2)));
    assert_eq!(status["shift"], "night");
    let label = server.send("POST", "/station/label/24:0a:c4:00:11:22", &own, "");
    assert!(label.status == 400 && label.body.contains("did not pass"), "{label:?}");
    assert_eq!(server.send("GET", "/station/unit/SN-77", &own, "").status, 404);
}

#[test]
fn a_request_without_the_right_host_origin_or_token_is_refused() {
    let (_dir, server) = server(&[]);
    let status = |head: &[(&str, &str)]| server.post(head, &hello("2025-11-25")).status;
    assert_eq!(status(&[]), 200);
    assert_eq!(status(&[("Host", "evil.example")]), 403);
    assert_eq!(status(&[("Host", &format!("evil@{}", server.address))]), 403);
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
    let id = server.modern("tools/call", job).result()["structuredContent"]["job_id"].as_str().unwrap().to_owned();
    assert_eq!(id.len(), "job-".len() + 32, "{id}: 128 bits");
    let detect = json!({"name": "esp_detect_chip", "arguments": {"port": "sim://esp32c3"}});
    // The job has its number before it has the device.
    let ask =
        || server.modern("tools/call", detect.clone()).result()["content"][0]["text"].as_str().unwrap().to_owned();
    let text = (0..50).map(|_| ask()).find(|text| text.contains("device_busy")).unwrap_or_default();
    assert!(text.contains("device_busy") && text.contains("esp_console_capture (called by t)"), "{text}");
}

/// What the server says until it closes the connection; `None` when it has not closed it in time.
fn until_closed(stream: &mut std::net::TcpStream, time: std::time::Duration) -> Option<String> {
    let mut bytes = Vec::new();
    stream.set_read_timeout(Some(time)).unwrap();
    match std::io::Read::read_to_end(stream, &mut bytes) {
        Ok(_) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Some(String::new()),
        Err(_) => None,
    }
}

#[test]
fn silent_connections_and_bodies_are_closed_and_block_nobody() {
    use std::io::Write;
    let (_dir, server) = server(&["--set", "http_connections=6"]);
    let open = |text: &str| {
        let mut stream = std::net::TcpStream::connect(&server.address).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    };
    let body = format!(
        "POST /mcp HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{{",
        server.address, server.token
    );
    let mut silent: Vec<_> =
        ["", "", "P", "POST /mcp HTTP/1.1\r\n", &body, &body].iter().map(|text| open(text)).collect();
    // All places are taken now: the next request waits until the first of them are closed.
    let began = std::time::Instant::now();
    assert_eq!(server.post(&[], &hello("2025-11-25")).status, 200);
    assert!(began.elapsed().as_secs() < 15, "{:?}", began.elapsed());
    let said: Vec<_> = silent.iter_mut().map(|one| until_closed(one, std::time::Duration::from_secs(5))).collect();
    assert!(said.iter().all(Option::is_some), "{said:?}");
    assert!(said[4].as_ref().unwrap().contains("408"), "{said:?}");
}

#[test]
fn made_up_sessions_open_no_further_share() {
    let (_dir, server) = server(&["--set", "http_client_requests=2", "--set", "http_sessions=2"]);
    let stream = |session: &str| {
        let mut stream = std::net::TcpStream::connect(&server.address).unwrap();
        let head = format!(
            "GET /station/events HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nMcp-Session-Id: {session}\r\n\r\n",
            server.address, server.token
        );
        std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
        let mut line = String::new();
        let mut reader = std::io::BufReader::new(stream);
        std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
        (line.contains("200"), reader)
    };
    let open: Vec<_> = ["a", "b", "c", "d"].iter().map(|session| stream(session)).collect();
    assert_eq!(open.iter().filter(|(open, _)| *open).count(), 2);
    drop(open);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let answers: Vec<u16> = std::iter::from_fn(|| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        Some(server.post(&[], &hello("2025-11-25")).status)
    })
    .take_while(|_| std::time::Instant::now() < until)
    .filter(|status| *status != 429)
    .take(3)
    .collect();
    assert_eq!(answers, [200, 200, 503], "no more sessions than are allowed");
}

#[test]
fn other_addresses_are_refused_over_http_unless_configured() {
    let (listener, other) = (std::net::TcpListener::bind("127.0.0.1:0").unwrap(), "socket://127.0.0.1:1");
    let port = format!("socket://{}", listener.local_addr().unwrap());
    let (_dir, server) = server(&["--set", &format!("remote_ports={port}"), "--set", "device_timeout_s=1"]);
    let ask = |port: &str| {
        let call =
            json!({"name": "esp_console_capture", "arguments": {"port": port, "duration_s": 0.1, "send": "GET /"}});
        server.modern("tools/call", call).result()
    };
    for address in [other, "rfc2217://127.0.0.1:1", "rfc2217://localhost:22"] {
        let text = ask(address)["content"][0]["text"].as_str().unwrap().to_owned();
        assert!(text.contains("error[policy_refused]") && text.contains("remote_ports"), "{text}");
    }
    let text = ask(&port).to_string();
    assert!(!text.contains("policy_refused"), "{text}");
}

#[test]
fn jobs_are_seen_by_their_own_session_only() {
    let (_dir, server) = server(&[]);
    let session = || {
        let answer = server.post(&[], &hello("2025-11-25"));
        let id = answer.header("mcp-session-id").unwrap().to_string();
        let head = [("Mcp-Session-Id", id.as_str()), ("MCP-Protocol-Version", "2025-11-25")];
        server.post(&head, &json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        id
    };
    let call = |session: &str, name: &str, arguments: Value| {
        let head = [("Mcp-Session-Id", session), ("MCP-Protocol-Version", "2025-11-25")];
        let params = json!({"name": name, "arguments": arguments});
        server.post(&head, &json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})).result()
    };
    let (ann, bob) = (session(), session());
    let capture = json!({"port": "sim://esp32c3", "duration_s": 600, "background": true});
    let id = call(&ann, "esp_console_capture", capture)["structuredContent"]["job_id"].clone();
    let listed =
        |session: &str| call(session, "esp_job", json!({"action": "list"}))["structuredContent"]["jobs"].clone();
    assert_eq!(listed(&ann)[0]["job_id"], id);
    assert_eq!(listed(&bob), json!([]));
    let guess = call(&bob, "esp_job", json!({"job_id": "job-1", "action": "cancel"}));
    assert!(guess.to_string().contains("unknown_job") && !guess.to_string().contains(id.as_str().unwrap()), "{guess}");
    call(&ann, "esp_job", json!({"job_id": id, "action": "cancel"}));
}

#[test]
fn jobs_and_simulated_devices_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.toml");
    std::fs::write(&policy, "[limits]\nmax_jobs = 2\n").unwrap();
    let setting = format!("policy_file={}", policy.display());
    let server = Server::start(dir.path(), &["--set", &setting, "--set", "simulated_limit=3"]);
    let call = |name: &str, arguments: Value| {
        server.modern("tools/call", json!({"name": name, "arguments": arguments})).result()
    };
    let capture =
        |port: &str| call("esp_console_capture", json!({"port": port, "duration_s": 600, "background": true}));
    let jobs: Vec<Value> = ["sim://esp32c3-a", "sim://esp32c3-b"].map(&capture).into_iter().collect();
    assert!(jobs.iter().all(|job| job["structuredContent"]["job_id"].is_string()), "{jobs:?}");
    let third = capture("sim://esp32c3-c").to_string();
    assert!(third.contains("limit_reached") && third.contains("at most 2"), "{third}");
    for job in jobs {
        let id = job["structuredContent"]["job_id"].clone();
        call("esp_job", json!({"job_id": id, "action": "cancel"}));
        call("esp_job", json!({"job_id": id, "action": "wait"}));
    }
    let again = capture("sim://esp32c3-a");
    assert!(again["structuredContent"]["job_id"].is_string(), "an ended job makes room: {again}");
    // Two devices are there; a third one fits, a fourth does not, and those that are there go on.
    let third = call("esp_detect_chip", json!({"port": "sim://esp32c3-d"}));
    assert_eq!(third["isError"], json!(false), "{third}");
    let fourth = call("esp_detect_chip", json!({"port": "sim://esp32c3-e"})).to_string();
    assert!(fourth.contains("limit_reached") && fourth.contains("simulated_limit"), "{fourth}");
    assert_eq!(call("esp_detect_chip", json!({"port": "sim://esp32c3-d"}))["isError"], json!(false));
}

/// Log lines of a call go to the session that made it, not to the others.
#[test]
fn log_lines_reach_only_the_session_whose_call_wrote_them() {
    let (_dir, server) = server(&["--set", "log=debug"]);
    let session = || {
        let answer = server.post(&[], &hello("2025-11-25"));
        let id = answer.header("mcp-session-id").unwrap().to_string();
        let head = [("Mcp-Session-Id", id.as_str()), ("MCP-Protocol-Version", "2025-11-25")];
        server.post(&head, &json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        let level = json!({"jsonrpc": "2.0", "id": 1, "method": "logging/setLevel", "params": {"level": "debug"}});
        server.post(&head, &level);
        id
    };
    let (ann, bob) = (session(), session());
    // Both listen while Ann calls.
    let streams = [&ann, &bob].map(|id| {
        let head = [("Mcp-Session-Id", id.as_str()), ("MCP-Protocol-Version", "2025-11-25")];
        server.listen(&head)
    });
    let head = [("Mcp-Session-Id", ann.as_str()), ("MCP-Protocol-Version", "2025-11-25")];
    let params = json!({"name": "esp_detect_chip", "arguments": {"port": "sim://esp32c3-private"}});
    let called = server.post(&head, &json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params}));
    let heard = streams.map(|stream| http::heard(stream, std::time::Duration::from_secs(2)));
    let is_line = |text: &str| text.contains("notifications/message");
    assert!(is_line(&called.body) || is_line(&heard[0]), "Ann gets her lines: {called:?} {}", heard[0]);
    assert!(!is_line(&heard[1]), "Bob gets nothing of Ann's call: {}", heard[1]);
}
