//! `esp_arduino_build`: builds a sketch with arduino-cli.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use esp_model::job::Job;
use esp_ops::error::{Code, ToolError};
use esp_ops::firmware::build_log::{self, Diagnostic};
use esp_ops::guard::Risk;
use esp_ops::words::counted;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct ArduinoBuild;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    /// The sketch's folder, or its name in a sketch directory.
    sketch: String,
    /// The board, such as esp32:esp32:esp32c3 (default: from sketch.yaml).
    fqbn: Option<String>,
    /// Output folder (default: build-arduino in the sketch).
    #[schemars(extend("x-rare" = true))]
    output_dir: Option<String>,
    /// Longest build in seconds (default 1800).
    #[schemars(extend("x-rare" = true))]
    timeout_s: Option<u64>,
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// The sketch's folder.
    sketch: String,
    /// Folder to flash: `project` of esp_flash_firmware.
    build_dir: String,
    /// The linked program, where one was left.
    #[serde(skip_serializing_if = "Option::is_none")]
    elf_file: Option<String>,
    /// Images that were made.
    images: Vec<String>,
    /// Warnings, at most 50.
    warnings: Vec<Diagnostic>,
}

impl Tool for ArduinoBuild {
    const NAME: &'static str = "esp_arduino_build";
    const TITLE: &'static str = "Build an Arduino sketch";
    const ABOUT: &'static str = "Build a sketch with arduino-cli and parse its errors. Then esp_flash_firmware \
         project=….";
    // A build runs code of the project on this computer.
    const RISK: Risk = Risk::Writes;
    const LONG: bool = true;
    const FILES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        let sketch = sketch(ctx, &input.sketch)?;
        let build = match &input.output_dir {
            Some(dir) => ctx.files.output_dir(dir)?,
            None => sketch.join("build-arduino"),
        };
        let mut command = Command::new(ctx.config.path("arduino_cli_path").unwrap_or_else(|| "arduino-cli".into()));
        command.arg("compile").arg("--no-color").arg("--output-dir").arg(&build);
        if let Some(fqbn) = &input.fqbn {
            command.arg("--fqbn").arg(board(fqbn)?);
        }
        // A name that begins with a dash is no option.
        command.arg("--").arg(&sketch);
        let limit = Duration::from_secs(input.timeout_s.unwrap_or(1800));
        let log = build_log::run(command, job, limit, "arduino-cli could not build the sketch")?;
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(&build).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        files.sort();
        let ends = |file: &&PathBuf, end: &str| file.extension().is_some_and(|found| found == end);
        let images: Vec<String> =
            files.iter().filter(|file| ends(file, "bin")).map(|file| file.display().to_string()).collect();
        if images.is_empty() {
            return Err(log.failed("arduino-cli ended well but left no image"));
        }
        Ok(Out {
            sketch: sketch.display().to_string(),
            build_dir: build.display().to_string(),
            elf_file: files.iter().find(|file| ends(file, "elf")).map(|file| file.display().to_string()),
            images,
            warnings: log.diagnostics.into_iter().filter(|one| one.severity == "warning").collect(),
        })
    }

    fn summary(out: &Out) -> String {
        format!(
            "built {}: {}\nflash it: esp_flash_firmware project={}",
            out.sketch,
            counted(out.images.len(), "image"),
            out.build_dir
        )
    }
}

/// The sketch below a project root, or of this name in a sketch directory of the configuration.
fn sketch(ctx: &Ctx, given: &str) -> Result<PathBuf, ToolError> {
    let is_sketch = |dir: &PathBuf| dir.file_name().is_some_and(|name| dir.join(name).with_extension("ino").is_file());
    let below = ctx.files.input(given);
    if let Ok(dir) = &below
        && is_sketch(dir)
    {
        return below;
    }
    // A plain name: nothing that leads out of the directory.
    let plain = !given.contains(['/', '\\']) && given != "..";
    let named = ctx.config.sketch_directories().into_iter().map(|dir| dir.join(given));
    match named.filter(|_| plain).find(is_sketch) {
        Some(dir) => Ok(dir),
        None => Err(ToolError::new(Code::NoProject, format!("`{given}` is not an Arduino sketch"))
            .next("give the folder with the .ino file of the same name, or set sketch_directories")),
    }
}

/// A board's name: letters, digits and what separates its parts.
fn board(fqbn: &str) -> Result<&str, ToolError> {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || ":_-.,=".contains(letter);
    if fqbn.split(':').count() >= 3 && fqbn.chars().all(fits) && !fqbn.starts_with('-') {
        return Ok(fqbn);
    }
    Err(ToolError::new(Code::BadParameter, format!("`{fqbn}` is not a board: write PACKAGE:ARCHITECTURE:BOARD")))
}
