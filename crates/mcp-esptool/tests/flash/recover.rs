//! Each rung of the ladder, against a device that fails in its way.

use std::fs;
use std::time::Duration;

use esp_model::job::Job;
use esp_model::partition::otadata::{Otadata, State};
use esp_ops::firmware::sample;
use esp_sim::SimDevice;
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
    for part in sample::make(chip()).unwrap() {
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
    assert_eq!(bench.fail("esp_recover_chip", json!({"port": "/dev/ttyNONE"})).code.as_str(), "port_not_found");
}

#[test]
fn the_rom_alone_helps_where_the_stub_cannot() {
    let bench = Bench::new();
    let (device, port) = bench.device("stub", |config| config.faults.stub_dies = true);
    load_firmware(&device);
    let out = recover(&bench, &port, json!({}));
    assert_eq!(out["verdict"], "recovered", "{out:?}");
    assert_eq!(step(&out, "all reset sequences")["worked"], false);
    assert_eq!(step(&out, "ROM only, 115200 baud")["worked"], true);
    // What was found out holds for the repair: the same way leads there again after each start.
    build(&bench, "build");
    device.with(|chip, _| chip.flash().erase(crate::bench::chip().flash.bootloader_offset, 0x2000).unwrap());
    let out = recover(&bench, &port, json!({"repair": true, "project": "build"}));
    assert_eq!((&out["verdict"], &out["repaired"]), (&json!("recovered"), &json!(["bootloader"])), "{out:?}");
}

#[test]
fn a_line_that_carries_only_the_first_rate_is_enough() {
    let bench = Bench::new();
    let (device, port) = bench.device("slow", |config| config.faults.max_clean_baud = Some(115_200));
    load_firmware(&device);
    let out = recover(&bench, &port, json!({}));
    assert_eq!(out["verdict"], "recovered", "{out:?}");
}

