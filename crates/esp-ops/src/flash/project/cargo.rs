//! Rust's builds: the program that cargo linked last, below the target folder of a package.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;

use super::{names, several};
use crate::error::ToolError;

/// `Cargo.toml`, as far as it is needed.
#[derive(Deserialize)]
struct Manifest {
    package: Option<Package>,
    #[serde(default)]
    bin: Vec<Binary>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
}

#[derive(Deserialize)]
struct Binary {
    name: Option<String>,
}

/// The linked program of the package in this folder; none where it is no package or was not built for another machine.
pub fn program(path: &str, folder: &Path) -> Result<Option<PathBuf>, ToolError> {
    let Some(wanted) = programs(folder) else { return Ok(None) };
    let mut found: Vec<(SystemTime, String, PathBuf)> = Vec::new();
    for below in target_folders(folder) {
        // A target's folder, not that of programs for this computer.
        for target in names(&below).into_iter().filter(|name| name.contains('-')) {
            for profile in names(&below.join(&target)) {
                let profile = below.join(&target).join(profile);
                found.extend(
                    wanted
                        .iter()
                        .filter_map(|name| Some((built(&profile.join(name))?, name.clone(), profile.join(name)))),
                );
            }
        }
    }
    let different: BTreeSet<&String> = found.iter().map(|(_, name, _)| name).collect();
    if different.len() > 1 {
        let all: Vec<PathBuf> = found.iter().map(|(_, _, file)| file.clone()).collect();
        return Err(several(path, &all));
    }
    Ok(found.into_iter().max_by_key(|(time, ..)| *time).map(|(_, _, file)| file))
}

/// Names of the package's programs.
fn programs(folder: &Path) -> Option<BTreeSet<String>> {
    let manifest: Manifest = toml::from_str(&fs::read_to_string(folder.join("Cargo.toml")).ok()?).ok()?;
    let own = manifest.package.map(|package| package.name);
    Some(manifest.bin.into_iter().filter_map(|binary| binary.name).chain(own).collect())
}

/// Where cargo puts what it builds: the folder that this environment names (the builder's may name none), and those of
/// the package or of the workspace above it.
fn target_folders(folder: &Path) -> Vec<PathBuf> {
    let named = std::env::var_os("CARGO_TARGET_DIR").map(|named| folder.join(named));
    let usual = folder.ancestors().take(3).map(|above| above.join("target"));
    named.into_iter().chain(usual).filter(|target| target.is_dir()).collect()
}

/// When the program was built; none where this is not one.
fn built(file: &Path) -> Option<SystemTime> {
    let about = fs::metadata(file).ok().filter(fs::Metadata::is_file)?;
    about.modified().ok()
}
