//! Finds Espressif's QEMU and asks it what it can do.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::VirtualError;

/// Where to look, most wanted first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// Programs or directories from the configuration.
    pub configured: Vec<PathBuf>,
    /// ESP-IDF tool directories, those with `tools/qemu-xtensa/VERSION/qemu/bin` in them.
    pub idf: Vec<PathBuf>,
    /// The directories of `PATH`.
    pub path: Vec<PathBuf>,
}

impl Places {
    /// The usual places: `IDF_TOOLS_PATH` (or `~/.espressif`), `/opt/esp` of Espressif's containers, `PATH`.
    pub fn usual(configured: Vec<PathBuf>) -> Self {
        let home = std::env::var_os("HOME").or_else(|| std::env::var_os("USERPROFILE")).map(PathBuf::from);
        let tools = std::env::var_os("IDF_TOOLS_PATH").map(PathBuf::from);
        let idf = [tools, home.map(|home| home.join(".espressif")), Some("/opt/esp".into())];
        let path = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
        Self { configured, idf: idf.into_iter().flatten().collect(), path }
    }

    fn names(&self) -> Vec<String> {
        let shown = self.configured.iter().chain(&self.idf).map(|dir| dir.display().to_string());
        shown.chain(["PATH".to_string()]).collect()
    }
}

/// A QEMU on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// Its name, which says for which architecture it is: `qemu-system-riscv32`.
    pub program: String,
    /// The version that its directory names (`esp_develop_9.2.2_20260417`); empty elsewhere.
    pub version: String,
}

/// All QEMUs of these places, the best of each program first: configured ones, then by version, then those of `PATH`.
pub fn find(places: &Places) -> Vec<Found> {
    let mut found = Vec::new();
    for place in &places.configured {
        add(&mut found, place, "");
        for dir in ["", "bin", "qemu/bin"] {
            in_directory(&mut found, &place.join(dir), "");
        }
    }
    let mut installed = Vec::new();
    for tools in &places.idf {
        for tool in entries(&tools.join("tools")).iter().filter(|tool| name(tool).starts_with("qemu-")) {
            for version in entries(tool) {
                in_directory(&mut installed, &version.join("qemu/bin"), &name(&version));
            }
        }
    }
    installed.sort_by(|a, b| compare_versions(&b.version, &a.version));
    found.extend(installed);
    for dir in &places.path {
        in_directory(&mut found, dir, "");
    }
    let mut seen = std::collections::HashSet::new();
    // A folder can be a link to another one.
    found.retain(|one| seen.insert(one.path.canonicalize().unwrap_or_else(|_| one.path.clone())));
    found
}

fn in_directory(found: &mut Vec<Found>, dir: &Path, version: &str) {
    for path in entries(dir) {
        add(found, &path, version);
    }
}

fn add(found: &mut Vec<Found>, path: &Path, version: &str) {
    let program = name(path).trim_end_matches(".exe").to_string();
    if program.starts_with("qemu-system-") && path.is_file() {
        found.push(Found { path: path.to_path_buf(), program, version: version.to_string() });
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Compares versions by their numbers, in order: `9.10` is later than `9.2`.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    let numbers = |text: &str| -> Vec<u64> {
        let runs = text.split(|c: char| !c.is_ascii_digit()).filter(|run| !run.is_empty());
        runs.map(|run| run.parse().unwrap_or(u64::MAX)).collect()
    };
    numbers(a).cmp(&numbers(b))
}

/// What a QEMU says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Abilities {
    /// The machines it emulates.
    pub machines: Vec<String>,
}

/// Asks a QEMU for its machines.
pub fn probe(found: &Found) -> Result<Abilities, VirtualError> {
    let program = found.path.display().to_string();
    let broken = |what: String| {
        let package = missing_library(&what).and_then(|library| package_of(&library)).map(str::to_string);
        VirtualError::BrokenProgram { program: program.clone(), what, package }
    };
    let output =
        run(Command::new(&found.path).args(["-machine", "help"])).map_err(|error| broken(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
        return Err(broken(if said.is_empty() { output.status.to_string() } else { said }));
    }
    let rows = text.lines().skip_while(|line| !line.starts_with("Supported machines")).skip(1);
    let machines = rows.filter_map(|row| row.split_whitespace().next().map(str::to_string)).collect();
    Ok(Abilities { machines })
}

/// Runs a program that should answer at once; kills it after ten seconds.
fn run(command: &mut Command) -> io::Result<Output> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let until = Instant::now() + Duration::from_secs(10);
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if Instant::now() >= until => {
                child.kill()?;
                child.wait()?;
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer to -machine help in 10 s"));
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let text = |reader: std::thread::JoinHandle<Vec<u8>>| reader.join().unwrap_or_default();
    Ok(Output { status, stdout: text(stdout), stderr: text(stderr) })
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.map(|pipe| pipe.take(1 << 20).read_to_end(&mut bytes));
        bytes
    })
}

