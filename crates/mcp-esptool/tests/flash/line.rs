//! Lines that carry less than what is asked of them.

use serde_json::json;

use crate::bench::{Bench, flash, load, noise};

#[test]
fn a_bad_line_gets_slower_and_is_remembered() {
    let bench = Bench::new();
    let (device, port) = bench.device("cable", |config| config.faults.max_clean_baud = Some(230_400));
    load(&device, 0, &noise(0x2_0000, 1));
    let read = json!({"port": port, "address": 0, "size": "128K", "output_file": "x.bin"});
    bench.call("esp_flash_read", read);
    assert_eq!(std::fs::read(bench.path("x.bin")).unwrap(), flash(&device, 0, 0x2_0000));
    let known = || std::fs::read_to_string(bench.path("state/bauds.json")).unwrap_or_default();
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
    assert!(std::fs::read_to_string(bench.path("state/bauds.json")).unwrap().contains("460800"));
    let out = bench.call("esp_connect_advanced", json!({"port": port}));
    assert_eq!(out["baud"], 460_800);
}
