//! Backup, restore, and the copies that are made before data is lost.

use std::fs;

use esp_model::job::Job;
use mcp_esptool::tools;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::bench::{Bench, chip, firmware, flash, load, noise, other_chip, table};

const SIZE: usize = 4 << 20;

#[test]
fn a_backup_costs_what_is_there_and_comes_back_whole() {
    let bench = Bench::new();
    let (device, port) = bench.device("whole", |_| ());
    firmware(&device);
    load(&device, 0x9000, &noise(0x3000, 1));
    load(&device, 0x3f_0000, b"outside of any partition");
    let before = flash(&device, 0, SIZE);
    let made = bench.call("esp_flash_backup", json!({"port": port, "output_dir": "backup"}));
    let manifest: Value = serde_json::from_slice(&fs::read(bench.path("backup/manifest.json")).unwrap()).unwrap();
    assert_eq!((&manifest["complete"], &manifest["mac"]), (&json!(true), &made["mac"]));
    assert!(made["read_bytes"].as_u64().unwrap() < 800_000, "blank flash costs nothing: {made:?}");
    let mut whole = vec![0u8; SIZE];
    for area in manifest["areas"].as_array().unwrap() {
        let (at, size) = (area["address"].as_u64().unwrap() as usize, area["size_bytes"].as_u64().unwrap() as usize);
        let mut bytes = Vec::new();
        if let Some(sha256) = area["sha256"].as_str() {
            bytes = fs::read(bench.path(&format!("backup/objects/{sha256}.bin"))).unwrap();
            let found: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(found, sha256);
        }
        bytes.resize(size, 0xff);
        whole[at..at + size].copy_from_slice(&bytes);
    }
    assert!(whole == before, "the files make up the whole flash");
    let efuses =
        fs::read_to_string(bench.path(&format!("backup/objects/{}.bin", manifest["efuses"].as_str().unwrap())));
    assert!(efuses.unwrap().contains("FLASH_CRYPT_CNT"));

    let again = bench.call("esp_flash_backup", json!({"port": port, "output_dir": "backup"}));
    assert_eq!(again["read_bytes"], 0, "what is unchanged is not read again: {again:?}");

    load(&device, 0x20_0000, &noise(100_000, 9));
    device.with(|chip, _| chip.flash().erase(0x9000, 0x1000).unwrap());
    let back = bench.call("esp_flash_restore", json!({"port": port, "backup_dir": "backup"}));
    assert!(flash(&device, 0, SIZE) == before);
    assert_eq!(back["verified"], true);
    assert!(back["written_bytes"].as_u64().unwrap() < 300_000, "only what differs is written: {back:?}");
    assert!(back["erased_bytes"].as_u64().unwrap() > 0, "{back:?}");
    let nothing = bench.call("esp_flash_restore", json!({"port": port, "backup_dir": "backup"}));
    assert_eq!((&nothing["written_bytes"], &nothing["restored"]), (&json!(0), &json!([])));
}

#[test]
fn parts_can_be_chosen() {
    let bench = Bench::new();
    let (device, port) = bench.device("parts", |_| ());
    firmware(&device);
    load(&device, 0x9000, &noise(0x1000, 1));
    let input = json!({"port": port, "output_dir": "b", "partitions": ["nvs", "partition-table"]});
    let made = bench.call("esp_flash_backup", input);
    assert_eq!(made["areas"].as_array().unwrap().len(), 2);
    let error = bench.fail("esp_flash_backup", json!({"port": port, "output_dir": "b", "partitions": ["nvx"]}));
    assert_eq!(error.code.as_str(), "unknown_partition");
    let before = flash(&device, 0x9000, 0x6000);
    device.with(|chip, _| chip.flash().erase(0x9000, 0x6000).unwrap());
    let back = bench.call("esp_flash_restore", json!({"port": port, "backup_dir": "b", "partitions": ["nvs"]}));
    assert_eq!(back["restored"], json!(["nvs"]));
    assert!(flash(&device, 0x9000, 0x6000) == before);
}

#[test]
fn only_a_sound_backup_of_this_device_is_restored() {
    let bench = Bench::new();
    let (device, port) = bench.device("sound", |_| ());
    firmware(&device);
    bench.call("esp_flash_backup", json!({"port": port, "output_dir": "b"}));
    let restore = |port: &str| bench.fail("esp_flash_restore", json!({"port": port, "backup_dir": "b"}));

    let (twin, twin_port) = bench.device("twin", |_| ());
    assert_eq!(restore(&twin_port).code.as_str(), "identity_mismatch");
    assert!(flash(&twin, 0, SIZE).iter().all(|byte| *byte == 0xff));
    let allowed = json!({"port": twin_port, "backup_dir": "b", "other_device": true});
    bench.call("esp_flash_restore", allowed);
    assert!(flash(&twin, 0, SIZE) == flash(&device, 0, SIZE));
    let error = bench.fail("esp_flash_backup", json!({"port": twin_port, "output_dir": "b"}));
    assert_eq!(error.code.as_str(), "identity_mismatch");

    let (_, other_port) = bench.device_of(other_chip(), "other", |_| ());
    assert_eq!(restore(&other_port).code.as_str(), "chip_mismatch");
    let (_, small_port) = bench.device("small", |config| config.flash_size = 2 << 20);
    let small = json!({"port": small_port, "backup_dir": "b", "other_device": true});
    assert_eq!(bench.fail("esp_flash_restore", small).code.as_str(), "flash_too_small");

    let object = fs::read_dir(bench.path("b/objects")).unwrap().map(|entry| entry.unwrap().path());
    let object = object.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&object).unwrap();
    bytes[1000] ^= 1;
    fs::write(&object, &bytes).unwrap();
    load(&device, 0x30_0000, b"changed");
    assert_eq!(restore(&port).code.as_str(), "backup_damaged");
    assert_eq!(flash(&device, 0x30_0000, 7), b"changed", "nothing was written");
    fs::remove_file(&object).unwrap();
    assert_eq!(restore(&port).code.as_str(), "backup_damaged");
    let manifest = fs::read_to_string(bench.path("b/manifest.json")).unwrap();
    fs::write(bench.path("b/manifest.json"), manifest.replace("\"complete\": true", "\"complete\": false")).unwrap();
    assert_eq!(restore(&port).code.as_str(), "backup_incomplete");
    fs::write(bench.path("b/manifest.json"), "{").unwrap();
    assert_eq!(restore(&port).code.as_str(), "backup_damaged");
}

