//! The server as a client sees it, over standard input and output.
#![allow(clippy::unwrap_used)]

#[path = "support/client.rs"]
mod client;

use client::Client;
use esp_ops::guard::Risk;
use mcp_esptool::tool::Entry;
use mcp_esptool::tools::ALL;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn initialize_answers_who_we_are_in_all_revisions() {
    for revision in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let dir = folder();
        let mut client = Client::start(dir.path(), &[]);
        let hello =
            json!({"protocolVersion": revision, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        let answer = client.request("initialize", hello).unwrap();
        assert_eq!(answer["protocolVersion"], revision);
        assert_eq!(answer["serverInfo"]["name"], "mcp-esptool");
        assert_eq!(answer["serverInfo"]["version"], env!("CARGO_PKG_VERSION"));
        assert!(answer["instructions"].as_str().unwrap().chars().count() < 1000);
        assert_eq!(client.close().0, Some(0));
    }
}

/// What every request of the revision without `initialize` carries.
fn modern(mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    params
}

#[test]
fn the_revision_without_initialize_is_spoken_too() {
    let dir = folder();
    let mut client = Client::start(dir.path(), &["serve"]);
    let found = client.request("server/discover", modern(json!({}))).unwrap();
    assert!(found["supportedVersions"].as_array().unwrap().contains(&json!("2026-07-28")), "{found}");
    let listed = client.request("tools/list", modern(json!({}))).unwrap();
    assert_eq!(listed["resultType"], "complete");
    let called =
        client.request("tools/call", modern(json!({"name": "esp_job", "arguments": {"action": "list"}}))).unwrap();
    assert_eq!(called["structuredContent"], json!({"jobs": []}));
}

#[test]
fn the_list_is_complete_and_always_the_same() {
    let dir = folder();
    let mut client = Client::initialized(dir.path(), &[]);
    let first = client.request("tools/list", json!({})).unwrap();
    assert_eq!(first, client.request("tools/list", json!({})).unwrap());
    for tool in first["tools"].as_array().unwrap() {
        let name = tool["name"].as_str().unwrap();
        assert!(name.starts_with("esp_"), "{name}");
        assert!(
            !tool["title"].as_str().unwrap().is_empty() && tool["description"].as_str().unwrap().len() > 20,
            "{name}"
        );
        for hint in ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"] {
            assert!(tool["annotations"][hint].is_boolean(), "{name} {hint}");
        }
        for schema in ["inputSchema", "outputSchema"] {
            assert_eq!(tool[schema]["type"], "object", "{name} {schema}");
        }
        for (field, schema) in tool["inputSchema"]["properties"].as_object().unwrap() {
            assert!(schema["description"].is_string(), "{name}: the parameter {field} is not described");
        }
    }
    let bytes = first.to_string().len();
    assert!(bytes <= 60_000, "tools/list has {bytes} bytes");
}

#[test]
fn pages_are_named_to_clients_that_show_them_only() {
    let dir = folder();
    let mut client = Client::start(dir.path(), &["serve"]);
    let shows = json!({"extensions": {"io.modelcontextprotocol/ui": {"mimeTypes": ["text/html;profile=mcp-app"]}}});
    let other = json!({"extensions": {"io.modelcontextprotocol/ui": {"mimeTypes": ["text/x-other"]}}});
    let mut ask = |method: &str, capabilities: &Value| {
        let mut params = modern(json!({}));
        params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = capabilities.clone();
        client.request(method, params).unwrap()
    };
    let plain = ask("tools/list", &json!({}));
    assert!(!plain.to_string().contains("resourceUri"));
    assert_eq!(plain, ask("tools/list", &other));
    assert!(!ask("resources/list", &json!({})).to_string().contains("ui://"));
    let tools = ask("tools/list", &shows);
    assert!(tools.to_string().len() <= 60_000, "{}", tools.to_string().len());
    let resources = ask("resources/list", &shows);
    let pages =
        resources["resources"].as_array().unwrap().iter().filter(|one| one["mimeType"] == "text/html;profile=mcp-app");
    let pages: Vec<&str> = pages.map(|one| one["uri"].as_str().unwrap()).collect();
    assert_eq!(pages.len(), 6, "{pages:?}");
    let mut used: Vec<&str> = Vec::new();
    for tool in tools["tools"].as_array().unwrap() {
        used.extend(tool["_meta"]["ui"]["resourceUri"].as_str());
    }
    for uri in &pages {
        assert!(used.contains(uri), "no tool leads to {uri}");
        let page = client.request("resources/read", modern(json!({"uri": uri}))).unwrap();
        assert!(page["contents"][0]["text"].as_str().unwrap().contains("ui/initialize"), "{uri}");
    }
}

