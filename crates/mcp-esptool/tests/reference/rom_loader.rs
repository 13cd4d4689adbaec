//! The chips' own mask ROMs answer (`sim --engine rom`): our client, esptool with and without its stub, and espflash work on
//! them as on silicon.

use std::fs;
use std::process::Command;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::reference::{self, Stop, fail, same_bytes, scratch, trial};
use crate::simulator::{Esptool, Line, Sim, espflash_on, test_data};

/// Chips whose ROM is run in every test.
const CHIPS: [&str; 11] = [
    "esp32c3", "esp32c2", "esp32h2", "esp32c6", "esp32c5", "esp32c61", "esp32p4", "esp32s31", "esp32", "esp32s2",
    "esp32s3",
];
/// A chip that espflash does not know.
const NOT_ESPFLASH: &str = "esp32s31";
/// With `MCP_ESPTOOL_LONG` espflash works on all of them, else on these.
const ESPFLASH: [&str; 2] = ["esp32c3", "esp32p4"];
const ROM: [&str; 2] = ["--engine", "rom"];
/// Bytes written: the ROM programs at the line's rate.
const SIZE: usize = 20_000;

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for chip in CHIPS {
        trials.push(trial(format!("rom::esptool_{chip}"), move || esptool(chip)));
        trials.push(trial(format!("rom::ours_{chip}"), move || ours(chip)));
        let long = std::env::var_os("MCP_ESPTOOL_LONG").is_some();
        if ESPFLASH.contains(&chip) || long && chip != NOT_ESPFLASH {
            trials.push(trial(format!("rom::espflash_{chip}"), move || espflash_on(chip, SIZE, &ROM)));
        }
    }
    trials
}

/// esptool on the ROM alone, then on the stub that it uploads; eFuses by espefuse.
fn esptool(chip: &str) -> Result<(), Stop> {
    let dir = scratch(&format!("rom-{chip}"));
    let data = test_data(SIZE);
    let (input, output) = (dir.join("in.bin"), dir.join("out.bin"));
    fs::write(&input, &data)?;
    let sim = Sim::with(chip, Line::Pty, &dir.join("tty"), &ROM)?;
    let mut esptool = Esptool::start(reference::tool("python")?, &sim.url, false)?;
    let (input, output_file) = (input.display().to_string(), output.display().to_string());
    esptool.expect("--no-stub flash-id", "Detected flash size: 4MB")?;
    esptool.expect("--no-stub read-mac", "02:e5:")?;
    esptool.expect(&format!("--no-stub write-flash 0x30000 {input}"), "Hash of data verified")?;
    esptool.run(&format!("--no-stub read-flash 0x30000 1000 {output_file}"))?;
    same_bytes("ROM read", &fs::read(&output)?, &data[..1000])?;
    esptool.run("--no-stub erase-region 0x30000 0x1000")?;
    esptool.run(&format!("--no-stub read-flash 0x30000 64 {output_file}"))?;
    same_bytes("ROM erase", &fs::read(&output)?, &[0xff; 64])?;
    let mut espefuse = Command::new(reference::tool("espefuse")?);
    espefuse.args(["--chip", chip, "--port", &sim.url, "--before", "no-reset", "summary"]);
    let summary = reference::text(&reference::run(&mut espefuse)?);
    if !summary.contains("02:e5:") {
        return fail(format!("espefuse summary: {summary}"));
    }
    // From here on by the stub, at a higher rate.
    esptool.expect(&format!("-b 460800 write-flash 0x40000 {input}"), "Hash of data verified")?;
    esptool.run(&format!("read-flash 0x40000 {SIZE} {output_file}"))?;
    same_bytes("stub", &fs::read(&output)?, &data)?;
    esptool.expect(&format!("verify-flash 0x40000 {input}"), "Verification successful")?;
    esptool.run("erase-region 0x40000 0x1000")?;
    esptool.run(&format!("read-flash 0x40000 4096 {output_file}"))?;
    same_bytes("erase", &fs::read(&output)?, &[0xff; 4096])
}

/// Our client on the ROM of a virtual device.
fn ours(chip: &str) -> Result<(), Stop> {
    let dir = scratch(&format!("rom-ours-{chip}"));
    let data = test_data(SIZE);
    fs::write(dir.join("data.bin"), &data)?;
    let (state, roots) =
        (format!("state_dir={}", dir.join("state").display()), format!("project_roots={}", dir.display()));
    let call = |args: &[&str]| -> Result<Value, Stop> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
        command.arg("call").args(args).args(["--json", "--set", &state, "--set", &roots]);
        Ok(serde_json::from_slice(&reference::run(&mut command)?.stdout)?)
    };
    let kind = format!("chip_type={chip}");
    let started = call(&["esp_qemu_start", &kind, "backend=builtin", "engine=rom", "id=rom", "keep=true"])?;
    let worked = (|| {
        if started["download_by"] != "rom" {
            return fail(format!("{started}"));
        }
        let found = call(&["esp_detect_chip", "port=qemu://rom"])?;
        if !found["chip"].as_str().is_some_and(|name| name.to_lowercase().replace('-', "").starts_with(chip)) {
            return fail(format!("{found}"));
        }
        let files = r#"files=[{"path": "data.bin", "address": 131072}]"#;
        call(&["esp_flash_firmware", "port=qemu://rom", files])?;
        call(&["esp_flash_read", "port=qemu://rom", "address=0x20000", "size=20000", "output_file=back.bin"])?;
        same_bytes("our read", &fs::read(dir.join("back.bin"))?, &data)
    })();
    let stopped = call(&["esp_qemu_stop", "id=rom"]);
    worked.and(stopped.map(drop))
}
