//! The documentation as a site: complete, without dead links, with commands that work. Needs no mdBook.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};

use esp_ops::guard::policy::Rules;
use regex::Regex;

#[cfg(unix)]
#[path = "site/tutorials.rs"]
mod tutorials;

/// Where links to files outside of the documentation lead: the site has the documentation only.
const REPOSITORY: &str = "https://github.com/mcp-esptool/mcp-esptool/blob/main/";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn docs() -> PathBuf {
    root().join("docs")
}

/// All pages below `docs/`, by their paths from there.
fn pages() -> BTreeSet<PathBuf> {
    let (mut found, mut folders) = (BTreeSet::new(), vec![docs()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "md") {
                found.insert(path.strip_prefix(docs()).unwrap().to_owned());
            }
        }
    }
    found
}

/// The text without fenced code blocks and code spans, in which a link is an example.
fn prose(text: &str) -> String {
    let mut inside = false;
    let lines = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    Regex::new("`[^`\n]*`").unwrap().replace_all(&text, "code").into_owned()
}

/// What the links and pictures of a text lead to.
fn links(text: &str) -> Vec<String> {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    link.captures_iter(&prose(text)).map(|found| found[1].to_owned()).collect()
}

/// The anchors of a page, as mdBook and GitHub make them from headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut inside = false;
    let headings = text.lines().filter_map(|line| {
        inside ^= line.starts_with("```");
        line.strip_prefix('#').filter(|_| !inside).map(|rest| rest.trim_start_matches('#').trim().to_lowercase())
    });
    let kept = |letter: char| match letter {
        ' ' => Some('-'),
        letter if letter.is_alphanumeric() || "-_".contains(letter) => Some(letter),
        _ => None,
    };
    headings.map(|heading| heading.chars().filter_map(kept).collect()).collect()
}

/// `a/../b` as `b`.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut done, part| {
        if part == Component::ParentDir {
            done.pop();
        } else {
            done.push(part);
        }
        done
    })
}

/// What is wrong with a link of the page at `from` (a path from the repository's root). `inside`: it may only lead to
/// files below this folder.
fn fault(from: &Path, inside: &Path, link: &str) -> Option<String> {
    let dead = |why: &str| Some(format!("{}: {link}: {why}", from.display()));
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = match path.strip_prefix(REPOSITORY) {
        Some(path) => PathBuf::from(path),
        None if path.contains("://") || path.starts_with("mailto:") => return None,
        None if path.is_empty() => from.to_owned(),
        None => {
            let target = plain(&from.parent().unwrap().join(path));
            if !target.starts_with(inside) {
                return dead("is outside of the site: link to the repository");
            }
            target
        }
    };
    let Ok(text) = fs::read(root().join(&target)) else {
        return if root().join(&target).is_dir() { None } else { dead("there is no such file") };
    };
    if anchor.is_empty() || anchors(&String::from_utf8_lossy(&text)).contains(anchor) {
        return None;
    }
    dead("there is no such heading")
}

#[test]
fn summary_lists_every_page_once() {
    let summary = fs::read_to_string(docs().join("SUMMARY.md")).unwrap();
    let listed: Vec<PathBuf> = links(&summary).into_iter().map(PathBuf::from).collect();
    let once: BTreeSet<PathBuf> = listed.iter().cloned().collect();
    assert_eq!(listed.len(), once.len(), "a page is listed twice");
    let mut there = pages();
    there.remove(Path::new("SUMMARY.md"));
    assert_eq!(once, there);
}

