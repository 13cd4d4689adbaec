//! A build program at work: its output becomes progress and diagnostics. No shell sees what a caller gave.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use esp_model::console::{Confidence, Decoder};
use esp_model::job::Job;
use schemars::JsonSchema;
use serde::Serialize;

use crate::error::{Code, ToolError};

/// Diagnostics that are kept.
const MOST: usize = 50;
/// Last lines that go into an error.
const TAIL: usize = 20;

/// What a compiler, linker or CMake said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Diagnostic {
    /// `error` or `warning`.
    pub severity: &'static str,
    /// The source file, where it is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Its line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// What is wrong.
    pub text: String,
}

/// What a build said.
#[derive(Debug, Default)]
pub struct BuildLog {
    /// All of it.
    pub text: String,
    /// Errors and warnings in order.
    pub diagnostics: Vec<Diagnostic>,
}

impl BuildLog {
    fn take(&mut self, line: &str, job: &Job) {
        self.text.push_str(line);
        self.text.push('\n');
        if let Some((done, total)) = step(line) {
            job.progress(done, total, line.split_once("] ").map_or(line, |(_, what)| what).to_string());
        }
        if self.diagnostics.len() < MOST
            && let Some(found) = diagnostic(line)
            && !self.diagnostics.contains(&found)
        {
            self.diagnostics.push(found);
        }
    }

    fn tail(&self) -> String {
        let lines: Vec<&str> = self.text.lines().collect();
        lines.get(lines.len().saturating_sub(TAIL)..).unwrap_or_default().join("\n")
    }

    /// The build failed, and this is why.
    pub fn failed(&self, what: &str) -> ToolError {
        let errors: Vec<&Diagnostic> = self.diagnostics.iter().filter(|one| one.severity == "error").collect();
        let first = errors.first().map(|one| one.text.clone());
        let message = first.map_or_else(|| what.to_string(), |text| format!("{what}: {text}"));
        let shown = serde_json::to_value(&errors).unwrap_or_default();
        let error = ToolError::new(Code::BuildFailed, message).seen("errors", shown).seen("log", self.tail());
        match self.remedy() {
            Some(remedy) => error.next(remedy),
            None => error,
        }
    }

    /// What the catalogue of findings says to a build that does not fit: which region, and what to do.
    fn remedy(&self) -> Option<String> {
        let mut decoder = Decoder::new(None);
        for one in self.diagnostics.iter().filter(|one| one.severity == "error") {
            decoder.feed(Duration::ZERO, format!("{}\n", one.text).as_bytes());
        }
        let tail = self.tail();
        decoder.feed(Duration::ZERO, format!("{tail}\n").as_bytes());
        decoder.finish();
        let found = decoder.findings();
        let found = found.iter().filter(|one| one.confidence == Confidence::Certain);
        let steps: Vec<String> = found.map(|one| format!("{}: {}", one.cause, one.remedy)).collect();
        (!steps.is_empty()).then(|| steps.join("; "))
    }
}

/// `[12/345] Building …`: how far it is.
fn step(line: &str) -> Option<(u64, u64)> {
    let (done, total) = line.strip_prefix('[')?.split_once(']')?.0.split_once('/')?;
    Some((done.trim().parse().ok()?, total.trim().parse().ok()?))
}

/// What a line of GCC, the linker or CMake reports.
fn diagnostic(line: &str) -> Option<Diagnostic> {
    let found = |severity, place: &str, text: &str| {
        let mut parts = place.trim().rsplitn(3, ':').collect::<Vec<_>>();
        parts.reverse();
        let number = |text: &&str| text.parse::<u32>().ok();
        let (file, line) = match parts.as_slice() {
            [file, line, column] if number(line).is_some() && number(column).is_some() => (*file, number(line)),
            [drive, file, line] if number(line).is_some() => (place.get(..drive.len() + 1 + file.len())?, number(line)),
            [file, line] if number(line).is_some() => (*file, number(line)),
            _ => (place.trim(), None),
        };
        let file = Some(file.to_string()).filter(|file| !file.is_empty() && line.is_some());
        Some(Diagnostic { severity, file, line, text: text.trim().to_string() })
    };
    for (mark, severity) in [(": fatal error: ", "error"), (": error: ", "error"), (": warning: ", "warning")] {
        if let Some((place, text)) = line.split_once(mark) {
            return found(severity, place, text);
        }
    }
    if let Some(place) = line.strip_prefix("CMake Error at ") {
        return found("error", place.split(' ').next().unwrap_or_default(), "CMake stopped here");
    }
    let of_linker =
        line.contains("undefined reference to") || (line.contains("region `") && line.contains("overflowed"));
    of_linker.then(|| Diagnostic { severity: "error", file: None, line: None, text: line.trim().to_string() })
}