#[test]
fn errors_are_text_with_a_machine_form_beside_it() {
    let dir = folder();
    let mut client = Client::initialized(dir.path(), &[]);
    let answer = client.call("esp_job", json!({"job": 1}));
    assert_eq!(answer["isError"], true);
    assert!(answer.get("structuredContent").is_none());
    assert_eq!(answer["_meta"]["mcp-esptool/error"]["code"], "unknown_parameter");
    assert!(answer["content"][0]["text"].as_str().unwrap().contains("use `job_id`"), "{answer}");
    let error = client.request("tools/call", json!({"name": "esp_jop", "arguments": {}})).unwrap_err();
    assert_eq!(error["code"], -32602);
    assert!(error["message"].as_str().unwrap().contains("esp_job"), "{error}");
}

#[test]
fn malformed_input_is_survived() {
    let dir = folder();
    let mut client = Client::start(dir.path(), &[]);
    let bad = [
        "{",
        "[]",
        "null",
        "\u{0}",
        "{\"jsonrpc\":\"2.0\"}",
        "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}",
        "7",
        "{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"tools/list\"}",
        "\"\\ud800\"",
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}",
    ];
    bad.iter().for_each(|line| client.raw(line));
    let hello =
        json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    client.request("initialize", hello).unwrap();
    for round in 0..1000 {
        client.raw(bad[round % bad.len()]);
    }
    client.raw(&"x".repeat(1 << 20));
    assert!(client.request("tools/list", json!({})).is_ok());
    assert_eq!(client.close().0, Some(0));
}

#[test]
fn every_request_gets_an_answer() {
    let dir = folder();
    let hello = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
    let slow = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"esp_console_capture","arguments":{"port":"sim://esp32c3","duration_s":1}}}"#;
    let deep = "[".repeat(5000);
    let lines = [
        hello,
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":{\"x\":1e999}}",
        "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"\\ud800\"}",
        &deep,
        r#"{"jsonrpc":"2.0","id":3}"#,
        slow,
        slow,
    ];
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
    command.current_dir(dir.path()).env("MCP_ESPTOOL_STATE_DIR", dir.path().join("state"));
    let mut child = command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    for line in lines {
        std::io::Write::write_all(&mut input, format!("{line}\n").as_bytes()).unwrap();
    }
    let output = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut codes = Vec::new();
    for line in std::io::BufRead::lines(output).map_while(Result::ok) {
        let message: Value = serde_json::from_str(&line).unwrap();
        codes.push((message["id"].clone(), message["error"]["code"].clone()));
        if message["id"] == 7 && message["error"].is_null() {
            break;
        }
    }
    drop(input);
    child.wait().unwrap();
    let count = |id: Value, code: i64| codes.iter().filter(|found| **found == (id.clone(), json!(code))).count();
    assert_eq!(count(Value::Null, -32700), 3, "{codes:?}");
    assert_eq!(count(json!(3), -32600), 1, "{codes:?}");
    assert_eq!(count(json!(7), -32600), 1, "an id in use is refused: {codes:?}");
}

