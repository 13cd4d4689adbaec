//! Invariants of the source tree (`ARCHITECTURE.md` names them).
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
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

#[test]
fn error_codes_are_in_the_catalogue() {
    let known = mcp_esptool::tools::error::hints();
    let mut used = BTreeSet::new();
    for (path, text) in sources() {
        if !path.to_string_lossy().contains("mcp-esptool/src") {
            continue;
        }
        for part in text.split("ToolError::new(").skip(1) {
            if let Some(code) = part.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next()) {
                assert!(known.contains_key(code), "{}: `{code}` is not in hints.toml", path.display());
                used.insert(code.to_string());
            }
        }
    }
    assert!(used.len() > 15);
}

#[test]
fn generated_documents_are_fresh() {
    for (name, text) in mcp_esptool::docs::pages() {
        let path = root().join("docs").join(name);
        let there = fs::read_to_string(&path).unwrap_or_default();
        assert!(there == text, "docs/{name} is old: run `cargo run -- docs`");
    }
}

/// A ratchet that warns: long files are not errors, but they should not go unseen.
#[test]
fn long_files_are_seen() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        if lines > 500 && !is_test_file(&path) {
            eprintln!("warning: {} has {lines} lines", path.display());
        }
    }
}