/// The library that the dynamic loader misses, from its message.
fn missing_library(message: &str) -> Option<String> {
    let rest = message.split("error while loading shared libraries: ").nth(1)?;
    rest.split(':').next().map(str::to_string)
}

/// The Debian and Ubuntu package of a library that Espressif's QEMU needs (Espressif's QEMU documentation).
fn package_of(library: &str) -> Option<&'static str> {
    const PACKAGES: &[(&str, &str)] = &[
        ("libgcrypt", "libgcrypt20"),
        ("libglib-2.0", "libglib2.0-0"),
        ("libgthread-2.0", "libglib2.0-0"),
        ("libgmodule-2.0", "libglib2.0-0"),
        ("libpixman-1", "libpixman-1-0"),
        ("libSDL2", "libsdl2-2.0-0"),
        ("libslirp", "libslirp0"),
    ];
    PACKAGES.iter().find(|(start, _)| library.starts_with(start)).map(|(_, package)| *package)
}

/// The best QEMU that has `machine`; why none has, otherwise. An installed program that does not run is an error of
/// its own: the user wants to know.
pub fn choose(places: &Places, chip: &str, program: &str, machine: &str) -> Result<Found, VirtualError> {
    let mut problem = None;
    let mut others: BTreeMap<String, usize> = BTreeMap::new();
    for found in find(places).into_iter().filter(|found| found.program == program) {
        match probe(&found) {
            Ok(abilities) if abilities.machines.iter().any(|m| m == machine) => return Ok(found),
            Ok(_) => *others.entry(found.path.display().to_string()).or_default() += 1,
            Err(error) => problem = problem.or(Some(error)),
        }
    }
    let lacking = others.into_keys().map(|path| format!("{path} (which lacks the machine {machine})"));
    let looked_in = places.names().into_iter().chain(lacking).collect();
    Err(problem.unwrap_or(VirtualError::NotInstalled { chip: chip.into(), looked_in }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        let mut versions = [
            "esp_develop_9.2.2_20260417",
            "esp_develop_9.10.0_20250101",
            "esp_develop_8.2.0_20240122",
            "esp_develop_9.2.2_20250228",
            "",
        ];
        versions.sort_by(|a, b| compare_versions(b, a));
        assert_eq!(
            versions,
            [
                "esp_develop_9.10.0_20250101",
                "esp_develop_9.2.2_20260417",
                "esp_develop_9.2.2_20250228",
                "esp_develop_8.2.0_20240122",
                ""
            ]
        );
    }

    #[test]
    fn names_the_package_of_a_missing_library() {
        let said = "qemu-system-xtensa: error while loading shared libraries: libslirp.so.0: cannot open shared \
                    object file: No such file or directory";
        assert_eq!(missing_library(said).as_deref(), Some("libslirp.so.0"));
        assert_eq!(package_of("libslirp.so.0"), Some("libslirp0"));
        assert_eq!(package_of("libSDL2-2.0.so.0"), Some("libsdl2-2.0-0"));
        assert_eq!(missing_library("something else"), None);
    }

    #[test]
    fn looks_everywhere_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let file = |path: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            path
        };
        let old = file("idf/tools/qemu-xtensa/esp_develop_9.2.2_20250228/qemu/bin/qemu-system-xtensa");
        let new = file("idf/tools/qemu-xtensa/esp_develop_9.10.0_20250101/qemu/bin/qemu-system-xtensa");
        let riscv = file("idf/tools/qemu-riscv32/esp_develop_9.2.2_20250228/qemu/bin/qemu-system-riscv32");
        let mine = file("mine/bin/qemu-system-xtensa");
        let other = file("usr/bin/qemu-system-xtensa");
        file("usr/bin/qemu-img");
        file("idf/tools/xtensa-esp-elf/x/bin/gcc");
        let places = Places {
            configured: vec![dir.path().join("mine")],
            idf: vec![dir.path().join("idf"), dir.path().join("nowhere")],
            path: vec![dir.path().join("usr/bin")],
        };
        let found = find(&places);
        let xtensa: Vec<_> = found.iter().filter(|f| f.program == "qemu-system-xtensa").map(|f| &f.path).collect();
        assert_eq!(xtensa, [&mine, &new, &old, &other]);
        assert!(found.iter().any(|f| f.path == riscv));
        assert_eq!(found.len(), 5);
    }

    #[test]
    fn says_that_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places { configured: vec![dir.path().into()], ..Places::default() };
        let error = choose(&places, "x", "qemu-system-x", "x").unwrap_err();
        assert!(matches!(&error, VirtualError::NotInstalled { looked_in, .. } if looked_in.len() == 2), "{error}");
    }
}
