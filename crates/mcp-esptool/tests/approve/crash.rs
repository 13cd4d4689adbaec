//! The program is killed while it burns, once in every step: a new plan goes on from what the device really holds, and
//! the device comes out as if nothing had happened.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Board, approve, call, command};

/// Lines of the audit log that say this plan is burning a step.
fn burning(dir: &Path, plan: &str) -> usize {
    let log = fs::read_to_string(dir.join("state/audit.jsonl")).unwrap_or_default();
    log.lines().filter(|line| line.contains(plan) && line.contains("\"burning\"")).count()
}

/// Plans, has it approved and returns the plan with the parameters that confirm it; none when nothing is left to burn.
fn planned(dir: &Path, board: &Board, files: &[String]) -> Option<(String, Vec<String>)> {
    let planned = call(dir, board, files).unwrap();
    if planned["state"] == "nothing_to_do" {
        return None;
    }
    assert_eq!(planned["state"], "planned", "{planned:#}");
    let plan = planned["plan"].as_str().unwrap().to_string();
    assert!(approve(dir, &plan, "12:34").0);
    let token = format!("confirm_token={}", planned["confirm_token"].as_str().unwrap());
    Some((plan, [files, &[token]].concat()))
}

/// All fields, as the tool shows them.
fn fields(dir: &Path, board: &Board) -> Value {
    let port = format!("port={}", board.1);
    let output = command(dir, &["call", "--json", "esp_efuse_read", &port]).stdin(Stdio::null()).output().unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(said["fields"].as_array().is_some_and(|fields| fields.len() > 50), "{said:#}");
    said["fields"].clone()
}

#[test]
fn a_killed_burn_goes_on_from_the_real_state() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    fs::write(dir.join("policy.toml"), "burn_macs = [\"*\"]\nvouch = [\"ota_proven\"]\n").unwrap();
    // Two halves, so that two key blocks are burned before the settings and the last stage.
    fs::write(dir.join("key.bin"), (0..64).map(|byte| byte * 3 + 1).collect::<Vec<u8>>()).unwrap();
    let chip = esp_model::chip::by_name("esp32s3").unwrap();
    let files = esp_ops::firmware::sample::make(chip).unwrap().into_iter().map(|part| {
        fs::write(dir.join(part.name), part.bytes).unwrap();
        serde_json::json!({ "path": part.name, "address": part.address })
    });
    let files = [format!("files={}", Value::Array(files.collect())), "mode=release".to_string()];

    let whole = Board::of("esp32s3", "02:00:00:00:12:34");
    let (plan, confirmed) = planned(dir, &whole, &files).unwrap();
    assert_eq!(call(dir, &whole, &confirmed).unwrap()["state"], "burned");
    let steps = burning(dir, &plan);
    assert!(steps >= 4, "{steps} steps");
    let wanted = fields(dir, &whole);
    drop(whole);

    for step in 1..=steps {
        let board = Board::of("esp32s3", "02:00:00:00:12:34");
        let (plan, confirmed) = planned(dir, &board, &files).unwrap();
        // The same plan on the same device: what the log says of earlier runs does not count.
        let before = burning(dir, &plan);
        let port = format!("port={}", board.1);
        let mut args = vec!["call", "--json", "esp_encryption_enable", &port, "key_file=key.bin"];
        args.extend(confirmed.iter().map(String::as_str));
        let mut child =
            command(dir, &args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while burning(dir, &plan) < before + step && child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(300), "step {step} never began");
            std::thread::sleep(Duration::from_millis(2));
        }
        // SIGKILL.
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(call(dir, &board, &confirmed).unwrap_err()["code"], "not_confirmed", "the token was used up");
        if let Some((_, confirmed)) = planned(dir, &board, &files) {
            assert_eq!(call(dir, &board, &confirmed).unwrap()["state"], "burned", "step {step}");
        }
        assert_eq!(fields(dir, &board), wanted, "killed in step {step}");
        assert!(planned(dir, &board, &files).is_none(), "step {step}: nothing is left");
    }
}
