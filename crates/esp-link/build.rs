//! Collects the stub binaries (esp-flasher-stub) and stock second-stage bootloaders (ESP-IDF, Apache-2.0) from the
//! published `espflash` package (MIT OR Apache-2.0).
//!
//! The package is a dependency for a target that does not exist: cargo fetches it but never compiles it.
//! Without it the build fails, unless MCP_ESPTOOL_WITHOUT_RESOURCES is set: the client is then limited to the ROM loader
//! where no `stub_dir` is given.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

/// The version in Cargo.toml.
const VERSION: &str = "4.7.0";
/// Set: a build without the package's files is wanted.
const WITHOUT: &str = "MCP_ESPTOOL_WITHOUT_RESOURCES";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=Cargo.toml");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var("OUT_DIR").map_err(io::Error::other)?);
    let (mut list, mut bootloaders) = (String::from("&[\n"), String::from("&[\n"));
    match package_folder("espflash") {
        Some(folder) => {
            for (name, path) in stock_bootloaders(&folder.join("resources/bootloaders"))? {
                let copy = out.join(format!("{name}.bin"));
                fs::copy(path, &copy)?;
                bootloaders += &format!("({name:?}, include_bytes!({copy:?}) as &[u8]),\n");
            }
            for (name, text) in stubs(&folder.join("resources/stubs"))? {
                let copy = out.join(format!("{name}.toml"));
                fs::write(&copy, text)?;
                list += &format!("({name:?}, include_str!({copy:?})),\n");
            }
        }
        None => missing(),
    }
    list.push(']');
    bootloaders.push(']');
    fs::write(out.join("bootloaders.rs"), bootloaders)?;
    fs::write(out.join("stubs.rs"), list)
}

/// A program that lacks them works differently: the build does not go on without being told to.
fn missing() {
    println!("cargo::rerun-if-env-changed={WITHOUT}");
    if env::var_os(WITHOUT).is_none() {
        println!("cargo::error=the espflash package was not found: no stubs would be built in");
        println!("cargo::error=run `cargo fetch` where there is a network, or set {WITHOUT}=1 to build without them");
    }
}

/// Where cargo keeps the source of a package of our dependency graph: beside this one, where both come from a registry or
/// a vendored folder, else where cargo says. Without network first.
fn package_folder(name: &str) -> Option<PathBuf> {
    let own = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?);
    let beside = [name.to_owned(), format!("{name}-{VERSION}")].map(|folder| own.with_file_name(folder));
    let is_it = |folder: &&PathBuf| {
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
        manifest.contains(&format!("\nversion = \"{VERSION}\""))
    };
    beside.iter().find(is_it).cloned().or_else(|| asked(name))
}

fn asked(name: &str) -> Option<PathBuf> {
    [&["--offline"][..], &[]].into_iter().find_map(|extra| {
        let mut cargo = Command::new(env::var_os("CARGO")?);
        cargo.args(["metadata", "--format-version", "1", "--manifest-path"]);
        cargo.arg(Path::new(&env::var_os("CARGO_MANIFEST_DIR")?).join("Cargo.toml")).args(extra);
        let metadata: serde_json::Value = serde_json::from_slice(&cargo.output().ok()?.stdout).ok()?;
        let package = metadata["packages"].as_array()?.iter().find(|package| package["name"] == name)?;
        Some(Path::new(package["manifest_path"].as_str()?).parent()?.to_path_buf())
    })
}

fn stubs(folder: &Path) -> io::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if let (Some(name), true) = (path.file_stem(), path.extension().is_some_and(|end| end == "toml")) {
            found.push((name.to_string_lossy().into_owned(), fs::read_to_string(&path)?));
        }
    }
    found.sort();
    Ok(found)
}

/// Names without `-bootloader.bin`, and paths.
fn stock_bootloaders(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if let Some(name) = name.strip_suffix("-bootloader.bin") {
            found.push((name.to_owned(), path));
        }
    }
    found.sort();
    Ok(found)
}
