//! A chip for which no flasher stub is built in and whose ROM cannot read flash: what works, and what the rest says.

use std::fs;

use esp_model::chip::{self, Chip};
use esp_sim::SimDevice;
use serde_json::json;

use crate::bench::{Bench, flash, load, noise};

fn rom_only() -> &'static Chip {
    let cannot = |chip: &&Chip| !esp_link::stub::Stub::is_built_in(chip) && !chip.rom.extended;
    chip::all().iter().find(cannot).unwrap()
}

fn device(bench: &Bench) -> (SimDevice, String) {
    bench.device_of(rom_only(), "plain", |_| ())
}

#[test]
fn firmware_is_written_and_said_to_be_unverified() {
    let bench = Bench::new();
    let (device, port) = device(&bench);
    let data = noise(0x5000, 7);
    fs::write(bench.path("app.bin"), &data).unwrap();
    let files = json!([{"path": "app.bin", "address": 0x1000}]);
    let reply = bench.reply("esp_flash_firmware", json!({"port": port, "files": files})).unwrap();
    assert!(flash(&device, 0x1000, data.len()) == data);
    assert_eq!(reply.data["verified"], false);
    assert_eq!(reply.data["written_bytes"], 0x5000);
    assert!(reply.text.contains("not verified") && reply.text.contains("stub_dir"), "{}", reply.text);
}

#[test]
fn what_stands_before_an_odd_address_cannot_be_kept_so_nothing_is_written() {
    let bench = Bench::new();
    let (device, port) = device(&bench);
    fs::write(bench.path("app.bin"), noise(100, 7)).unwrap();
    let files = json!([{"path": "app.bin", "address": 0x1000}, {"path": "app.bin", "address": 0x2010}]);
    let error = bench.fail("esp_flash_firmware", json!({"port": port, "files": files}));
    assert_eq!(error.code.as_str(), "stub_missing", "{error}");
    assert!(flash(&device, 0, 0x4000).iter().all(|byte| *byte == 0xff));
}

#[test]
fn flash_is_erased_only_when_its_data_may_go() {
    let bench = Bench::new();
    let (device, port) = device(&bench);
    load(&device, 0x1000, &noise(0x4000, 3));
    let erase = |region: &str| json!({"port": port, "region": region});
    let error = bench.fail("esp_flash_erase", erase("0x1000+0x2000"));
    assert_eq!(error.code.as_str(), "data_would_be_lost", "{error}");
    assert!(error.to_string().contains("no_backup=true") && error.to_string().contains("stub_dir"), "{error}");
    let may_go = |region: &str| json!({"port": port, "region": region, "no_backup": true});
    let odd = bench.fail("esp_flash_erase", may_go("0x1000+0x1000"));
    assert!(odd.code.as_str() == "not_aligned" && odd.to_string().contains("0x1000+0x2000"), "{odd}");
    assert!(flash(&device, 0x1000, 0x4000) == noise(0x4000, 3), "nothing was erased");
    bench.call("esp_flash_erase", may_go("0x1000+0x2000"));
    assert!(flash(&device, 0x1000, 0x2000).iter().all(|byte| *byte == 0xff));
    assert!(flash(&device, 0x3000, 0x2000) == noise(0x4000, 3)[0x2000..], "the neighbour is as it was");
    let all = bench.call("esp_flash_erase", json!({"port": port, "no_backup": true}));
    assert!(flash(&device, 0, 0x8000).iter().all(|byte| *byte == 0xff), "{all:?}");
}

#[test]
fn what_needs_a_stub_names_the_setting() {
    let bench = Bench::new();
    let (_device, port) = device(&bench);
    fs::write(bench.path("app.bin"), noise(0x1000, 7)).unwrap();
    for (tool, mut input) in [
        ("esp_flash_read", json!({"address": 0, "size": 4096, "output_file": "out.bin"})),
        ("esp_flash_verify", json!({"files": [{"path": "app.bin", "address": 0}]})),
        ("esp_flash_backup", json!({"output_dir": "kept"})),
    ] {
        input["port"] = json!(port);
        let error = bench.fail(tool, input);
        assert_eq!(error.code.as_str(), "stub_missing", "{tool}: {error}");
        assert!(
            error.to_string().contains(&rom_only().name) && error.to_string().contains("stub_dir"),
            "{tool}: {error}"
        );
    }
    assert!(!bench.path("out.bin").exists());
}

#[test]
fn a_capture_at_the_wrong_rate_proposes_others() {
    let bench = Bench::new();
    let (_device, port) = device(&bench);
    let input = json!({"port": port, "reset": true, "duration_s": 1, "baud": 921_600});
    let heard = bench.reply("esp_console_capture", input).unwrap();
    assert!(heard.text.contains("unprintable at 921600 baud (first bytes: "), "{}", heard.text);
    assert!(heard.text.contains("74880"), "{}", heard.text);
}
