//! The official SDK clients list and call the tools over stdio.

use std::fs;
use std::path::Path;
use std::process::Command;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::reference::{self, Stop, fail, trial};

const SERVER: &str = env!("CARGO_BIN_EXE_mcp-esptool");

pub fn trials() -> Vec<Trial> {
    vec![
        trial("sdk: the Python client, with initialize", || python("legacy")),
        trial("sdk: the Python client, as it chooses", || python("auto")),
        trial("sdk: the TypeScript client", typescript),
    ]
}

fn folder(name: &str) -> Result<std::path::PathBuf, Stop> {
    let dir = reference::scratch(name);
    // Does not compress: an SDK that reads progress and the answer in one piece forgets the progress.
    let noise = (0..0x8_0000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8);
    fs::write(dir.join("firmware.bin"), noise.collect::<Vec<u8>>())?;
    Ok(dir)
}

fn script(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference").join(name)
}

fn python(mode: &str) -> Result<(), Stop> {
    let dir = folder(&format!("sdk-python-{mode}"))?;
    let mut command = Command::new(reference::mcp_python()?);
    check(command.arg(script("sdk_client.py")).arg(SERVER).arg(&dir).arg(mode))
}

fn typescript() -> Result<(), Stop> {
    let dir = folder("sdk-typescript")?;
    // The module is looked up beside the script.
    let home = reference::mcp_node()?;
    fs::copy(script("sdk_client.mjs"), home.join("sdk_client.mjs"))?;
    check(Command::new("node").current_dir(&home).arg("sdk_client.mjs").arg(SERVER).arg(&dir))
}

fn check(command: &mut Command) -> Result<(), Stop> {
    let output = reference::run(command)?;
    let seen: Value = serde_json::from_slice(&output.stdout)?;
    let names: Vec<&str> = seen["tools"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !["esp_scan_ports", "esp_detect_chip", "esp_flash_firmware"].iter().all(|name| names.contains(name)) {
        return fail(format!("tools are missing: {names:?}"));
    }
    if !seen["chip"]["chip"].as_str().is_some_and(|chip| chip.starts_with("ESP32-C3")) {
        return fail(format!("no chip was detected: {}", seen["chip"]));
    }
    if seen["written"]["verified"] != true {
        return fail(format!("the write was not verified: {}", seen["written"]));
    }
    let steps: Vec<f64> = seen["progress"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    if steps.is_empty() || !steps.is_sorted_by(|a, b| a < b) {
        return fail(format!("progress does not grow: {steps:?}"));
    }
    if seen["refused"] != true || !seen["why"].as_str().is_some_and(|why| why.contains("none")) {
        return fail(format!("a missing file was not refused: {} {}", seen["refused"], seen["why"]));
    }
    Ok(())
}
