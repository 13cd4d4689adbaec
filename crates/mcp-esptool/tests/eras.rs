//! What a server does of its own, in both eras: questions before a burn, subscriptions, tasks, completions, pages, log
//! lines, cancellation.
#![allow(clippy::unwrap_used)]

#[path = "support/client.rs"]
mod client;

use std::time::Duration;

use client::Client;
use serde_json::{Value, json};

const BURN: &str = "esp_efuse_burn";

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// State (plans, audit log) of the test, not of the user.
fn state(dir: &tempfile::TempDir) -> String {
    format!("state_dir={}", dir.path().join("state").display())
}

fn modern(mut params: Value, capabilities: Value) -> Value {
    params["_meta"]["io.modelcontextprotocol/protocolVersion"] = "2026-07-28".into();
    params["_meta"]["io.modelcontextprotocol/clientInfo"] = json!({"name": "t", "version": "1"});
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = capabilities;
    params
}

fn older(dir: &tempfile::TempDir, capabilities: Value) -> Client {
    let mut client = Client::start(dir.path(), &["--set", &state(dir)]);
    let hello = json!({"protocolVersion": "2025-11-25", "capabilities": capabilities,
        "clientInfo": {"name": "t", "version": "1"}});
    client.request("initialize", hello).unwrap();
    client.notify("notifications/initialized", json!({}));
    client
}

fn burn() -> Value {
    let value = format!("{:#066x}", 1);
    json!({"name": BURN, "arguments": {"port": "sim://esp32c3-era", "efuse_name": "USER_DATA", "value": value}})
}

/// The last four digits of the device's address: the question does not contain them.
fn mac_end(question: &str, who: &Value) -> String {
    let text = who.to_string();
    let at = text.find("\"mac\":\"").unwrap() + 7;
    let digits: String = text[at..].chars().filter(char::is_ascii_hexdigit).take(12).collect();
    assert!(
        question.contains("**:**") && !question.contains(&format!("{}:{}", &digits[8..10], &digits[10..12])),
        "{question}"
    );
    digits[8..12].to_string()
}

/// Who the device is.
fn who() -> Value {
    json!({"name": "esp_detect_chip", "arguments": {"port": "sim://esp32c3-era"}})
}

#[test]
fn a_burn_asks_in_the_same_call_without_sessions() {
    let dir = folder();
    let mut client = Client::start(dir.path(), &["serve", "--set", &state(&dir)]);
    let forms = json!({"elicitation": {}});
    let device = client.request("tools/call", modern(who(), json!({}))).unwrap();
    let asked = client.request("tools/call", modern(burn(), forms.clone())).unwrap();
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let question = &asked["inputRequests"]["confirm"];
    assert_eq!(question["method"], "elicitation/create");
    let text = question["params"]["message"].as_str().unwrap();
    assert!(text.contains("cannot be undone") && text.contains("virtual"), "{text}");
    let again = |answer: Value, state: &Value| {
        let mut params = burn();
        params["inputResponses"] = answer;
        params["requestState"] = state.clone();
        modern(params, forms.clone())
    };
    // No answer: the question comes again. A wrong address, or a state that was changed, confirms nothing.
    let missing = client.request("tools/call", again(json!({}), &asked["requestState"])).unwrap();
    assert_eq!(missing["resultType"], "input_required", "{missing}");
    let answer = |typed: &str| json!({"confirm": {"action": "accept", "content": {"mac_end": typed}}});
    let wrong = client.request("tools/call", again(answer("0x"), &asked["requestState"])).unwrap();
    assert_eq!(wrong["_meta"]["mcp-esptool/error"]["code"], "not_confirmed", "{wrong}");
    let forged = asked["requestState"].as_str().unwrap().replace("token\":\"", "token\":\"0");
    let forged = client.request("tools/call", again(answer(&mac_end(text, &device)), &forged.into())).unwrap();
    assert_eq!(forged["_meta"]["mcp-esptool/error"]["code"], "not_confirmed", "{forged}");
    let done = client.request("tools/call", again(answer(&mac_end(text, &device)), &asked["requestState"])).unwrap();
    assert_eq!(done["structuredContent"]["state"], "burned", "{done}");
    // Used up.
    let twice = client.request("tools/call", again(answer(&mac_end(text, &device)), &asked["requestState"])).unwrap();
    assert_eq!(twice["isError"], true, "{twice}");
}

