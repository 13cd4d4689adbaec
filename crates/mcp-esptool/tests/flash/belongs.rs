//! Firmware that does not belong where it shall go: every tool refuses it before the first byte.

use std::fs;

use esp_model::nvs;
use esp_ops::firmware::sample;
use serde_json::{Value, json};

use crate::bench::{Bench, chip, flash, noise, other_chip, table};

/// A folder of right and wrong files for a chip.
fn files(bench: &Bench, chip: &esp_model::chip::Chip) {
    let parts = sample::make(chip).unwrap();
    let [boot, rows, app]: [Vec<u8>; 3] = std::array::from_fn(|index| parts[index].bytes.clone());
    let mut merged = vec![0xff; 0x1_0000];
    let base = chip.flash.bootloader_offset as usize;
    merged[base..base + boot.len()].copy_from_slice(&boot);
    merged[0x8000..0x8000 + rows.len()].copy_from_slice(&rows);
    merged.extend(&app);
    let mut damaged = app.clone();
    damaged[100] ^= 1;
    let page = [&b"<!DOCTYPE html><html>"[..], &[b'.'; 0x2000]].concat();
    let mut values = nvs::Builder::new(0x3000, nvs::Version::V2, None).unwrap();
    let index = values.namespace("app").unwrap();
    values.entry(index, "count", &nvs::Value::U8(1)).unwrap();
    let values = values.finish();
    for (name, bytes) in [
        ("boot.bin", boot.as_slice()),
        ("table.bin", &rows),
        ("app.bin", &app),
        ("merged.bin", &merged),
        ("cut.bin", &app[..app.len() - 100]),
        ("damaged.bin", &damaged),
        ("page.bin", b"\n<!DOCTYPE html>\n<html><head><title>404</title></head></html>"),
        ("long.bin", &page),
        ("nvs.bin", &values),
        ("app.zip", b"PK\x03\x04\x14\0\0\0\x08\0"),
        ("app.gz", b"\x1f\x8b\x08\0\0\0\0\0"),
        ("app.elf", &[b"\x7fELF\x01\x01\x01".as_slice(), &noise(1000, 1)].concat()),
        ("answer.bin", b"404: Not Found"),
        ("app.tar", &[&[b'a'; 257][..], b"ustar\x0000", &[0; 200]].concat()),
        ("setup.exe", b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff\0\0"),
        ("pointer.bin", b"version https://git-lfs.github.com/spec/v1\noid sha256:0011\nsize 12\n"),
    ] {
        fs::write(bench.path(name), bytes).unwrap();
    }
}

fn at(path: &str, address: u32) -> Value {
    json!([{"path": path, "address": address}])
}

#[test]
fn what_does_not_belong_there_is_refused_before_the_first_byte() {
    for chip in [chip(), other_chip()] {
        let bench = Bench::new();
        files(&bench, chip);
        let (device, port) = bench.device_of(chip, "one", |_| ());
        let boot = chip.flash.bootloader_offset;
        for (path, address, code, says) in [
            ("app.bin", boot, "wrong_place", "0x10000"),
            ("boot.bin", 0x1_0000, "wrong_place", "is not an app"),
            ("merged.bin", 0x1_0000, "wrong_place", "merged image"),
            ("page.bin", boot, "not_firmware", "web page"),
            ("page.bin", 0x1_0000, "not_firmware", "web page"),
            ("app.zip", 0x1_0000, "not_firmware", "zip"),
            ("app.gz", 0x1_0000, "not_firmware", "gzip"),
            ("pointer.bin", 0x20_0000, "not_firmware", "Git LFS"),
            ("answer.bin", boot, "not_firmware", "plain text"),
            // It begins before the bootloader's place and covers it.
            ("long.bin", boot.saturating_sub(0x1000), "not_firmware", "web page"),
            ("table.bin", boot, "wrong_place", "partition table"),
            ("table.bin", 0x1_0000, "wrong_place", "partition table"),
            ("nvs.bin", 0x1_0000, "wrong_place", "NVS"),
            ("app.bin", 0x8000, "wrong_place", "app image"),
            ("app.tar", 0x1_0000, "not_firmware", "archive"),
            ("setup.exe", 0x1_0000, "not_firmware", "program for a computer"),
            ("cut.bin", 0x1_0000, "image_cut", "cut"),
            ("damaged.bin", 0x1_0000, "image_invalid", "checksum"),
        ] {
            let error = bench.fail("esp_flash_firmware", json!({"port": port, "files": at(path, address)}));
            assert_eq!(error.code.as_str(), code, "{path} at {address:#x}: {error}");
            assert!(error.to_string().contains(says), "{path}: {error}");
            let error = bench.fail(
                "esp_binary_merge",
                json!({"files": at(path, address), "output_file": "out.bin", "chip_type": chip.id}),
            );
            assert_eq!(error.code.as_str(), code, "merge of {path} at {address:#x}: {error}");
        }
        assert!(flash(&device, 0, 0x40_0000).iter().all(|byte| *byte == 0xff), "not one byte was written");
        assert!(!bench.path("out.bin").exists());
    }
}

#[test]
fn data_partitions_take_archives_and_pages() {
    let bench = Bench::new();
    files(&bench, chip());
    let (device, port) = bench.device("data", |_| ());
    bench.call("esp_flash_firmware", json!({"port": port, "files": at("page.bin", 0x20_0000)}));
    bench.call("esp_flash_firmware", json!({"port": port, "files": at("app.gz", 0x21_0000)}));
    assert_eq!(flash(&device, 0x21_0000, 2), [0x1f, 0x8b]);
}

#[test]
fn the_device_table_tells_where_apps_are() {
    let bench = Bench::new();
    files(&bench, chip());
    let (_, port) = bench.device("table", |_| ());
    let rows = table("nvs,data,nvs,0x9000,0x6000\napp,app,factory,0x40000,1M\n", 0x8000);
    fs::write(bench.path("rows.bin"), rows).unwrap();
    bench.call("esp_flash_firmware", json!({"port": port, "files": at("rows.bin", 0x8000)}));
    let error = bench.fail("esp_flash_firmware", json!({"port": port, "files": at("page.bin", 0x4_0000)}));
    assert_eq!(error.code.as_str(), "not_firmware");
    let error =
        bench.fail("esp_flash_firmware", json!({"port": port, "files": at("app.bin", chip().flash.bootloader_offset)}));
    assert!(error.message.contains("0x") && error.code.as_str() == "wrong_place", "{error}");
}

#[test]
fn a_device_with_an_app_in_the_bootloaders_place_is_named() {
    let bench = Bench::new();
    files(&bench, other_chip());
    let (_, port) = bench.device_of(other_chip(), "named", |_| ());
    let list = at("app.bin", other_chip().flash.bootloader_offset);
    bench.call("esp_flash_firmware", json!({"port": port, "files": list, "accept_wrong_place": true}));
    let walked = bench.call("esp_boot_check", json!({"port": port}));
    assert_eq!((&walked["outcome"], &walked["stage"]), (&json!("stops"), &json!("rom")));
    let text = bench.reply("esp_boot_check", json!({"port": port})).unwrap().text;
    assert!(text.contains("an app image is at the bootloader's address"), "{text}");
    let found = Value::Object(bench.call("esp_recover_chip", json!({"port": port}))).to_string();
    assert!(found.contains("an app image is at the bootloader's address"), "{found}");
}

#[test]
fn an_ota_slot_takes_apps_only() {
    let bench = Bench::new();
    files(&bench, chip());
    let (device, port) = bench.device("ota", |_| ());
    let rows = table(
        "nvs,data,nvs,0x9000,0x5000\notadata,data,ota,0xe000,0x2000\napp0,app,ota_0,0x10000,1M\napp1,app,ota_1,0x110000,1M\n",
        0x8000,
    );
    fs::write(bench.path("rows.bin"), rows).unwrap();
    bench.call("esp_flash_firmware", json!({"port": port, "files": at("rows.bin", 0x8000)}));
    for (path, says) in [
        ("boot.bin", "is not an app"),
        ("merged.bin", "0x10000 in the file"),
        ("page.bin", "web page"),
        ("cut.bin", "cut off"),
        ("app.zip", "zip"),
    ] {
        let error = bench.fail("esp_ota_flash_prepare", json!({"port": port, "firmware_file": path}));
        assert!(error.to_string().contains(says), "{path}: {error}");
    }
    assert!(flash(&device, 0xe000, 0x20_0000).iter().all(|byte| *byte == 0xff));
}

#[test]
fn a_linked_program_is_not_merged() {
    let bench = Bench::new();
    fs::write(bench.path("app.elf"), [b"\x7fELF".as_slice(), &noise(1000, 1)].concat()).unwrap();
    let error = bench.fail(
        "esp_binary_merge",
        json!({"files": at("app.elf", 0x1_0000), "output_file": "out.bin", "chip_type": "esp32c3"}),
    );
    assert_eq!(error.code.as_str(), "not_firmware");
    assert!(error.next_step.contains("esp_elf_to_binary"), "{error}");
}

#[test]
fn new_ota_layouts_virtual_devices_and_ram_take_no_wrong_files() {
    let bench = Bench::new();
    let chip = other_chip();
    files(&bench, chip);
    let (device, port) = bench.device_of(chip, "more", |_| ());
    for (path, says) in [("page.bin", "web page"), ("app.zip", "zip"), ("cut.bin", "cut off"), ("merged.bin", "merged")]
    {
        let error = bench.fail("esp_ota_partition_setup", json!({"port": port, "app_file": path, "no_backup": true}));
        assert!(error.to_string().contains(says), "setup with {path}: {error}");
        let start = json!({"chip_type": chip.id, "backend": "builtin", "files": at(path, 0x1_0000)});
        let error = bench.fail("esp_qemu_start", start);
        assert!(error.to_string().contains(says), "start with {path}: {error}");
        let error = bench.fail("esp_load_ram", json!({"port": port, "firmware": path}));
        assert!(error.to_string().contains(says), "RAM with {path}: {error}");
    }
    assert!(flash(&device, 0, 0x40_0000).iter().all(|byte| *byte == 0xff), "not one byte was written");
}

/// What every tool that writes firmware without a question refuses: file, address (none: the bootloader's), code.
const WRONG: [(&str, Option<u32>, &str); 11] = [
    ("app.bin", None, "wrong_place"),
    ("boot.bin", Some(0x1_0000), "wrong_place"),
    ("merged.bin", Some(0x1_0000), "wrong_place"),
    ("page.bin", None, "not_firmware"),
    ("answer.bin", Some(0x1_0000), "not_firmware"),
    ("app.zip", Some(0x1_0000), "not_firmware"),
    ("app.gz", None, "not_firmware"),
    ("pointer.bin", Some(0x1_0000), "not_firmware"),
    ("app.elf", Some(0x1_0000), "not_firmware"),
    ("cut.bin", Some(0x1_0000), "image_cut"),
    ("damaged.bin", Some(0x1_0000), "image_invalid"),
];

#[test]
fn recipes_and_batches_refuse_wrong_firmware() {
    for chip in [chip(), other_chip()] {
        let bench = Bench::new();
        files(&bench, chip);
        let (device, port) = bench.device_of(chip, "line", |_| ());
        for (path, address, code) in WRONG {
            let address = address.unwrap_or(chip.flash.bootloader_offset);
            let recipe = format!(
                "[recipe]\nname = \"x\"\n[chip]\ntype = \"{}\"\n[[image]]\nfile = \"{path}\"\naddress = {address}\n",
                chip.id
            );
            fs::write(bench.path("x.toml"), recipe).unwrap();
            for (tool, input) in [
                ("esp_factory_program", json!({"port": port, "config": "x.toml"})),
                ("esp_batch_program", json!({"ports": [port], "firmware": "x.toml"})),
                ("esp_batch_program", json!({"ports": [port], "files": at(path, address)})),
            ] {
                let error = bench.fail(tool, input);
                assert_eq!(error.code.as_str(), code, "{tool}: {path} at {address:#x}: {error}");
            }
        }
        assert!(flash(&device, 0, 0x40_0000).iter().all(|byte| *byte == 0xff), "not one byte was written");
    }
}
