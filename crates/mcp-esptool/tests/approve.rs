//! What burns on a device that is not virtual: allowed by the policy, approved by a person at a terminal, once.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use esp_link::port::pty::PtyMaster;
use serde_json::Value;

const OURS: &str = env!("CARGO_BIN_EXE_mcp-esptool");

#[path = "support/client.rs"]
mod client;
#[path = "approve/crash.rs"]
mod crash;
#[path = "approve/ended.rs"]
mod ended;
#[path = "approve/eras.rs"]
mod eras;
#[path = "approve/void_gap.rs"]
mod void_gap;

/// A chip behind a socket: nothing tells our tools that it is simulated.
struct Board(Child, String);

impl Board {
    fn start(mac: &str) -> Self {
        Self::of("esp32c3", mac)
    }

    fn of(chip: &str, mac: &str) -> Self {
        let mut child = Command::new(OURS)
            .args(["sim", chip, "--tcp", "127.0.0.1:0", "--mac", mac])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut ready).unwrap();
        let url = ready.trim().split_once(" ready on ").unwrap().1.to_owned();
        Self(child, url)
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(OURS);
    command.args(args).current_dir(dir).env("XDG_CONFIG_HOME", dir);
    for (name, value) in [("state_dir", "state"), ("policy_file", "policy.toml")] {
        command.arg("--set").arg(format!("{name}={}", dir.join(value).display()));
    }
    command
}

/// Result of a tool, or its error.
fn call(dir: &Path, board: &Board, more: &[String]) -> Result<Value, Value> {
    let port = format!("port={}", board.1);
    let mut args = vec!["call", "--json", "esp_encryption_enable", &port, "key_file=key.bin"];
    args.extend(more.iter().map(String::as_str));
    let output = command(dir, &args).stdin(Stdio::null()).output().unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    if output.status.success() { Ok(said) } else { Err(said["error"].clone()) }
}

/// Types `text` into the terminal in which the plan is shown; the exit code and what was shown.
fn approve(dir: &Path, plan: &str, text: &str) -> (bool, String) {
    let mut terminal = PtyMaster::new().unwrap();
    let slave = File::options().read(true).write(true).open(terminal.path()).unwrap();
    let mut child = command(dir, &["approve", plan]).stdin(slave).stdout(Stdio::piped()).spawn().unwrap();
    terminal.write(format!("{text}\n").as_bytes(), Duration::from_secs(5)).unwrap();
    let done = child.wait().unwrap().success();
    let mut shown = String::new();
    std::io::Read::read_to_string(child.stdout.as_mut().unwrap(), &mut shown).unwrap();
    (done, shown)
}

#[test]
fn a_person_approves_and_the_key_goes_to_one_device_only() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    fs::write(dir.join("policy.toml"), "burn_macs = [\"*\"]\n").unwrap();
    fs::write(dir.join("key.bin"), [0x3c; 32]).unwrap();
    let chip = esp_model::chip::by_name("esp32c3").unwrap();
    let files = esp_ops::firmware::sample::make(chip).unwrap().into_iter().map(|part| {
        fs::write(dir.join(part.name), part.bytes).unwrap();
        serde_json::json!({ "path": part.name, "address": part.address })
    });
    let files = format!("files={}", Value::Array(files.collect()));

    let board = Board::start("02:00:00:00:12:34");
    let planned = call(dir, &board, std::slice::from_ref(&files)).unwrap();
    assert_eq!(
        (planned["state"].as_str(), planned["virtual"].as_bool()),
        (Some("planned"), Some(false)),
        "{planned:#}"
    );
    let plan = planned["plan"].as_str().unwrap();
    assert!(planned["next"].as_str().unwrap().contains(&format!("mcp-esptool approve {plan}")));
    let confirmed = [files.clone(), format!("confirm_token={}", planned["confirm_token"].as_str().unwrap())];
    assert_eq!(call(dir, &board, &confirmed).unwrap_err()["code"], "not_confirmed", "the token alone burns nothing");

    // A pipe is no person, and a wrong answer no approval.
    assert!(!command(dir, &["approve", plan]).stdin(Stdio::null()).output().unwrap().status.success());
    assert!(!approve(dir, plan, "9999").0);
    assert_eq!(call(dir, &board, &confirmed).unwrap_err()["code"], "not_confirmed");
    let (done, shown) = approve(dir, plan, "1234");
    assert!(done && shown.contains("02:00:00:00:12:34") && shown.contains("SPI_BOOT_CRYPT_CNT"), "{shown}");
    assert!(shown.contains("0x00 → 0x01") && shown.contains("(secret)"), "values are shown, keys are not: {shown}");
    let burned = call(dir, &board, &confirmed).unwrap();
    assert_eq!((&burned["state"], burned["boot_check"].as_str()), (&Value::from("burned"), Some("starts factory")));

    // The audit log knows who has this key.
    let other = Board::start("02:00:00:00:56:78");
    let refused = call(dir, &other, &[files]).unwrap_err();
    let rules: Vec<_> = refused["evidence"]["findings"].as_array().unwrap().iter().map(|one| &one["rule"]).collect();
    assert!(refused["code"] == "burn_refused" && rules.contains(&&Value::from(2)), "{refused:#}");
    let log = fs::read_to_string(dir.join("state/audit.jsonl")).unwrap();
    assert!(log.contains("approved") && !log.contains("3c3c3c3c"), "{log}");
}

#[test]
fn planning_is_free_and_the_refusal_to_burn_names_the_policy_file() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    fs::write(dir.join("policy.toml"), "").unwrap();
    fs::write(dir.join("key.bin"), [0x3c; 32]).unwrap();
    let files = esp_ops::firmware::sample::make(esp_model::chip::by_name("esp32c3").unwrap()).unwrap();
    let files = files.into_iter().map(|part| {
        fs::write(dir.join(part.name), part.bytes).unwrap();
        serde_json::json!({ "path": part.name, "address": part.address })
    });
    let files = format!("files={}", Value::Array(files.collect()));
    let board = Board::start("02:00:00:00:12:34");
    let planned = call(dir, &board, std::slice::from_ref(&files)).unwrap();
    assert_eq!((&planned["state"], &planned["rehearsed"]), (&"planned".into(), &true.into()), "{planned:#}");
    assert_eq!(planned["burn_refused"]["code"], "burn_not_allowed", "{planned:#}");
    assert!(planned.get("confirm_token").is_none(), "{planned:#}");
    let file = dir.join("policy.toml").display().to_string();
    assert!(planned["next"].as_str().unwrap().contains(&file), "{planned:#}");
    let refused = call(dir, &board, &[files, "confirm_token=00".into()]).unwrap_err();
    assert_eq!(refused["code"], "burn_not_allowed", "{refused:#}");
    assert_eq!(refused["evidence"]["policy_file"], file.as_str(), "{refused:#}");
    assert!(!refused["evidence"]["becomes_impossible"].as_array().unwrap().is_empty(), "{refused:#}");
}

#[test]
fn without_a_policy_nothing_burns() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("policy.toml"), "").unwrap();
    fs::write(folder.path().join("key.bin"), [1; 32]).unwrap();
    fs::write(folder.path().join("boot.bin"), [0xe9; 64]).unwrap();
    let files = ["files=[{\"path\": \"boot.bin\", \"address\": 0}]".to_owned()];
    let refused = call(folder.path(), &Board::start("02:00:00:00:12:34"), &files).unwrap_err();
    assert_eq!(refused["code"], "burn_not_allowed", "{refused:#}");
}
