//! Flash size, mode and frequency in the header of a bootloader that is written; and what a write says of the start.

use std::fs;

use esp_model::image;
use esp_ops::firmware::sample;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::bench::{Bench, chip, flash, load, other_chip, table};

/// A build folder whose bootloader names 4 MB, with these flash settings.
fn build(bench: &Bench, chip: &esp_model::chip::Chip, settings: &Value, rows: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let parts = sample::make(chip).unwrap();
    let (boot, app) = (parts[0].bytes.clone(), parts[2].bytes.clone());
    let folder = bench.path("project");
    fs::create_dir_all(&folder).unwrap();
    for (name, bytes) in [("boot.bin", boot.as_slice()), ("table.bin", rows), ("app.bin", &app)] {
        fs::write(folder.join(name), bytes).unwrap();
    }
    let args = json!({
        "flash_settings": settings,
        "flash_files": {
            format!("{:#x}", chip.flash.bootloader_offset): "boot.bin", "0x8000": "table.bin", "0x10000": "app.bin",
        },
        "extra_esptool_args": {"chip": chip.id},
    });
    fs::write(folder.join("flasher_args.json"), args.to_string()).unwrap();
    (boot, app)
}

const WIDE: &str = "nvs,data,nvs,0x9000,0x6000\nfactory,app,factory,0x10000,6M\n";
const SMALL: &str = "nvs,data,nvs,0x9000,0x6000\nfactory,app,factory,0x10000,1M\n";

#[test]
fn the_detected_size_is_set_in_the_header_with_its_hash() {
    for chip in [chip(), other_chip()] {
        let bench = Bench::new();
        let (boot, _) =
            build(&bench, chip, &json!({"flash_size": "detect", "flash_mode": "keep"}), &table(WIDE, 0x8000));
        let (device, port) = bench.device_of(chip, "eight", |config| config.flash_size = 8 << 20);
        let out = bench.call("esp_flash_firmware", json!({"port": port, "project": "project"}));
        let there = flash(&device, chip.flash.bootloader_offset, boot.len());
        assert_eq!(there[3], chip.flash.sizes["8MB"] | boot[3] & 0xf);
        assert_eq!((&there[..3], &there[4..boot.len() - 32]), (&boot[..3], &boot[4..boot.len() - 32]));
        assert_eq!(there[boot.len() - 32..], Sha256::digest(&there[..boot.len() - 32])[..]);
        assert!(image::parse(&there).unwrap().digest().unwrap().is_valid());
        let notes = out["notes"].to_string();
        assert!(notes.contains("size 4MB to 8MB"), "{notes}");
        assert_eq!(bench.call("esp_boot_check", json!({"port": port}))["outcome"], "starts");
    }
}

#[test]
fn what_the_caller_says_counts_more_than_the_build() {
    let bench = Bench::new();
    build(&bench, chip(), &json!({"flash_size": "detect"}), &table(SMALL, 0x8000));
    let (device, port) = bench.device("caller", |config| config.flash_size = 8 << 20);
    let place = chip().flash.bootloader_offset;
    let out = bench.call("esp_flash_firmware", json!({"port": port, "project": "project", "flash_size": "keep"}));
    assert_eq!((flash(&device, place, 4)[3] & 0xf0, &out["notes"]), (chip().flash.sizes["4MB"], &json!([])));
    let wanted =
        json!({"port": port, "project": "project", "flash_size": "2MB", "flash_mode": "dout", "flash_freq": "80m"});
    bench.call("esp_flash_firmware", wanted);
    let head = flash(&device, place, 4);
    assert_eq!((head[2], head[3]), (3, chip().flash.sizes["2MB"] | chip().flash.frequencies["80m"]));
    let error = bench.fail("esp_flash_firmware", json!({"port": port, "project": "project", "flash_mode": "fast"}));
    assert_eq!(error.code.as_str(), "bad_parameter");
}

