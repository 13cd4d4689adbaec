//! The MES of a site: asked before each unit, told after each run. It is the example of `contrib/`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::Line;

/// The example receiver, which ends with the test.
struct Mes {
    child: Child,
    /// `http://127.0.0.1:PORT/`
    url: String,
    dir: tempfile::TempDir,
}

impl Drop for Mes {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Mes {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret"), "0123456789abcdef0123").unwrap();
        std::fs::write(dir.path().join("blocked.json"), "{}").unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contrib/mes.py");
        let mut command = Command::new("python3");
        command.arg(script).args(["0", "secret", "reports.ndjson", "blocked.json"]).current_dir(dir.path());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        Self { child, url: said.trim().to_owned(), dir }
    }

    fn settings(&self) -> Vec<String> {
        let secret = self.dir.path().join("secret");
        vec![format!("mes_url={}line-3", self.url), format!("events_secret_file={}", secret.display())]
    }

    fn block(&self, mac: &str, reason: &str) {
        std::fs::write(self.dir.path().join("blocked.json"), json!({ mac: reason }).to_string()).unwrap();
    }

    fn reports(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.path().join("reports.ndjson")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A station whose recipe asks and reports.
fn line(settings: &[String]) -> Line {
    let line = Line::new(settings);
    let path = line.dir.path().join("blink.toml");
    let recipe = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, recipe + "\n[mes]\ncheck = \"units/check\"\nreport = \"units/report\"\n").unwrap();
    line
}

/// What the batch said about its one unit.
fn unit(line: &Line) -> Value {
    let mut command = line.command(&["call", "esp_batch_program", "firmware=blink.toml", "--json"]);
    let output = command.arg("ports=[\"sim://esp32c3-mes\"]").stdout(Stdio::piped()).output().unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    said["units"][0].clone()
}

#[test]
fn a_unit_that_the_mes_blocks_is_refused_with_its_reason() {
    let mes = Mes::start();
    let line = line(&mes.settings());
    let good = unit(&line);
    assert_eq!(good["verdict"], "pass", "{good}");
    mes.block(good["mac"].as_str().unwrap(), "scrapped at incoming inspection");
    let refused = unit(&line);
    assert_eq!(refused["verdict"], "fail");
    let error = refused["error"].as_str().unwrap();
    assert!(error.starts_with("mes_refused") && error.contains("scrapped at incoming inspection"), "{error}");
    assert_eq!(refused["written_bytes"], 0);
    // Both runs are reported, each once, by the outbox.
    line.run(&["ledger", "send"]);
    line.run(&["ledger", "send"]);
    let reports = mes.reports();
    let verdicts: Vec<&str> = reports.iter().map(|report| report["data"]["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["pass", "fail"]);
    assert_eq!(reports[0]["data"]["identities"], good["identities"]);
}

#[test]
fn without_an_answer_of_the_mes_nothing_is_issued() {
    let mut mes = Mes::start();
    let line = line(&mes.settings());
    mes.child.kill().unwrap();
    mes.child.wait().unwrap();
    let refused = unit(&line);
    assert_eq!(refused["verdict"], "fail", "{refused}");
    assert!(refused["error"].as_str().unwrap().starts_with("mes_unreachable"), "{refused}");
    assert_eq!(refused["identities"], json!({}));
    let output = line.command(&["ledger", "send"]).stderr(Stdio::piped()).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("events_not_sent"));
}

#[test]
fn a_recipe_that_asks_needs_the_setting_and_its_rehearsal_does_not() {
    let line = line(&[]);
    line.run(&["recipe", "check", "blink.toml"]);
    let refused = unit(&line);
    let error = refused["error"].as_str().unwrap_or_default();
    assert!(error.contains("mes_url"), "{refused}");
}