#[cfg(unix)]
#[test]
fn signals_end_the_server_after_its_calls() {
    // Under `nohup` a server goes on when its terminal is gone, as it should.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or("0");
    let under_nohup = u64::from_str_radix(ignored.trim(), 16).is_ok_and(|mask| mask & 1 != 0);
    for signal in ["-TERM", "-INT", "-HUP"].into_iter().filter(|signal| *signal != "-HUP" || !under_nohup) {
        let dir = folder();
        let mut client = Client::initialized(dir.path(), &[]);
        let capture = json!({"port": "sim://esp32c3", "duration_s": 600, "background": true});
        client.call("esp_console_capture", capture);
        std::process::Command::new("kill").args([signal, &client.pid().to_string()]).status().unwrap();
        assert_eq!(client.wait(), Some(0), "{signal}");
    }
}

#[test]
fn resources_and_prompts_are_listed_and_read() {
    let dir = folder();
    let mut client = Client::initialized(dir.path(), &[]);
    let listed = client.request("resources/list", json!({})).unwrap();
    assert!(listed["resources"].as_array().unwrap().len() >= 3, "{listed}");
    let templates = client.request("resources/templates/list", json!({})).unwrap();
    assert!(templates.to_string().contains("esp://diagnostics/{port}"), "{templates}");
    let read = client.request("resources/read", json!({"uri": "esp://diagnostics/sim%3A%2F%2Fesp32c3"})).unwrap();
    let text = read["contents"][0]["text"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(text).unwrap()["chip_id"], "esp32c3");
    assert_eq!(client.request("resources/read", json!({"uri": "esp://nothing"})).unwrap_err()["code"], -32002);
    let prompts = client.request("prompts/list", json!({})).unwrap();
    assert_eq!(prompts["prompts"].as_array().unwrap().len(), 5);
    let given = json!({"name": "test_in_ram", "arguments": {"firmware": "ram.bin"}});
    let prompt = client.request("prompts/get", given).unwrap();
    assert!(prompt["messages"][0]["content"]["text"].as_str().unwrap().contains("ram.bin"), "{prompt}");
    assert_eq!(client.request("prompts/get", json!({"name": "test_in_ram"})).unwrap_err()["code"], -32602);
}

#[test]
fn documents_and_the_server_are_resources() {
    let dir = folder();
    let mut client = Client::initialized(dir.path(), &[]);
    let listed = client.request("resources/list", json!({})).unwrap().to_string();
    let mut read = |uri: &str| client.request("resources/read", json!({ "uri": uri })).unwrap()["contents"][0].clone();
    for (uri, part) in [
        ("esp://docs/index", "esp://docs/production"),
        ("esp://docs/errors", "| `no_port` |"),
        ("esp://docs/production", "recipe"),
        ("esp://server", "remote_ports"),
    ] {
        assert!(listed.contains(uri), "{uri} is not listed");
        assert!(read(uri)["text"].as_str().unwrap().contains(part), "{uri}: no {part}");
    }
    let tool = read("esp://docs/tools/esp_flash_erase");
    assert_eq!(tool["mimeType"], "text/markdown");
    assert!(tool["text"].as_str().unwrap().contains("`before`"), "{tool}");
    let error = client.request("resources/read", json!({"uri": "esp://docs/tools/esp_nope"})).unwrap_err();
    assert_eq!(error["code"], -32002);
}

#[test]
fn skills_are_listed_with_digests_of_what_is_read() {
    let dir = folder();
    let mut client = Client::start(dir.path(), &["serve"]);
    let capabilities = client.request("server/discover", modern(json!({}))).unwrap()["capabilities"].clone();
    assert!(capabilities["extensions"]["io.modelcontextprotocol/skills"].is_object(), "{capabilities}");
    let listed = client.request("skills/list", modern(json!({}))).unwrap();
    let skills = listed["skills"].as_array().unwrap().clone();
    assert_eq!(skills.len(), 6, "{listed}");
    for skill in &skills {
        let uri = skill["uri"].as_str().unwrap();
        let read = client.request("resources/read", modern(json!({ "uri": uri }))).unwrap();
        let text = read["contents"][0]["text"].as_str().unwrap();
        let digest: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(skill["resources"][0]["digest"], format!("sha256:{digest}"), "{uri}");
        let one = client.request("skills/get", modern(json!({ "uri": uri }))).unwrap();
        assert_eq!(&one["skill"], skill);
    }
    let error = client.request("skills/get", modern(json!({"uri": "skill://nothing/SKILL.md"}))).unwrap_err();
    assert_eq!(error["code"], -32602);
}

