//! Status registers, SFDP, usage map and flash settings.

use std::fs;

use esp_model::image::{FlashMode, Header};
use serde_json::json;

use crate::bench::{Bench, chip, firmware, flash, load, noise};

#[test]
fn status_is_decoded_by_maker() {
    let bench = Bench::new();
    let (device, port) = bench.device("winbond", |_| ());
    let out = bench.call("esp_flash_status", json!({"port": port}));
    assert_eq!((&out["family"], &out["family_known"]), (&json!("Winbond"), &json!(true)));
    assert_eq!((&out["quad_enable"], &out["write_protection"]), (&json!(true), &json!("none")));
    assert_eq!(out["registers"].as_array().unwrap().len(), 3);
    assert_eq!(out["unique_id"].as_str().unwrap().len(), 16);
    // Block protect bits and a lock, as a data sheet's write status command sets them.
    device.with(|chip, _| {
        chip.flash().transfer(0x06, &[], &mut []);
        chip.flash().transfer(0x01, &[0x9c], &mut []);
    });
    let out = bench.call("esp_flash_status", json!({"port": port}));
    assert_eq!((&out["write_protection"], &out["register_lock"]), (&json!("all"), &json!("pin")));
    assert!(out["notes"].as_array().unwrap().len() == 2, "{out:?}");

    let (_, port) = bench.device("macronix", |config| config.flash_id = Some([0xc2, 0x20, 0x16]));
    let out = bench.call("esp_flash_status", json!({"port": port}));
    assert_eq!(out["registers"].as_array().unwrap().len(), 1);
    assert_eq!((&out["family"], &out["quad_enable"]), (&json!("Macronix, ISSI"), &json!(false)));
    let (_, port) = bench.device("absent", |config| config.faults.flash.absent = true);
    assert_eq!(bench.fail("esp_flash_status", json!({"port": port})).code.as_str(), "flash_unknown");
}

#[test]
fn sfdp_is_decoded_and_kept() {
    let bench = Bench::new();
    let (_, port) = bench.device("sfdp", |config| config.flash_size = 8 << 20);
    let out = bench.call("esp_flash_sfdp_read", json!({"port": port, "output_file": "sfdp.bin"}));
    let basic = &out["basic"];
    assert_eq!((&basic["size_bytes"], &basic["page_size_bytes"]), (&json!(8 << 20), &json!(256)));
    let erase: Vec<_> = basic["erase"].as_array().unwrap().iter().map(|erase| erase["size_bytes"].clone()).collect();
    assert_eq!(erase, [json!(4096), json!(32768), json!(65536)]);
    assert!(basic["reads"].as_array().unwrap().iter().any(|read| read["lines"] == "1-4-4"));
    let file = fs::read(bench.path("sfdp.bin")).unwrap();
    assert!(file.starts_with(b"SFDP") && file.len() * 2 == out["raw_hex"].as_str().unwrap().len());
}

#[test]
fn the_usage_map_names_what_is_there() {
    let bench = Bench::new();
    let (device, port) = bench.device("map", |_| ());
    firmware(&device);
    load(&device, 0x30_0000, &noise(20_000, 3));
    let input = json!({"port": port, "picture_file": "map.svg", "show_picture": true});
    let reply = bench.reply("esp_flash_analyze", input).unwrap();
    let areas = reply.data["areas"].as_array().unwrap();
    let find = |name: &str| areas.iter().find(|area| area["name"] == name).unwrap();
    assert_eq!(reply.data["table_offset"], "0x8000");
    assert_eq!((&find("nvs")["content"], &find("nvs")["used_bytes"]), (&json!("blank"), &json!(0)));
    assert_eq!(find("factory")["content"], "app");
    assert!(find("factory")["about"].as_str().unwrap().contains("mcp-esptool-demo"));
    assert_eq!(find("bootloader")["content"], "bootloader");
    let gap = areas.last().unwrap();
    assert_eq!((&gap["kind"], &gap["used_bytes"]), (&json!("gap"), &json!(20_480)));
    assert!(gap["entropy_bits"].as_f64().unwrap() > 7.0, "{gap}");
    let covered: u64 = areas.iter().map(|area| area["size_bytes"].as_u64().unwrap()).sum();
    assert_eq!(covered, 4 << 20);
    let svg = fs::read_to_string(bench.path("map.svg")).unwrap();
    assert!(svg.contains("<title>factory: 0x00010000-0x0010ffff, 1 MB") && svg.contains("blank"), "{svg}");
    assert_eq!(reply.pictures.len(), 1);
    assert!(reply.pictures[0].bytes.starts_with(b"\x89PNG"));
}

fn header_of(device: &esp_sim::SimDevice) -> Header {
    Header::decode(&flash(device, chip().flash.bootloader_offset, 8)).unwrap()
}

#[test]
fn settings_are_advised_applied_and_proved() {
    let bench = Bench::new();
    let (device, port) = bench.device("optimise", |config| config.flash_size = 8 << 20);
    firmware(&device);
    let out = bench.call("esp_flash_optimize", json!({"port": port}));
    let advice = out["advice"].as_array().unwrap();
    let size = advice.iter().find(|advice| advice["setting"] == "flash_size").unwrap();
    assert_eq!((&size["better"], &size["weight"]), (&json!("8MB"), &json!("recommended")));
    let mode = advice.iter().find(|advice| advice["setting"] == "flash_mode").unwrap();
    assert_eq!((&mode["better"], &mode["weight"]), (&json!("qio"), &json!("possible")));
    assert!(out.get("applied").is_none());

    let before = flash(&device, 0, 0x8000);
    let out = bench.call("esp_flash_optimize", json!({"port": port, "apply": true, "flash_mode": "qio"}));
    assert_eq!(out["applied"]["console"]["verdict"], "app_loaded");
    assert_eq!(header_of(&device).mode(), Some(FlashMode::Qio));
    assert_eq!(header_of(&device).size_name(chip()), Some("8MB"));
    let kept = fs::read(out["applied"]["backup_file"].as_str().unwrap()).unwrap();
    assert!(before[chip().flash.bootloader_offset as usize..].starts_with(&kept));
    let again = bench.call("esp_flash_optimize", json!({"port": port, "apply": true}));
    assert!(again.get("applied").is_none(), "nothing is left to do: {again:?}");
    let status = device.with(|chip, _| {
        let mut out = [0; 1];
        chip.flash().transfer(0x35, &[], &mut out);
        out[0]
    });
    assert_eq!(status, 2, "status registers are never written");
}

#[test]
fn settings_that_do_not_boot_are_taken_back() {
    let bench = Bench::new();
    // The boot pin stays low: the device never shows that it boots.
    let (device, port) = bench.device("no-proof", |config| {
        config.flash_size = 8 << 20;
        config.boot_pin_low = true;
    });
    firmware(&device);
    let before = flash(&device, 0, 0x8000);
    let error = bench.fail("esp_flash_optimize", json!({"port": port, "apply": true}));
    assert_eq!(error.code.as_str(), "boot_proof_failed");
    assert!(flash(&device, 0, 0x8000) == before, "the old header is back");
    let (device, port) = bench.device("blank", |_| ());
    let error = bench.fail("esp_flash_optimize", json!({"port": port}));
    assert_eq!(error.code.as_str(), "image_invalid");
    assert!(flash(&device, 0, 0x8000).iter().all(|byte| *byte == 0xff));
    let error = bench.fail("esp_flash_optimize", json!({"port": port, "flash_mode": "qio"}));
    assert_eq!(error.code.as_str(), "bad_parameter");
}
