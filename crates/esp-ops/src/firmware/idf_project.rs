//! A project built with an installed ESP-IDF.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use esp_model::job::Job;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Call;
use crate::error::{Code, ToolError};
use crate::firmware::build_log::{self, Diagnostic};
use crate::firmware::common::chip_named;
use crate::firmware::idf;
use crate::flash::project;

/// What is built, and where.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The project's folder.
    pub project: String,
    /// The chip, for a project that has none yet.
    pub target: Option<String>,
    /// Build folder (default: build in the project).
    #[schemars(extend("x-rare" = true))]
    pub build_dir: Option<String>,
    /// Longest build in seconds (default 1800).
    #[schemars(extend("x-rare" = true))]
    pub timeout_s: Option<u64>,
}

/// What a build left.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Built {
    /// The project's name.
    pub name: String,
    /// The chip it was built for.
    pub target: String,
    /// The version that the project gives itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The ESP-IDF that built it.
    pub idf_version: String,
    /// Folder to flash: `project` of esp_flash_firmware.
    pub build_dir: String,
    /// The linked program.
    pub elf_file: String,
    /// The app image.
    pub app_file: String,
    /// Its size.
    pub app_bytes: u64,
    /// Warnings, at most 50.
    pub warnings: Vec<Diagnostic>,
    /// Everything that the build said.
    pub log_file: String,
}

/// Builds the project; its target is never changed.
pub fn run(ctx: &Call, job: &Job, input: &Request) -> Result<Built, ToolError> {
    let project = ctx.files.input(&input.project)?;
    is_project(&project)?;
    let build = match &input.build_dir {
        Some(dir) => ctx.files.output_dir(dir)?,
        None => project.join("build"),
    };
    let target = target(&project, &build, input.target.as_deref())?;
    let found = idf::find(ctx).ok_or_else(|| ToolError::new(Code::NoIdf, "no ESP-IDF is configured"))?;
    let mut command = found.idf_py()?;
    command.arg("-C").arg(&project).arg("-B").arg(&build);
    if let Some(target) = target {
        command.arg(format!("-DIDF_TARGET={target}"));
    }
    command.arg("build");
    let limit = Duration::from_secs(input.timeout_s.unwrap_or(1800));
    let log = build_log::run(command, job, limit, "ESP-IDF could not build the project")?;
    let log_file = build.join("esp_idf_build.log");
    fs::write(&log_file, &log.text)
        .map_err(|error| ToolError::of_io(Code::FileUnwritable, "the build log cannot be written", &error))?;
    let mut out = result(&build, found.version).ok_or_else(|| log.failed("the build left no project description"))?;
    out.log_file = log_file.display().to_string();
    out.warnings = log.diagnostics;
    out.warnings.retain(|one| one.severity == "warning");
    Ok(out)
}

/// Builds a project as it is set up; the folder to flash.
pub fn build(ctx: &Call, job: &Job, project: &str) -> Result<String, ToolError> {
    let request = Request { project: project.to_owned(), target: None, build_dir: None, timeout_s: None };
    Ok(run(ctx, job, &request)?.build_dir)
}

/// Fails unless the folder holds an ESP-IDF project.
fn is_project(dir: &Path) -> Result<(), ToolError> {
    let text = fs::read_to_string(dir.join("CMakeLists.txt")).unwrap_or_default();
    if text.contains("project.cmake") || text.contains("idf_build_process") {
        return Ok(());
    }
    let error = ToolError::new(Code::NoProject, format!("{} is not an ESP-IDF project", dir.display()));
    Err(match project::sources(dir) {
        Some(next) => error.next(next),
        None => error.next("give the folder with the CMakeLists.txt that includes project.cmake"),
    })
}

/// The target to set: that of the call, where the project has none. One that is set stays.
fn target(project: &Path, build: &Path, wanted: Option<&str>) -> Result<Option<String>, ToolError> {
    let wanted = wanted.map(chip_named).transpose()?.map(|chip| chip.id.to_string());
    let line = |file: PathBuf, begin: &str| {
        let text = fs::read_to_string(file).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(begin).map(str::to_string))?;
        Some(line.trim_matches('"').to_string()).filter(|value| !value.is_empty())
    };
    let cached = line(build.join("CMakeCache.txt"), "IDF_TARGET:STRING=");
    let set = cached.or_else(|| line(project.join("sdkconfig"), "CONFIG_IDF_TARGET="));
    match (set, wanted) {
        (Some(set), Some(wanted)) if set != wanted => {
            let text = format!("the project's target is {set}, not {wanted}");
            Err(ToolError::new(Code::TargetDiffers, text).seen("set_target", set))
        }
        (Some(_), _) => Ok(None),
        (None, wanted) => Ok(wanted),
    }
}

/// What the build says of itself in `project_description.json`.
fn result(build: &Path, idf_version: String) -> Option<Built> {
    let text = fs::read_to_string(build.join("project_description.json")).ok()?;
    let about: Value = serde_json::from_str(&text).ok()?;
    let text = |name: &str| about.get(name).and_then(Value::as_str).map(str::to_string);
    let app = build.join(text("app_bin")?);
    Some(Built {
        name: text("project_name")?,
        target: text("target")?,
        version: text("project_version"),
        idf_version,
        build_dir: build.display().to_string(),
        elf_file: build.join(text("app_elf")?).display().to_string(),
        app_bytes: fs::metadata(&app).ok()?.len(),
        app_file: app.display().to_string(),
        warnings: Vec::new(),
        log_file: String::new(),
    })
}
