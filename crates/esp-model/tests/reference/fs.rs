//! File systems made by littlefs-python, ESP-IDF's generators, dosfstools and mtools.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use esp_model::fs::{Kind, identify};
use libtest_mimic::Trial;
use serde::Deserialize;

use crate::reference::{self, Skip, Stop, fail, trial};

pub fn trials() -> Vec<Trial> {
    vec![trial("fs: LittleFS, SPIFFS and FAT of other tools", images)]
}

#[derive(Deserialize)]
struct Made {
    cases: Vec<Case>,
    missing: Vec<String>,
}

#[derive(Deserialize)]
struct Case {
    image: String,
    kind: String,
    /// SHA-256 by path.
    files: BTreeMap<String, String>,
    folders: Vec<String>,
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn images() -> Result<(), Stop> {
    let folder = reference::scratch("fs");
    let script = reference::root().join("crates/esp-model/tests/reference/fs_oracle.py");
    let seed = std::env::var("MCP_ESPTOOL_SEED").unwrap_or_else(|_| "1".into());
    let mut python = Command::new(reference::fs_python()?);
    python.arg(script).arg(&folder).arg(seed).args(std::env::var_os("IDF_PATH"));
    let made: Made = serde_json::from_slice(&reference::run(&mut python)?.stdout)?;
    for case in &made.cases {
        let image = fs::read(folder.join(&case.image))?;
        let Some(found) = identify(&image) else { return fail(format!("{}: not recognised", case.image)) };
        let kind = match found.kind {
            Kind::Littlefs => "littlefs",
            Kind::Spiffs => "spiffs",
            Kind::Fat => "fat",
        };
        if kind != case.kind || !found.findings.is_empty() {
            return fail(format!("{}: {kind}, {:?}", case.image, found.findings));
        }
        let (folders, files): (Vec<_>, Vec<_>) = found.entries.iter().partition(|entry| entry.is_folder);
        let files: BTreeMap<_, _> =
            files.into_iter().map(|file| (file.path.clone(), sha256(&file.read(&image)))).collect();
        let mut folders: Vec<_> = folders.into_iter().map(|folder| folder.path.clone()).collect();
        folders.sort();
        if files != case.files || folders != case.folders {
            let (want, wanted) = (&case.files, &case.folders);
            return fail(format!("{}: {files:#?} {folders:?}, not {want:#?} {wanted:?}", case.image));
        }
    }
    if made.missing.is_empty() { Ok(()) } else { Err(Skip(made.missing.join(", ")).into()) }
}
