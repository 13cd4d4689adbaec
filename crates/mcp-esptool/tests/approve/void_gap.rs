//! `ledger void-gap`: a person at a terminal decides that a copy of the ledger goes on.

use std::fs::File;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use esp_link::port::pty::PtyMaster;

use super::command;

fn ledger(dir: &Path, file: &str, args: &[&str]) -> std::process::Command {
    let setting = format!("ledger={}", dir.join(file).display());
    let all = [&["ledger"], args, &["--set", &setting, "--set", "station=line 1"]].concat();
    command(dir, &all)
}

fn run(dir: &Path, file: &str, args: &[&str]) -> Output {
    ledger(dir, file, args).stdin(Stdio::null()).output().unwrap()
}

/// Answers the question with this text; what was said.
fn void_gap(dir: &Path, file: &str, answer: &str) -> (bool, String) {
    let mut terminal = PtyMaster::new().unwrap();
    let slave = File::options().read(true).write(true).open(terminal.path()).unwrap();
    let mut command = ledger(dir, file, &["void-gap", "count=2"]);
    let child = command.stdin(slave).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    terminal.write(format!("{answer}\n").as_bytes(), Duration::from_secs(5)).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    (output.status.success(), said)
}

#[test]
fn person_lets_a_copy_of_the_ledger_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    std::fs::write(dir.join("policy.toml"), "").unwrap();
    let pool = ["add-pool", "pool=serials", "kind=serial", "prefix=SN-", "count=20"];
    assert!(run(dir, "a.db", &pool).status.success());
    let lend = |file: &str, to: &str| run(dir, file, &["lend", "pool=serials", "station=line 2", "count=3", to]);
    let first = lend("a.db", "file=one.json");
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    assert!(run(dir, "a.db", &["backup", "file=b.db"]).status.success());
    let refused = lend("b.db", "file=two.json");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("ledger_is_copy") && said.contains("void-gap"), "{said}");
    // A pipe is no person, and a wrong name no consent.
    let pipe = run(dir, "b.db", &["void-gap", "count=2"]);
    assert!(String::from_utf8_lossy(&pipe.stderr).contains("not_confirmed"));
    let (done, said) = void_gap(dir, "b.db", "line 2");
    assert!(!done && said.contains("not the station's name"), "{said}");
    assert!(!lend("b.db", "file=two.json").status.success());
    let (done, said) = void_gap(dir, "b.db", "line 1");
    assert!(done && said.contains("2 values are out of use"), "{said}");
    let next = lend("b.db", "file=two.json");
    assert!(next.status.success(), "{}", String::from_utf8_lossy(&next.stderr));
    let lent = std::fs::read_to_string(dir.join("two.json")).unwrap();
    assert!(lent.contains("SN-00006") && !lent.contains("SN-00005"), "three lent, two void: {lent}");
    let first = lend("a.db", "file=three.json");
    assert!(String::from_utf8_lossy(&first.stderr).contains("ledger_is_copy"), "the other copy has ended");
}