#[test]
fn a_header_that_is_too_small_is_mended_by_the_call_in_the_hint() {
    let bench = Bench::new();
    build(&bench, chip(), &json!({}), &table(WIDE, 0x8000));
    let (_, port) = bench.device("small", |config| config.flash_size = 8 << 20);
    let error = bench.fail("esp_flash_firmware", json!({"port": port, "project": "project"}));
    assert_eq!(error.code.as_str(), "header_too_small");
    assert!(error.next_step.contains("flash_size=\"8MB\""), "{error}");
    bench.call("esp_flash_firmware", json!({"port": port, "project": "project", "flash_size": "8MB"}));
    assert_eq!(bench.call("esp_boot_check", json!({"port": port}))["outcome"], "starts");
}

#[test]
fn an_old_fault_elsewhere_is_a_note() {
    let bench = Bench::new();
    let (boot, _) = build(&bench, chip(), &json!({}), &table(WIDE, 0x8000));
    let (device, port) = bench.device("old", |config| config.flash_size = 8 << 20);
    load(&device, chip().flash.bootloader_offset, &boot);
    load(&device, 0x8000, &table(WIDE, 0x8000));
    fs::write(bench.path("data.bin"), [7; 100]).unwrap();
    let list = json!([{"path": "data.bin", "address": 0x9000}]);
    let out = bench.call("esp_flash_firmware", json!({"port": port, "files": list}));
    assert!(out["notes"].to_string().contains("cannot start, before and after this write"), "{}", out["notes"]);
}

const OTA: &str = "nvs,data,nvs,0x9000,0x5000\notadata,data,ota,0xe000,0x2000\nfactory,app,factory,0x10000,1M\n\
                   ota_0,app,ota_0,0x110000,1M\n";

#[test]
fn a_write_says_what_keeps_the_app_from_starting() {
    let bench = Bench::new();
    let (boot, app) = build(&bench, chip(), &json!({}), &table(OTA, 0x8000));
    fs::write(bench.path("app.bin"), &app).unwrap();
    let (device, port) = bench.device("blank", |_| ());
    let list = json!([{"path": "app.bin", "address": 0x1_0000}]);
    let notes = |all: bool| {
        bench.call("esp_flash_firmware", json!({"port": port, "files": list, "all": all}))["notes"].to_string()
    };
    let first = notes(false);
    assert!(first.contains("no bootloader") && first.contains("no partition table"), "{first}");
    load(&device, chip().flash.bootloader_offset, &boot);
    load(&device, 0x8000, &table(OTA, 0x8000));
    assert_eq!(notes(true), "[]");
    bench.call("esp_ota_flash_prepare", json!({"port": port, "firmware_file": "app.bin"}));
    let last = notes(true);
    assert!(last.contains("otadata selects `ota_0`") && last.contains("esp_flash_erase region="), "{last}");
}

#[test]
fn an_app_for_newer_efuse_blocks_is_told_everywhere() {
    let bench = Bench::new();
    let chip = other_chip();
    let (_, mut app) = build(&bench, chip, &json!({}), &table(SMALL, 0x8000));
    // min_efuse_blk_rev_full in the app's description, which begins behind the headers.
    app[0x20 + 176..0x20 + 178].copy_from_slice(&41962u16.to_le_bytes());
    let end = app.len() - 33;
    let image = image::parse(&app).unwrap();
    let sum = image.computed_checksum();
    app[end] = sum;
    let digest = Sha256::digest(&app[..=end]);
    app[end + 1..].copy_from_slice(&digest);
    fs::write(bench.path("project/app.bin"), &app).unwrap();
    let (_, port) = bench.device_of(chip, "blocks", |_| ());
    let out = bench.call("esp_flash_firmware", json!({"port": port, "project": "project"}));
    assert!(out["notes"].to_string().contains("efuse blk rev >= v419.62"), "{}", out["notes"]);
    let walked = bench.call("esp_boot_check", json!({"port": port}));
    assert_eq!(walked["outcome"], "stops", "{walked:?}");
    let text = bench.reply("esp_firmware_analyze", json!({"binary_file": "project/app.bin"})).unwrap().text;
    assert!(text.contains("eFuse block revision v419.62"), "{text}");
}