/// A short list has room for icons and for the hints of clients that load tools lazily.
#[test]
fn tools_and_server_have_icons_and_loading_hints() {
    let dir = folder();
    let mut client = Client::start(dir.path(), &["serve", "--toolsets", "bench"]);
    let found = client.request("server/discover", modern(json!({}))).unwrap();
    let server = found["serverInfo"].as_object().or(found["_meta"]["io.modelcontextprotocol/serverInfo"].as_object());
    assert!(format!("{server:?}").contains("data:image/svg+xml"), "{found}");
    let listed = client.request("tools/list", modern(json!({}))).unwrap();
    let detect = listed["tools"].as_array().unwrap().iter().find(|tool| tool["name"] == "esp_detect_chip").unwrap();
    assert_eq!(detect["_meta"]["anthropic/alwaysLoad"], true, "{detect}");
}

#[test]
fn errors_in_parameters_point_to_the_document_of_the_tool() {
    let dir = folder();
    let mut client = Client::initialized(dir.path(), &[]);
    let answer = client.request("tools/call", json!({"name": "esp_flash_read", "arguments": {"address": 0}})).unwrap();
    let text = answer["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("esp://docs/tools/esp_flash_read"), "{text}");
}

/// What an error tells to do next must be possible in the tool that failed.
#[test]
fn every_tool_with_a_device_takes_how_to_connect() {
    let dir = folder();
    let mut client = Client::initialized(dir.path(), &[]);
    let given = json!({"port": "sim://esp32c3-before", "baud": 115_200, "stub": "none", "after": "no-reset"});
    let answer = client.request("tools/call", json!({"name": "esp_detect_chip", "arguments": given})).unwrap();
    assert_eq!(answer["structuredContent"]["loader"], "ROM loader", "{answer}");
    let usual = json!({"port": "sim://esp32c3-before", "stub": "auto"});
    let answer = client.request("tools/call", json!({"name": "esp_detect_chip", "arguments": usual})).unwrap();
    assert_eq!(answer["structuredContent"]["loader"], "stub", "{answer}");
    let wrong = json!({"port": "sim://esp32c3-before", "before": "please"});
    let answer = client.request("tools/call", json!({"name": "esp_flash_status", "arguments": wrong})).unwrap();
    assert_eq!(code(&answer), "bad_parameter");
}

#[test]
fn a_port_is_waited_for() {
    let dir = folder();
    let path = dir.path().join("tty-later");
    let mut client = Client::initialized(dir.path(), &[]);
    let began = std::time::Instant::now();
    let given = json!({"port": path.display().to_string(), "wait_s": 1.2});
    let answer = client.request("tools/call", json!({"name": "esp_detect_chip", "arguments": given})).unwrap();
    assert_eq!(code(&answer), "port_not_found");
    assert!(began.elapsed().as_secs_f64() >= 1.0, "{:?}", began.elapsed());
}

#[test]
fn profiles_are_short_lists() {
    let dir = folder();
    let mut client = Client::initialized(dir.path(), &["--toolsets", "bench"]);
    let listed = client.request("tools/list", json!({})).unwrap();
    assert!(listed.to_string().len() <= 14_000, "{} bytes", listed.to_string().len());
    let error = client.request("tools/call", json!({"name": "esp_load_ram", "arguments": {}})).unwrap_err();
    assert_eq!(error["code"], -32602);
}

/// Arguments that fit the tool's schema: of every required parameter a value of its type, and further ones where the risk
/// is theirs.
fn valid(entry: &Entry) -> Value {
    let schema = Value::Object(entry.input_schema());
    let mut arguments = json!({});
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        arguments[name] = sample(&schema, &schema["properties"][name]);
    }
    let more = match entry.name {
        "esp_ledger" => json!({"action": "void", "kind": "serial", "value": "A1", "reason": "test"}),
        "esp_console_capture" => json!({"send": "erase"}),
        "esp_console" => json!({"action": "send", "send": "erase"}),
        "esp_job" => json!({"action": "cancel", "job_id": "job-1"}),
        "esp_scan_ports" => json!({"probe": true}),
        "esp_nvs" => json!({"action": "delete", "namespace": "a"}),
        "esp_recipe" => json!({"action": "lock", "file": "r.toml"}),
        _ => json!({}),
    };
    more.as_object().unwrap().iter().for_each(|(name, value)| arguments[name] = value.clone());
    arguments
}

