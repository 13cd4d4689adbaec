//! What esptool and our tools say of the same flash part: id, status registers, SFDP.

use std::process::Command;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::reference::{self, Stop, fail, scratch, trial};
use crate::simulator::{Esptool, Line, Sim, chips};

pub fn trials() -> Vec<Trial> {
    chips().into_iter().map(|chip| trial(format!("flash_part::{chip}"), move || same(chip))).collect()
}

fn same(chip: &str) -> Result<(), Stop> {
    let dir = scratch(&format!("flash-part-{chip}"));
    let sim = Sim::start(chip, Line::Tcp, &dir.join("tty"))?;
    let mut esptool = Esptool::start(reference::tool("python")?, &sim.url, false)?;
    let id = esptool.run("flash-id")?;
    let status = esptool.run("read-flash-status --bytes 3")?;
    let mut words = Vec::new();
    for address in [0x00, 0x08, 0x0c] {
        words.push(bytes(&esptool.run(&format!("read-flash-sfdp {address:#x} 4"))?)?);
    }
    drop(esptool);
    let ours = call(&sim.url, "esp_flash_status")?;
    let jedec = ours["jedec_id"].as_str().unwrap_or_default();
    let (maker, device) = jedec.split_at(jedec.len().min(2));
    for line in [format!("Manufacturer: {maker}"), format!("Device: {device}")] {
        if !id.contains(&line) {
            return fail(format!("no {line:?} in {id}"));
        }
    }
    let value = |index: usize| ours["registers"][index]["value"].as_u64().unwrap_or(0x100);
    let shown = format!("Flash memory status: {:#08x}", value(0) | value(1) << 8 | value(2) << 16);
    if !status.contains(&shown) && !status.contains(&shown.replace("0x00", "0x")) {
        return fail(format!("we say {shown:?}, esptool {status:?}"));
    }
    let table = call(&sim.url, "esp_flash_sfdp_read")?;
    let raw = table["raw_hex"].as_str().unwrap_or_default();
    for (address, word) in [0x00usize, 0x08, 0x0c].into_iter().zip(words) {
        let hex: String = word.iter().map(|byte| format!("{byte:02x}")).collect();
        if raw.get(address * 2..address * 2 + 8) != Some(hex.as_str()) {
            return fail(format!("SFDP at {address:#x}: esptool {hex}, ours {raw}"));
        }
    }
    Ok(())
}

/// The bytes behind the colon: `Flash memory SFDP[0..3]: 0x53 0x46 0x44 0x50`.
fn bytes(said: &str) -> Result<Vec<u8>, Stop> {
    let line = said.lines().find(|line| line.contains("SFDP["));
    let list = line.and_then(|line| line.split_once(": ")).map(|(_, list)| list.split_whitespace());
    let parsed = list.map(|list| {
        list.map_while(|word| u8::from_str_radix(word.trim_start_matches("0x"), 16).ok()).collect::<Vec<_>>()
    });
    match parsed {
        Some(bytes) if bytes.len() == 4 => Ok(bytes),
        _ => fail(format!("no four bytes in {said:?}")),
    }
}

/// A tool by the command line, as JSON.
pub fn call(port: &str, tool: &str) -> Result<Value, Stop> {
    let state = scratch("flash-part-state");
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
    command.args(["call", tool, &format!("port={port}"), "--json"]).env("MCP_ESPTOOL_STATE_DIR", state);
    let output = reference::run(&mut command)?;
    Ok(serde_json::from_slice(&output.stdout)?)
}
