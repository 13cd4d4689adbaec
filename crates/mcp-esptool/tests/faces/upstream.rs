//! esptool's own test suites against the faces. They are in no package: `ESPTOOL_REPOSITORY` names a copy of its repository,
//! which is not changed.

use std::path::PathBuf;
use std::process::Command;

use libtest_mimic::Trial;

use crate::reference::{self, Skip, Stop, fail, scratch, tool, trial};

/// Functions that must pass.
const BAR: usize = 326;

pub fn trials() -> Vec<Trial> {
    vec![trial("faces: esptool's own suites pass", suites)]
}

fn suites() -> Result<(), Stop> {
    let Some(repository) = std::env::var_os("ESPTOOL_REPOSITORY").map(PathBuf::from) else {
        return Err(Skip("no copy of esptool's repository (set ESPTOOL_REPOSITORY)".into()).into());
    };
    let folder = scratch("faces-upstream");
    let copy = folder.join("esptool");
    reference::run(Command::new("cp").arg("-r").arg(&repository).arg(&copy))?;
    let python = folder.join("venv/bin/python");
    // The reference's packages, and what runs tests.
    reference::run(Command::new(tool("python")?).args(["-m", "venv"]).arg(folder.join("venv")))?;
    reference::run(Command::new(&python).args([
        "-m",
        "pip",
        "install",
        "-q",
        "esptool==5.6.0",
        "pytest",
        "pyelftools",
        "bitstring<5",
    ]))?;
    let script = reference::root().join("crates/mcp-esptool/tests/faces/upstream.py");
    let mut run = Command::new(&python);
    run.arg(script).arg(&copy).arg(env!("CARGO_BIN_EXE_mcp-esptool")).arg(folder.join("run"));
    let said = reference::text(&reference::run(&mut run)?);
    let count: Option<usize> =
        said.lines().find_map(|line| line.strip_prefix("functions that pass: ")?.split(' ').next()?.parse().ok());
    match count {
        Some(count) if count >= BAR => Ok(()),
        _ => fail(said),
    }
}
