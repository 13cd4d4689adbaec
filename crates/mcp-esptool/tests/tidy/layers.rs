//! The layers: which crate depends on which, and which module of the program uses which. `edges.txt` lists what is
//! there and may only get shorter: a new line is a decision against ARCHITECTURE.md.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use regex::{Captures, Regex};

use super::{code, is_test_file, root, sources};

/// Dependencies between our crates, those of tests left out: `crate esp-link -> esp-model`.
fn crate_edges() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        let dir = entry.unwrap().path();
        let manifest: toml::Table = toml::from_str(&fs::read_to_string(dir.join("Cargo.toml")).unwrap()).unwrap();
        let name = dir.file_name().unwrap().to_string_lossy().into_owned();
        for (dependency, value) in manifest["dependencies"].as_table().unwrap() {
            if value.as_table().is_some_and(|table| table.contains_key("workspace"))
                && root().join("crates").join(dependency).is_dir()
            {
                found.insert(format!("crate {name} -> {dependency}"));
            }
        }
    }
    found
}

/// Uses between the top modules of a crate: `module mcp-esptool cli -> ctx`.
fn module_edges(name: &str) -> BTreeSet<String> {
    let base = root().join("crates").join(name).join("src");
    let mut found = BTreeSet::new();
    for (path, text) in sources() {
        let Ok(inside) = path.strip_prefix(&base) else { continue };
        let from = module_of(inside);
        if is_test_file(&path) || from == "lib" || from == "main" {
            continue;
        }
        // What `lib.rs` passes on from another crate is no module of this one.
        let is_module = |to: &String| base.join(to).is_dir() || base.join(format!("{to}.rs")).is_file();
        let edges = used_modules(&code(&text)).into_iter().filter(|to| *to != from && is_module(to));
        found.extend(edges.map(|to| format!("module {name} {from} -> {to}")));
    }
    found
}

fn module_of(path: &Path) -> String {
    let first = path.iter().next().unwrap_or_default().to_string_lossy();
    first.trim_end_matches(".rs").to_string()
}

/// What follows `crate::`, also in braces (`use crate::{a, b::{C, d}}` names `a` and `b`).
fn used_modules(code: &str) -> BTreeSet<String> {
    let inner = Regex::new(r"\b(\w+)::\{[^{}]*\}").unwrap();
    let listed = Regex::new(r"\bcrate::(?:\{([^{}]*)\}|(\w+))").unwrap();
    let mut flat = code.to_string();
    loop {
        let shorter = inner.replace_all(&flat, |found: &Captures| match &found[1] {
            "crate" => found[0].to_string(),
            name => name.to_string(),
        });
        if shorter == flat {
            break;
        }
        flat = shorter.into_owned();
    }
    let lists = listed.captures_iter(&flat).filter_map(|found| found.get(1).or(found.get(2)));
    let paths = lists.flat_map(|list| list.as_str().split(','));
    let names = paths.filter_map(|path| path.trim().split("::").next());
    // A type or macro of the crate's root is no module.
    names.filter(|name| name.starts_with(|first: char| first.is_ascii_lowercase())).map(String::from).collect()
}

#[test]
fn layers_only_lose_edges() {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tidy/edges.txt");
    let allowed: BTreeSet<String> = fs::read_to_string(&list).unwrap().lines().map(String::from).collect();
    let allowed: BTreeSet<String> =
        allowed.into_iter().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let mut present = crate_edges();
    present.extend(module_edges("mcp-esptool"));
    let new: Vec<_> = present.difference(&allowed).collect();
    assert!(new.is_empty(), "new edges between layers; turn the dependency round (ARCHITECTURE.md):\n{new:#?}");
    let gone: Vec<_> = allowed.difference(&present).collect();
    assert!(gone.is_empty(), "these edges are gone: take them off {}:\n{gone:#?}", list.display());
}

/// What a tool shares with another one is an operation (`esp-ops`), or a helper file of its set that is no tool.
#[test]
fn tools_use_no_other_tool() {
    let base = root().join("crates/mcp-esptool/src/tools");
    let tools: Vec<_> = sources()
        .into_iter()
        .filter(|(path, text)| path.starts_with(&base) && text.contains("impl Tool for "))
        .map(|(path, text)| (path.strip_prefix(&base).unwrap().with_extension(""), code(&text)))
        .collect();
    assert!(tools.len() > 60, "{}", tools.len());
    let mut uses = Vec::new();
    for (tool, _) in &tools {
        let (Some(set), Some(name)) = (tool.parent(), tool.file_name()) else { continue };
        let (set, name) = (set.display().to_string(), name.to_string_lossy());
        let far = Regex::new(&format!(r"\btools::{set}::(\{{[^}}]*)?\b{name}\b")).unwrap();
        let near = Regex::new(&format!(r"\bsuper::(\{{[^}}]*)?\b{name}\b")).unwrap();
        let others = tools.iter().filter(|(other, _)| other != tool);
        for (other, text) in others {
            let is_near = other.parent() == tool.parent() && near.is_match(text);
            if is_near || far.is_match(text) {
                uses.push(format!("{} uses {}", other.display(), tool.display()));
            }
        }
    }
    assert!(uses.is_empty(), "move what they share to esp-ops:\n{uses:#?}");
}

#[test]
fn used_modules_are_read() {
    let names = |code: &str| used_modules(code).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(names("use crate::cli;"), "cli");
    assert_eq!(names("use crate::ctx::{files, policy};\nuse crate::Thing;"), "ctx");
    assert_eq!(
        names("use crate::{docs, tools::{error, args},\n    mcp};\nlet other = crate::http::run(a, b);"),
        "docs http mcp tools"
    );
}
