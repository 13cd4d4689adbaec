//! Tells the program the date of its source.

use std::process::Command;

fn main() {
    println!("cargo::rustc-env=SOURCE_DATE={}", source_date());
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
