//! Size reports against esp-idf-size.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use esp_model::image::size::{self, Archive, Memory, Object, Section, Sizes, diff, treemap};
use libtest_mimic::Trial;
use serde_json::{Map, Value, json};

use crate::image::{Report, rows};
use crate::reference::{Stop, fail, root, run, scratch, tool, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("size: corpus maps give esp-idf-size's numbers", corpus_maps),
        trial("size: maps with and without ELF file give esp-idf-size's tree", trees),
    ]
}

/// The summary that the corpus holds.
fn corpus_maps() -> Result<(), Stop> {
    let mut report = Report::default();
    for (path, _, facts) in rows("map")? {
        let name = path.display();
        let sizes = size::from_map(&fs::read_to_string(&path)?, None);
        report.add(match sizes {
            Err(error) => Err(format!("{name}: {error}")),
            Ok(sizes) => same_summary(&sizes, &facts).map_err(|error| format!("{name}: {error}")),
        });
    }
    report.finish()
}

fn same_summary(sizes: &Sizes, facts: &Value) -> Result<(), String> {
    let summary = &facts["json2"];
    if json!(sizes.image_bytes) != summary["total_size"] {
        return Err(format!("image: {}, esp-idf-size: {}", sizes.image_bytes, summary["total_size"]));
    }
    let layout: Map<String, Value> = summary["layout"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| (row["name"].as_str().unwrap_or("").to_owned(), json!([row["total"], row["used"], row["free"]])))
        .collect();
    let ours: Map<String, Value> = sizes
        .memory
        .iter()
        .map(|(name, memory)| {
            (name.clone(), json!([memory.total_bytes, memory.used_bytes, memory.free_bytes().unwrap_or(0)]))
        })
        .collect();
    let mut top: Vec<Value> = sizes
        .largest(size::Level::Archive, facts["archives"]["top"].as_array().map_or(0, Vec::len))
        .into_iter()
        .map(|(_, bytes)| bytes.into())
        .collect();
    top.retain(|bytes| *bytes != 0);
    let theirs: Vec<Value> = facts["archives"]["top"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| row[0].clone())
        .filter(|n| *n != 0)
        .collect();
    if ours != layout || top != theirs {
        return Err(format!("{ours:?} {top:?}, esp-idf-size: {layout:?} {theirs:?}"));
    }
    Ok(())
}

/// Every number of the tree, with symbols.
fn trees() -> Result<(), Stop> {
    let folder = scratch("size");
    let mut asked: Vec<(PathBuf, Option<PathBuf>)> = Vec::new();
    for (path, _, _) in rows("map")? {
        let elf = path.with_extension("elf");
        asked.push((path.clone(), None));
        if elf.is_file() {
            asked.push((beside(&folder.join(asked.len().to_string()), &path, &elf)?, Some(elf)));
        }
    }
    let mut question = Command::new(tool("python")?);
    question.arg(root().join("crates/esp-model/tests/reference/size_oracle.py"));
    let answers = run(question.args(asked.iter().map(|(map, _)| map)))?;
    let mut report = Report::default();
    let mut all = Vec::new();
    for (line, (map, elf)) in String::from_utf8_lossy(&answers.stdout).lines().zip(&asked) {
        let theirs: Value = serde_json::from_str(line)?;
        let elf = elf.as_ref().map(fs::read).transpose()?;
        let ours = size::from_map(&fs::read_to_string(map)?, elf.as_deref());
        let name = format!("{} (ELF: {})", map.display(), elf.is_some());
        let gave_up = ["does not fit into input section", "cannot find input section for symbol"];
        if theirs["error"].as_str().is_some_and(|error| gave_up.iter().any(|text| error.contains(text))) {
            // esp-idf-size gives up on a symbol that lies outside of its section; ours leaves the symbol out.
            continue;
        }
        report.add(match ours {
            Err(error) => Err(format!("{name}: {error}, esp-idf-size: {}", theirs["error"])),
            Ok(ours) => {
                let result = difference(&name, &tree(&ours), &theirs);
                all.push(ours);
                result
            }
        });
    }
    fs::remove_dir_all(folder)?;
    report.finish()?;
    sums(&all)
}

/// A difference of two builds and their pictures hold together.
fn sums(all: &[Sizes]) -> Result<(), Stop> {
    for pair in all.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        let changes = diff::changes(before, after, size::Level::Object);
        let sum: i64 = changes.iter().map(diff::Change::delta).sum();
        let bytes = |sizes: &Sizes| sizes.totals(size::Level::Object).values().sum::<u64>() as i64;
        if sum != bytes(after) - bytes(before) {
            return fail(format!("the changes add up to {sum}"));
        }
        let root = treemap::tree(after);
        if root.bytes as i64 != bytes(after) {
            return fail("the picture's areas do not add up");
        }
    }
    Ok(())
}

/// A folder in which esp-idf-size finds the ELF file to a map.
fn beside(folder: &Path, map: &Path, elf: &Path) -> Result<PathBuf, Stop> {
    fs::create_dir_all(folder)?;
    let name = |path: &Path| path.file_name().map(|name| folder.join(name)).unwrap_or_default();
    fs::copy(map, name(map))?;
    fs::copy(elf, name(elf))?;
    let app = elf.file_name().map(|name| name.to_string_lossy().into_owned());
    let text = fs::read_to_string(map)?;
    let target = size::from_map(&text, None).map_or(String::new(), |sizes| sizes.chip);
    fs::write(folder.join("project_description.json"), json!({"app_elf": app, "target": target}).to_string())?;
    Ok(name(map))
}

fn tree(sizes: &Sizes) -> Value {
    let symbols = |object: &Object| object.symbols.iter().map(|(k, v)| (k.clone(), json!({"size": v}))).collect();
    let objects =
        |archive: &Archive| nest(&archive.objects, |o| json!({"size": o.bytes, "symbols": Value::Object(symbols(o))}));
    let archives =
        |section: &Section| nest(&section.archives, |a| json!({"size": a.bytes, "object_files": objects(a)}));
    let sections = |memory: &Memory| nest(&memory.sections, |s| json!({"size": s.bytes, "archives": archives(s)}));
    let memory = nest(&sizes.memory, |m| json!({"size": m.total_bytes, "used": m.used_bytes, "sections": sections(m)}));
    json!({"target": sizes.chip, "image_size": sizes.image_bytes, "memory_types": memory})
}

fn nest<T>(map: &std::collections::BTreeMap<String, T>, inner: impl Fn(&T) -> Value) -> Value {
    map.iter().map(|(name, value)| (name.clone(), inner(value))).collect()
}

/// The first difference; what only the reference says beside (short names, differences) is not compared.
fn difference(path: &str, ours: &Value, theirs: &Value) -> Result<(), String> {
    let (Value::Object(ours), Value::Object(theirs)) = (ours, theirs) else {
        return if ours == theirs { Ok(()) } else { Err(format!("{path}: {ours}, esp-idf-size: {theirs}")) };
    };
    let beside = [
        "abbrev_name",
        "size_diff",
        "used_diff",
        "version",
        "target_diff",
        "image_size_diff",
        "project_path",
        "project_path_diff",
    ];
    let only = theirs.keys().find(|key| !ours.contains_key(*key) && !beside.contains(&key.as_str()));
    if let Some(key) = only {
        return Err(format!("{path}: only esp-idf-size has {key}"));
    }
    ours.iter().try_for_each(|(key, value)| difference(&format!("{path}/{key}"), value, &theirs[key.as_str()]))
}
