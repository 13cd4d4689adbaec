//! What an error or a note tells to pass must be in `tools/list`: a client sends only what it sees there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use esp_model::console::Catalogue;
use esp_ops::error;
use mcp_esptool::tool::Entry;
use mcp_esptool::tool::schema::SHARED;
use mcp_esptool::tool::schema::listed::{Detail, input};
use mcp_esptool::tools::ALL;
use mcp_esptool::{documents, prompts, resources};
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
    // How to connect is the same for all tools with a device; their documents list it.
    let is_shared = |entry: &Entry| entry.input_schema()["properties"][name].get(SHARED).is_some();
    let listed = |entry: &&Entry| has(&input(entry.input_schema(), Detail::Short), name) || is_shared(entry);
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
    for (path, text) in sources() {
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

/// Names in texts that look like tools and are not.
const NO_TOOLS: [&str; 2] = ["esp_rfc2217_server", "esp_timer"];

/// What an MCP client cannot do with a text: tools and resources that are not there, files of `docs/`, commands of a
/// shell that no person is asked to run.
fn dead_ends(text: &str) -> Vec<String> {
    let tools = Regex::new(r"\besp_[a-z0-9]+(?:_[a-z0-9]+)*\b").unwrap();
    let uris = Regex::new(r"esp://[a-z0-9_/-]+(?:NAME)?").unwrap();
    let files = Regex::new(r"(?:^|[\s(`])docs/[\w/]+\.md").unwrap();
    let mut found = Vec::new();
    for name in tools.find_iter(text).map(|name| name.as_str()) {
        let after = text.split_once(name).map_or("", |(_, after)| after);
        let is_tool = mcp_esptool::tools::find(name).is_some();
        if !is_tool && !NO_TOOLS.contains(&name) && !after.starts_with(['(', '.']) {
            found.push(format!("there is no tool {name}"));
        }
    }
    let known: Vec<&str> = resources::all().iter().map(|resource| resource.uri).collect();
    for uri in uris.find_iter(text).map(|uri| uri.as_str().trim_end_matches('/')) {
        let is_there = documents::read(&uri.replace("NAME", "esp_job")).is_some()
            || known.contains(&uri)
            || ["esp://server", "esp://docs"].contains(&uri);
        if !is_there {
            found.push(format!("there is no resource {uri}"));
        }
    }
    found.extend(files.find_iter(text).map(|file| format!("a client cannot open {}", file.as_str())));
    let by_person = ["a person", "the user to run"].iter().any(|who| text.contains(who));
    let shell = ["`mcp-esptool ", "(mcp-esptool ", "idf.py ", "idf_tools.py", "sudo ", "esptool.py"];
    if let Some(command) = shell.iter().find(|command| text.contains(**command)).filter(|_| !by_person) {
        found.push(format!("a client cannot run {command}…"));
    }
    found
}

/// Everything that tells a reader what to do next: where it stands, and the text.
fn advice() -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> =
        error::hints().iter().map(|(code, hint)| (format!("hints.toml [{code}]"), hint.next.clone())).collect();
    let named = Regex::new(r"\besp_[a-z0-9_]+").unwrap();
    for entry in Catalogue::builtin().entries() {
        // Functions of ESP-IDF are named like tools.
        let known = |name: &regex::Captures| match mcp_esptool::tools::find(&name[0]) {
            Some(_) => name[0].to_string(),
            None => "a function".to_string(),
        };
        let remedy = named.replace_all(&entry.remedy, known).into_owned();
        all.push((format!("findings [{}]", entry.code), remedy));
    }
    let given = serde_json::Map::new();
    for (name, prompt) in prompts::all() {
        let mut given = given.clone();
        given.extend(prompt.arguments.keys().map(|name| (name.clone(), Value::from("VALUE"))));
        all.push((format!("prompt {name}"), prompt.fill(&given).unwrap()));
    }
    all.push(("instructions".into(), mcp_esptool::mcp::INSTRUCTIONS.into()));
    all.extend(ALL.iter().map(|entry| (entry.name.to_string(), entry.about.to_string())));
    let steps = Regex::new(r#"\.next\(\s*(?:format!\(\s*)?"((?:[^"\\]|\\(?s:.))*)""#).unwrap();
    for (path, text) in sources() {
        all.extend(steps.captures_iter(&text).map(|step| (path.clone(), step[1].to_string())));
    }
    all
}

#[test]
fn advice_names_only_what_a_client_can_do() {
    let advice = advice();
    assert!(advice.len() > 300, "{}", advice.len());
    let faults: Vec<String> = advice
        .iter()
        .flat_map(|(place, text)| dead_ends(text).into_iter().map(move |fault| format!("{place}: {fault}: {text}")))
        .collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn dead_ends_are_found() {
    for (text, fault) in [
        ("call esp_partition_table_create", "there is no tool esp_partition_table_create"),
        ("see esp://docs/nothing", "there is no resource esp://docs/nothing"),
        ("docs/safety.md tells", "a client cannot open docs/safety.md"),
        ("run `mcp-esptool doctor`", "a client cannot run `mcp-esptool …"),
    ] {
        assert_eq!(dead_ends(text), [fault], "{text}");
    }
    for text in
        ["call esp_job; see esp://docs/safety", "a person can run `mcp-esptool doctor`", "esp://docs/tools/NAME"]
    {
        assert_eq!(dead_ends(text), [""; 0], "{text}");
    }
}

/// The sources of the program and of its operations.
fn sources() -> Vec<(String, String)> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    ["src", "../esp-ops/src"].iter().flat_map(|dir| files(&own.join(dir))).collect()
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
