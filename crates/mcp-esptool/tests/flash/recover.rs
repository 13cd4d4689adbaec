//! Each rung of the ladder, against a device that fails in its way.

use std::fs;

use esp_model::job::Job;
use mcp_esptool::demo::firmware;
use mcp_esptool::tools;
use serde_json::{Map, Value, json};

use crate::bench::{Bench, chip, firmware as load_firmware, flash, load, noise, other_chip, table};

fn recover(bench: &Bench, port: &str, more: Value) -> Map<String, Value> {
    let mut input = json!({"port": port, "watch_s": 3});
    input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    bench.call("esp_recover_chip", input)
}

/// The rungs that worked or failed, by a part of their name.
fn step<'a>(out: &'a Map<String, Value>, name: &str) -> &'a Value {
    let steps = out["steps"].as_array().unwrap();
    let found = steps.iter().find(|step| step["tried"].as_str().unwrap().contains(name));
    found.unwrap_or_else(|| panic!("no step {name}: {steps:#?}"))
}

/// The demonstration's build as an ESP-IDF folder.
fn build(bench: &Bench, name: &str) {
    let folder = bench.path(name);
    fs::create_dir_all(&folder).unwrap();
    let mut files = Map::new();
    for part in firmware::make(chip()).unwrap() {
        fs::write(folder.join(part.name), &part.bytes).unwrap();
        files.insert(format!("{:#x}", part.address), json!(part.name));
    }
    let args = json!({"flash_files": files, "extra_esptool_args": {"chip": chip().id}});
    fs::write(folder.join("flasher_args.json"), args.to_string()).unwrap();
}

#[test]
fn a_sound_device_is_left_alone() {
    let bench = Bench::new();
    let (device, port) = bench.device("sound", |_| ());
    load_firmware(&device);
    let before = flash(&device, 0, 1 << 20);
    let out = recover(&bench, &port, json!({"repair": true}));
    assert_eq!((&out["verdict"], &out["repaired"]), (&json!("recovered"), &json!([])));
    assert_eq!(step(&out, "start and listen")["worked"], true);
    assert!(out.get("backup").is_none() && flash(&device, 0, 1 << 20) == before);
}

#[test]
fn lines_that_fail_end_in_hands() {
    let bench = Bench::new();
    let (_, port) = bench.device("silent", |config| config.faults.silent = true);
    let out = recover(&bench, &port, json!({}));
    assert_eq!(out["verdict"], "needs_hands");
    assert_eq!(step(&out, "by hand, watched")["seen"], "nothing was heard");
    let (_, port) = bench.device("no-boot-pin", |config| config.faults.no_boot_pin = true);
    let out = recover(&bench, &port, json!({}));
    assert_eq!(out["verdict"], "needs_hands");
    assert!(step(&out, "all reset sequences")["seen"].as_str().unwrap().contains("boot:"), "{out:?}");
    assert_eq!(bench.fail("esp_recover_chip", json!({"port": "/dev/ttyNONE"})).code, "port_not_found");
}

#[test]
fn the_rom_alone_helps_where_the_stub_cannot() {
    let bench = Bench::new();
    // Nothing above the ROM's first rate arrives.
    let (device, port) = bench.device("slow", |config| config.faults.max_clean_baud = Some(115_200));
    load_firmware(&device);
    let out = recover(&bench, &port, json!({}));
    assert_eq!(out["verdict"], "recovered", "{out:?}");
}

#[test]
fn hands_on_boot_and_en_are_watched() {
    let bench = Bench::new();
    let (device, port) = bench.device("hands", |config| config.faults.no_reset = true);
    load_firmware(&device);
    device.with(|chip, now| chip.power_cycle(now));
    let hands = device.clone();
    let job = Job::with_progress(move |progress| {
        if progress.message.contains("hold BOOT") && progress.done == 2 {
            hands.with(|chip, now| {
                chip.hold_boot_pin(true);
                chip.power_cycle(now);
                chip.hold_boot_pin(false);
            });
        }
    });
    let input = json!({"port": port, "watch_s": 10});
    let out = tools::find("esp_recover_chip").unwrap().call(&bench.ctx, &job, input).unwrap().data;
    assert_eq!(step(&out, "by hand, watched")["worked"], true, "{out:?}");
    assert_eq!(step(&out, "flash id")["worked"], true);
}

#[test]
fn closed_loaders_are_named() {
    let bench = Bench::new();
    let (device, port) = bench.device_of(other_chip(), "closed", |_| ());
    device.with(|chip, _| chip.efuse().set("DIS_DOWNLOAD_MODE", &[1]));
    let out = recover(&bench, &port, json!({}));
    assert_eq!(out["verdict"], "locked", "{out:?}");
    let (device, port) = bench.device_of(other_chip(), "secure", |_| ());
    device.with(|chip, _| chip.efuse().set("ENABLE_SECURITY_DOWNLOAD", &[1]));
    let out = recover(&bench, &port, json!({}));
    assert_eq!(out["verdict"], "locked", "{out:?}");
    assert!(step(&out, "examine")["seen"].as_str().unwrap().contains("secure download"));
}

