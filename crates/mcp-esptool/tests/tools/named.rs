//! What an error or a note tells to pass must be in `tools/list`: a client sends only what it sees there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use mcp_esptool::ops::error;
use mcp_esptool::tool::Entry;
use mcp_esptool::tool::schema::listed::{Detail, input};
use mcp_esptool::tools::ALL;
use regex::Regex;
use serde_json::Value;

/// Settings of the configuration, and parts of texts that look like parameters.
const NO_PARAMETERS: [&str; 4] = ["log", "stub_dir", "url", "name"];

/// A tool and a parameter, as a text names them; without the tool where none stands before it.
type Named = (Option<String>, String);

/// The parameters that a text names: `esp_flash_erase region=all no_backup=true`.
fn named(text: &str) -> BTreeSet<Named> {
    let words = Regex::new(r"\b(esp_[a-z0-9_]+)\b|(?:^|[\s(`])([a-z][a-z_0-9]{2,})=[^=\s]|[;.:]\s").unwrap();
    let (mut found, mut tool) = (BTreeSet::new(), None);
    for word in words.captures_iter(text) {
        match (word.get(1), word.get(2)) {
            (Some(name), _) => tool = Some(name.as_str().to_string()),
            (_, Some(name)) if !NO_PARAMETERS.contains(&name.as_str()) => {
                found.insert((tool.clone(), name.as_str().to_string()));
            }
            (None, None) => tool = None,
            _ => {}
        }
    }
    found
}

fn has(schema: &serde_json::Map<String, Value>, name: &str) -> bool {
    schema["properties"].get(name).is_some()
}

/// Why a client could not pass this parameter, if so. `among`: the tools that may be meant where none is named.
fn fault((tool, name): &Named, among: &[&Entry]) -> Option<String> {
    let meant: Vec<&Entry> = match tool {
        Some(tool) => ALL.iter().filter(|entry| entry.name == tool).collect(),
        None => among.iter().copied().filter(|entry| has(&entry.input_schema(), name)).collect(),
    };
    let listed = |entry: &&Entry| has(&input(entry.input_schema(), Detail::Short), name);
    match meant.iter().find(|entry| !listed(entry)) {
        Some(entry) => Some(format!("{}: `{name}` is not in the list", entry.name)),
        None if meant.is_empty() => Some(format!("no tool {tool:?} with `{name}`")),
        None => None,
    }
}

#[test]
fn parameters_that_hints_name_are_listed() {
    let all: Vec<&Entry> = ALL.iter().collect();
    let mut checked = 0;
    let mut faults = BTreeSet::new();
    for (code, hint) in error::hints() {
        for one in named(&hint.next) {
            checked += 1;
            faults.extend(fault(&one, &all).map(|fault| format!("hints.toml [{code}]: {fault}")));
        }
    }
    assert!(checked > 20, "{checked}");
    assert!(faults.is_empty(), "{faults:#?}");
}

/// The next steps that the code gives, in `.next("…")` and `.next(format!("…"))`.
#[test]
fn parameters_that_next_steps_name_are_listed() {
    let all: Vec<&Entry> = ALL.iter().collect();
    let mut faults = BTreeSet::new();
    let mut checked = 0;
    let steps = Regex::new(r#"\.next\(\s*(?:format!\(\s*)?"((?:[^"\\]|\\(?s:.))*)""#).unwrap();
    for (path, text) in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        for step in steps.captures_iter(&text) {
            for one in named(&step[1]) {
                checked += 1;
                faults.extend(fault(&one, &all).map(|fault| format!("{path}: {fault}")));
            }
        }
    }
    assert!(checked > 5, "{checked}");
    assert!(faults.is_empty(), "{faults:#?}");
}

fn files(dir: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push((path.display().to_string(), fs::read_to_string(&path).unwrap_or_default())),
        }
    }
    found
}

#[test]
fn named_parameters_are_found_in_texts() {
    let names = |text: &str| named(text).into_iter().map(|(tool, name)| format!("{}.{name}", tool.unwrap_or_default()));
    let names = |text: &str| names(text).collect::<Vec<_>>().join(" ");
    assert_eq!(
        names("call esp_flash_erase region=all no_backup=true"),
        "esp_flash_erase.no_backup esp_flash_erase.region"
    );
    assert_eq!(names("see esp_job; pass align=true"), ".align");
    assert_eq!(names("nothing = here, x == y"), "");
    assert!(
        fault(&(Some("esp_flash_erase".into()), "backup_dir".into()), &[]).is_some(),
        "a rare one is not in the list"
    );
}
