//! Invariants of the source tree (`ARCHITECTURE.md` names them).
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

#[path = "tidy/layers.rs"]
mod layers;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All Rust files below `crates/*/src`, with their text.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        collect(&entry.unwrap().path().join("src"), &mut found);
    }
    assert!(found.len() > 20);
    found
}

fn collect(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
}

fn is_test_file(path: &Path) -> bool {
    path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests")
}

/// The code of a file: without its comments and without the unit tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or("");
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn rmcp_is_known_to_one_file() {
    for (path, text) in sources() {
        let knows = path.ends_with("mcp-esptool/src/mcp.rs")
            || path.parent().is_some_and(|dir| dir.ends_with("mcp-esptool/src/mcp"));
        assert!(knows || !code(&text).contains("rmcp"), "{}", path.display());
    }
}

/// Chips are data: code does not name them. `sim://…` in a help text is an example, not a decision.
#[test]
fn chips_are_named_only_in_chips() {
    let ids: Vec<&str> = esp_model::chip::all().iter().map(|chip| chip.id).collect();
    for (path, text) in sources() {
        if is_test_file(&path) {
            continue;
        }
        for line in code(&text).lines() {
            let line = line.replace("sim://esp32", "sim://");
            for id in &ids {
                let named = [format!("\"{id}\""), format!("\"{}\"", id.to_uppercase())];
                assert!(!named.iter().any(|name| line.contains(name)), "{}: {line}", path.display());
            }
        }
    }
}

/// An unknown code does not compile; one that nothing uses is a promise that nobody keeps.
#[test]
fn every_error_code_is_used() {
    let mut text: String = sources().iter().map(|(_, text)| code(text)).collect();
    text += &fs::read_to_string(root().join("crates/esp-model/console/findings.toml")).unwrap();
    for code in esp_ops::error::Code::ALL {
        let used = text.contains(&format!("Code::{code:?}")) || text.contains(&format!("\"{code}\""));
        assert!(used, "nothing uses `{code}` of hints.toml");
    }
}

/// Decisions are made by `Code` and `Class`: a string that is compared can be mistyped.
#[test]
fn error_codes_are_compared_as_types() {
    for (path, text) in sources() {
        let text = code(&text);
        for compared in ["code.as_str()", "code.to_string() ==", ".code == \"", ".code != \"", "(error.code, \""] {
            let own = path.parent().is_some_and(|folder| folder.ends_with("esp-ops/src/error"));
            assert!(own || !text.contains(compared), "{}: {compared}", path.display());
        }
    }
}

#[test]
fn generated_documents_are_fresh() {
    for (name, text) in mcp_esptool::docs::pages(mcp_esptool::cli::command()) {
        let path = root().join("docs").join(name);
        let there = fs::read_to_string(&path).unwrap_or_default();
        assert!(there == text, "docs/{name} is old: run `cargo run -- docs`");
    }
    for skill in mcp_esptool::skills::ALL {
        let path = root().join("examples/skills").join(skill.name).join("SKILL.md");
        let there = fs::read_to_string(&path).unwrap_or_default();
        assert!(there == skill.text(), "{} is old: run `cargo run -- docs`", path.display());
    }
}

/// Lines that a file may have; longer ones are listed with their lines.
const LONGEST: usize = 500;

/// What is wrong with the length of files, by the list of those that may be longer.
fn length_faults(found: &[(String, usize)], listed: &[(String, usize)]) -> Vec<String> {
    let allowed = |path: &str| listed.iter().find(|(name, _)| name == path).map_or(LONGEST, |(_, lines)| *lines);
    let long = found.iter().filter(|(path, lines)| *lines > allowed(path));
    let mut faults: Vec<String> =
        long.map(|(path, lines)| format!("{path} has {lines} lines, {} at most: split it", allowed(path))).collect();
    let is_short = |(name, _): &&(String, usize)| !found.iter().any(|(path, lines)| path == name && *lines > LONGEST);
    faults.extend(listed.iter().filter(is_short).map(|(name, _)| format!("{name} is short now: take it off the list")));
    faults
}

/// `tests/tidy/long_files.txt` may only get shorter.
#[test]
fn long_files_only_shrink() {
    let list = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tidy/long_files.txt")).unwrap();
    let lines = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let listed: Vec<(String, usize)> = lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(path, lines)| (path.into(), lines.parse().unwrap()))
        .collect();
    let sources = sources().into_iter().filter(|(path, _)| !is_test_file(path));
    let name = |path: &Path| path.strip_prefix(root()).unwrap().display().to_string();
    let found: Vec<_> = sources.map(|(path, text)| (name(&path), text.lines().count())).collect();
    assert_eq!(length_faults(&found, &listed), Vec::<String>::new());
}

#[test]
fn a_file_that_grows_or_need_not_be_listed_is_a_fault() {
    let files =
        |list: &[(&str, usize)]| list.iter().map(|(name, lines)| (name.to_string(), *lines)).collect::<Vec<_>>();
    let faults = |found: &[(&str, usize)], listed: &[(&str, usize)]| length_faults(&files(found), &files(listed)).len();
    assert_eq!(faults(&[("a", 500), ("b", 600)], &[("b", 600)]), 0);
    assert_eq!(faults(&[("a", 501)], &[]), 1);
    assert_eq!(faults(&[("b", 601)], &[("b", 600)]), 1);
    assert_eq!(faults(&[("b", 500)], &[("b", 600)]), 1);
    assert_eq!(faults(&[], &[("gone", 600)]), 1);
}