#[test]
fn a_dead_flash_and_a_wrong_voltage_are_told_apart() {
    let bench = Bench::new();
    let (_, port) = bench.device("dead", |config| config.faults.flash.absent = true);
    let out = recover(&bench, &port, json!({}));
    assert_eq!(out["verdict"], "flash_dead");
    assert_eq!(step(&out, "flash voltage")["worked"], false);
    let (device, port) = bench.device("voltage", |config| config.faults.flash.wrong_voltage = true);
    let before = device.with(|chip, _| chip.efuse().image());
    let out = recover(&bench, &port, json!({"repair": true}));
    assert_eq!(out["verdict"], "needs_hands", "{out:?}");
    assert_eq!(step(&out, "nothing burned")["worked"], true);
    assert!(device.with(|chip, _| chip.efuse().image()) == before);
    let (device, port) = bench.device("locked", |_| ());
    device.with(|chip, _| {
        for (opcode, value) in [(0x01, 0x9c), (0x31, 0x03)] {
            chip.flash().transfer(0x06, &[], &mut []);
            chip.flash().transfer(opcode, &[value], &mut []);
        }
    });
    let out = recover(&bench, &port, json!({}));
    // A stub clears protection bits when it starts; where it could not, the part is lost.
    assert!(["flash_dead", "needs_repair"].contains(&out["verdict"].as_str().unwrap()), "{out:?}");
}

const OTA: &str = "nvs,data,nvs,0x9000,0x5000\notadata,data,ota,0xe000,0x2000\napp0,app,ota_0,0x10000,1M\n\
                   app1,app,ota_1,0x110000,1M\n";

#[test]
fn the_smallest_repair_comes_first() {
    let bench = Bench::new();
    build(&bench, "build");
    // otadata names a slot without an app, and the other app is damaged too: only a blank otadata leads anywhere.
    let (device, port) = bench.device("bootloader", |_| ());
    load_firmware(&device);
    load(&device, 0x9000, &noise(64, 1));
    let at = chip().flash.bootloader_offset;
    let sound = flash(&device, at, 0x7000);
    device.with(|chip, _| chip.flash().erase(at, 0x2000).unwrap());
    let out = recover(&bench, &port, json!({}));
    assert_eq!((&out["verdict"], &out["repaired"]), (&json!("needs_repair"), &json!([])));
    assert!(flash(&device, at, 0x2000).iter().all(|byte| *byte == 0xff), "nothing is written unasked");
    let out = recover(&bench, &port, json!({"repair": true}));
    assert_eq!(out["verdict"], "needs_repair", "without a build: {out:?}");
    assert!(fs::metadata(out["backup"].as_str().unwrap()).is_ok());
    let out = recover(&bench, &port, json!({"repair": true, "project": "build"}));
    assert_eq!((&out["verdict"], &out["repaired"]), (&json!("recovered"), &json!(["bootloader"])), "{out:?}");
    assert!(flash(&device, at, 0x7000) == sound);
    assert_eq!(flash(&device, 0x9000, 64), noise(64, 1), "the rest stays");

    let (device, port) = bench.device("table", |_| ());
    load_firmware(&device);
    load(&device, 0x8000, &[0; 64]);
    let out = recover(&bench, &port, json!({"repair": true, "project": "build"}));
    assert_eq!((&out["verdict"], &out["repaired"]), (&json!("recovered"), &json!(["partition table"])), "{out:?}");
}

#[test]
fn a_bad_update_is_taken_back_by_blank_otadata() {
    let bench = Bench::new();
    let (device, port) = bench.device("otadata", |_| ());
    let [bootloader, _, app] = {
        let mut parts = firmware::make(chip()).unwrap().into_iter().map(|part| part.bytes);
        std::array::from_fn(|_| parts.next().unwrap())
    };
    load(&device, chip().flash.bootloader_offset, &bootloader);
    load(&device, 0x8000, &table(OTA, 0x8000));
    load(&device, 0x1_0000, &app);
    let mut damaged = app.clone();
    damaged[0x4_0000] ^= 1;
    load(&device, 0x11_0000, &damaged);
    let chosen = esp_model::partition::otadata::Otadata::BLANK
        .switch_to(1, 2, esp_model::partition::otadata::State::Undefined)
        .unwrap();
    load(&device, 0xe000, &chosen.bytes());
    let walked = bench.call("esp_boot_check", json!({"port": port}));
    let out = recover(&bench, &port, json!({"repair": true}));
    match walked["outcome"].as_str() {
        // The bootloader falls back by itself: nothing is to be repaired.
        Some("starts") => assert_eq!((&out["verdict"], &out["repaired"]), (&json!("recovered"), &json!([]))),
        _ => assert_eq!((&out["verdict"], &out["repaired"]), (&json!("recovered"), &json!(["otadata"])), "{out:?}"),
    }
}

#[test]
fn everything_is_erased_only_after_a_confirmation() {
    let bench = Bench::new();
    build(&bench, "build");
    let (device, port) = bench.device("erase", |_| ());
    load(&device, 0, &noise(0x1_0000, 3));
    let first = recover(&bench, &port, json!({"erase_all": true}));
    let token = first["confirm_token"].as_str().unwrap().to_owned();
    assert!(first["next"].to_string().contains("confirm_token"));
    assert!(flash(&device, 0, 0x1_0000) == noise(0x1_0000, 3));
    let wrong = json!({"port": port, "erase_all": true, "confirm_token": "0".repeat(32)});
    assert_eq!(bench.fail("esp_recover_chip", wrong).code, "not_confirmed");
    let out = recover(&bench, &port, json!({"erase_all": true, "confirm_token": token, "project": "build"}));
    assert_eq!((&out["verdict"], &out["repaired"]), (&json!("recovered"), &json!(["everything"])), "{out:?}");
    let again = json!({"port": port, "backup_dir": out["backup"].as_str().unwrap().trim_end_matches("/manifest.json")});
    bench.call("esp_flash_restore", again);
    assert!(flash(&device, 0, 0x1_0000) == noise(0x1_0000, 3), "the backup holds what was there");
}