#[test]
fn an_en_pin_that_rises_slowly_needs_the_long_reset() {
    let bench = Bench::new();
    let (device, port) = bench.device("slow-en", |config| config.faults.slow_en = Some(Duration::from_millis(1200)));
    load_firmware(&device);
    let out = recover(&bench, &port, json!({}));
    assert_eq!(step(&out, "ROM only, 115200 baud")["worked"], false, "{out:?}");
    assert_eq!(step(&out, "long classic reset")["worked"], true);
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
    let out = recover(&bench, &port, json!({"repair": true}));
    assert_eq!(out["verdict"], "flash_dead", "{out:?}");
    assert_eq!(step(&out, "flash status")["worked"], false);
    assert!(out["next"].to_string().contains("locked permanently"));
    // Protection alone is lifted when a loader starts.
    let (device, port) = bench.device("protected", |_| ());
    load_firmware(&device);
    device.with(|chip, _| {
        chip.flash().transfer(0x06, &[], &mut []);
        chip.flash().transfer(0x01, &[0x1c], &mut []);
    });
    let out = recover(&bench, &port, json!({}));
    assert_eq!(out["verdict"], "recovered", "{out:?}");
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

/// Two slots with the same sound app; otadata selects the second.
fn two_slots(bench: &Bench, name: &str, change: impl FnOnce(&mut esp_sim::Config)) -> (SimDevice, String) {
    let (device, port) = bench.device(name, change);
    let parts = sample::make(chip()).unwrap();
    load(&device, chip().flash.bootloader_offset, &parts[0].bytes);
    load(&device, 0x8000, &table(OTA, 0x8000));
    for slot in [0x1_0000, 0x11_0000] {
        load(&device, slot, &parts[2].bytes);
    }
    load(&device, 0xe000, &selecting(1));
    (device, port)
}

fn selecting(slot: u32) -> Vec<u8> {
    Otadata::BLANK.switch_to(slot, 2, State::Undefined).unwrap().bytes()
}

#[test]
fn a_bootloader_that_falls_back_by_itself_needs_no_repair() {
    let bench = Bench::new();
    let (device, port) = two_slots(&bench, "fallback", |_| ());
    load(&device, 0x15_0000, &[0; 4]);
    let out = recover(&bench, &port, json!({"repair": true}));
    assert_eq!((&out["verdict"], &out["repaired"]), (&json!("recovered"), &json!([])), "{out:?}");
}

#[test]
fn a_bad_update_is_taken_back_by_otadata() {
    let bench = Bench::new();
    // The app in the second slot is whole, and crashes at its start.
    let (device, port) = two_slots(&bench, "otadata", |config| config.faults.app.crash_at = Some(0x11_0000));
    assert_eq!(bench.call("esp_boot_check", json!({"port": port}))["outcome"], "starts");
    let out = recover(&bench, &port, json!({}));
    assert_eq!((&out["verdict"], &out["repaired"]), (&json!("needs_repair"), &json!([])), "{out:?}");
    assert!(step(&out, "start and listen")["seen"].as_str().unwrap().contains("panic"), "{out:?}");
    assert_eq!(flash(&device, 0xe000, 0x2000), selecting(1), "nothing is written unasked");
    let out = recover(&bench, &port, json!({"repair": true}));
    assert_eq!((&out["verdict"], &out["repaired"]), (&json!("recovered"), &json!(["otadata"])), "{out:?}");
    assert!(fs::metadata(out["backup"].as_str().unwrap()).is_ok());
    assert!(flash(&device, 0xe000, 0x2000).iter().all(|byte| *byte == 0xff));

    // Blank otadata would lead to the first slot: here that is the bad one.
    let (device, port) = two_slots(&bench, "first", |config| config.faults.app.crash_at = Some(0x1_0000));
    device.with(|chip, _| chip.flash().erase(0xe000, 0x2000).unwrap());
    let out = recover(&bench, &port, json!({"repair": true}));
    assert_eq!(
        (&out["verdict"], &out["repaired"]),
        (&json!("recovered"), &json!(["otadata (selects ota_1)"])),
        "{out:?}"
    );
}

/// Three pages of NVS, in each of which the header says so.
fn nvs_pages(state: u32, version: u8) -> Vec<u8> {
    let page = |number: u32| {
        let mut bytes = vec![0xff; 0x1000];
        bytes[..4].copy_from_slice(&state.to_le_bytes());
        bytes[4..8].copy_from_slice(&number.to_le_bytes());
        bytes[8] = version;
        let crc = esp_model::crc::rom_crc32(&bytes[4..28]).to_le_bytes();
        bytes[28..32].copy_from_slice(&crc);
        bytes
    };
    (0..3).flat_map(page).collect()
}

const SMALL_NVS: &str = "nvs,data,nvs,0x9000,0x3000\nfactory,app,factory,0x10000,1M\n";

/// A device with three pages of NVS.
fn with_nvs(bench: &Bench, name: &str, nvs: &[u8], change: impl FnOnce(&mut esp_sim::Config)) -> (SimDevice, String) {
    let (device, port) = bench.device(name, change);
    load_firmware(&device);
    load(&device, 0x8000, &table(SMALL_NVS, 0x8000));
    load(&device, 0x9000, nvs);
    (device, port)
}

#[test]
fn nvs_that_the_app_cannot_open_is_blanked() {
    let bench = Bench::new();
    for (name, nvs) in [("full", nvs_pages(0xffff_fffc, 0xfe)), ("newer", nvs_pages(0xffff_fffe, 0xfd))] {
        let (device, port) = with_nvs(&bench, name, &nvs, |config| config.faults.app.needs_nvs = true);
        let heard = bench.call("esp_run_firmware", json!({"port": port, "capture_s": 3}));
        assert!(heard["console"]["findings"].to_string().contains("nvs_unusable"), "{heard:?}");
        let out = recover(&bench, &port, json!({"repair": true}));
        assert_eq!((&out["verdict"], &out["repaired"]), (&json!("recovered"), &json!(["nvs"])), "{name}: {out:?}");
        assert!(flash(&device, 0x9000, 0x3000).iter().all(|byte| *byte == 0xff));
        let dir = out["backup"].as_str().unwrap().trim_end_matches("/manifest.json").to_owned();
        bench.call("esp_flash_restore", json!({"port": port, "backup_dir": dir}));
        assert!(flash(&device, 0x9000, 0x3000) == nvs, "the backup holds what was there");
    }
    // Settings that are sound and still more than the app can bear.
    let nvs = nvs_pages(0xffff_fffe, 0xfe)[..0x1000].to_vec();
    let (_, port) = with_nvs(&bench, "settings", &nvs, |config| config.faults.app.bad_settings = true);
    let out = recover(&bench, &port, json!({"repair": true}));
    assert_eq!((&out["verdict"], &out["repaired"]), (&json!("recovered"), &json!(["nvs"])), "{out:?}");
}

#[test]
fn what_did_not_help_is_put_back() {
    let bench = Bench::new();
    let nvs = nvs_pages(0xffff_fffe, 0xfe)[..0x1000].to_vec();
    let (device, port) = with_nvs(&bench, "put-back", &nvs, |config| config.faults.app.crash_at = Some(0x1_0000));
    let before = flash(&device, 0, 1 << 20);
    let out = recover(&bench, &port, json!({"repair": true}));
    assert_eq!((&out["verdict"], &out["repaired"]), (&json!("needs_repair"), &json!([])), "{out:?}");
    assert_eq!(step(&out, "repair nvs")["worked"], true);
    assert_eq!(step(&out, "put nvs back")["worked"], true);
    assert!(flash(&device, 0, 1 << 20) == before);
}

#[test]
fn an_app_that_cannot_start_is_replaced_from_the_build() {
    let bench = Bench::new();
    build(&bench, "build");
    let (device, port) = bench.device("app", |_| ());
    load_firmware(&device);
    let sound = flash(&device, 0x1_0000, 0x5_0000);
    load(&device, 0x2_0000, &[0; 64]);
    let out = recover(&bench, &port, json!({"repair": true, "project": "build"}));
    assert_eq!((&out["verdict"], &out["repaired"]), (&json!("recovered"), &json!(["app and otadata"])), "{out:?}");
    assert!(flash(&device, 0x1_0000, 0x5_0000) == sound);
    // Nothing is left of it: the build as a whole.
    let (device, port) = bench.device("blank", |_| ());
    let out = recover(&bench, &port, json!({"repair": true, "project": "build"}));
    assert_eq!((&out["verdict"], &out["repaired"]), (&json!("recovered"), &json!(["everything"])), "{out:?}");
    assert!(flash(&device, 0x1_0000, 0x5_0000) == sound);
}

#[test]
fn a_device_that_is_in_use_ends_the_ladder_with_the_holders_name() {
    let bench = Bench::new();
    let (_, port) = bench.device("held", |_| ());
    let url = Some(port.parse().unwrap());
    let held = bench.ctx.lease_port(url.as_ref(), &Job::new()).unwrap();
    let out = recover(&bench, &port, json!({}));
    assert_eq!(out["verdict"], "needs_hands");
    assert!(step(&out, "open the port")["seen"].as_str().unwrap().contains("in use by"), "{out:?}");
    drop(held);
    assert_ne!(recover(&bench, &port, json!({}))["steps"][0]["worked"], false);
}

/// Another program has the port open for itself alone: it is named and lives on.
#[cfg(target_os = "linux")]
#[test]
fn a_port_that_another_program_holds_is_left_to_it() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    let master = esp_link::port::pty::PtyMaster::new().unwrap();
    let path = master.path().display().to_string();
    let bench = Bench::new();
    let mut ours = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
    ours.args(["call", "esp_console_capture", &format!("port={path}"), "duration_s=60"]);
    ours.current_dir(bench.dir.path()).stdout(Stdio::null()).stderr(Stdio::null());
    // One that knows nothing of locks.
    let script = "import sys,time\nf=open(sys.argv[1],'rb+',buffering=0)\nprint('held',flush=True)\ntime.sleep(60)";
    let mut foreign = Command::new("python3");
    foreign.args(["-c", script, &path]).stdout(Stdio::piped());
    for (command, name, prints) in [(&mut ours, "esp_console_capture", false), (&mut foreign, "python3", true)] {
        let Ok(mut holder) = command.spawn() else { continue };
        if prints {
            let mut line = String::new();
            BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
            assert_eq!(line.trim(), "held");
        } else {
            let until = std::time::Instant::now() + Duration::from_secs(20);
            let fds = format!("/proc/{}/fd", holder.id());
            let open = |fd: std::io::Result<fs::DirEntry>| fd.and_then(|fd| fs::read_link(fd.path())).ok();
            let is_held = || fs::read_dir(&fds).unwrap().filter_map(open).any(|target| target == master.path());
            while !is_held() && std::time::Instant::now() < until {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        let out = recover(&bench, &path, json!({}));
        assert_eq!(out["verdict"], "needs_hands", "{out:?}");
        let seen = step(&out, "open the port")["seen"].as_str().unwrap();
        assert!(seen.contains(name) && seen.contains(&holder.id().to_string()), "{seen}");
        assert_eq!(out["steps"].as_array().unwrap().len(), 1, "{out:?}");
        assert!(out["next"].to_string().contains("never killed"), "{out:?}");
        assert!(holder.try_wait().unwrap().is_none(), "the holder lives");
        holder.kill().unwrap();
        holder.wait().unwrap();
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
    assert_eq!(bench.fail("esp_recover_chip", wrong).code.as_str(), "not_confirmed");
    let out = recover(&bench, &port, json!({"erase_all": true, "confirm_token": token, "project": "build"}));
    assert_eq!((&out["verdict"], &out["repaired"]), (&json!("recovered"), &json!(["everything"])), "{out:?}");
    let again = json!({"port": port, "backup_dir": out["backup"].as_str().unwrap().trim_end_matches("/manifest.json")});
    bench.call("esp_flash_restore", again);
    assert!(flash(&device, 0, 0x1_0000) == noise(0x1_0000, 3), "the backup holds what was there");
}
