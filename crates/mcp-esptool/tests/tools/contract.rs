//! The published contract: tools with their parameters and results, and the command line, compared with what the last
//! release had. Additions are free; what breaks a client fails unless `golden/accepted.txt` names it with a reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use mcp_esptool::{cli, tools};
use serde_json::Value;

/// What is promised about one parameter, result field, command or option.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Promise {
    required: bool,
    types: BTreeSet<String>,
    /// The only values allowed; empty where any is.
    values: BTreeSet<String>,
}

/// `esp_x in .port` and the like, each with what is promised about it.
type Surface = BTreeMap<String, Promise>;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn tool_surface() -> Surface {
    let mut found = Surface::new();
    for entry in tools::ALL {
        for (side, schema) in [("in", entry.input_schema()), ("out", entry.output_schema())] {
            let root = Value::Object(schema);
            walk(&root, &root, &format!("{} {side} ", entry.name), 0, &mut found);
        }
    }
    found
}

/// Collects a schema's fields; alternatives (`oneOf`, `anyOf`) count together.
fn walk(schema: &Value, root: &Value, path: &str, depth: usize, found: &mut Surface) {
    if depth > 12 {
        return; // a type that contains itself
    }
    if let Some(target) = schema["$ref"].as_str().and_then(|name| root.pointer(name.strip_prefix('#')?)) {
        walk(target, root, path, depth + 1, found);
    }
    for alternative in ["oneOf", "anyOf", "allOf"].iter().filter_map(|key| schema[*key].as_array()).flatten() {
        walk(alternative, root, path, depth + 1, found);
    }
    let promise = found.entry(path.to_string()).or_default();
    let types = schema["type"].as_array().cloned().unwrap_or_else(|| vec![schema["type"].clone()]);
    promise.types.extend(types.iter().filter_map(Value::as_str).map(String::from));
    let single = schema.get("const").map(std::slice::from_ref);
    let values = single.or(schema["enum"].as_array().map(Vec::as_slice)).unwrap_or_default();
    promise.values.extend(values.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), String::from)));
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        walk(field, root, &path, depth + 1, found);
        if let Some(promise) = found.get_mut(&path) {
            promise.required |= required.contains(&name.as_str());
        }
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", ".*")] {
        if schema[key].is_object() {
            walk(&schema[key], root, &format!("{path}{mark}"), depth + 1, found);
        }
    }
}

fn cli_surface() -> Surface {
    let mut found = Surface::new();
    collect(&cli::command(), "cli", &mut found);
    found
}

fn collect(command: &clap::Command, path: &str, found: &mut Surface) {
    found.insert(path.to_string(), Promise::default());
    for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
        let name = argument.get_long().map_or_else(|| format!("<{}>", argument.get_id()), |long| format!("--{long}"));
        let takes = if argument.get_action().takes_values() { "value" } else { "flag" };
        let values = argument.get_possible_values().iter().map(|value| value.get_name().to_string()).collect();
        let values = if takes == "value" { values } else { BTreeSet::new() };
        let promise =
            Promise { required: argument.is_required_set(), types: BTreeSet::from([takes.to_string()]), values };
        found.insert(format!("{path} {name}"), promise);
    }
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        collect(inner, &format!("{path} {}", inner.get_name()), found);
    }
}

fn to_text(surface: &Surface) -> String {
    let joined = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join("|");
    let mut text = String::new();
    for (key, promise) in surface {
        let required = if promise.required { "required" } else { "optional" };
        let _ = writeln!(text, "{key}\t{required}\t{}\t{}", joined(&promise.types), joined(&promise.values));
    }
    text
}

fn from_text(text: &str) -> Surface {
    let set = |part: Option<&str>| {
        part.unwrap_or_default().split('|').filter(|word| !word.is_empty()).map(String::from).collect()
    };
    let line = |line: &str| {
        let mut parts = line.split('\t');
        let key = parts.next()?.to_string();
        let required = parts.next()? == "required";
        Some((key, Promise { required, types: set(parts.next()), values: set(parts.next()) }))
    };
    text.lines().filter_map(line).collect()
}

