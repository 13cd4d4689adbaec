//! Finding the ELF file of an app by its SHA-256, below the project roots.

use std::fs;
use std::path::{Path, PathBuf};

use esp_model::symbols::Program;

use crate::ctx::Ctx;
use crate::tools::error::ToolError;

/// Folders are searched this deep.
const DEPTH: usize = 7;
/// At most this many ELF files are hashed in one search.
const MOST_FILES: usize = 200;
/// Folders that hold no app's ELF file.
const SKIPPED: &[&str] = &[".git", "node_modules", "managed_components", "bootloader", "esp-idf"];

/// An ELF file that was given or found.
pub struct ElfFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Given by the caller, or found by its hash.
    pub how: &'static str,
}

/// The named file; without a name, the one whose SHA-256 begins with `sha256`.
pub fn elf_file(ctx: &Ctx, named: Option<&str>, sha256: Option<&str>) -> Result<Option<ElfFile>, ToolError> {
    if let Some(name) = named {
        let bytes = ctx.files.read_some(name)?;
        return Ok(Some(ElfFile { path: ctx.files.input(name)?, bytes, how: "given" }));
    }
    let Some(sha256) = sha256.filter(|sha256| sha256.len() >= 8) else { return Ok(None) };
    let mut candidates = Vec::new();
    for root in ctx.files.roots() {
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

/// ELF files in a folder, the nearest first. Links are not followed.
fn collect(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut folders = Vec::new();
    for entry in entries.filter_map(Result::ok) {
        let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
        let name = entry.file_name().to_string_lossy().into_owned();
        if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
            folders.push(path);
        } else if kind.is_file() && path.extension().is_some_and(|ext| ext == "elf") && found.len() < MOST_FILES {
            found.push(path);
        }
    }
    if depth > 0 {
        folders.iter().for_each(|folder| collect(folder, depth - 1, found));
    }
}
