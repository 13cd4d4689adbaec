//! An installed ESP-IDF, for building a bootloader. The only outside program that the firmware tools start.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use esp_model::chip::Chip;
use esp_model::job::Job;

use crate::Call;
use crate::error::{Code, ToolError};

/// An ESP-IDF folder.
pub struct Idf {
    path: PathBuf,
    /// Its version as it says itself.
    pub version: String,
}

/// The configured ESP-IDF, or one at the usual place, when it is there.
pub fn find(call: &Call) -> Option<Idf> {
    let home = std::env::var_os("HOME").or_else(|| std::env::var_os("USERPROFILE")).map(PathBuf::from);
    let usual = || home.map(|home| home.join("esp").join("esp-idf"));
    let path = call.config.path("idf_path").or_else(usual)?;
    if !path.join("tools/cmake/project.cmake").is_file() || !path.join("export.sh").is_file() {
        return None;
    }
    let version = fs::read_to_string(path.join("version.txt")).map(|text| text.trim().to_owned());
    Some(Idf { version: version.unwrap_or_else(|_| String::from("of unknown version")), path })
}

impl Idf {
    /// `idf.py` with its tools in the environment, without a shell: `idf_tools.py export` says what they need.
    pub fn idf_py(&self) -> Result<Command, ToolError> {
        let failed = |text: String| ToolError::new(Code::BuildFailed, format!("ESP-IDF's environment: {text}"));
        let python = python();
        let mut export = Command::new(&python);
        export.arg(self.path.join("tools/idf_tools.py")).args(["export", "--format", "key-value"]);
        let output = export.env("IDF_PATH", &self.path).stdin(Stdio::null()).output();
        let output = output.map_err(|error| failed(format!("{} did not start: {error}", python.display())))?;
        if !output.status.success() {
            return Err(failed("idf_tools.py export failed; run ESP-IDF's install script".into())
                .seen("log", String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let mut environment = Vec::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let Some((name, value)) = line.split_once('=') else { continue };
            let old = std::env::var(name).unwrap_or_default();
            let value = value.replace(&format!("${name}"), &old).replace(&format!("%{name}%"), &old);
            environment.push((name.trim().to_string(), value));
        }
        let own = environment.iter().find(|(name, _)| name == "IDF_PYTHON_ENV_PATH").map(|(_, dir)| env_python(dir));
        let mut command = Command::new(own.filter(|file| file.is_file()).unwrap_or(python));
        command.arg(self.path.join("tools/idf.py")).envs(environment).env("IDF_PATH", &self.path);
        Ok(command)
    }

    /// Builds a bootloader for the chip with these lines of `sdkconfig`. Returns the image.
    pub fn bootloader(
        &self,
        job: &Job,
        chip: &Chip,
        sdkconfig: &[String],
        limit: Duration,
    ) -> Result<Vec<u8>, ToolError> {
        let failed = |error: io::Error| ToolError::new(Code::BuildFailed, format!("the build did not start: {error}"));
        let project = tempfile::tempdir().map_err(failed)?;
        let dir = project.path();
        lay_out(dir, sdkconfig).map_err(failed)?;
        let log = dir.join("build.log");
        let mut child = self.start(dir, chip, &log).map_err(failed)?;
        let ended = wait(&mut child, job, limit);
        if ended.is_err() {
            stop(&mut child);
        }
        let tail = || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
        };
        if !ended? {
            return Err(ToolError::new(Code::BuildFailed, "ESP-IDF could not build the bootloader").seen("log", tail()));
        }
        let image = dir.join("build/bootloader/bootloader.bin");
        fs::read(image).map_err(|_| {
            ToolError::new(Code::BuildFailed, "ESP-IDF ended well but left no bootloader").seen("log", tail())
        })
    }

    fn start(&self, dir: &Path, chip: &Chip, log: &Path) -> io::Result<Child> {
        let out = fs::File::create(log)?;
        let mut command = Command::new("bash");
        command
            .args([
                "-c",
                ". \"$IDF_PATH/export.sh\" >/dev/null && exec idf.py -C \"$1\" -DIDF_TARGET=\"$2\" bootloader",
            ])
            .arg("bash")
            .arg(dir)
            .arg(chip.id)
            .env("IDF_PATH", &self.path)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.spawn()
    }
}

/// The Python that ESP-IDF's tools run in, as far as it is known before they are asked.
fn python() -> PathBuf {
    let own = std::env::var("IDF_PYTHON_ENV_PATH").ok().map(|dir| env_python(&dir)).filter(|file| file.is_file());
    own.unwrap_or_else(|| PathBuf::from(if cfg!(windows) { "python" } else { "python3" }))
}

fn env_python(dir: &str) -> PathBuf {
    Path::new(dir).join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" })
}

/// A project that has nothing but a bootloader.
fn lay_out(dir: &Path, sdkconfig: &[String]) -> io::Result<()> {
    let cmake = "cmake_minimum_required(VERSION 3.16)\n\
                 include($ENV{IDF_PATH}/tools/cmake/project.cmake)\n\
                 project(bootloader_only)\n";
    fs::write(dir.join("CMakeLists.txt"), cmake)?;
    fs::create_dir(dir.join("main"))?;
    fs::write(dir.join("main/CMakeLists.txt"), "idf_component_register(SRCS \"main.c\")\n")?;
    fs::write(dir.join("main/main.c"), "void app_main(void) {}\n")?;
    fs::write(dir.join("sdkconfig.defaults"), sdkconfig.join("\n") + "\n")
}

/// Waits for the end; true: it ended well.
fn wait(child: &mut Child, job: &Job, limit: Duration) -> Result<bool, ToolError> {
    let start = Instant::now();
    loop {
        job.check()?;
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status.success()),
            Ok(None) if start.elapsed() > limit => {
                return Err(ToolError::new(
                    Code::BuildFailed,
                    format!("the build took longer than {} s", limit.as_secs()),
                ));
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(100)),
            Err(error) => return Err(ToolError::new(Code::BuildFailed, format!("the build was lost: {error}"))),
        }
        job.progress(start.elapsed().as_secs(), limit.as_secs(), "building with ESP-IDF");
    }
}

/// Ends the build with everything that it started.
pub(super) fn stop(child: &mut Child) {
    #[cfg(unix)]
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}