/// What a client of `old` trips over in `new`.
fn breaks(old: &Surface, new: &Surface) -> Vec<String> {
    let mut found = Vec::new();
    for (key, was) in old {
        let is_result = key.split(' ').nth(1) == Some("out");
        let Some(now) = new.get(key) else {
            found.push(format!("removed: {key}"));
            continue;
        };
        // A parameter may take more than before, a result may be less than before; not the other way round.
        let (wide, narrow) = if is_result { (was, now) } else { (now, was) };
        let open = |promise: &Promise| promise.types.is_empty();
        if !open(wide) && (open(narrow) || !narrow.types.is_subset(&wide.types)) {
            found.push(format!("type: {key}: {:?} → {:?}", was.types, now.types));
        }
        if !is_result && !now.values.is_empty() && (was.values.is_empty() || !was.values.is_subset(&now.values)) {
            found.push(format!("values: {key}: {:?} → {:?}", was.values, now.values));
        }
        match (was.required, now.required) {
            (false, true) if !is_result => found.push(format!("now required: {key}")),
            (true, false) if is_result => found.push(format!("may now be missing: {key}")),
            _ => {}
        }
    }
    let whole = |key: &str| key.rsplit_once(['.', ' ']).is_none_or(|(parent, _)| old.contains_key(parent));
    let added = new.iter().filter(|(key, now)| now.required && !old.contains_key(*key) && whole(key));
    found.extend(added.filter(|(key, _)| !key.contains(" out ")).map(|(key, _)| format!("new and required: {key}")));
    found
}

/// The surface of this version; `tests/golden` is that of the last release. `CONTRACT=release` makes it the new one.
#[test]
fn contract_of_the_last_release_is_kept() {
    for (name, now) in [("tools.txt", tool_surface()), ("cli.txt", cli_surface())] {
        if std::env::var("CONTRACT").is_ok_and(|wish| wish == "release") {
            fs::write(golden(name), to_text(&now)).unwrap();
        }
        let old = from_text(&fs::read_to_string(golden(name)).unwrap());
        assert!(old.len() > 30, "{name} is not a surface");
        let accepted = fs::read_to_string(golden("accepted.txt")).unwrap_or_default();
        let accepted: BTreeSet<&str> = accepted.lines().filter_map(|line| line.split(" — ").next()).collect();
        let (found, added) = (breaks(&old, &now), now.keys().filter(|key| !old.contains_key(*key)).count());
        eprintln!("{name}: {} promises, {added} added, {} broken", old.len(), found.len());
        let new: Vec<&String> = found.iter().filter(|text| !accepted.contains(text.as_str())).collect();
        assert!(
            new.is_empty(),
            "this breaks clients of the last release. Keep the old name or value (an alias), or add to \
             tests/golden/accepted.txt one line each with ` — ` and the reason:\n{new:#?}"
        );
    }
}

#[test]
fn breaking_changes_are_found() {
    let surface = |lines: &[&str]| from_text(&lines.join("\n"));
    let old = surface(&["t in .a\toptional\tstring\tx|y", "t in .b\toptional\tinteger|string\t", "t in \t\tobject\t"]);
    assert_eq!(breaks(&old, &old), Vec::<String>::new());
    let changed = surface(&[
        "t in .a\trequired\tstring\tx",
        "t in .b\toptional\tinteger\t",
        "t in .c\trequired\tstring\t",
        "t in \t\tobject\t",
    ]);
    let kinds: Vec<String> = breaks(&old, &changed).iter().map(|text| text.split(':').next().unwrap().into()).collect();
    assert_eq!(kinds, ["values", "now required", "type", "new and required"]);
    let results = surface(&["t out .a\trequired\tstring\t", "t out .b\trequired\tstring\t"]);
    let changed = surface(&["t out .a\toptional\tstring|null\t", "t out .c\trequired\tstring\t"]);
    let kinds: Vec<String> =
        breaks(&results, &changed).iter().map(|text| text.split(':').next().unwrap().into()).collect();
    assert_eq!(kinds, ["type", "may now be missing", "removed"]);
    // More values for a parameter and fewer types in a result break nobody.
    let more = surface(&[
        "t in .a\toptional\tstring\tx|y|z",
        "t in .b\toptional\tinteger|string|null\t",
        "t in \t\tobject\t",
        "t in .d\toptional\tstring\t",
    ]);
    assert_eq!(breaks(&old, &more), Vec::<String>::new());
}