/// A value that fits a schema.
fn sample(whole: &Value, schema: &Value) -> Value {
    if let Some(place) = schema["$ref"].as_str() {
        return sample(whole, whole.pointer(place.trim_start_matches('#')).unwrap());
    }
    if let Some(first) = schema["enum"].get(0).or(schema.get("const")) {
        return first.clone();
    }
    for several in ["oneOf", "anyOf", "allOf"] {
        if let Some(first) = schema[several].get(0) {
            return sample(whole, first);
        }
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str()).unwrap_or("string");
    match kind {
        "integer" | "number" => json!(1),
        "boolean" => json!(true),
        "array" => json!([sample(whole, &schema["items"])]),
        "object" => {
            let fields = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            fields.map(|name| (name.to_string(), sample(whole, &schema["properties"][name]))).collect()
        }
        _ => json!("1"),
    }
}

/// The code of an error; nothing for a success.
fn code(answer: &Value) -> &str {
    answer["_meta"]["mcp-esptool/error"]["code"].as_str().unwrap_or_default()
}

#[test]
fn read_only_always_wins() {
    let dir = folder();
    let mut client = Client::initialized(dir.path(), &["--read-only"]);
    let listed = client.request("tools/list", json!({})).unwrap();
    let listed: Vec<&str> =
        listed["tools"].as_array().unwrap().iter().filter_map(|tool| tool["name"].as_str()).collect();
    for entry in ALL {
        let some_call_reads = entry.least == Risk::Reads && !entry.files;
        assert_eq!(listed.contains(&entry.name), some_call_reads, "{}", entry.name);
        if !entry.hints().read_only {
            let answer = client.call(entry.name, valid(entry));
            assert_eq!(code(&answer), "policy_refused", "{}: {answer}", entry.name);
        }
    }
    assert_eq!(client.call("esp_job", json!({"action": "list"}))["isError"], false);
}

#[test]
fn calls_above_max_risk_are_refused_by_the_policy() {
    let risks = ["reads", "resets", "writes", "destroys"];
    for (rank, name) in risks.into_iter().enumerate() {
        let dir = folder();
        let mut client = Client::initialized(dir.path(), &["--narrow", &format!("max_risk = \"{name}\"")]);
        let risk: Risk = serde_json::from_value(json!(name)).unwrap();
        let above: Vec<&Entry> = ALL.iter().filter(|entry| entry.risk > risk).collect();
        assert!(!above.is_empty(), "{rank}");
        for entry in above {
            let answer = client.call(entry.name, valid(entry));
            assert_eq!(code(&answer), "policy_refused", "{name} {}: {answer}", entry.name);
        }
    }
}

#[test]
fn calls_of_little_risk_are_allowed_where_others_of_the_tool_are_not() {
    let dir = folder();
    let state = format!("state_dir={}", dir.path().join("state").display());
    let mut client = Client::initialized(dir.path(), &["--narrow", "max_risk = \"reads\"", "--set", &state]);
    for (tool, arguments) in [
        ("esp_ledger", json!({})),
        ("esp_job", json!({"action": "list"})),
        ("esp_scan_ports", json!({})),
        ("esp_console_capture", json!({"port": "sim://esp32c3-little", "duration_s": 0.1})),
    ] {
        let answer = client.call(tool, arguments);
        assert_eq!(answer["isError"], false, "{tool}: {answer}");
    }
    let pool = json!({"action": "add_pool", "pool": "p", "kind": "serial", "count": 1});
    assert_eq!(code(&client.call("esp_ledger", pool)), "policy_refused");
}

