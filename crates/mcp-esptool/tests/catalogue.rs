//! The diagnosis catalogue: every symptom that a simulated device can show is named right, with the right next step.
//!
//! The rows are data, in `catalogue.toml`; the advice is in `hints.toml`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::time::Duration;

use esp_link::bootloaders::{StockBootloader, Wanted};
use esp_link::port::PortError;
use esp_model::chip::{self, Chip};
use esp_model::image::FlashMode;
use esp_model::job::Job;
use esp_model::port::Port;
use esp_ops::error::{ToolError, hints};
use esp_sim::{Config, SimDevice, Wiring};
use mcp_esptool::ctx::Ctx;
use mcp_esptool::tools;
use serde::Deserialize;
use serde_json::{Value, json};

/// All ids of the catalogue.
const IDS: [(&str, usize); 8] =
    [("CONN", 8), ("USB", 7), ("OS", 8), ("CHIP", 2), ("FLASH", 7), ("SEC", 3), ("BOOT", 5), ("ENV", 1)];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    row: Vec<Row>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: String,
    #[serde(default = "usual_chip")]
    chip: String,
    #[serde(default)]
    faults: String,
    via: Option<String>,
    #[serde(default)]
    efuses: Vec<String>,
    #[serde(default)]
    boot_low: bool,
    flash: Option<String>,
    flash_size: Option<u32>,
    baud: Option<u32>,
    file: Option<String>,
    #[serde(default)]
    tool: String,
    #[serde(default)]
    input: toml::Table,
    system: Option<String>,
    code: Option<String>,
    finding: Option<String>,
    #[serde(default)]
    seen: Vec<String>,
    reason: Option<String>,
}

fn usual_chip() -> String {
    "esp32".into()
}

fn rows() -> Vec<Row> {
    toml::from_str::<Catalogue>(include_str!("catalogue.toml")).unwrap().row
}

#[test]
fn every_row_is_reproduced_or_says_why_not() {
    let known: BTreeSet<String> =
        IDS.iter().flat_map(|(family, count)| (1..=*count).map(move |n| format!("{family}-{n:02}"))).collect();
    let rows = rows();
    let told: BTreeSet<String> = rows.iter().map(|row| row.id.clone()).collect();
    assert_eq!(told, known);
    let reproduced: BTreeSet<&str> =
        rows.iter().filter(|row| row.reason.is_none()).map(|row| row.id.as_str()).collect();
    assert!(reproduced.len() >= 34, "{}", reproduced.len());
    for row in &rows {
        assert!(row.reason.is_some() != (row.code.is_some() || row.finding.is_some()), "{row:?}");
        for code in row.code.iter().chain(&row.finding).filter(|code| *code != "works") {
            assert!(hints().contains_key(code), "{code}");
        }
    }
}

#[test]
fn symptoms_are_named_right() {
    let wrong: Vec<String> = rows()
        .iter()
        .enumerate()
        .filter(|(_, row)| row.reason.is_none())
        .filter_map(|(number, row)| {
            let text = if row.system.is_some() { system(row) } else { device(row) };
            let missing: Vec<_> = row.seen.iter().filter(|part| !text.contains(*part)).collect();
            let named = match (&row.code, &row.finding) {
                (Some(code), _) if code == "works" => text.starts_with("works"),
                (Some(code), _) => text.starts_with(&format!("error[{code}]")),
                (_, Some(code)) => text.contains(&format!("{code} (")),
                _ => false,
            };
            (!named || !missing.is_empty()).then(|| format!("{} (row {number}): {missing:?} not in\n{text}\n", row.id))
        })
        .collect();
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}

/// What the operating system says, as it comes from the port.
fn system(row: &Row) -> String {
    let url = "/dev/ttyUSB7".to_string();
    let error = match row.system.as_deref() {
        Some("permission") => PortError::Permission { url, group: Some("dialout".into()) },
        Some("busy") => PortError::Busy { url, holder: Some(esp_link::port::lock::Holder::myself()) },
        Some("missing") => PortError::NotFound { url, present: Vec::new() },
        _ => PortError::Io { url, source: io::Error::other("cannot configure port") },
    };
    ToolError::from(error).to_string()
}