/// Runs a build to its end; the error holds what it said.
pub fn run(mut command: Command, job: &Job, limit: Duration, what: &str) -> Result<BuildLog, ToolError> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let program = command.get_program().to_string_lossy().into_owned();
    let start = |error: std::io::Error| ToolError::new(Code::BuildFailed, format!("{program} did not start: {error}"));
    let mut child = command.spawn().map_err(start)?;
    let mut log = BuildLog::default();
    let ended = follow(&mut child, &mut log, job, limit);
    if ended.is_err() {
        crate::firmware::idf::stop(&mut child);
    }
    match ended {
        Ok(true) => Ok(log),
        Ok(false) => Err(log.failed(what)),
        Err(error) if error.code == Code::Cancelled => Err(error),
        Err(error) => Err(error.seen("log", log.tail())),
    }
}

fn follow(child: &mut Child, log: &mut BuildLog, job: &Job, limit: Duration) -> Result<bool, ToolError> {
    let (sender, lines) = channel();
    if let Some(output) = child.stdout.take() {
        read_lines(output, sender.clone());
    }
    if let Some(output) = child.stderr.take() {
        read_lines(output, sender.clone());
    }
    drop(sender);
    let began = Instant::now();
    loop {
        job.check()?;
        if began.elapsed() > limit {
            return Err(ToolError::new(Code::BuildFailed, format!("the build took longer than {} s", limit.as_secs())));
        }
        match lines.recv_timeout(Duration::from_millis(100)) {
            Ok(line) => log.take(&line, job),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let status =
        child.wait().map_err(|error| ToolError::new(Code::BuildFailed, format!("the build was lost: {error}")))?;
    Ok(status.success())
}

fn read_lines(output: impl Read + Send + 'static, to: Sender<String>) {
    std::thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut bytes = Vec::new();
        while output.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end().to_string();
            bytes.clear();
            if to.send(line).is_err() {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_does_not_fit_names_each_region_with_its_step() {
        let mut log = BuildLog::default();
        for line in [
            "[9/10] Linking CXX executable lamp.elf",
            "ld: region `iram0_0_seg' overflowed by 532 bytes",
            "ld: region `dram0_0_seg' overflowed by 1072 bytes",
            "collect2: error: ld returned 1 exit status",
        ] {
            log.take(line, &Job::new());
        }
        let step = log.failed("the build failed").next_step;
        assert!(step.contains("532 bytes too many for instruction RAM") && step.contains("dram0_0_seg"), "{step}");
        assert!(step.contains("esp_size_analysis map_file"), "{step}");
        let mut other = BuildLog::default();
        other.take("main.c:1:10: fatal error: no.h: No such file", &Job::new());
        assert!(!other.failed("the build failed").next_step.contains("esp_size_analysis"));
    }

    #[test]
    fn compilers_linkers_and_cmake_are_understood() {
        let of = |line| diagnostic(line).map(|one| (one.severity, one.file, one.line, one.text));
        assert_eq!(
            of("/p/main/main.c:12:5: error: 'x' undeclared"),
            Some(("error", Some("/p/main/main.c".into()), Some(12), "'x' undeclared".into()))
        );
        assert_eq!(
            of("C:\\p\\main.c:7: warning: unused"),
            Some(("warning", Some("C:\\p\\main.c".into()), Some(7), "unused".into()))
        );
        assert_eq!(of("main.c:1:10: fatal error: no.h: No such file").unwrap().3, "no.h: No such file");
        assert_eq!(of("CMake Error at CMakeLists.txt:5 (include):").unwrap().2, Some(5));
        assert!(of("ld: main.c.obj: undefined reference to `f'").is_some());
        assert!(of("ld: region `dram0_0_seg' overflowed by 42 bytes").unwrap().3.contains("42"));
        assert!(of("[1/2] Building error.c").is_none() && of("").is_none());
        assert_eq!(step("[12/345] Building C object"), Some((12, 345)));
        assert!(step("[x/2] y").is_none() && step("plain").is_none());
    }
}
