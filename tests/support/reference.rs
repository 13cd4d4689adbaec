//! Other people's tools as oracles: installs them, runs them, counts what ran and what was ignored.
//!
//! Shared by the `reference` test binaries of several crates (`#[path]`). A missing *tool* is a failure in CI
//! (`CI` is set) and an ignored test elsewhere; a missing *corpus* is an ignored test everywhere.
#![allow(dead_code, clippy::disallowed_types, clippy::disallowed_methods, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// Why a test did not run.
#[derive(Debug, Clone)]
pub struct Skip(pub String);

/// What went wrong, or that nothing could be compared.
#[derive(Debug)]
pub enum Stop {
    Skipped(Skip),
    Failed(String),
}

impl From<Skip> for Stop {
    fn from(skip: Skip) -> Self {
        Self::Skipped(skip)
    }
}

impl<E: std::error::Error> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

/// A failed comparison.
pub fn fail<T>(text: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Failed(text.into()))
}

static SKIPPED: Mutex<BTreeMap<String, Vec<String>>> = Mutex::new(BTreeMap::new());
static RAN: Mutex<usize> = Mutex::new(0);
static TIMES: Mutex<Vec<(Duration, String)>> = Mutex::new(Vec::new());
static FAILED: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// How many of the slowest trials are named at the end.
const SLOWEST: usize = 10;
/// More failures than these are not the machine's load.
const ALONE_AT_MOST: usize = 3;

/// One test against a reference: *ignored*, with the reason, when nothing could be compared.
pub fn trial(name: impl Into<String>, body: impl FnOnce() -> Result<(), Stop> + Send + 'static) -> Trial {
    let name = name.into();
    let label = name.clone();
    Trial::ignorable_test(name, move || {
        let begin = Instant::now();
        let result = body();
        TIMES.lock().unwrap().push((begin.elapsed(), label.clone()));
        match result {
            Ok(()) => {
                *RAN.lock().unwrap() += 1;
                Ok(Completion::Completed)
            }
            Err(Stop::Failed(text)) => {
                FAILED.lock().unwrap().push(label);
                Err(Failed::from(text))
            }
            Err(Stop::Skipped(Skip(reason))) => {
                SKIPPED.lock().unwrap().entry(reason.clone()).or_default().push(label);
                Ok(Completion::ignored_with(reason))
            }
        }
    })
}

/// Runs the trials and says at the end how many compared something and how many were ignored, and why.
///
/// Other people's programs have time limits of their own, which two busy cores miss now and then: a few trials that
/// failed beside the others are run again alone, and named as unsteady if they pass.
pub fn main(trials: Vec<Trial>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Other people's clients wait more than they compute.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    arguments.test_threads.get_or_insert(cores + cores.div_ceil(2));
    let conclusion = libtest_mimic::run(&arguments, trials);
    let skipped = SKIPPED.lock().unwrap();
    let count: usize = skipped.values().map(Vec::len).sum();
    eprintln!("reference tests: {} compared, {} failed, {count} ignored", RAN.lock().unwrap(), conclusion.num_failed);
    for (reason, names) in skipped.iter() {
        eprintln!("  ignored {} ({}): {reason}", names.len(), names.join(", "));
    }
    let mut times = TIMES.lock().unwrap();
    times.sort_by(|a, b| b.cmp(a));
    for (time, name) in times.iter().take(SLOWEST) {
        eprintln!("  {:.0} s: {name}", time.as_secs_f64());
    }
    let failed = FAILED.lock().unwrap();
    let again = !arguments.exact && (1..=ALONE_AT_MOST).contains(&failed.len());
    if again && failed.iter().all(|name| passes_alone(name)) {
        eprintln!("  unsteady {}, passed alone: {}", failed.len(), failed.join(", "));
        return ExitCode::SUCCESS;
    }
    conclusion.exit_code()
}

fn passes_alone(name: &str) -> bool {
    let own = std::env::current_exe().unwrap();
    Command::new(own).args(["--exact", name]).status().is_ok_and(|status| status.success())
}

/// The workspace's root.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().find(|dir| dir.join("Cargo.lock").is_file()).unwrap_or(here).to_path_buf()
}

/// Where reference tools are installed: below the target directory.
pub fn home() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join("reference")
}