#[test]
fn declining_burns_nothing() {
    let dir = folder();
    let mut client = Client::start(dir.path(), &["serve", "--set", &state(&dir)]);
    let forms = json!({"elicitation": {"form": {}}});
    let asked = client.request("tools/call", modern(burn(), forms.clone())).unwrap();
    let mut params = burn();
    params["inputResponses"] = json!({"confirm": {"action": "decline"}});
    params["requestState"] = asked["requestState"].clone();
    let declined = client.request("tools/call", modern(params, forms)).unwrap();
    assert!(declined["content"][0]["text"].as_str().unwrap().contains("declined"), "{declined}");
    let read = json!({"name": "esp_efuse_read", "arguments": {"port": "sim://esp32c3-era", "efuse_name": "USER_DATA"}});
    let read = client.request("tools/call", modern(read, json!({}))).unwrap();
    assert!(!read.to_string().contains("\"01"), "{read}");
}

#[test]
fn a_burn_asks_in_the_same_call_in_older_eras_and_plans_where_nobody_can_be_asked() {
    let dir = folder();
    let mut client = older(&dir, json!({"elicitation": {}}));
    let device = client.request("tools/call", who()).unwrap();
    let id = client.send("tools/call", burn());
    let question = client.receive();
    assert_eq!(question["method"], "elicitation/create", "{question}");
    let typed = mac_end(question["params"]["message"].as_str().unwrap(), &device);
    let result = json!({"action": "accept", "content": {"mac_end": typed}});
    client.raw(&json!({"jsonrpc": "2.0", "id": question["id"], "result": result}).to_string());
    assert_eq!(client.answer(id).unwrap()["structuredContent"]["state"], "burned");
    let dir = folder();
    let mut client = older(&dir, json!({}));
    let planned = client.request("tools/call", burn()).unwrap();
    assert_eq!(planned["structuredContent"]["state"], "planned");
    assert!(planned["structuredContent"]["confirm_token"].is_string());
}

#[test]
fn a_subscription_tells_of_a_write() {
    let dir = folder();
    std::fs::write(dir.path().join("a.bin"), [1; 4096]).unwrap();
    let write = json!({"name": "esp_flash_firmware", "arguments": {"port": "sim://esp32c3-sub",
        "files": [{"path": "a.bin", "address": "0x10000"}]}});
    let uri = "esp://partitions/sim%3A%2F%2Fesp32c3-sub";
    let mut client = Client::start(dir.path(), &["serve"]);
    let filter = json!({"notifications": {"resourceSubscriptions": [uri, "esp://nothing"]}});
    let listen = client.send("subscriptions/listen", modern(filter, json!({})));
    let accepted = client.receive();
    assert_eq!(accepted["params"]["notifications"]["resourceSubscriptions"], json!([uri]), "{accepted}");
    client.request("tools/call", modern(write.clone(), json!({}))).unwrap();
    let told = |client: &mut Client| {
        while !client.seen.iter().any(|message| message["method"] == "notifications/resources/updated") {
            client.receive_within(Duration::from_secs(10)).expect("nothing was told");
        }
        let seen = client.seen.iter().find(|message| message["method"] == "notifications/resources/updated");
        seen.unwrap()["params"].clone()
    };
    let params = told(&mut client);
    assert_eq!(params["uri"], uri);
    assert_eq!(params["_meta"]["io.modelcontextprotocol/subscriptionId"], json!(listen), "{params}");

    let mut client = Client::initialized(dir.path(), &[]);
    client.request("resources/subscribe", json!({"uri": uri})).unwrap();
    assert!(client.request("resources/subscribe", json!({"uri": "esp://nothing"})).is_err());
    client.request("tools/call", write.clone()).unwrap();
    assert_eq!(told(&mut client)["uri"], uri);
    client.request("resources/unsubscribe", json!({"uri": uri})).unwrap();
    client.seen.clear();
    client.request("tools/call", write).unwrap();
    assert!(client.receive_within(Duration::from_millis(300)).is_none(), "{:?}", client.seen);
}