fn device(row: &Row) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut config = esp_ops::config::Config::default();
    let origin = esp_ops::config::Origin::Flag;
    config.set("project_roots", dir.path().display().to_string(), origin.clone()).unwrap();
    config.set("state_dir", dir.path().join("state").display().to_string(), origin).unwrap();
    if let Some(baud) = row.baud {
        config.set("baud", baud.to_string(), esp_ops::config::Origin::Flag).unwrap();
    }
    let ctx = Ctx::new(config).unwrap();
    let chip = chip::by_name(&row.chip).unwrap();
    let url = format!("sim://{}-catalogue", chip.id);
    ctx.ports.add_simulated(simulated(row, chip, &url));
    if let Some(kind) = &row.file {
        fs::write(dir.path().join("image.bin"), file(kind, chip)).unwrap();
    }
    let mut input: Value = serde_json::to_value(&row.input).unwrap();
    input["port"] = json!(url);
    match tools::find(&row.tool).unwrap().call(&ctx, &Job::new(), input) {
        Ok(reply) => format!("works\n{}\n{}", reply.text, Value::Object(reply.data)),
        Err(error) => error.to_string(),
    }
}

fn simulated(row: &Row, chip: &'static Chip, url: &str) -> SimDevice {
    let mut config = Config::new(chip, "catalogue");
    config.faults = row.faults.parse().unwrap();
    config.boot_pin_low = row.boot_low;
    config.flash_size = row.flash_size.unwrap_or(4 << 20);
    if row.via.as_deref() == Some("usb-serial-jtag") {
        config.wiring = Wiring::UsbSerialJtag;
    }
    let device = SimDevice::new(&config, url);
    device.with(|sim, now| {
        for name in &row.efuses {
            sim.efuse().set(name, &[0xff; 8]);
        }
        let at = chip.flash.bootloader_offset;
        match row.flash.as_deref() {
            None => {}
            Some("noise") => sim.flash().load(0, &noise(1 << 20)),
            Some("stock") => sim.flash().load(at, &stock(chip)),
            Some("stock_elsewhere") => sim.flash().load(0, &stock(chip)),
            Some("stock_damaged") => {
                let mut bytes = stock(chip);
                bytes[64] ^= 0x10;
                sim.flash().load(at, &bytes);
            }
            Some("stock_8m_table") => {
                sim.flash().load(at, &stock(chip));
                sim.flash().load(0x8000, &table("factory,app,factory,0x10000,0x700000\n"));
            }
            Some(other) => panic!("{other}"),
        }
        sim.power_cycle(now);
    });
    // It was plugged in a while ago: what it said then, nobody heard.
    if !row.faults.contains("stale") {
        let mut port = device.open();
        port.sleep(Duration::from_secs(1));
        while port.read(&mut [0; 4096], Duration::ZERO).unwrap() > 0 {}
    }
    device
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 77u32;
    let next = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    next.take(len).collect()
}

fn stock(chip: &Chip) -> Vec<u8> {
    let wanted = Wanted { mode: FlashMode::Dio, crystal_mhz: None, revision: None };
    StockBootloader::find(chip, wanted).unwrap().bytes.to_vec()
}

fn table(csv: &str) -> Vec<u8> {
    let options = esp_model::partition::Options::default();
    esp_model::partition::Table::from_csv(csv, &options).unwrap().to_binary(true).unwrap()
}

/// The header of an image with no segments.
fn header(chip: &Chip) -> Vec<u8> {
    let mut image = vec![0; 48];
    (image[0], image[2]) = (esp_model::image::MAGIC, 2);
    image[12..14].copy_from_slice(&chip.chip_id.unwrap().to_le_bytes());
    (image[17], image[18]) = (0xff, 0xff);
    image[31] = esp_model::image::CHECKSUM_SEED;
    image[8] = 0xee;
    image
}

fn file(kind: &str, chip: &Chip) -> Vec<u8> {
    match kind {
        "noise" => noise(20_000),
        "own_chip" => header(chip),
        "other_chip" => {
            header(chip::all().iter().find(|other| other.id != chip.id && other.name == "ESP32-C3").unwrap())
        }
        "new_revision" => {
            let mut image = header(chip);
            image[15..17].copy_from_slice(&9900u16.to_le_bytes());
            image
        }
        "bootloader_8m" => {
            let mut image = header(chip);
            image[3] = 0x30;
            image
        }
        other => panic!("{other}"),
    }
}
