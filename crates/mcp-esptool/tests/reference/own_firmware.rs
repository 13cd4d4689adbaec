//! Programs for the chips (tests/firmware, with esp-hal from crates.io) are built, flashed over MCP, and run on the built-in
//! device; their console says whether the blocks that they use behave.

use std::path::PathBuf;
use std::process::Command;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::client::Client;
use crate::reference::{self, Skip, Stop, fail, scratch, trial};

/// The chips, with the target that the compiler knows for them. The first is tried in every run, all others with
/// `MCP_ESPTOOL_LONG`: each one compiles the library anew.
const CHIPS: &[(&str, &str)] = &[
    ("esp32c3", "riscv32imc-unknown-none-elf"),
    ("esp32c2", "riscv32imc-unknown-none-elf"),
    ("esp32c6", "riscv32imac-unknown-none-elf"),
    ("esp32h2", "riscv32imac-unknown-none-elf"),
];

/// What the program says when all is as on a board, in this order.
const CONSOLE: &[&str] = &[
    "clock: 20 ms passed",
    "timer: 5 interrupts, in time",
    "pin: 4 edges, low",
    "bus: AcknowledgeCheckFailed",
    "panic: on purpose",
    "rst:0x3",
    "hello from",
];

pub fn trials() -> Vec<Trial> {
    let count = if std::env::var_os("MCP_ESPTOOL_LONG").is_some() { CHIPS.len() } else { 1 };
    let chosen = CHIPS.iter().take(count);
    let mut trials = vec![trial("firmware::the demo's program is what its source says", demo_program)];
    trials.extend(chosen.map(|(chip, target)| trial(format!("firmware::esp_hal_{chip}"), || esp_hal(chip, target))));
    trials
}

/// Builds the program for a chip.
fn build(chip: &str, target: &str) -> Result<PathBuf, Stop> {
    let folder = reference::root().join("tests/firmware");
    let installed = Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output()?;
    let library = PathBuf::from(reference::text(&installed).lines().next().unwrap_or_default());
    if !library.is_dir() {
        return Err(Skip(format!("no target {target} (rustup target add {target})")).into());
    }
    let built_into = reference::home().join("firmware");
    let cargo = |words: &[&str]| {
        let mut command = Command::new("cargo");
        command.args(words).current_dir(&folder).env("CARGO_TARGET_DIR", &built_into);
        for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_INCREMENTAL"] {
            command.env_remove(name);
        }
        command.output()
    };
    let fetched = [&["fetch", "--locked", "--offline"][..], &["fetch", "--locked"]]
        .into_iter()
        .any(|words| cargo(words).is_ok_and(|output| output.status.success()));
    if !fetched {
        return Err(Skip("esp-hal cannot be fetched from crates.io".into()).into());
    }
    let output = cargo(&["build", "--release", "--locked", "--offline", "--features", chip, "--target", target])?;
    if !output.status.success() {
        return fail(String::from_utf8_lossy(&output.stderr));
    }
    Ok(built_into.join(target).join("release/firmware"))
}

fn esp_hal(chip: &str, target: &str) -> Result<(), Stop> {
    let dir = scratch(&format!("firmware-{chip}"));
    std::fs::copy(build(chip, target)?, dir.join("firmware.elf"))?;
    let port = format!("sim://{chip}-firmware");
    let root = format!("project_roots={}", dir.display());
    let mut client = Client::initialized(&dir, &["--set", &root]);
    let flashed = client.call("esp_flash_firmware", json!({"port": port, "project": "firmware.elf"}));
    if flashed["isError"] == true {
        return fail(flashed.to_string());
    }
    let arguments = json!({"port": port, "capture_s": 3, "until": "(?s)rst:0x3.*hello from"});
    let run: Value = client.call("esp_run_firmware", arguments);
    let console = run["structuredContent"]["console"]["text"].as_str().unwrap_or_default().to_owned();
    let mut rest = console.as_str();
    for wanted in CONSOLE {
        match rest.split_once(wanted) {
            Some((_, after)) => rest = after,
            None => return fail(format!("no {wanted:?} in its place in {console:?} of {run}")),
        }
    }
    Ok(())
}

/// The demonstration's program, assembled anew, is what is built in.
fn demo_program() -> Result<(), Stop> {
    let source = reference::root().join("crates/esp-ops/src/firmware/program.S");
    let dir = scratch("demo-program");
    let (object, binary) = (dir.join("program.o"), dir.join("program.bin"));
    let mut assemble = Command::new("riscv64-unknown-elf-as");
    assemble.args(["-march=rv32im_zicsr", "-mabi=ilp32"]).arg(&source).arg("-o").arg(&object);
    if Command::new("riscv64-unknown-elf-as").arg("--version").output().is_err() {
        return Err(Skip("no riscv64-unknown-elf-as (binutils-riscv64-unknown-elf)".into()).into());
    }
    reference::run(&mut assemble)?;
    reference::run(Command::new("riscv64-unknown-elf-objcopy").args(["-O", "binary"]).arg(&object).arg(&binary))?;
    reference::same_bytes("program.bin", mcp_esptool::ops::firmware::sample::PROGRAM, &std::fs::read(&binary)?)
}