#[test]
fn virtual_devices_that_come_and_go_are_told() {
    let dir = folder();
    let mut client = Client::start(dir.path(), &["--set", &state(&dir)]);
    let hello =
        json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    client.request("initialize", hello).unwrap();
    client.request("resources/subscribe", json!({"uri": "esp://chips"})).unwrap();
    let start = json!({"name": "esp_qemu_start", "arguments": {"chip_type": "esp32c3", "backend": "builtin"}});
    assert_eq!(client.request("tools/call", start).unwrap()["isError"], false);
    let told = |client: &mut Client| {
        let updated = |message: &Value| message["method"] == "notifications/resources/updated";
        while !client.seen.iter().any(updated) {
            client.receive_within(Duration::from_secs(10)).expect("nothing was told");
        }
    };
    told(&mut client);
    let chips = client.request("resources/read", json!({"uri": "esp://chips"})).unwrap();
    assert!(chips.to_string().contains("qemu://esp32c3-1"), "{chips}");
    client.seen.clear();
    client.call("esp_qemu_stop", json!({"id": "esp32c3-1"}));
    told(&mut client);
}

#[test]
fn a_long_call_becomes_a_task_where_tasks_are_known() {
    let dir = folder();
    let tasks = json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
    let mut client = Client::start(dir.path(), &["serve"]);
    let capture = |background: bool| {
        let arguments = json!({"port": "sim://esp32c3-task", "duration_s": 600, "background": background});
        json!({"name": "esp_console_capture", "arguments": arguments})
    };
    let started = client.request("tools/call", modern(capture(true), tasks.clone())).unwrap();
    assert_eq!(started["resultType"], "task", "{started}");
    let id = started["taskId"].clone();
    let about = modern(json!({"taskId": id}), tasks.clone());
    assert_eq!(client.request("tasks/get", about.clone()).unwrap()["status"], "working");
    let created = started["createdAt"].clone();
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(client.request("tasks/get", about.clone()).unwrap()["createdAt"], created);
    client.request("tasks/cancel", about.clone()).unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(10);
    // What was captured until then is a result.
    while client.request("tasks/get", about.clone()).unwrap()["status"] == "working" {
        assert!(std::time::Instant::now() < until);
        std::thread::sleep(Duration::from_millis(50));
    }
    let (ended, later) = (client.request("tasks/get", about.clone()).unwrap(), Duration::from_millis(20));
    std::thread::sleep(later);
    let again = client.request("tasks/get", about.clone()).unwrap();
    for name in ["createdAt", "lastUpdatedAt"] {
        assert_eq!(again[name], ended[name], "{again}");
    }
    assert_eq!(ended["createdAt"], created);
    // A short call of a long tool is answered at once; an older client gets a job for esp_job.
    let read = json!({"name": "esp_flash_read", "arguments": {"port": "sim://esp32c3-task", "address": 0, "size": 256,
        "output_file": "a.bin"}});
    let read = client.request("tools/call", modern(read, tasks.clone())).unwrap();
    assert_eq!(read["structuredContent"]["size_bytes"], 256, "{read}");
    let job = client.request("tools/call", modern(capture(true), json!({}))).unwrap();
    assert!(job["structuredContent"]["job_id"].is_string(), "{job}");
    let unknown = modern(json!({"taskId": "job-99"}), tasks);
    assert_eq!(client.request("tasks/get", unknown).unwrap_err()["code"], -32602);
}

#[test]
fn completions_and_pages() {
    let dir = folder();
    let mut client = Client::initialized(dir.path(), &["--set", "page_size=10"]);
    let complete = |client: &mut Client, about: Value, name: &str, value: &str| {
        let params = json!({"ref": about, "argument": {"name": name, "value": value}});
        client.request("completion/complete", params).map(|result| result["completion"]["values"].clone())
    };
    let prompt = json!({"type": "ref/prompt", "name": "secure_device"});
    let ports = complete(&mut client, prompt.clone(), "port", "sim://esp32c3").unwrap();
    assert_eq!(ports, json!(["sim://esp32c3"]));
    assert!(!complete(&mut client, prompt, "efuse", "SPI_BOOT").unwrap().as_array().unwrap().is_empty());
    let template = json!({"type": "ref/resource", "uri": "esp://partitions/{port}"});
    assert!(complete(&mut client, template, "port", "sim").unwrap().as_array().unwrap().len() > 5);
    assert!(complete(&mut client, json!({"type": "ref/prompt", "name": "none"}), "port", "").is_err());
    let (mut names, mut cursor) = (Vec::new(), None);
    loop {
        let params = cursor.map_or(json!({}), |cursor: Value| json!({ "cursor": cursor }));
        let page = client.request("tools/list", params).unwrap();
        assert!(page["tools"].as_array().unwrap().len() <= 10);
        names.extend(page["tools"].as_array().unwrap().iter().map(|tool| tool["name"].clone()));
        match page.get("nextCursor") {
            Some(next) => cursor = Some(next.clone()),
            None => break,
        }
    }
    let all: Vec<Value> = mcp_esptool::tools::ALL.iter().map(|entry| entry.name.into()).collect();
    assert_eq!(names, all);
    assert_eq!(client.request("tools/list", json!({"cursor": "!"})).unwrap_err()["code"], -32602);
}

