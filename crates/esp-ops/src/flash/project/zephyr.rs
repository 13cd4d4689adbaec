//! Zephyr's builds: `zephyr/runners.yaml` says what `west flash` would write where, `domains.yaml` which images there are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use esp_model::image;
use serde::Deserialize;

use super::Project;
use crate::Call;
use crate::args::{FileAt, Number, parse_number};
use crate::error::{Code, ToolError};
use crate::flash::header::Wanted;

/// Where `west flash` puts the app unless the board says otherwise.
const APP_ADDRESS: u64 = 0x1_0000;
/// What begins the arguments that are esptool's under another name.
const PREFIX: &str = "--esp-";

/// `runners.yaml`, as far as it is needed.
#[derive(Deserialize)]
struct Runners {
    config: Files,
    /// Arguments by the runner's name; ours is the one whose arguments begin with `PREFIX`.
    #[serde(default)]
    args: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Files {
    bin_file: Option<String>,
}

/// `domains.yaml`: the images of a build with a bootloader of its own.
#[derive(Deserialize)]
struct Domains {
    domains: Vec<Domain>,
    #[serde(default)]
    flash_order: Vec<String>,
}

#[derive(Deserialize)]
struct Domain {
    name: String,
    build_dir: PathBuf,
}

/// The build in this folder; none where it is not Zephyr's.
pub fn read(call: &Call, build: &Path) -> Result<Option<Project>, ToolError> {
    let folders = folders(build)?;
    let runners: Vec<PathBuf> =
        folders.iter().map(|folder| folder.join("zephyr/runners.yaml")).filter(|file| file.is_file()).collect();
    if runners.is_empty() {
        return Ok(None);
    }
    let mut project = Project { kind: "Zephyr", ..Project::default() };
    for file in &runners {
        add(call, file, &mut project)?;
    }
    Ok(Some(project))
}

/// The folders of all images, in the order in which they are written.
fn folders(build: &Path) -> Result<Vec<PathBuf>, ToolError> {
    let file = build.join("domains.yaml");
    let Ok(text) = fs::read_to_string(&file) else { return Ok(vec![build.to_path_buf()]) };
    let found: Domains = parsed(&file, &text)?;
    let order = |domain: &Domain| found.flash_order.iter().position(|name| *name == domain.name);
    let mut domains: Vec<&Domain> = found.domains.iter().collect();
    domains.sort_by_key(|domain| order(domain).unwrap_or(usize::MAX));
    // The build may have been moved since: its folders lie below it.
    let here = |domain: &Domain| match build.join(&domain.name) {
        near if near.is_dir() => near,
        _ => domain.build_dir.clone(),
    };
    Ok(domains.into_iter().map(here).collect())
}

fn add(call: &Call, file: &Path, project: &mut Project) -> Result<(), ToolError> {
    let Runners { config, args } = parsed(file, &call.files.read_text(&file.display().to_string())?)?;
    let bad = |what: String| ToolError::new(Code::NoProject, format!("{}: {what}", file.display()));
    let pairs: Vec<(&str, &str)> =
        args.values().flatten().filter_map(|word| word.strip_prefix(PREFIX)?.split_once('=')).collect();
    let value = |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    let address = match value("app-address") {
        Some(text) => parse_number(text).ok_or_else(|| bad(format!("`{text}` is not an address")))?,
        None => APP_ADDRESS,
    };
    let folder = file.parent().unwrap_or(Path::new(""));
    let signed = folder.join("zephyr.signed.bin");
    let plain = folder.join(config.bin_file.as_deref().unwrap_or("zephyr.bin"));
    let app = if signed.is_file() { signed } else { plain }.display().to_string();
    let chip = image::detect(&call.files.read_some(&app)?).ok();
    project.chip = project.chip.take().or(chip.map(|chip| chip.id.into()));
    project.files.push(FileAt { path: app, address: Number(address) });
    let setting = |name: &str| value(name).map(String::from);
    project.settings = std::mem::take(&mut project.settings).or(&Wanted {
        mode: setting("flash-mode"),
        size: setting("flash-size"),
        frequency: setting("flash-freq"),
    });
    Ok(())
}

fn parsed<T: for<'de> Deserialize<'de>>(file: &Path, text: &str) -> Result<T, ToolError> {
    let bad = |error: String| ToolError::new(Code::NoProject, format!("{}: {error}", file.display()));
    serde_yaml_ng::from_str(text).map_err(|error| bad(error.to_string()))
}
