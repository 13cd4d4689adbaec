//! Builds as they are published: the manifest of ESP Web Tools, and the argument files of ESP-IDF.

use std::path::Path;

use esp_model::chip;
use esp_model::image::zip;
use serde::Deserialize;

use crate::Call;
use crate::args::{FileAt, Number, parse_number};
use crate::error::{Code, ToolError};
use crate::flash::header::Wanted;
use crate::flash::project::Project;

/// Names of ESP-IDF's argument files, the one of the whole project first.
pub const ARGUMENT_FILES: [&str; 3] = ["flash_args", "flash_project_args", "flash_app_args"];

/// Names of a zip archive that are shown.
const ZIP_SHOWN: usize = 6;

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
    offset: Number,
}

/// The text is such a manifest.
pub fn is_manifest(text: &str) -> bool {
    serde_json::from_str::<Manifest>(text).is_ok()
}

/// The text describes a build: such a manifest, or `flasher_args.json` of ESP-IDF.
pub fn is_build(text: &str) -> bool {
    let is_idf = |json: serde_json::Value| json.get("flash_files").is_some_and(serde_json::Value::is_object);
    is_manifest(text) || serde_json::from_str(text).is_ok_and(is_idf)
}

/// What texts and archives of published builds hold, in words. None: the bytes are none of these.
pub fn described(bytes: &[u8]) -> Option<String> {
    if let Some(names) = zip::names(bytes).filter(|_| bytes.starts_with(b"PK")) {
        let firmware = |name: &&String| {
            let name = name.to_ascii_lowercase();
            name.ends_with(".bin") || name.ends_with("manifest.json") || name.ends_with("flasher_args.json")
        };
        let (firmware, more): (Vec<&String>, Vec<&String>) = names.iter().partition(firmware);
        let shown: Vec<&str> = firmware.iter().take(ZIP_SHOWN).map(|name| name.as_str()).collect();
        let rest = firmware.len().saturating_sub(ZIP_SHOWN) + more.len();
        return Some(format!(
            "a zip archive of {} files ({}{}): unpack it; a manifest.json or flasher_args.json in it is given as project, a \
             single .bin in files (a merged or factory image at address 0)",
            names.len(),
            shown.join(", "),
            if rest > 0 { format!(" and {rest} more") } else { String::new() }
        ));
    }
    described_text(std::str::from_utf8(bytes).ok()?.trim_start_matches('\u{feff}'))
}