#[test]
fn log_lines_go_to_clients_that_ask() {
    let dir = folder();
    let mut client = Client::initialized(dir.path(), &[]);
    client.call("esp_job", json!({"action": "list"}));
    assert!(client.seen.iter().all(|message| message["method"] != "notifications/message"));
    client.request("logging/setLevel", json!({"level": "info"})).unwrap();
    client.call("esp_job", json!({"action": "list"}));
    while !client.seen.iter().any(|message| message["method"] == "notifications/message") {
        client.receive_within(Duration::from_secs(10)).expect("no log line came");
    }
    let line = client.seen.iter().find(|message| message["method"] == "notifications/message").unwrap();
    assert_eq!(line["params"]["level"], "info");
    assert!(line["params"]["data"].as_str().unwrap().contains("esp_job"), "{line}");
}

#[test]
fn a_request_without_sessions_asks_for_its_own_log_lines() {
    let dir = folder();
    let mut client = Client::start(dir.path(), &["serve"]);
    let list = || json!({"name": "esp_job", "arguments": {"action": "list"}});
    let mut asking = modern(list(), json!({}));
    asking["_meta"]["io.modelcontextprotocol/logLevel"] = "info".into();
    let is_line = |message: &&Value| message["method"] == "notifications/message";
    client.request("tools/call", asking.clone()).unwrap();
    let line = client.seen.iter().find(is_line).expect("the line comes before the answer");
    assert!(
        line["params"]["level"] == "info" && line["params"]["data"].as_str().unwrap().contains("esp_job"),
        "{line}"
    );
    // Only this request asked, and a higher level leaves the line out.
    client.seen.clear();
    client.request("tools/call", modern(list(), json!({}))).unwrap();
    asking["_meta"]["io.modelcontextprotocol/logLevel"] = "error".into();
    client.request("tools/call", asking).unwrap();
    assert!(client.receive_within(Duration::from_millis(200)).is_none());
    assert!(!client.seen.iter().any(|message| is_line(&message)), "{:?}", client.seen);
}

#[test]
fn other_names_of_tools_work_and_are_not_listed() {
    let dir = folder();
    let mut client = Client::initialized(dir.path(), &[]);
    let called = client.call("esp_connect_optimized", json!({"port": "sim://esp32c3-alias", "enable_stub": false}));
    assert_eq!(called["isError"], false, "{called}");
    assert!(called["structuredContent"]["stub"].is_null(), "{called}");
    let listed = client.request("tools/list", json!({})).unwrap();
    assert!(!listed.to_string().contains("esp_connect_optimized"));
}

