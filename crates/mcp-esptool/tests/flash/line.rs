//! Lines that carry less than what is asked of them.

use std::fs;
use std::io::{Seek, SeekFrom, Write};

use esp_model::job::Job;
use mcp_esptool::tools;
use serde_json::json;

use crate::bench::{Bench, flash, load, noise};

#[test]
fn a_bad_line_gets_slower_and_is_remembered() {
    let bench = Bench::new();
    let (device, port) = bench.device("cable", |config| config.faults.max_clean_baud = Some(230_400));
    load(&device, 0, &noise(0x2_0000, 1));
    let read = json!({"port": port, "address": 0, "size": "128K", "output_file": "x.bin"});
    bench.call("esp_flash_read", read);
    assert_eq!(fs::read(bench.path("x.bin")).unwrap(), flash(&device, 0, 0x2_0000));
    let known = || fs::read_to_string(bench.path("state/bauds.json")).unwrap_or_default();
    assert!(known().contains("230400"), "{}", known());
    // The next connection begins at the rate that works: its first attempt is the only one.
    bench.call("esp_reset_chip", json!({"port": port}));
    let out = bench.call("esp_connect_advanced", json!({"port": port}));
    assert_eq!((&out["baud"], out["attempts"].as_array().unwrap().len()), (&json!(230_400), 1), "{out:?}");
}

#[test]
fn a_measured_line_is_remembered() {
    let bench = Bench::new();
    let (_, port) = bench.device("limit", |config| config.faults.max_clean_baud = Some(500_000));
    let out = bench.call("esp_test_connection", json!({"port": port, "rounds": 5}));
    assert_eq!(out["recommended_baud"], 460_800);
    assert!(out["rates"].as_array().unwrap().last().unwrap()["errors"].as_u64().unwrap() > 0, "{out:?}");
    assert!(fs::read_to_string(bench.path("state/bauds.json")).unwrap().contains("460800"));
    let out = bench.call("esp_connect_advanced", json!({"port": port}));
    assert_eq!(out["baud"], 460_800);
}

#[test]
fn a_file_that_changes_while_it_is_written_is_noticed() {
    let bench = Bench::new();
    let (device, port) = bench.device("changing", |_| ());
    let bytes = noise(3 << 20, 5);
    let path = bench.path("big.bin");
    fs::write(&path, &bytes).unwrap();
    let built = path.clone();
    // A build that writes into the same file, as soon as the first bytes are on their way.
    let job = Job::with_progress(move |progress| {
        if progress.message.starts_with("writing ") {
            let mut file = fs::File::options().write(true).open(&built).unwrap();
            file.seek(SeekFrom::End(-4)).unwrap();
            file.write_all(b"new!").unwrap();
        }
    });
    let input = json!({"port": port, "files": [{"path": "big.bin", "address": 0x1_0000}]});
    let error = tools::find("esp_flash_firmware").unwrap().call(&bench.ctx, &job, input.clone()).unwrap_err();
    assert_eq!(error.code.as_str(), "file_changed", "{error}");
    assert!(flash(&device, 0x1_0000, 1 << 20) == bytes[..1 << 20], "up to there it is what was checked");
    let again = bench.call("esp_flash_firmware", input);
    assert!(again["skipped_bytes"].as_u64().unwrap() >= 1 << 20, "{again:?}");
    assert!(flash(&device, 0x1_0000, 3 << 20) == fs::read(&path).unwrap());
}