/// A directory of this test's own, emptied.
pub fn scratch(name: &str) -> PathBuf {
    let dir = home().join("scratch").join(format!("{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// The corpus of real files: `MCP_ESPTOOL_CORPUS`, or `shared/corpus` beside the checkout.
pub fn corpus() -> Result<PathBuf, Skip> {
    let given = std::env::var_os("MCP_ESPTOOL_CORPUS").map(PathBuf::from);
    let found =
        given.into_iter().chain([root().join("../shared/corpus")]).find(|dir| dir.join("MANIFEST.tsv").is_file());
    found.ok_or_else(|| Skip("no corpus (set MCP_ESPTOOL_CORPUS)".into()))
}

/// A program of the reference environment (`esptool`, `espefuse`, `espsecure`, `python` …), installed on first use.
pub fn tool(name: &str) -> Result<PathBuf, Stop> {
    static READY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    from_env(name, READY.get_or_init(|| environment("venv", "requirements.txt")))
}

/// A program of the older esptool's environment.
pub fn tool4(name: &str) -> Result<PathBuf, Stop> {
    static READY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    from_env(name, READY.get_or_init(|| environment("venv4", "requirements-esptool4.txt")))
}

/// Python with what makes file system images.
pub fn fs_python() -> Result<PathBuf, Stop> {
    static READY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    from_env("python", READY.get_or_init(|| environment("venv-fs", "requirements-fs.txt")))
}

/// Programs of the environment with the generator of `esp_secure_cert` partitions.
pub fn cert_tool(name: &str) -> Result<PathBuf, Stop> {
    static READY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    from_env(name, READY.get_or_init(|| environment("venv-cert", "requirements-cert.txt")))
}

/// Python with jumpstarter.
#[allow(dead_code)]
pub fn jumpstarter_python() -> Result<PathBuf, Stop> {
    static READY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    from_env("python", READY.get_or_init(|| environment("venv-jumpstarter", "requirements-jumpstarter.txt")))
}

/// Python with labgrid.
#[allow(dead_code)]
pub fn labgrid_python() -> Result<PathBuf, Stop> {
    static READY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    from_env("python", READY.get_or_init(|| environment("venv-labgrid", "requirements-labgrid.txt")))
}

/// Python with the official MCP SDK.
pub fn mcp_python() -> Result<PathBuf, Stop> {
    static READY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    from_env("python", READY.get_or_init(|| environment("venv-mcp", "requirements-mcp.txt")))
}

/// A folder in which Node.js finds the official MCP SDK.
pub fn mcp_node() -> Result<PathBuf, Stop> {
    static READY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let ready = READY.get_or_init(|| {
        let list = root().join("tests/support/mcp-sdk.json");
        once("node-mcp", &fs::read_to_string(&list).map_err(|e| e.to_string())?, |dir| {
            fs::create_dir_all(dir)
                .and_then(|()| fs::copy(&list, dir.join("package.json")))
                .map_err(|e| e.to_string())?;
            succeed(Command::new("npm").args(["install", "--silent", "--no-audit", "--no-fund"]).current_dir(dir))
        })
    });
    match ready {
        Ok(dir) => Ok(dir.clone()),
        Err(reason) => missing(reason.clone()),
    }
}

fn from_env(name: &str, ready: &Result<PathBuf, String>) -> Result<PathBuf, Stop> {
    match ready {
        Ok(bin) => Ok(bin.join(name)),
        Err(reason) => missing(reason.clone()),
    }
}

/// A tool that is not there: a failure in CI, a skip elsewhere.
pub fn missing<T>(reason: String) -> Result<T, Stop> {
    if std::env::var_os("CI").is_some() { Err(Stop::Failed(reason)) } else { Err(Skip(reason).into()) }
}

/// Creates the environment once; other test processes wait for it.
fn environment(name: &str, list: &str) -> Result<PathBuf, String> {
    let wanted = root().join("tests/support").join(list);
    once(name, &fs::read_to_string(&wanted).map_err(|e| e.to_string())?, |dir| {
        succeed(Command::new("python3").args(["-m", "venv"]).arg(dir))?;
        succeed(
            Command::new(dir.join("bin/pip"))
                .args(["install", "--quiet", "--disable-pip-version-check", "-r"])
                .arg(&wanted),
        )
    })
    .map(|dir| dir.join("bin"))
}

/// espflash, built from crates.io on first use: quickly, not to be a fast program.
pub fn espflash() -> Result<PathBuf, Stop> {
    static READY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    built_espflash(&READY, "espflash-debug", &["--debug"])
}

/// espflash as its users have it: what benchmarks compare with.
pub fn fast_espflash() -> Result<PathBuf, Stop> {
    static READY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    built_espflash(&READY, "espflash", &[])
}

fn built_espflash(
    ready: &'static OnceLock<Result<PathBuf, String>>,
    name: &str,
    options: &[&str],
) -> Result<PathBuf, Stop> {
    let ready = ready.get_or_init(|| {
        once(name, "4.7.0", |dir| {
            let mut install = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
            install.args(["install", "espflash", "--version", "=4.7.0", "--locked", "--quiet", "--root"]).arg(dir);
            install.args(options).env("CARGO_PROFILE_DEV_DEBUG", "0");
            succeed(install.env_remove("CARGO_TARGET_DIR").env("CARGO_TARGET_DIR", dir.join("build")))?;
            let _ = fs::remove_dir_all(dir.join("build"));
            Ok(())
        })
        .map(|dir| dir.join("bin"))
    });
    from_env("espflash", ready)
}

/// A serial port that the system lists, to be covered by a pseudo terminal; it takes root to do that.
pub fn listed_terminal() -> Result<String, Stop> {
    let can_mount =
        Command::new("unshare").args(["--mount", "true"]).output().is_ok_and(|output| output.status.success());
    let listed = fs::read_dir("/sys/class/tty").into_iter().flatten().filter_map(Result::ok);
    let found = listed.filter(|entry| entry.path().join("device").is_dir()).find_map(|entry| {
        let node = format!("/dev/{}", entry.file_name().to_string_lossy());
        Path::new(&node).exists().then_some(node)
    });
    match found.filter(|_| can_mount) {
        Some(node) => Ok(node),
        None => Err(Skip("espflash opens no pseudo terminal (needs root and one listed serial port)".into()).into()),
    }
}

/// Does `make` once for this `version`, under a lock that other processes respect.
pub fn once(name: &str, version: &str, make: impl FnOnce(&Path) -> Result<(), String>) -> Result<PathBuf, String> {
    let dir = home().join(name);
    fs::create_dir_all(home()).map_err(|e| e.to_string())?;
    let lock = File::create(home().join(format!("{name}.lock"))).map_err(|e| e.to_string())?;
    lock.lock().map_err(|e| e.to_string())?;
    let stamp = dir.join(".installed");
    if fs::read_to_string(&stamp).ok().as_deref() == Some(version) {
        return Ok(dir);
    }
    let _ = fs::remove_dir_all(&dir);
    make(&dir)?;
    fs::write(&stamp, version).map_err(|e| e.to_string())?;
    Ok(dir)
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {}", text(&output))) }
}

/// Runs a command; its output, or a failure that shows it.
pub fn run(command: &mut Command) -> Result<Output, Stop> {
    let output = command.output()?;
    if output.status.success() {
        Ok(output)
    } else {
        fail(format!("{command:?}: {}\n{}", output.status, text(&output)))
    }
}

/// Both output streams as text.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Compares bytes and names the first difference.
pub fn same_bytes(what: &str, ours: &[u8], theirs: &[u8]) -> Result<(), Stop> {
    if ours == theirs {
        return Ok(());
    }
    let at = ours.iter().zip(theirs).position(|(a, b)| a != b).unwrap_or(ours.len().min(theirs.len()));
    let cut = |bytes: &[u8]| format!("{:02x?}", &bytes[at.min(bytes.len())..bytes.len().min(at + 16)]);
    let lengths = format!("{} and {} bytes", ours.len(), theirs.len());
    fail(format!("{what}: differs at {at:#x} ({lengths}): ours {} theirs {}", cut(ours), cut(theirs)))
}

/// What one case of a [`batch`] did.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Exit code 0.
    pub ok: bool,
    /// Both output streams.
    pub text: String,
}

/// Runs `main` of a Python module of the reference environment once for each argument list, in one Python process.
pub fn batch(module: &str, cases: &[Vec<String>]) -> Result<Vec<Answer>, Stop> {
    // Trials run side by side: each batch has a directory of its own.
    static BATCH: AtomicUsize = AtomicUsize::new(0);
    let dir = scratch(&format!("batch-{module}-{}", BATCH.fetch_add(1, Ordering::Relaxed)));
    let input = dir.join("cases");
    fs::write(&input, cases.iter().map(|argv| argv.join("\x1f") + "\n").collect::<String>())?;
    let mut python = Command::new(tool("python")?);
    python.arg(root().join("tests/support/batch.py")).arg(module).stdin(File::open(&input)?);
    let output = run(python.env("COLUMNS", "200").env("NO_COLOR", "1"))?.stdout;
    let mut rest = output.as_slice();
    let mut answers = Vec::new();
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        let Some((code, len)) = head.split_once(' ') else { return fail(format!("batch answered {head:?}")) };
        let text = end + 1..end + 1 + len.parse::<usize>()?;
        answers.push(Answer { ok: code == "0", text: String::from_utf8_lossy(&rest[text.clone()]).into_owned() });
        rest = &rest[text.end..];
    }
    if answers.len() == cases.len() { Ok(answers) } else { fail(format!("{} answers", answers.len())) }
}
