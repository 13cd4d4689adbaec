//! Tells the program the date of its source, and takes the documents in, which are resources over MCP.
#![allow(clippy::expect_used)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rustc-env=SOURCE_DATE={}", source_date());
    let folder = PathBuf::from(std::env::var_os("OUT_DIR").expect("OUT_DIR"));
    std::fs::write(folder.join("documents.rs"), documents()).expect("documents.rs");
}

/// The documents as `(name, text)`.
fn documents() -> String {
    // `docs` is a link, which a published package holds as a folder; Windows may have checked it out as a file.
    let folder = ["docs", "../../docs"].map(|name| std::env::current_dir().expect("a folder").join(name));
    let folder = folder.into_iter().find(|folder| folder.is_dir()).expect("the folder docs");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut found = Vec::new();
    collect(&folder, &folder, &mut found);
    found.sort();
    let mut out = String::from("&[\n");
    for (name, path) in found {
        println!("cargo::rerun-if-changed={}", path.display());
        let _ = writeln!(out, "    ({name:?}, include_str!({:?})),", path.display().to_string());
    }
    out + "]"
}

fn collect(top: &Path, folder: &Path, found: &mut Vec<(String, PathBuf)>) {
    for entry in std::fs::read_dir(folder).expect("the folder docs") {
        let path = entry.expect("an entry of docs").path();
        if path.is_dir() {
            collect(top, &path, found);
            continue;
        }
        let inside = path.strip_prefix(top).expect("below docs").with_extension("");
        let name = inside.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/");
        // The table of contents of the site says nothing by itself.
        if path.extension().is_some_and(|end| end == "md") && name != "SUMMARY" {
            found.push((name, path));
        }
    }
}

/// When the source was last changed, in seconds since 1970, as packagers say it or the commit does; empty where neither
/// is known.
fn source_date() -> String {
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let of_commit = || {
        let git = Command::new("git").args(["log", "-1", "--format=%ct"]).output().ok()?;
        git.status.success().then(|| String::from_utf8_lossy(&git.stdout).trim().to_owned())
    };
    let date = std::env::var("SOURCE_DATE_EPOCH").ok().or_else(of_commit).unwrap_or_default();
    if date.bytes().all(|byte| byte.is_ascii_digit()) { date } else { String::new() }
}
