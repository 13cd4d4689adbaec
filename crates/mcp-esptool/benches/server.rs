//! From start to the answer of `initialize`, and resident memory with all tools listed, beside PyPI's `mcesptool`.
//!
//! `cargo bench -p mcp-esptool --bench server`. Prints medians; fails when the start takes longer than 10 ms, memory is
//! more than 12 MB, or a face takes longer than 5 ms.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

#[path = "../../../tests/support/reference.rs"]
mod reference;

use reference::{Skip, Stop};

const RUNS: usize = 15;
const HELLO: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;
const LIST: &str = "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"tools/list\"}";

fn main() -> ExitCode {
    let ours = measure(Command::new(program()).arg("serve"), RUNS);
    println!("mcp-esptool: {:.1} ms to the answer of initialize, {:.1} MB resident", ours.0, ours.1);
    match theirs() {
        Ok(program) => {
            // It does not start without esptool.
            let Ok(esptool) = reference::tool("esptool") else { return ExitCode::FAILURE };
            let theirs = measure(Command::new(program).env("ESPTOOL_PATH", esptool), 3);
            println!("mcesptool:   {:.1} ms, {:.1} MB", theirs.0, theirs.1);
        }
        Err(Stop::Skipped(Skip(reason)) | Stop::Failed(reason)) => println!("mcesptool: not measured: {reason}"),
    }
    let face = face(&program());
    println!("mcp-esptool: {face:.1} ms for `face esptool version`, from start to end");
    if let Ok(esptool) = reference::tool("esptool") {
        let theirs = median((0..3).map(|_| millis(Command::new(&esptool).arg("version"))).collect());
        println!("esptool:     {theirs:.1} ms for `esptool version`");
    }
    if ours.0 <= 10.0 && ours.1 <= 12.0 && face <= 5.0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Milliseconds from the start of a face to its end.
fn face(program: &std::ffi::OsStr) -> f64 {
    median((0..RUNS).map(|_| millis(Command::new(program).args(["face", "esptool", "version"]))).collect())
}

fn millis(command: &mut Command) -> f64 {
    let began = Instant::now();
    assert!(command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    began.elapsed().as_secs_f64() * 1000.0
}

/// The program: this build's, or the one to be measured instead (such as the static release).
fn program() -> std::ffi::OsString {
    std::env::var_os("MCP_ESPTOOL_TEST_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_mcp-esptool").into())
}

/// The other server, installed once.
fn theirs() -> Result<PathBuf, Stop> {
    let made = reference::once("venv-mcesptool", "mcesptool", |dir| {
        let run = |command: &mut Command| {
            let output = command.output().map_err(|error| error.to_string())?;
            if output.status.success() { Ok(()) } else { Err(reference::text(&output)) }
        };
        run(Command::new("python3").args(["-m", "venv"]).arg(dir))?;
        run(Command::new(dir.join("bin/pip")).args(["install", "--quiet", "mcesptool"]))
    });
    made.map(|dir| dir.join("bin/mcesptool")).map_err(Stop::Failed)
}

/// Medians: milliseconds to the first answer, MB resident after the list of tools.
fn measure(command: &mut Command, runs: usize) -> (f64, f64) {
    let (mut times, mut sizes) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let began = Instant::now();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (mut input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        // Some servers print other things on standard output too.
        let lines = BufReader::new(output).lines().map_while(Result::ok);
        let mut answers = lines.filter(|line| line.starts_with('{') && line.contains("\"id\""));
        writeln!(input, "{HELLO}").unwrap();
        assert!(answers.next().is_some(), "no answer to initialize");
        times.push(began.elapsed().as_secs_f64() * 1000.0);
        writeln!(input, "{LIST}").unwrap();
        assert!(answers.next().is_some(), "no list of tools");
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let kib =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().trim_end_matches(" kB").parse().ok());
        sizes.push(kib.unwrap_or(f64::NAN) / 1024.0);
        drop(input);
        let _ = child.wait();
    }
    (median(times), median(sizes))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
