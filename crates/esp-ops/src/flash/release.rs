//! Builds as they are published: the manifest of ESP Web Tools, and the argument files of ESP-IDF.

use std::path::Path;

use serde::Deserialize;

use crate::Call;
use crate::args::{FileAt, Number, parse_number};
use crate::error::{Code, ToolError};
use crate::flash::header::Wanted;
use crate::flash::project::Project;

/// Names of ESP-IDF's argument files, the one of the whole project first.
pub const ARGUMENT_FILES: [&str; 3] = ["flash_args", "flash_project_args", "flash_app_args"];

/// `manifest.json` of ESP Web Tools.
#[derive(Deserialize)]
struct Manifest {
    builds: Vec<Build>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Build {
    chip_family: String,
    parts: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    path: String,
    offset: u64,
}

/// The text is such a manifest.
pub fn is_manifest(text: &str) -> bool {
    serde_json::from_str::<Manifest>(text).is_ok()
}

/// Reads a manifest; of builds for several chips the one that `chosen` names.
pub fn manifest(file: &Path, text: &str, chosen: Option<&str>) -> Result<Project, ToolError> {
    let shown = file.display();
    let bad = |what: String| ToolError::new(Code::NoProject, format!("{shown}: {what}"));
    let manifest: Manifest = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
    let plain = |name: &str| name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let families: Vec<&str> = manifest.builds.iter().map(|build| build.chip_family.as_str()).collect();
    let found = match (chosen, manifest.builds.as_slice()) {
        (Some(name), builds) => builds.iter().find(|build| plain(&build.chip_family) == plain(name)),
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    let build = found.ok_or_else(|| {
        let example = families.first().map_or_else(String::new, |family| plain(family));
        bad(format!("it has builds for {}", families.join(", "))).next(format!("name one: project={shown}#{example}"))
    })?;
    let mut files = Vec::new();
    for part in &build.parts {
        if part.path.contains("://") {
            return Err(
                bad(format!("the part {} is on a server", part.path)).next("download the parts beside the manifest")
            );
        }
        files.push(FileAt { path: beside(file, &part.path), address: Number(part.offset) });
    }
    files.sort_by_key(|file| file.address);
    Ok(Project { kind: "ESP Web Tools", files, chip: Some(plain(&build.chip_family)), ..Project::default() })
}

/// Reads an argument file of ESP-IDF: options, then `address file` in pairs.
pub fn arguments(call: &Call, file: &Path) -> Result<Project, ToolError> {
    let text = call.files.read_text(&file.display().to_string())?;
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    let mut files = Vec::new();
    let mut rest = words.iter().peekable();
    while let Some(word) = rest.next() {
        let address = parse_number(word).filter(|_| word.starts_with("0x"));
        if let (Some(address), Some(name)) = (address, rest.peek()) {
            files.push(FileAt { path: beside(file, name), address: Number(address) });
            rest.next();
        }
    }
    if files.is_empty() {
        return Err(ToolError::new(Code::NoProject, format!("{} names no address with a file", file.display())));
    }
    files.sort_by_key(|file| file.address);
    Ok(Project { kind: "ESP-IDF", files, settings: Wanted::from_arguments(&words), ..Project::default() })
}

/// A file beside another one, whatever parts its path on the computer that wrote it.
pub fn beside(file: &Path, name: &str) -> String {
    file.parent().unwrap_or(Path::new(".")).join(name.replace('\\', "/")).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = r#"{"name": "lamp", "builds": [
        {"chipFamily": "ESP32", "parts": [{"path": "a.bin", "offset": 4096}]},
        {"chipFamily": "ESP32-C3", "parts": [{"path": "sub\\b.bin", "offset": 65536}, {"path": "c.bin", "offset": 0}]}]}"#;

    #[test]
    fn one_build_of_a_manifest_is_chosen() {
        let file = Path::new("release/manifest.json");
        let error = manifest(file, TWO, None).unwrap_err();
        assert!(error.next_step.contains("release/manifest.json#esp32"), "{error}");
        let project = manifest(file, TWO, Some("esp32c3")).unwrap();
        let files: Vec<(u64, &str)> = project.files.iter().map(|file| (file.address.0, file.path.as_str())).collect();
        assert_eq!(files, [(0, "release/c.bin"), (0x1_0000, "release/sub/b.bin")]);
        assert_eq!(project.chip.as_deref(), Some("esp32c3"));
    }

    #[test]
    fn parts_on_a_server_are_refused() {
        let text = TWO.replace("a.bin", "https://example.org/a.bin");
        let error = manifest(Path::new("manifest.json"), &text, Some("ESP32")).unwrap_err();
        assert!(error.message.contains("on a server"), "{error}");
    }
}