/// Cancels a call when its progress reaches `share` of all.
fn cut(bench: &Bench, tool: &str, input: Value, share: f64) -> &'static str {
    let handle: std::sync::Arc<std::sync::OnceLock<Job>> = std::sync::Arc::default();
    let seen = handle.clone();
    let job = Job::with_progress(move |progress| {
        if progress.done as f64 >= progress.total as f64 * share
            && let Some(job) = seen.get()
        {
            job.cancel();
        }
    });
    handle.set(job.clone()).unwrap();
    match tools::find(tool).unwrap().call(&bench.ctx, &job, input) {
        Ok(_) => "done",
        Err(error) => error.code.as_str(),
    }
}

#[test]
fn a_read_that_was_cut_goes_on() {
    let bench = Bench::new();
    let (device, port) = bench.device("read", |_| ());
    let bytes = noise(1 << 20, 5);
    load(&device, 0x10_0000, &bytes);
    let input = json!({"port": port, "address": 0x10_0000, "size": "1MB", "output_file": "out.bin"});
    assert_eq!(cut(&bench, "esp_flash_read", input.clone(), 0.5), "cancelled");
    assert!(!bench.path("out.bin").exists());
    let begun = fs::metadata(bench.path("out.bin.part")).unwrap().len();
    assert!(begun >= 0x7_0000, "{begun}");
    // What changed in the meantime is noticed.
    load(&device, 0x10_0000 + 0x2_8000, &[0; 16]);
    let out = bench.call("esp_flash_read", input.clone());
    assert_eq!(out["resumed_bytes"], 0x2_0000);
    let now = flash(&device, 0x10_0000, 1 << 20);
    assert!(fs::read(bench.path("out.bin")).unwrap() == now);
    assert!(!bench.path("out.bin.part").exists());
    assert_eq!(cut(&bench, "esp_flash_read", input.clone(), 0.5), "cancelled");
    let out = bench.call("esp_flash_read", input);
    assert!(out["resumed_bytes"].as_u64().unwrap() >= 0x7_0000, "{out:?}");
    assert!(fs::read(bench.path("out.bin")).unwrap() == now);
}

#[test]
fn a_backup_that_was_cut_goes_on() {
    let bench = Bench::new();
    let (device, port) = bench.device("cut", |_| ());
    firmware(&device);
    load(&device, 0x20_0000, &noise(1 << 20, 5));
    let input = json!({"port": port, "output_dir": "b"});
    assert_eq!(cut(&bench, "esp_flash_backup", input.clone(), 0.02), "cancelled");
    let out = bench.call("esp_flash_backup", input.clone());
    let there = out["resumed_bytes"].as_u64().unwrap() + out["unchanged_bytes"].as_u64().unwrap();
    assert!(there > 0, "{out:?}");
    let manifest: Value = serde_json::from_slice(&fs::read(bench.path("b/manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["complete"], true);
    device.with(|chip, _| chip.flash().erase_all());
    let whole = json!({"port": port, "backup_dir": "b"});
    bench.call("esp_flash_restore", whole);
    assert!(flash(&device, 0x20_0000, 1 << 20) == noise(1 << 20, 5));
}

#[test]
fn erasing_copies_what_cannot_be_rebuilt_wherever_the_table_stands() {
    let bench = Bench::new();
    let (device, port) = bench.device("moved", |_| ());
    let csv = "nvs,data,nvs,0x13000,0x6000\nfactory,app,factory,0x20000,1M\nown,0x40,1,0x120000,64K\n";
    load(&device, 0x1_2000, &table(csv, 0x1_2000));
    for (at, seed) in [(0x1_3000, 1), (0x2_0000, 2), (0x12_0000, 3), (0x3f_0000, 4)] {
        load(&device, at, &noise(0x1000, seed));
    }
    load(&device, chip().flash.bootloader_offset, &[0xe9, 1, 2, 0x20]);
    let out = bench.call("esp_flash_erase", json!({"port": port}));
    let copies = out["copies"].as_array().unwrap();
    let named: Vec<_> = copies.iter().map(|copy| copy["region"].as_str().unwrap()).collect();
    assert_eq!(named, ["partition-table", "nvs", "own", "gap"]);
    assert!(fs::read(copies[1]["file"].as_str().unwrap()).unwrap().starts_with(&noise(0x1000, 1)));
    assert!(fs::read(copies[3]["file"].as_str().unwrap()).unwrap().ends_with(&[0xff; 16]));

    load(&device, 0x1_2000, &table(csv, 0x1_2000));
    load(&device, 0x1_3000, &noise(0x1000, 7));
    let out = bench.call("esp_flash_erase", json!({"port": port, "region": "nvs"}));
    assert_eq!(out["address"], "0x13000");
    let wrong = json!({"port": port, "region": "nvs", "table_offset": "0x8000"});
    assert_eq!(bench.fail("esp_flash_erase", wrong).code.as_str(), "no_partition_table");
}
