//! What esptool says of each simulated chip is what `esp_get_chip_info` says.

use esp_model::chip;
use libtest_mimic::Trial;
use serde_json::Value;

use crate::flash_part::call;
use crate::reference::{self, Stop, fail, scratch, trial};
use crate::simulator::{Esptool, Line, Sim};

/// Always all chips.
pub fn trials() -> Vec<Trial> {
    let ids = chip::all().iter().map(|chip| chip.id);
    ids.map(|chip| trial(format!("chip_info::{chip}"), move || same(chip))).collect()
}

fn same(chip: &str) -> Result<(), Stop> {
    let dir = scratch(&format!("chip-info-{chip}"));
    let sim = Sim::start(chip, Line::Pty, &dir.join("tty"))?;
    let mut esptool = Esptool::start(reference::tool("python")?, &sim.url, false)?;
    let said = ["chip-id", "flash-id", "read-mac"].map(|command| esptool.run(command));
    let [chip_id, flash_id, mac] = said;
    let (chip_id, flash_id, mac) = (chip_id?, flash_id?, mac?);
    drop(esptool);
    let ours = call(&sim.url, "esp_get_chip_info")?;
    let text = |name: &str| ours[name].as_str().unwrap_or_default().to_owned();
    let features: Vec<&str> = ours["features"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let jedec = text("flash_id");
    let (maker, device) = jedec.split_at(jedec.len().min(2));
    let expected = [
        (&chip_id, "Chip type:", text("chip")),
        (&chip_id, "Features:", features.join(", ")),
        (&chip_id, "Crystal frequency:", format!("{}MHz", ours["crystal_mhz"])),
        (&flash_id, "Manufacturer:", maker.to_owned()),
        (&flash_id, "Device:", device.to_owned()),
        (&flash_id, "Detected flash size:", format!("{}MB", ours["flash_size_bytes"].as_u64().unwrap_or(0) >> 20)),
        // Chips with a longer address name the short one on a line of its own.
        (&mac, if mac.contains("BASE MAC:") { "BASE MAC:" } else { "MAC:" }, text("mac")),
    ];
    let line = |said: &str, name: &str| {
        said.lines().find_map(|line| line.strip_prefix(name).map(|rest| rest.trim().to_owned())).unwrap_or_default()
    };
    let differing: Vec<String> = expected
        .iter()
        .filter(|(said, name, ours)| line(said, name) != *ours)
        .map(|(said, name, ours)| format!("{name} esptool {:?}, ours {ours:?}", line(said, name)))
        .collect();
    if differing.is_empty() { Ok(()) } else { fail(differing.join("; ")) }
}
