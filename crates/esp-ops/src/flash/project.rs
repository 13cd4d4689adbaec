//! What a build folder says about where its files go: ESP-IDF, Zephyr, Arduino, PlatformIO, Rust, or a linked program.

mod cargo;
mod loose;
mod zephyr;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use esp_model::chip::ImageFormat;
use esp_model::image;
use esp_model::image::content::{self, Content};
use esp_model::partition::{self, Table, otadata::Otadata};
use serde::Deserialize;

use crate::Call;
use crate::args::{FileAt, Number, parse_number};
use crate::error::{Code, ToolError};
use crate::flash::files::Piece;
use crate::flash::header::Wanted;
use crate::flash::release;

/// ESP-IDF's `flasher_args.json`, as far as it is needed.
#[derive(Deserialize)]
struct FlasherArgs {
    flash_files: BTreeMap<String, String>,
    #[serde(default)]
    extra_esptool_args: Extra,
    flash_settings: Option<Wanted>,
    #[serde(default)]
    write_flash_args: Vec<String>,
}

#[derive(Default, Deserialize)]
struct Extra {
    chip: Option<String>,
}

/// The files of a build, and the chip it is for when it says so.
#[derive(Debug, Default)]
pub struct Project {
    /// What kind of build it is.
    pub kind: &'static str,
    /// Files and their addresses.
    pub files: Vec<FileAt>,
    /// What goes to flash beside files.
    pub made: Vec<Piece>,
    /// The chip's name, as the build spells it.
    pub chip: Option<String>,
    /// Flash size, mode and frequency that the build wants in the bootloader's header.
    pub settings: Wanted,
    /// A linked program, to be made into a set once the chip is known.
    pub elf: Option<String>,
}

/// Reads a build: an ESP-IDF project or build folder, `flasher_args.json` or `flash_args`, the `manifest.json` of ESP Web
/// Tools (`manifest.json#esp32c3` of several builds), a Zephyr build folder, an Arduino build folder, a PlatformIO project
/// or `.pio/build/ENV`, a Rust package that was built, a folder with one bootloader, one
/// partition table and one app, or an ELF file.
pub fn read(call: &Call, path: &str) -> Result<Project, ToolError> {
    let (plain, chosen) = match path.rsplit_once('#') {
        Some((file, chip)) if file.ends_with(".json") => (file, Some(chip)),
        _ => (path, None),
    };
    let given = call.files.input(plain)?;
    if given.is_file() {
        return file(call, plain, &given, chosen);
    }
    for place in [given.clone(), given.join("build")] {
        let args = place.join("flasher_args.json");
        if args.is_file() {
            return idf(call, &args);
        }
    }
    for place in [given.clone(), given.join("build")] {
        if let Some(found) = release::ARGUMENT_FILES.iter().map(|name| place.join(name)).find(|file| file.is_file()) {
            return release::arguments(call, &found);
        }
    }
    for place in [given.clone(), given.join("build")] {
        if let Some(project) = zephyr::read(call, &place)? {
            return Ok(project);
        }
    }
    // Beside its parts a merged image says the same in one piece.
    if !given.join("partitions.bin").is_file()
        && let Some(file) = factory_file(path, &given)?
    {
        let at = FileAt { path: file.display().to_string(), address: Number(0) };
        return Ok(Project { kind: "factory image", files: vec![at], ..Project::default() });
    }
    if let Some(folder) = arduino_folder(path, &given)? {
        return arduino(call, &folder);
    }
    if let Some(folder) = platformio_folder(path, &given)? {
        return set(
            call,
            "PlatformIO",
            &folder,
            ["bootloader.bin", "partitions.bin", "firmware.bin"].map(String::from),
        );
    }
    if let Some(program) = cargo::program(path, &given)? {
        return elf(call, &program.display().to_string());
    }
    let loose = loose::read(call, &given);
    if let Some(names) = loose.set() {
        return set(call, "single files", &given, names);
    }
    let text = format!(
        "`{path}` is not a build: it has no flasher_args.json or flash_args (ESP-IDF), zephyr/runners.yaml (Zephyr), \
         *.ino.bin (Arduino), firmware.bin (PlatformIO) or *.factory.bin (ESPHome, Tasmota), and is not a Rust package that \
         was built"
    );
    let error = ToolError::new(Code::NoProject, text);
    Err(match (loose.told(), sources(&given)) {
        (Some(found), _) => error.seen("files", found).next(
            "give those that belong together with their addresses: esp_flash_firmware files=…; esp_firmware_analyze says \
             what a file is and where it belongs",
        ),
        (None, Some(next)) => error.next(next),
        (None, None) => error,
    })
}