/// What a text of a published build is, in words: a manifest, or one of ESP-IDF's files. None: none of these.
fn described_text(text: &str) -> Option<String> {
    let give = "give this file to esp_flash_firmware as project";
    if let Ok(manifest) = serde_json::from_str::<Manifest>(text) {
        let builds: Vec<String> = manifest.builds.iter().map(build_text).collect();
        return Some(format!("manifest of ESP Web Tools; {}: {give} (its parts beside it)", builds.join("; ")));
    }
    let json = serde_json::from_str::<serde_json::Value>(text).ok();
    if json.is_some_and(|json| json.get("flash_files").is_some()) {
        return Some("flasher_args.json of an ESP-IDF build: give its folder to esp_flash_firmware as project".into());
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    let pair =
        |pair: &[&str]| pair[0].starts_with("0x") && parse_number(pair[0]).is_some() && pair[1].ends_with(".bin");
    words.windows(2).any(pair).then(|| format!("argument file of an ESP-IDF build (addresses and files): {give}"))
}

/// A build with its parts; a bootloader that does not belong where it stands is named.
fn build_text(build: &Build) -> String {
    let chip = chip::by_name(&build.chip_family);
    let parts = build.parts.iter().map(|part| {
        let home = chip.map(|chip| u64::from(chip.bootloader_offset));
        let home = home.filter(|home| part.path.to_ascii_lowercase().contains("bootloader") && part.offset.0 != *home);
        let wrong = home.map_or_else(String::new, |home| format!(" (the bootloader belongs at {home:#x})"));
        format!("{} at {:#x}{wrong}", part.path, part.offset.0)
    });
    format!("{}: {}", build.chip_family, parts.collect::<Vec<_>>().join(", "))
}

/// A manifest with builds for several chips.
pub fn has_several_builds(text: &str) -> bool {
    serde_json::from_str::<Manifest>(text).is_ok_and(|manifest| manifest.builds.len() > 1)
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
        let has = format!("it has builds for {}", families.join(", "));
        match chosen {
            Some(name) => bad(format!("{has}, not for {name}")).next(
                "take a release that has a build for this chip, or choose the port of a board that this one is for",
            ),
            None => bad(has).next(format!("name one: project={shown}#{example}")),
        }
    })?;
    let mut files = Vec::new();
    for part in &build.parts {
        if part.path.contains("://") {
            return Err(
                bad(format!("the part {} is on a server", part.path)).next("download the parts beside the manifest")
            );
        }
        files.push(FileAt { path: beside(file, &part.path), address: part.offset });
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

/// A file beside another one, whatever parts its path on the computer that wrote it. Of a path of that computer, or of a
/// web server, the longest end that is here counts.
pub fn beside(file: &Path, name: &str) -> String {
    let folder = file.parent().unwrap_or(Path::new("."));
    let plain = name.replace('\\', "/");
    let plain = plain.split_once('?').map_or(plain.as_str(), |(path, _)| path);
    let named = folder.join(plain);
    let ends = plain.match_indices('/').filter_map(|(at, _)| plain.get(at + 1..)).map(|end| folder.join(end));
    let here = std::iter::once(named.clone()).chain(ends).find(|path| path.is_file());
    here.unwrap_or(named).display().to_string()
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
    fn published_texts_are_described_text() {
        let text = described_text(TWO).unwrap();
        assert!(text.contains("ESP32-C3: sub\\b.bin at 0x10000, c.bin at 0x0"), "{text}");
        let wrong = TWO.replace("c.bin\", \"offset\": 0", "bootloader.bin\", \"offset\": 4096");
        assert!(described_text(&wrong).unwrap().contains("bootloader.bin at 0x1000 (the bootloader belongs at 0x0)"));
        assert!(described_text("--flash_mode dio\n0x0 bootloader/bootloader.bin\n").unwrap().contains("argument file"));
        assert!(described_text("{\"flash_files\": {}}").unwrap().contains("flasher_args.json"));
        assert!(described_text("{\"message\": \"Not Found\"}").is_none() && described_text("404: Not Found").is_none());
    }

    #[test]
    fn paths_of_another_computer_and_of_a_server_are_found_beside_the_manifest() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("boot")).unwrap();
        for name in ["boot/bootloader.bin", "app.bin"] {
            std::fs::write(dir.path().join(name), b"x").unwrap();
        }
        let file = dir.path().join("manifest.json");
        let at = |name: &str| dir.path().join(name).display().to_string();
        for name in [
            "boot/bootloader.bin",
            "C:\\build\\boot\\bootloader.bin",
            "/fw/boot/bootloader.bin?v=2",
            "./boot/bootloader.bin",
        ] {
            assert!(beside(&file, name).ends_with("boot/bootloader.bin"), "{name}");
            assert!(Path::new(&beside(&file, name)).is_file(), "{name}");
        }
        assert_eq!(beside(&file, "/home/me/out/app.bin"), at("app.bin"));
        assert_eq!(beside(&file, "none.bin"), at("none.bin"));
        let text = r#"{"builds": [{"chipFamily": "ESP32-S3", "parts": [{"path": "app.bin", "offset": "0x10000"}]}]}"#;
        assert_eq!(manifest(&file, text, None).unwrap().files[0].address, Number(0x1_0000));
    }

    #[test]
    fn parts_on_a_server_are_refused() {
        let text = TWO.replace("a.bin", "https://example.org/a.bin");
        let error = manifest(Path::new("manifest.json"), &text, Some("ESP32")).unwrap_err();
        assert!(error.message.contains("on a server"), "{error}");
    }
}