#[test]
fn a_call_can_only_narrow_the_policy() {
    let dir = folder();
    let policy = dir.path().join("policy.toml");
    std::fs::write(&policy, "deny_ports = [\"sim://esp32-gold\"]\nmax_risk = \"destroys\"").unwrap();
    let mut client = Client::initialized(dir.path(), &["--set", &format!("policy_file={}", policy.display())]);
    let mut call = |rules: Value, tool: &str, arguments: Value| {
        let mut params = json!({"name": tool, "arguments": arguments});
        params["_meta"] = json!({"mcp-esptool/policy": rules});
        client.request("tools/call", params)
    };
    let detect = |port: &str| json!({ "port": port });
    let code = |answer: &Value| answer["_meta"]["mcp-esptool/error"]["code"].clone();
    let good = call(json!({}), "esp_detect_chip", detect("sim://esp32-a")).unwrap();
    assert_eq!(good["isError"], false, "{good}");
    let narrow = call(json!({"allow_ports": ["sim://esp32-b"]}), "esp_detect_chip", detect("sim://esp32-a")).unwrap();
    assert_eq!(code(&narrow), "policy_refused", "{narrow}");
    let wide = call(json!({"allow_ports": ["*"]}), "esp_detect_chip", detect("sim://esp32-gold")).unwrap();
    assert_eq!(code(&wide), "policy_refused", "{wide}");
    let erase = json!({"port": "sim://esp32-a", "region": "all", "no_backup": true});
    let erased = call(json!({"max_risk": "reads"}), "esp_flash_erase", erase).unwrap();
    assert_eq!(code(&erased), "policy_refused", "{erased}");
    let read = json!({"port": "sim://esp32-a", "address": 0, "size": 8192, "output_file": "a.bin"});
    let large = call(json!({"limits": {"max_file_bytes": 4096}}), "esp_flash_read", read).unwrap();
    assert!(large["isError"] == true && large.to_string().contains("4096"), "{large}");
    let capture = json!({"port": "sim://esp32-a", "duration_s": 600});
    let began = std::time::Instant::now();
    let late = call(json!({"limits": {"max_call_s": 0.3}}), "esp_console_capture", capture).unwrap();
    assert!(began.elapsed() < Duration::from_secs(30), "{late}");
    assert_eq!(call(json!({"max_rsk": 1}), "esp_job", json!({})).unwrap_err()["code"], -32602);
}

#[test]
fn the_clients_roots_count_where_none_are_set() {
    let (dir, project) = (folder(), folder());
    let root = format!("file://{}", std::fs::canonicalize(project.path()).unwrap().display());
    std::fs::write(project.path().join("a.csv"), "nvs,data,nvs,0x9000,0x4000\n").unwrap();
    let create = |args: &[&str]| {
        let mut client = Client::start(dir.path(), args);
        let hello = json!({"protocolVersion": "2025-06-18", "capabilities": {"roots": {}}, "clientInfo": {"name": "t", "version": "1"}});
        client.request("initialize", hello).unwrap();
        client.notify("notifications/initialized", json!({}));
        let call = json!({"name": "esp_partition_create", "arguments": {"layout": "a.csv", "output_file": "a.bin"}});
        let id = client.send("tools/call", call);
        loop {
            let message = client.receive();
            if message["method"] == "roots/list" {
                let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": {"roots": [{ "uri": root }]}});
                client.raw(&answer.to_string());
            } else if message["id"] == id {
                return message["result"].clone();
            }
        }
    };
    let good = create(&[]);
    assert!(good["isError"] == false && project.path().join("a.bin").is_file(), "{good}");
    // What was set for the server stands.
    let set = create(&["--root", &dir.path().display().to_string()]);
    assert!(set["isError"] == true && !dir.path().join("a.bin").exists(), "{set}");
}

#[cfg(unix)]
#[test]
fn a_link_is_no_way_around_the_policy() {
    let dir = folder();
    let link = dir.path().join("tty");
    std::os::unix::fs::symlink("/dev/null", &link).unwrap();
    let mut client = Client::initialized(dir.path(), &["--narrow", "deny_ports = [\"/dev/null\"]"]);
    for port in ["/dev/null", "/dev/../dev/null", &link.display().to_string()] {
        let answer = client.call("esp_detect_chip", json!({ "port": port }));
        assert_eq!(answer["_meta"]["mcp-esptool/error"]["code"], "policy_refused", "{answer}");
    }
}

#[test]
fn nothing_is_sent_for_a_cancelled_request() {
    let dir = folder();
    let mut client = Client::initialized(dir.path(), &[]);
    let mut capture =
        json!({"name": "esp_console_capture", "arguments": {"port": "sim://esp32c3-stop", "duration_s": 600}});
    capture["_meta"] = json!({"progressToken": "p"});
    let id = client.send("tools/call", capture);
    std::thread::sleep(Duration::from_millis(300));
    client.notify("notifications/cancelled", json!({"requestId": id, "reason": "test"}));
    let other = client.send("ping", json!({}));
    client.answer(other).unwrap();
    client.seen.clear();
    // The device is free again, and no progress or answer comes for what was cancelled.
    let detected = client.call("esp_detect_chip", json!({"port": "sim://esp32c3-stop"}));
    assert_eq!(detected["isError"], false, "{detected}");
    while client.receive_within(Duration::from_millis(300)).is_some() {}
    let late = client.seen.iter().find(|message| message["id"] == id || message["params"]["progressToken"] == "p");
    assert!(late.is_none(), "{late:?}");
}