#[test]
fn links_lead_to_pages_and_headings() {
    let mut faults = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(docs().join(&page)).unwrap();
        let from = Path::new("docs").join(&page);
        faults.extend(links(&text).iter().filter_map(|link| fault(&from, Path::new("docs"), link)));
    }
    for page in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "llms.txt"] {
        let text = fs::read_to_string(root().join(page)).unwrap();
        faults.extend(links(&text).iter().filter_map(|link| fault(Path::new(page), Path::new(""), link)));
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn dead_links_are_found() {
    let from = Path::new("docs/start/agent.md");
    let fault = |link: &str| fault(from, Path::new("docs"), link).is_some();
    assert!(!fault("../tools.md") && !fault("../policy.md#rules") && !fault("https://example.com/x"));
    assert!(fault("../no.md") && fault("../policy.md#no-such") && fault("../../README.md"));
    assert!(!fault(&format!("{REPOSITORY}README.md")) && fault(&format!("{REPOSITORY}NO.md")));
    assert_eq!(links("[a](b.md) `[c](d.md)`\n```\n[e](f.md)\n```\n"), ["b.md"]);
    assert!(anchors("# Say: what it's for\n```\n# not\n```\n").contains("say-what-its-for"));
}

/// Pages that say how many tools there are say the same as the generated one.
#[test]
fn pages_agree_on_the_number_of_tools() {
    let generated = fs::read_to_string(docs().join("tools.md")).unwrap();
    let count = generated.lines().filter(|line| line.starts_with("### `esp_")).count().to_string();
    for (page, pattern) in
        [("README.md", r"\| (\d+) tools, resources"), ("docs/comparison.md", r"\| tools \| (\d+), res")]
    {
        let text = fs::read_to_string(root().join(page)).unwrap();
        let found = Regex::new(pattern).unwrap().captures(&text).unwrap()[1].to_owned();
        assert_eq!(found, count, "{page}");
    }
}

#[test]
fn policy_page_names_every_rule() {
    let page = fs::read_to_string(docs().join("policy.md")).unwrap();
    // The parser lists what it knows when it meets what it does not.
    for unknown in ["nothing = 1", "[limits]\nnothing = 1"] {
        let error = toml::from_str::<Rules>(unknown).unwrap_err().to_string();
        let (_, listed) = error.split_once("expected one of").unwrap();
        let names: Vec<&str> = listed.split('`').skip(1).step_by(2).collect();
        assert!(names.len() >= 5, "{error}");
        for name in names {
            assert!(page.contains(&format!("| `{name}` |")) || name == "limits", "docs/policy.md lacks {name}");
        }
    }
    // Its example is a policy.
    let example = page.split("```toml").nth(1).unwrap().split("```").next().unwrap();
    toml::from_str::<Rules>(example).unwrap();
}

/// `sh docs/pictures/make.sh` renders them anew.
#[cfg(unix)]
#[test]
fn pictures_are_those_that_the_program_makes() {
    let dir = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_mcp-esptool")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut command = std::process::Command::new("sh");
    command.arg(docs().join("pictures/make.sh")).arg(dir.path()).env("PATH", path);
    if std::env::var_os("MCP_ESPTOOL_CORPUS").is_none() {
        command.env("MCP_ESPTOOL_CORPUS", root().join("../shared/corpus"));
    }
    let output = command.stdin(std::process::Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut made = 0;
    for entry in fs::read_dir(dir.path()).unwrap() {
        let (name, picture) =
            entry.map(|entry| (entry.file_name(), fs::read_to_string(entry.path()).unwrap())).unwrap();
        let kept = docs().join("pictures").join(&name);
        assert!(picture == fs::read_to_string(&kept).unwrap(), "{} is old", kept.display());
        assert!(picture.len() < 80_000 && picture.ends_with("</svg>\n"), "{}", kept.display());
        made += 1;
    }
    // Two of the three need files that are not in the repository.
    assert!(made >= 1, "nothing was drawn");
}

/// Where `mdbook` is: on the path, or where `.ci/run` puts tools.
fn mdbook() -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("tools/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).chain([tools]);
    places.find_map(|place| Some(place.join("mdbook")).filter(|program| program.is_file()))
}

/// The workflow `docs` does the same; without mdBook here the other tests look at links and contents.
#[test]
fn book_builds_without_warnings_and_has_every_picture() {
    let Some(mdbook) = mdbook() else {
        eprintln!("ignored: mdbook is not installed (cargo install mdbook)");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(mdbook);
    let output = command.arg("build").arg(root()).arg("--dest-dir").arg(dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("WARN") && !said.contains("ERROR"), "{said}");
    let source = Regex::new(r##"(?:src|href)="([^"#?:]+)(?:[#?][^"]*)?""##).unwrap();
    let mut dead = Vec::new();
    for page in pages() {
        let page = match page.to_str().unwrap() {
            "SUMMARY.md" => continue,
            "README.md" => PathBuf::from("index.html"),
            _ => page.with_extension("html"),
        };
        let html = fs::read_to_string(dir.path().join(&page)).unwrap();
        for found in source.captures_iter(&html) {
            let target = plain(&page.parent().unwrap().join(&found[1]));
            if !dir.path().join(&target).exists() {
                dead.push(format!("{}: {}", page.display(), &found[1]));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

#[test]
fn book_is_configured_for_these_pages() {
    let book: toml::Table = toml::from_str(&fs::read_to_string(root().join("book.toml")).unwrap()).unwrap();
    assert_eq!(book["book"]["src"].as_str(), Some("docs"));
    assert_eq!(book["build"]["create-missing"].as_bool(), Some(false));
}
