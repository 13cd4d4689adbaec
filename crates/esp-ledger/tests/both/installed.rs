//! PostgreSQL's programs, where they are installed, and whom they may run as. Other crates' tests use this file, too.

use std::fs;
use std::path::PathBuf;

/// Where Debian, Fedora and a PATH keep the server.
pub fn binaries() -> Option<PathBuf> {
    let given = std::env::var_os("MCP_ESPTOOL_PG_BIN").map(PathBuf::from);
    let mut places: Vec<PathBuf> = given.into_iter().collect();
    if let Ok(versions) = fs::read_dir("/usr/lib/postgresql") {
        places.extend(versions.filter_map(Result::ok).map(|entry| entry.path().join("bin")));
    }
    places.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    places.into_iter().find(|place| place.join("initdb").is_file() && place.join("postgres").is_file())
}

/// PostgreSQL refuses to run as root: another user's number, then.
pub fn unprivileged() -> Option<(u32, u32)> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().next()?.to_owned();
    if uid != "0" {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let of = |name: &str| {
        let line = users.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    of("postgres").or_else(|| of("nobody"))
}