/// A build that one file describes: by its name, or by what it holds.
fn file(call: &Call, path: &str, given: &Path, chosen: Option<&str>) -> Result<Project, ToolError> {
    let name = given.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if name == "flasher_args.json" {
        return idf(call, given);
    }
    if release::ARGUMENT_FILES.contains(&name) {
        return release::arguments(call, given);
    }
    if name.ends_with(".json") {
        let text = call.files.read_text(path)?;
        if release::is_manifest(&text) {
            return release::manifest(given, &text, chosen);
        }
    }
    elf(call, path)
}

/// What a folder of sources that are not ESP-IDF's is, and how it is built.
pub fn sources(dir: &Path) -> Option<&'static str> {
    let has = |name: &str| dir.join(name).is_file();
    let sketch = dir.file_name().is_some_and(|name| dir.join(name).with_extension("ino").is_file());
    if has("platformio.ini") {
        Some("this is a PlatformIO project: run `pio run`, then esp_flash_firmware with project")
    } else if sketch {
        Some("this is an Arduino sketch: build it with esp_arduino_build, then esp_flash_firmware with project")
    } else if has("Cargo.toml") {
        Some(
            "this is a Rust project: run `cargo build --release` for the chip's target, then esp_flash_firmware with project",
        )
    } else {
        None
    }
}

fn idf(call: &Call, file: &Path) -> Result<Project, ToolError> {
    let bad = |error: String| ToolError::new(Code::NoProject, format!("{}: {error}", file.display()));
    let text = call.files.read_text(&file.display().to_string())?;
    let args: FlasherArgs = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
    let mut files = Vec::new();
    for (address, name) in &args.flash_files {
        let address = parse_number(address).ok_or_else(|| bad(format!("`{address}` is not an address")))?;
        files.push(FileAt { path: release::beside(file, name), address: Number(address) });
    }
    files.sort_by_key(|file| file.address);
    all_are_there(call, file, &files)?;
    let settings = args.flash_settings.unwrap_or_else(|| Wanted::from_arguments(&args.write_flash_args));
    Ok(Project { kind: "ESP-IDF", files, chip: args.extra_esptool_args.chip, settings, ..Project::default() })
}

/// A build that is not complete is told at once and whole, with what makes the missing parts.
fn all_are_there(call: &Call, description: &Path, files: &[FileAt]) -> Result<(), ToolError> {
    let mut missing = Vec::new();
    for file in files {
        match call.files.input(&file.path) {
            Ok(found) if found.is_file() => {}
            Err(error) if error.code != Code::FileNotFound => return Err(error),
            _ => missing.push(format!("`{}`", file.path)),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let text = format!("{} names files that are missing: {}", description.display(), missing.join(", "));
    let there = files.iter().filter(|file| call.files.input(&file.path).is_ok_and(|found| found.is_file()));
    let there = there.map(|file| serde_json::json!({"path": file.path, "address": format!("{:#x}", file.address.0)}));
    let there = serde_json::Value::Array(there.collect());
    Err(ToolError::new(Code::FileNotFound, text).next(format!(
        "build the project again (esp_idf_build), or make what is missing (esp_partition_create output_file=…, \
         esp_bootloader_build output_file=…), or write what is there: esp_flash_firmware files={there}"
    )))
}

/// The path with the chip's name behind it, where a manifest leaves the choice to the chip.
pub fn for_chip(
    call: &Call,
    path: &str,
    chip: impl FnOnce() -> Result<&'static str, ToolError>,
) -> Result<String, ToolError> {
    let is_open =
        path.ends_with(".json") && call.files.read_text(path).is_ok_and(|text| release::has_several_builds(&text));
    Ok(if is_open { format!("{path}#{}", chip()?) } else { path.to_owned() })
}

/// How a single image is given.
fn as_file(path: &str, bytes: &[u8]) -> Option<String> {
    let address = match content::of(bytes, image::parse(bytes).as_ref()) {
        Content::Merged { base, .. } => format!("{base:#x}"),
        Content::Bootloader(chip) => format!("{:#x}", chip.flash.bootloader_offset),
        Content::App(_) => "ADDRESS or partition, usually 0x10000".into(),
        _ => return None,
    };
    Some(format!("give it in files: esp_flash_firmware files=[{{\"path\": \"{path}\", \"address\": \"{address}\"}}]"))
}

fn elf(call: &Call, path: &str) -> Result<Project, ToolError> {
    let bytes = call.files.read_some(path)?;
    if let Some(what) = release::described(&bytes).filter(|_| bytes.starts_with(b"PK")) {
        return Err(ToolError::new(Code::NoProject, format!("`{path}` is {what}"))
            .next("unpack it, then give the folder or the manifest as project, or a .bin of it in files"));
    }
    if !is_elf(&bytes) {
        let error = ToolError::new(
            Code::NoProject,
            format!(
                "`{path}` is not a build: neither flasher_args.json, flash_args, a manifest.json of ESP Web Tools, nor an ELF file"
            ),
        );
        return Err(match as_file(path, &bytes) {
            Some(next) => error.next(next),
            None => error,
        });
    }
    Ok(Project { kind: "ELF", elf: Some(path.to_owned()), ..Project::default() })
}

/// The bytes are a linked program.
pub fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x7fELF")
}

/// Names of the entries of a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn sketch(folder: &Path) -> Option<String> {
    names(folder).into_iter().find_map(|name| name.strip_suffix(".ino.bin").map(str::to_owned))
}

