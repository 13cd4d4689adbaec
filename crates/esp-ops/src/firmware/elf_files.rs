//! Finding the ELF file of an app by its SHA-256: in a store of released apps, then below the project roots.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use esp_debug::symbols::Program;

use crate::Call;
use crate::error::ToolError;

/// Folders are searched this deep.
const DEPTH: usize = 7;
/// At most this many ELF files are hashed in one search.
const MOST_FILES: usize = 200;
/// Folders that hold no app's ELF file.
const SKIPPED: &[&str] = &[".git", "node_modules", "managed_components", "bootloader", "esp-idf"];

/// `e_machine` of the two instruction sets.
const EM_XTENSA: u16 = 94;
const EM_RISCV: u16 = 243;

/// An ELF file that was given or found.
pub struct ElfFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Given by the caller, or found by its hash.
    pub how: &'static str,
}

/// The named file; without a name, the one whose SHA-256 begins with `sha256`, also in further folders.
pub fn elf_file(
    call: &Call,
    named: Option<&str>,
    sha256: Option<&str>,
    dirs: &[PathBuf],
) -> Result<Option<ElfFile>, ToolError> {
    if let Some(name) = named {
        let bytes = call.files.read_some(name)?;
        return Ok(Some(ElfFile { path: call.files.input(name)?, bytes, how: "given" }));
    }
    let Some(sha256) = sha256.filter(|sha256| sha256.len() >= 8) else { return Ok(None) };
    let stores: Vec<PathBuf> = dirs.iter().cloned().chain(call.config.elf_directories()).collect();
    let mut candidates: Vec<PathBuf> = stores.iter().flat_map(|store| stored(store, sha256)).collect();
    for root in stores.iter().chain(call.files.roots()) {
        collect(root, DEPTH, &mut candidates);
    }
    for path in candidates {
        let Ok(bytes) = fs::read(&path) else { continue };
        if Program::parse(&bytes).is_ok_and(|program| program.is_app(sha256)) {
            return Ok(Some(ElfFile { path, bytes, how: "found by SHA-256" }));
        }
    }
    Ok(None)
}

/// Files of a store that are named by the hash or its beginning, whole or parted behind two digits as build ids are:
/// `0123…ef.elf`, `01/23…ef.elf`, `.build-id/01/23…ef.debug`.
fn stored(store: &Path, sha256: &str) -> Vec<PathBuf> {
    let sha256 = sha256.to_ascii_lowercase();
    let (first, rest) = sha256.split_at(2);
    let places = [
        (store.to_path_buf(), sha256.as_str()),
        (store.join(first), rest),
        (store.join(".build-id").join(first), rest),
    ];
    let mut found = Vec::new();
    for (folder, name) in places {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        let named = |entry: &fs::DirEntry| {
            let file = entry.file_name().to_string_lossy().to_ascii_lowercase();
            let stem = file.split('.').next().unwrap_or_default();
            // The device may have printed less of the hash than the file's name has, or more.
            stem.len() >= 6 && (stem.starts_with(name) || name.starts_with(stem))
        };
        found.extend(entries.filter_map(Result::ok).filter(named).map(|entry| entry.path()));
    }
    found
}

/// A file without an ending that begins as an ELF file for one of these chips: programs in Rust have none.
fn is_bare_elf(path: &Path) -> bool {
    let mut head = [0; 20];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut head));
    let machine = u16::from_le_bytes([head[18], head[19]]);
    read.is_ok() && head.starts_with(b"\x7fELF\x01\x01") && matches!(machine, EM_XTENSA | EM_RISCV)
}

/// ELF files in a folder, the nearest first. Links are not followed.
fn collect(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut folders = Vec::new();
    for entry in entries.filter_map(Result::ok) {
        let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
        let name = entry.file_name().to_string_lossy().into_owned();
        if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
            folders.push(path);
        } else if kind.is_file() && found.len() < MOST_FILES {
            let is_elf = match path.extension() {
                Some(extension) => extension == "elf",
                None => is_bare_elf(&path),
            };
            found.extend(is_elf.then_some(path));
        }
    }
    if depth > 0 {
        folders.iter().for_each(|folder| collect(folder, depth - 1, found));
    }
}