#[test]
fn hints_tell_the_worst_that_a_call_can_do() {
    for name in ["esp_ledger", "esp_job", "esp_load_ram", "esp_idf_build", "esp_arduino_build", "esp_console_capture"] {
        let entry = ALL.iter().find(|entry| entry.name == name).unwrap();
        assert!(!entry.hints().read_only, "{name}");
    }
    for name in ["esp_ledger", "esp_qemu_start", "esp_load_ram", "esp_console_capture", "esp_efuse_burn"] {
        assert!(!ALL.iter().find(|entry| entry.name == name).unwrap().hints().idempotent, "{name}");
    }
}

#[test]
fn the_log_of_a_capture_does_not_replace_an_existing_file() {
    let dir = folder();
    std::fs::write(dir.path().join("crash.txt"), "Guru Meditation").unwrap();
    let mut client = Client::initialized(dir.path(), &[]);
    let mut capture = json!({"port": "sim://esp32c3-log", "duration_s": 0.1, "log_file": "crash.txt"});
    let answer = client.call("esp_console_capture", capture.clone());
    assert_eq!(code(&answer), "file_unwritable", "{answer}");
    assert_eq!(std::fs::read(dir.path().join("crash.txt")).unwrap(), b"Guru Meditation");
    capture["log_file"] = "new.txt".into();
    assert_eq!(client.call("esp_console_capture", capture)["isError"], false);
}

#[cfg(unix)]
#[test]
fn ledger_backups_follow_no_link_and_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, outside) = (folder(), folder());
    std::os::unix::fs::symlink(outside.path().join("b.db"), dir.path().join("b.db")).unwrap();
    let state = format!("state_dir={}", dir.path().join("state").display());
    let mut client = Client::initialized(dir.path(), &["--set", &state]);
    let answer = client.call("esp_ledger", json!({"action": "backup", "file": "b.db"}));
    assert_eq!(answer["isError"], false, "{answer}");
    assert!(!outside.path().join("b.db").exists());
    for (path, wanted) in [("b.db", 0o600), ("state/ledger.db", 0o600), ("state", 0o700)] {
        let about = std::fs::symlink_metadata(dir.path().join(path)).unwrap();
        assert!(!about.is_symlink() && about.permissions().mode() & 0o777 == wanted, "{path}: {about:?}");
    }
    // The state folder below the root is no project folder.
    let stolen = json!({"action": "add_pool", "pool": "p", "kind": "serial", "file": "state/ledger.db"});
    assert_eq!(code(&client.call("esp_ledger", stolen)), "path_refused");
}

#[test]
fn commands_that_write_are_refused_when_read_only() {
    let dir = folder();
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
        let done = command.arg("--read-only").args(args).current_dir(dir.path()).env("XDG_CONFIG_HOME", dir.path());
        let done = done.stdin(std::process::Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&done.stderr).into_owned() + &String::from_utf8_lossy(&done.stdout)
    };
    std::fs::write(dir.path().join("r.toml"), "").unwrap();
    for args in [
        &["recipe", "new", "--chip", "esp32c3", "n.toml"][..],
        &["recipe", "lock", "r.toml"],
        &["monitor", "sim://esp32c3", "--reset"],
    ] {
        let said = run(args);
        assert!(said.contains("policy_refused"), "{args:?}: {said}");
    }
    assert!(!dir.path().join("n.toml").exists());
}

