//! Who may approve: on a real device a person at a terminal, unless a policy file trusts the client; in both eras of the
//! protocol.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::Board;
use crate::client::Client;

const MAC: &str = "02:00:00:00:12:34";

#[derive(Clone, Copy, PartialEq)]
enum Era {
    /// A request to the client while the call waits.
    Sessions,
    /// The answer asks, and the client calls again.
    Stateless,
}

/// What becomes of a burn when the client claims that its user approved.
struct Outcome {
    question: Option<String>,
    last: Value,
}

fn start(dir: &Path, era: Era, approval: Option<&str>) -> Client {
    let approval = approval.map_or_else(String::new, |who| format!("approval = \"{who}\"\n"));
    fs::write(dir.join("policy.toml"), format!("burn_macs = [\"*\"]\n{approval}")).unwrap();
    let state = format!("state_dir={}", dir.join("state").display());
    let policy = format!("policy_file={}", dir.join("policy.toml").display());
    let mut client = Client::start(dir, &["serve", "--set", &state, "--set", &policy]);
    if era == Era::Sessions {
        let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}},
            "clientInfo": {"name": "t", "version": "1"}});
        client.request("initialize", hello).unwrap();
        client.notify("notifications/initialized", json!({}));
    }
    client
}

fn params(era: Era, tool: &str, arguments: &Value) -> Value {
    let mut params = json!({"name": tool, "arguments": arguments});
    if era == Era::Stateless {
        params["_meta"]["io.modelcontextprotocol/protocolVersion"] = "2026-07-28".into();
        params["_meta"]["io.modelcontextprotocol/clientInfo"] = json!({"name": "t", "version": "1"});
        params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({"elicitation": {}});
    }
    params
}

/// Calls the tool as a client would that approves everything by itself, with the digits it knows.
fn approve_as_client(client: &mut Client, era: Era, tool: &str, arguments: &Value, typed: &str) -> Outcome {
    let accepted = json!({"action": "accept", "content": {"mac_end": typed}});
    if era == Era::Sessions {
        let id = client.send("tools/call", params(era, tool, arguments));
        let mut question = None;
        loop {
            let message = client.receive();
            if message["method"] == "elicitation/create" {
                question = Some(message["params"].to_string());
                client.raw(&json!({"jsonrpc": "2.0", "id": message["id"], "result": accepted}).to_string());
            } else if message["id"] == id {
                return Outcome { question, last: message["result"].clone() };
            }
        }
    }
    let asked = client.request("tools/call", params(era, tool, arguments)).unwrap();
    let question = asked.get("inputRequests").map(Value::to_string);
    // Where nobody was asked, the client makes up a state from the plan that it got.
    let state = match asked.get("requestState") {
        Some(state) => state.clone(),
        None => {
            let planned = &asked["structuredContent"];
            json!({"plan": planned["plan"], "token": planned["confirm_token"]}).to_string().into()
        }
    };
    let mut again = params(era, tool, arguments);
    again["requestState"] = state;
    again["inputResponses"] = json!({ "confirm": accepted });
    Outcome { question, last: client.request("tools/call", again).unwrap() }
}

fn burn(port: &str) -> Value {
    json!({"port": port, "efuse_name": "USER_DATA", "value": format!("{:#066x}", 1)})
}

