//! What a build folder says about where its files go.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::ctx::Ctx;
use crate::tools::args::{FileAt, Number, parse_number};
use crate::tools::error::ToolError;

/// ESP-IDF's `flasher_args.json`, as far as it is needed.
#[derive(Deserialize)]
struct FlasherArgs {
    flash_files: BTreeMap<String, String>,
    #[serde(default)]
    extra_esptool_args: Extra,
}

#[derive(Default, Deserialize)]
struct Extra {
    chip: Option<String>,
}

/// The files of a build, and the chip it is for when it says so.
pub struct Project {
    /// Files and their addresses.
    pub files: Vec<FileAt>,
    /// The chip's name, as the build spells it.
    pub chip: Option<String>,
}

/// Reads an ESP-IDF build: its folder, the project's folder above it, or `flasher_args.json` itself.
pub fn read(ctx: &Ctx, path: &str) -> Result<Project, ToolError> {
    let given = ctx.files.input(path)?;
    let places = [given.clone(), given.join("flasher_args.json"), given.join("build").join("flasher_args.json")];
    let Some(file) = places.iter().find(|place| place.is_file()) else {
        let text = format!("`{path}` is no ESP-IDF build: it has no flasher_args.json");
        return Err(ToolError::new("no_project", text));
    };
    let bad = |error: String| ToolError::new("no_project", format!("{}: {error}", file.display()));
    let text = ctx.files.read_text(&file.display().to_string())?;
    let args: FlasherArgs = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut files = Vec::new();
    for (address, name) in &args.flash_files {
        let address = parse_number(address).ok_or_else(|| bad(format!("`{address}` is no address")))?;
        files.push(FileAt { path: folder.join(name).display().to_string(), address: Number(address) });
    }
    files.sort_by_key(|file| file.address);
    Ok(Project { files, chip: args.extra_esptool_args.chip })
}
