//! The command line.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn run(args: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
    command.args(args).current_dir(dir.path()).env("XDG_CONFIG_HOME", dir.path());
    command.stdin(Stdio::null()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn exit_codes_tell_usage_from_failure() {
    assert_eq!(run(&["call", "esp_job", "action=list"]).status.code(), Some(0));
    assert_eq!(run(&["call", "esp_job", "job_id=job-7"]).status.code(), Some(1));
    assert_eq!(run(&["call", "esp_job", "job=7"]).status.code(), Some(2));
    let unknown = run(&["call", "esp_jobs"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("did you mean `esp_job`"), "{}", stderr(&unknown));
    assert_eq!(run(&["--set", "bauds=1", "tools"]).status.code(), Some(1));
}

#[test]
fn call_prints_text_or_json() {
    assert_eq!(stdout(&run(&["call", "esp_job", "action=list"])).trim(), "no jobs");
    let json: Value =
        serde_json::from_str(&stdout(&run(&["call", "esp_job", "{\"action\": \"list\"}", "--json"]))).unwrap();
    assert_eq!(json, serde_json::json!({"jobs": []}));
    let failed = run(&["call", "esp_job", "job_id=job-7", "--json"]);
    let json: Value = serde_json::from_str(&stdout(&failed)).unwrap();
    assert_eq!(json["error"]["code"], "unknown_job");
}

#[test]
fn tools_lists_every_tool() {
    let text = stdout(&run(&["tools"]));
    let json: Value = serde_json::from_str(&stdout(&run(&["tools", "--json"]))).unwrap();
    assert_eq!(json["tools"].as_array().unwrap().len(), mcp_esptool::tools::ALL.len());
    assert!(mcp_esptool::tools::ALL.iter().all(|entry| text.contains(entry.name)));
}

#[test]
fn doctor_says_where_settings_come_from() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
    let output = command.args(["doctor", "--set", "baud=115200"]).env("ESP_DEVICE_TIMEOUT", "9").output().unwrap();
    let text = stdout(&output);
    assert!(text.contains("115200  (command line)") && text.contains("9  ($ESP_DEVICE_TIMEOUT)"), "{text}");
    // What is right or missing first, and what nobody set in a few lines.
    assert!(text.find("Checks") < text.find("Settings") && text.contains("not set "), "{text}");
    assert!(text.lines().count() < 60 && stderr(&output).is_empty(), "{text}{}", stderr(&output));
}

#[test]
fn doctor_says_what_the_policy_is_and_where_it_comes_from() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.toml");
    std::fs::write(&file, "max_risk = \"destroys\"\ndeny_ports = [\"/dev/gold\"]\n[limits]\nmax_jobs = 3\n").unwrap();
    let set = format!("policy_file={}", file.display());
    let good = stdout(&run(&["doctor", "--set", &set, "--narrow", "max_risk = \"writes\""]));
    for line in
        [&format!("from {}", file.display()), "/dev/gold", "max_risk writes", "narrow (command line)", "max_jobs 3"]
    {
        assert!(good.contains(line), "{line}: {good}");
    }
    std::fs::write(&file, "deny_port = 1").unwrap();
    assert!(stdout(&run(&["doctor", "--set", &set])).contains("deny_port"));
    assert_ne!(run(&["call", "esp_job", "action=list", "--set", &set]).status.code(), Some(0));
}

#[test]
fn completions_for_all_shells() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(stdout(&run(&["completions", shell])).contains("mcp-esptool"), "{shell}");
    }
}

#[test]
fn bash_completes_verbs_chips_and_ports() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("script"), stdout(&run(&["completions", "bash"]))).unwrap();
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_mcp-esptool"));
    let complete = |words: &[&str]| {
        let text = format!(
            "source ./script; COMP_WORDS=(mcp-esptool {}); COMP_CWORD={}; _mcp__esptool mcp-esptool '{}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words.join(" "),
            words.len(),
            words[words.len() - 1],
            if words.len() > 1 { words[words.len() - 2] } else { "mcp-esptool" }
        );
        let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
        let output = Command::new("bash").args(["-c", &text]).env("PATH", path).current_dir(dir.path()).output();
        stdout(&output.unwrap())
    };
    assert!(complete(&["par"]).contains("partitions"));
    assert!(complete(&["nvs", "de"]).contains("delete"));
    assert!(complete(&["image", "make", "--flash-m"]).contains("--flash-mode"));
    assert!(complete(&["image", "make", "-c", "esp32c"]).contains("esp32c3"));
    assert!(complete(&["read", "--port", "sim"]).contains("sim://esp32c3"), "{}", complete(&["read", "--port", "sim"]));
    assert!(complete(&["reset", "--reset-mode", "d"]).contains("download"));
    assert!(complete(&["erase", "ota"]).contains("otadata"), "{}", complete(&["erase", "ota"]));
    assert!(complete(&["nvs", "get", "--partition", "n"]).contains("nvs"));
}