#[test]
fn doctor_warns_of_a_root_that_holds_the_state_folder() {
    let dir = folder();
    let state = format!("state_dir={}", dir.path().join("state").display());
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_mcp-esptool"))
        .args(["--set", &state, "doctor"])
        .current_dir(dir.path())
        .env("XDG_CONFIG_HOME", dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(said.contains("separation: the root"), "{said}");
}

#[test]
fn a_device_that_is_denied_by_its_mac_is_not_touched_when_warm_or_by_a_reset() {
    let dir = folder();
    let mut client = Client::initialized(dir.path(), &[]);
    let port = "sim://esp32c3-golden";
    let detected = client.call("esp_detect_chip", json!({ "port": port }));
    let text = detected["structuredContent"].to_string();
    let at = text.find("\"mac\":\"").unwrap() + 7;
    let mac: String = text[at..].chars().filter(char::is_ascii_hexdigit).take(12).collect();
    for (tool, mut arguments) in [
        ("esp_flash_erase", json!({"region": "all", "no_backup": true})),
        ("esp_reset_chip", json!({})),
        ("esp_console_capture", json!({"duration_s": 0.1})),
    ] {
        arguments["port"] = port.into();
        let mut params = json!({"name": tool, "arguments": arguments});
        params["_meta"] = json!({"mcp-esptool/policy": {"deny_macs": [mac]}});
        let answer = client.request("tools/call", params).unwrap();
        assert_eq!(code(&answer), "policy_refused", "{tool}: {answer}");
    }
}

#[test]
fn virtual_devices_that_are_denied_are_denied_to_the_virtual_tools() {
    let dir = folder();
    let state = format!("state_dir={}", dir.path().join("state").display());
    let mut client = Client::initialized(dir.path(), &["--set", &state]);
    let started = client.call("esp_qemu_start", json!({"chip_type": "esp32c3", "backend": "builtin", "id": "gold"}));
    assert_eq!(started["isError"], false, "{started}");
    let deny = |tool: &str, arguments: Value, rule: &str| {
        let mut params = json!({"name": tool, "arguments": arguments});
        params["_meta"] = json!({"mcp-esptool/policy": {"deny_ports": [rule]}});
        params
    };
    let record = std::fs::read_dir(dir.path().join("state/virtual")).unwrap().count();
    assert!(record > 0);
    let text = started["structuredContent"].to_string();
    let at = text.find("socket://").unwrap_or_else(|| panic!("{text}"));
    let socket = text[at..].split('"').next().unwrap().to_string();
    let by_name = socket.replace("127.0.0.1", "localhost");
    for (tool, arguments, rule) in [
        ("esp_qemu_stop", json!({"id": "gold"}), "qemu://gold".to_string()),
        ("esp_qemu_stop", json!({"all": true}), "qemu://gold".to_string()),
        ("esp_qemu_flash", json!({"id": "gold", "erase": true}), "qemu://gold".to_string()),
        ("esp_qemu_status", json!({"id": "gold"}), "qemu://gold".to_string()),
        ("esp_qemu_start", json!({"id": "gold"}), "qemu://gold".to_string()),
        ("esp_detect_chip", json!({"port": by_name}), "qemu://gold".to_string()),
        ("esp_detect_chip", json!({"port": by_name}), socket.clone()),
        ("esp_detect_chip", json!({"port": "qemu://gold"}), socket.clone()),
    ] {
        let answer = client.request("tools/call", deny(tool, arguments, &rule)).unwrap();
        assert_eq!(code(&answer), "policy_refused", "{tool} {rule}: {answer}");
    }
    client.call("esp_qemu_stop", json!({"all": true}));
}

/// A client shows the server's stderr to its user: a refused request is an answer, not an alarm.
#[test]
fn refused_requests_leave_no_warning_in_the_log() {
    use std::io::Write as _;
    let dir = folder();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
    let (input, errors) = (std::process::Stdio::piped(), std::process::Stdio::piped());
    let command = command.arg("serve").current_dir(dir.path()).stdin(input).stdout(std::process::Stdio::null());
    let mut child = command.env("XDG_CONFIG_HOME", dir.path()).stderr(errors).spawn().unwrap();
    let asked = modern(json!({"uri": "esp://nothing"}));
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": asked});
    writeln!(child.stdin.take().unwrap(), "{request}").unwrap();
    let said = String::from_utf8_lossy(&child.wait_with_output().unwrap().stderr).into_owned();
    assert!(!said.contains("WARN"), "{said}");
}