#[test]
fn a_client_approves_burns_of_real_devices_only_where_the_policy_says_so() {
    for era in [Era::Sessions, Era::Stateless] {
        for approval in [None, Some("terminal"), Some("client")] {
            let folder = tempfile::tempdir().unwrap();
            let board = Board::start(MAC);
            let mut client = start(folder.path(), era, approval);
            let Outcome { question, last } =
                approve_as_client(&mut client, era, "esp_efuse_burn", &burn(&board.1), "1234");
            let log = fs::read_to_string(folder.path().join("state/audit.jsonl")).unwrap_or_default();
            if approval == Some("client") {
                let question = question.expect("the client is asked");
                assert!(!question.contains("12:34") && question.contains("02:00:00:00:**:**"), "{question}");
                assert_eq!(last["structuredContent"]["state"], "burned", "{last}");
                continue;
            }
            assert!(question.is_none() && !log.contains("approved"), "{question:?} {log}");
            let refused = last["_meta"]["mcp-esptool/error"]["code"] == "not_confirmed";
            let planned = last["structuredContent"]["state"] == "planned";
            assert!(if era == Era::Sessions { planned } else { refused }, "{last}");
            let read = json!({"port": board.1, "efuse_name": "USER_DATA"});
            let read = client.request("tools/call", params(era, "esp_efuse_read", &read)).unwrap();
            assert!(read["isError"] == false && !read.to_string().contains("burned"), "{read}");
        }
    }
}

#[test]
fn a_client_approves_burns_of_virtual_devices_unless_the_policy_wants_a_terminal() {
    for era in [Era::Sessions, Era::Stateless] {
        for approval in [None, Some("terminal"), Some("client")] {
            let folder = tempfile::tempdir().unwrap();
            let mut client = start(folder.path(), era, approval);
            let port = "sim://esp32c3-approval";
            let who =
                client.request("tools/call", params(era, "esp_mac_address_read", &json!({ "port": port }))).unwrap();
            let mac = who["structuredContent"]["device"]["mac"].as_str().or(who["structuredContent"]["mac"].as_str());
            let mac = mac.unwrap_or_else(|| panic!("{who}")).to_string();
            let typed = &mac[mac.len() - 5..];
            let Outcome { question, last } = approve_as_client(&mut client, era, "esp_efuse_burn", &burn(port), typed);
            match approval {
                Some("terminal") => {
                    assert!(question.is_none() && last["structuredContent"]["state"] != "burned", "{last}");
                }
                _ => {
                    assert!(!question.expect("the client is asked").contains(typed));
                    assert_eq!(last["structuredContent"]["state"], "burned", "{last}");
                }
            }
        }
    }
}

#[test]
fn erasing_all_in_a_recovery_is_approved_the_same_way() {
    for era in [Era::Sessions, Era::Stateless] {
        for approval in [None, Some("client")] {
            let folder = tempfile::tempdir().unwrap();
            let board = Board::start(MAC);
            let mut client = start(folder.path(), era, approval);
            let arguments = json!({"port": board.1, "erase_all": true, "watch_s": 0});
            let Outcome { question, last } =
                approve_as_client(&mut client, era, "esp_recover_chip", &arguments, "1234");
            let erased = last["structuredContent"]["steps"].to_string().contains("the flash is blank");
            match approval {
                None => assert!(question.is_none() && !erased, "{last}"),
                Some(_) => assert!(!question.expect("asked").contains("12:34") && erased, "{last}"),
            }
        }
    }
}

/// A recipe is locked over MCP when a person names it, and the policy lets the client's answer count.
#[test]
fn recipe_is_locked_by_its_name_only_where_the_policy_says_so() {
    for era in [Era::Sessions, Era::Stateless] {
        for (approval, typed, locks) in
            [(Some("client"), "unit", true), (Some("client"), "other", false), (None, "unit", false)]
        {
            let folder = tempfile::tempdir().unwrap();
            let mut client = start(folder.path(), era, approval);
            let new = json!({"action": "new", "file": "unit.toml", "chip": "esp32c3"});
            client.request("tools/call", params(era, "esp_recipe", &new)).unwrap();
            let lock = json!({"action": "lock", "file": "unit.toml"});
            let Outcome { question, last } = approve_as_client(&mut client, era, "esp_recipe", &lock, typed);
            let is_locked = fs::read_to_string(folder.path().join("unit.toml")).unwrap().contains("[lock]");
            assert_eq!(is_locked, locks, "{approval:?} {typed}: {last}");
            assert_eq!(question.is_some(), approval.is_some(), "{last}");
            if let Some(question) = question {
                assert!(question.contains("hash") && question.contains("Name of the recipe"), "{question}");
            }
        }
    }
}