#[test]
fn selftest_passes_on_a_virtual_chip_and_fails_without_one() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().display().to_string();
    let good = run(&["--root", &root, "selftest", "--port", "sim://esp32c6-selftest", "--scratch", "0x200000"]);
    assert_eq!(good.status.code(), Some(0), "{}{}", stdout(&good), stderr(&good));
    assert!(stdout(&good).contains("pass  write, read back and erase"), "{}", stdout(&good));
    let bad = run(&["--root", &root, "selftest", "--port", "/dev/no-such-port"]);
    assert_ne!(bad.status.code(), Some(0));
    assert!(stderr(&bad).contains("FAIL"), "{}", stderr(&bad));
}

#[test]
fn audit_verify_names_the_line_that_breaks_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    let state = format!("state_dir={}", dir.path().join("state").display());
    let verify = || run(&["audit", "verify", "--set", &state]);
    assert_eq!(verify().status.code(), Some(0), "no log yet: {}", stderr(&verify()));
    for name in ["DIS_TWAI", "DIS_PAD_JTAG", "DIS_DIRECT_BOOT"] {
        let field = format!("efuse_name={name}");
        let planned = run(&["call", "esp_efuse_burn", "port=sim://esp32c3", &field, "value=1", "--set", &state]);
        assert_eq!(planned.status.code(), Some(0), "{}", stderr(&planned));
    }
    let good = verify();
    assert!(good.status.code() == Some(0) && stdout(&good).contains("3 lines, the chain holds"), "{}", stdout(&good));
    let log = dir.path().join("state/audit.jsonl");
    let text = std::fs::read_to_string(&log).unwrap();
    // A line that a crash cut off is no manipulation.
    std::fs::write(&log, format!("{text}{{\"event\": \"pla")).unwrap();
    let torn = verify();
    assert!(torn.status.code() == Some(0) && stdout(&torn).contains("unfinished"), "{}", stdout(&torn));
    std::fs::write(&log, text.replacen("DIS_PAD_JTAG", "DIS_USB_JTAG", 1)).unwrap();
    let broken = verify();
    assert_eq!(broken.status.code(), Some(3), "{}", stdout(&broken));
    assert!(stdout(&broken).contains("line 2 ") || stdout(&broken).contains("line 3 "), "{}", stdout(&broken));
    // Nothing is burned with a log that somebody changed.
    let field = ["efuse_name=DIS_USB_SERIAL_JTAG", "value=1"];
    let refused = run(&["call", "esp_efuse_burn", "port=sim://esp32c3", field[0], field[1], "--set", &state]);
    assert!(refused.status.code() == Some(1) && stderr(&refused).contains("audit_broken"), "{}", stderr(&refused));
}

#[test]
fn efuse_dump_of_another_chip_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dump = dir.path().join("s3.ef");
    std::fs::write(&dump, [0; 336]).unwrap();
    let refused = run(&["sim", "esp32", "--tcp", "127.0.0.1:0", "--efuse", &dump.display().to_string()]);
    assert!(refused.status.code() == Some(2) && stderr(&refused).contains("124"), "{}", stderr(&refused));
}

#[test]
fn a_virtual_chip_without_an_address_listens_on_a_free_port() {
    let mut sim = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
    let mut sim = sim.args(["sim", "esp32c6"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(sim.stderr.as_mut().unwrap()).read_line(&mut said).unwrap();
    let port = said.trim().rsplit(' ').next().unwrap();
    let info = run(&["info", "-p", port]);
    sim.kill().unwrap();
    sim.wait().unwrap();
    assert!(port.starts_with("rfc2217://127.0.0.1:") && stdout(&info).contains("ESP32-C6"), "{said}{}", stderr(&info));
}

#[path = "cli/verbs.rs"]
mod verbs;