/// The folder itself, `build`, or the only board below one of them (`build/esp32.esp32.esp32`, arduino-cli's way).
fn arduino_folder(path: &str, given: &Path) -> Result<Option<PathBuf>, ToolError> {
    for place in [given.to_path_buf(), given.join("build")] {
        if sketch(&place).is_some() {
            return Ok(Some(place));
        }
        let below: Vec<PathBuf> =
            names(&place).iter().map(|name| place.join(name)).filter(|folder| sketch(folder).is_some()).collect();
        match below.as_slice() {
            [] => {}
            [only] => return Ok(Some(only.clone())),
            many => return Err(several(path, many)),
        }
    }
    Ok(None)
}

/// The folder itself, or the only environment below `.pio/build`.
fn platformio_folder(path: &str, given: &Path) -> Result<Option<PathBuf>, ToolError> {
    let built = |folder: &PathBuf| folder.join("firmware.bin").is_file();
    if built(&given.to_path_buf()) {
        return Ok(Some(given.to_path_buf()));
    }
    // ESPHome and old releases keep environments elsewhere.
    let below: Vec<PathBuf> = [given.join(".pio").join("build"), given.join(".pioenvs")]
        .iter()
        .flat_map(|folder| names(folder).into_iter().map(|name| folder.join(name)).collect::<Vec<_>>())
        .filter(built)
        .collect();
    match below.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(only.clone())),
        many => Err(several(path, many)),
    }
}

/// The only merged image of a release: `firmware.factory.bin` of ESPHome, `tasmota32.factory.bin`.
fn factory_file(path: &str, folder: &Path) -> Result<Option<PathBuf>, ToolError> {
    let is_one = |name: &String| name.ends_with(".factory.bin") || name.ends_with("-factory.bin");
    let found: Vec<PathBuf> = names(folder).into_iter().filter(is_one).map(|name| folder.join(name)).collect();
    match found.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(only.clone())),
        many => Err(several(path, many)),
    }
}

fn several(path: &str, found: &[PathBuf]) -> ToolError {
    let list: Vec<String> = found.iter().map(|folder| folder.display().to_string()).collect();
    ToolError::new(Code::NoProject, format!("`{path}` holds several builds"))
        .seen("builds", list.join(", "))
        .next("name one of them")
}

fn arduino(call: &Call, folder: &Path) -> Result<Project, ToolError> {
    let name = sketch(folder).unwrap_or_default();
    let files = [format!("{name}.ino.bootloader.bin"), format!("{name}.ino.partitions.bin"), format!("{name}.ino.bin")];
    set(call, "Arduino", folder, files)
}

/// Bootloader, table and app by the names that this kind of build gives them. Where they go is told by the bootloader's
/// chip and by the table; otadata is made blank, so that the first app is the one that starts.
fn set(call: &Call, kind: &'static str, folder: &Path, names: [String; 3]) -> Result<Project, ToolError> {
    let [bootloader, table, app] = names.map(|name| folder.join(name));
    let shown = |path: &Path| path.display().to_string();
    let at = |path: &Path, address: u32| FileAt { path: shown(path), address: Number(address.into()) };
    let app_bytes = call.files.read_some(&shown(&app))?;
    let bad = |what: String| ToolError::new(Code::NoProject, format!("{}: {what}", folder.display()));
    let chip = image::detect(&app_bytes).map_err(|error| bad(format!("the app is not an image: {error}")))?;
    let project = Project { kind, chip: Some(chip.id.into()), ..Project::default() };
    if chip.image.format == ImageFormat::Esp8266 {
        // One image from address 0 on, with the bootloader in it.
        return Ok(Project { files: vec![at(&app, 0)], ..project });
    }
    let table_offset = partition::DEFAULT_TABLE_OFFSET;
    let rows =
        Table::from_binary(&call.files.read_some(&shown(&table))?, true).map_err(|error| bad(error.to_string()))?;
    let factory = rows.find_kind(partition::APP, partition::APP_FACTORY);
    let place = factory.or_else(|| rows.ota_slots().into_iter().next());
    let place = place.ok_or_else(|| bad("the partition table has no app partition".into()))?.offset;
    call.files.input(&shown(&bootloader))?;
    let otadata = rows
        .find_kind(partition::DATA, partition::DATA_OTA)
        .map(|partition| Piece::new("blank otadata", partition.offset, Otadata::BLANK.bytes()));
    let files = vec![at(&bootloader, chip.flash.bootloader_offset), at(&table, table_offset), at(&app, place)];
    Ok(Project { files, made: otadata.into_iter().collect(), ..project })
}
