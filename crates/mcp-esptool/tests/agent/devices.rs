//! Jobs on devices.

use std::fs;

use serde_json::json;

use super::reference::Stop;
use super::session::{Session, corpus, has};

/// Job 1: a program in RAM, without writing flash.
pub fn ram_program_is_loaded_and_flash_stays() {
    let mut session = Session::new(7);
    let chip = esp_model::chip::by_name("esp32c3").unwrap();
    let region = chip.memory.iter().find(|region| region.name == "IRAM").unwrap();
    session.write("ram.bin", &ram_image(chip, region.start + 0x1000));
    has(&session.ok("esp_detect_chip", json!({"port": "sim://esp32c3"})), &["ESP32-C3", "MAC"]);
    let text = session.ok("esp_load_ram", json!({"port": "sim://esp32c3", "firmware": "ram.bin", "capture_s": 1}));
    has(&text, &["baud"]);
    let blank =
        session.ok("esp_flash_read", json!({"port": "sim://esp32c3", "region": "all", "output_file": "all.bin"}));
    has(&blank, &["all.bin"]);
    assert!(session.bytes("all.bin").iter().all(|byte| *byte == 0xff));
}

/// An image with one segment in RAM.
fn ram_image(chip: &esp_model::chip::Chip, address: u32) -> Vec<u8> {
    let mut image = vec![0; 24];
    (image[0], image[1], image[2]) = (esp_model::image::MAGIC, 1, 2);
    image[4..8].copy_from_slice(&address.to_le_bytes());
    image[8] = 0xee;
    image[12..14].copy_from_slice(&chip.chip_id.unwrap().to_le_bytes());
    (image[17], image[18]) = (0xff, 0xff);
    image.extend(address.to_le_bytes());
    image.extend(64u32.to_le_bytes());
    image.extend([0x13u8, 0, 0, 0].repeat(16));
    let checksum = image[32..].iter().fold(esp_model::image::CHECKSUM_SEED, |sum, byte| sum ^ byte);
    image.resize(image.len().next_multiple_of(16) + 15, 0);
    image.push(checksum);
    image
}

/// Job 2: a device ready for updates over the air, with its app in the first slot.
pub fn device_becomes_ready_for_ota() {
    let mut session = Session::new(8);
    let (port, files) = ("sim://esp32-demo", session.firmware("esp32"));
    let app = files.as_array().unwrap().iter().find(|file| file["path"].as_str().unwrap().contains("app")).unwrap();
    let setup = json!({"port": port, "app_size": "1MB", "app_file": app["path"]});
    has(&session.ok("esp_ota_partition_setup", setup), &["ota_0", "ota_1"]);
    let bootloader: Vec<_> =
        files.as_array().unwrap().iter().filter(|file| file["path"].as_str().unwrap().contains("boot")).collect();
    session.ok("esp_flash_firmware", json!({"port": port, "files": bootloader}));
    has(&session.ok("esp_boot_check", json!({"port": port})), &["ota_0 starts"]);
}

/// Job 4: a plan for flash encryption and secure boot; nothing is burned.
pub fn security_plan_names_what_is_lost_and_burns_nothing() {
    let mut session = Session::new(12);
    let port = "sim://esp32c3-demo";
    let files = session.firmware("esp32c3");
    session.aside("esp_flash_firmware", json!({"port": port, "files": files}));
    let before = session.aside("esp_efuse_read", json!({"port": port}));
    has(&session.ok("esp_security_audit", json!({"port": port, "profile": "production"})), &["jtag"]);
    session.ok("esp_secure_sign", json!({"action": "generate_key", "scheme": "rsa3072", "output_file": "sb.pem"}));
    session.write("fe.bin", &(0..32u8).collect::<Vec<_>>());
    let plan = json!({"port": port, "key_file": "fe.bin", "files": files, "mode": "release"});
    let (plan_text, plan_again) =
        (session.ok("esp_encryption_enable", plan), session.aside("esp_efuse_read", json!({"port": port})));
    has(&plan_text, &["confirm_token", "becomes_impossible"]);
    assert_eq!(before, plan_again, "a plan burns nothing");
}

/// Job 5: a board that does not boot is found out and repaired.
pub fn board_with_damaged_bootloader_is_repaired() {
    let mut session = Session::new(6);
    let port = "sim://esp32c3-demo";
    let files = session.firmware("esp32c3");
    session.aside("esp_flash_firmware", json!({"port": port, "files": files}));
    let offset = esp_model::chip::by_name("esp32c3").unwrap().bootloader_offset;
    session.write("damage.bin", &[0x55; 256]);
    let damage = json!({"port": port, "files": [{"path": "damage.bin", "address": offset + 0x1000}], "accept_wrong_place": true});
    session.aside("esp_flash_firmware", damage);
    let found = session.ok("esp_recover_chip", json!({"port": port}));
    has(&found, &["needs_repair", "boot chain"]);
    let list: serde_json::Map<_, _> = files
        .as_array()
        .unwrap()
        .iter()
        .map(|file| (format!("{:#x}", file["address"].as_u64().unwrap()), file["path"].clone()))
        .collect();
    let build = json!({"flash_files": list, "extra_esptool_args": {"chip": "esp32c3"}});
    session.write("flasher_args.json", build.to_string().as_bytes());
    let repaired = json!({"port": port, "repair": true, "project": "."});
    session.ok("esp_recover_chip", repaired);
    has(&session.ok("esp_boot_check", json!({"port": port})), &["starts"]);
}

/// Job 9: other Wi-Fi credentials on a device; everything else stays.
pub fn wifi_credentials_are_changed_and_nothing_else() {
    let mut session = Session::new(6);
    let port = "sim://esp32c3";
    with_wifi(&mut session, port);
    session.ok("esp_flash_backup", json!({"port": port, "output_dir": "before"}));
    let data = json!({"wifi": {"ssid": "new-net", "psk": "correct horse"}});
    let changed = session.ok("esp_nvs", json!({"port": port, "action": "set", "data": data}));
    has(&changed, &["2 changes, read back; 1 other entry unchanged"]);
    assert!(!changed.contains("correct horse") && !changed.contains("hunter2"), "{changed}");
    let compared = session.ok("esp_flash_compare", json!({"port": "before", "other": port}));
    has(&compared, &["nvs differs", "wifi/ssid changed", "wifi/psk changed"]);
    let read = json!({"port": port, "action": "get", "namespace": "wifi", "key": "psk", "show_values": true});
    has(&session.ok("esp_nvs", read), &["correct horse"]);
}

/// A change in NVS is taken back by the call that the answer names.
pub fn nvs_change_is_undone_by_the_named_call() {
    let mut session = Session::new(4);
    let port = "sim://esp32c3";
    with_wifi(&mut session, port);
    let set = json!({"port": port, "action": "set", "namespace": "wifi", "key": "ssid", "value": "new-net"});
    let changed = session.ok("esp_nvs", set.clone());
    let undo = changed.lines().find_map(|line| line.strip_prefix("undo: esp_flash_firmware files=")).unwrap();
    has(&session.ok("esp_nvs", set), &["nothing to change"]);
    let files: serde_json::Value = serde_json::from_str(undo).unwrap();
    session.ok("esp_flash_firmware", json!({"port": port, "files": files}));
    has(&session.ok("esp_nvs", json!({"port": port})), &["old-net"]);
}

/// A blank chip: each answer names the next call, until the app would start.
pub fn blank_chip_is_brought_to_a_start_by_the_next_steps() {
    let mut session = Session::new(5);
    let (port, files) = ("sim://esp32-blank", session.firmware("esp32"));
    let app = files.as_array().unwrap().iter().find(|file| file["path"].as_str().unwrap().contains("app")).unwrap();
    let setup = json!({"port": port, "app_size": "1MB", "app_file": app["path"]});
    has(&session.ok("esp_ota_partition_setup", setup), &["app in ota_0", "does not boot yet", "esp_bootloader_build"]);
    has(&session.ok("esp_boot_check", json!({"port": port})), &["stops at rom", "next: ", "bootloader-esp32.bin"]);
    session.ok("esp_bootloader_build", json!({"chip_type": "esp32"}));
    let bootloader = json!([{"path": "bootloader-esp32.bin", "address": "0x1000"}]);
    session.ok("esp_flash_firmware", json!({"port": port, "files": bootloader, "flash_size": "detect"}));
    has(&session.ok("esp_boot_check", json!({"port": port})), &["ota_0 starts"]);
}

/// A write that goes well and changes what starts, or what is found: both are told.
pub fn replaced_table_and_unselected_slot_are_told() {
    let mut session = Session::new(3);
    let (port, files) = ("sim://esp32c3-slots", session.firmware("esp32c3"));
    let of = |part: &str| {
        let found = files.as_array().unwrap().iter().find(|file| file["path"].as_str().unwrap().contains(part));
        found.unwrap()["path"].clone()
    };
    session.aside("esp_ota_partition_setup", json!({"port": port, "app_file": of("app")}));
    session.aside("esp_ota_flash_prepare", json!({"port": port, "firmware_file": of("app")}));
    let first = json!({"port": port, "files": [{"path": of("app"), "address": "ota_0"}], "all": true});
    has(&session.ok("esp_flash_firmware", first), &["otadata selects `ota_1`", "action=switch slot=0"]);
    let text = session.ok("esp_flash_firmware", json!({"port": port, "files": files}));
    has(&text, &["the partition table was replaced", "no longer has `otadata`, `ota_0`, `ota_1`"]);
    let again = session.ok("esp_flash_firmware", json!({"port": port, "files": files}));
    assert!(!again.contains("was replaced"), "{again}");
}

/// A table and an NVS with three values.
fn with_wifi(session: &mut Session, port: &str) {
    session.aside("esp_partition_create", json!({"layout": "single_app", "output_file": "table.bin"}));
    let data = json!({"wifi": {"ssid": "old-net", "psk": "hunter2-99"}, "app": {"boots": 3}});
    session.aside("esp_nvs_partition_create", json!({"data": data, "output_file": "nvs.bin"}));
    let files = json!([{"path": "table.bin", "address": "0x8000"}, {"path": "nvs.bin", "address": "nvs"}]);
    session.aside("esp_flash_firmware", json!({"port": port, "files": files}));
}

/// Job 10: the firmware of one board on another, which keeps its own settings.
pub fn firmware_is_cloned_and_settings_stay() {
    let mut session = Session::new(5);
    let (first, second) = ("sim://esp32c3-demo", "sim://esp32c3-second");
    let files = session.firmware("esp32c3");
    session.aside("esp_flash_firmware", json!({"port": first, "files": files}));
    with_wifi(&mut session, second);
    session.ok("esp_flash_backup", json!({"port": first, "output_dir": "first"}));
    let areas = json!(["bootloader", "partition-table", "factory"]);
    let restore = json!({"port": second, "backup_dir": "first", "partitions": areas, "other_device": true});
    session.ok("esp_flash_restore", restore);
    let compared = json!({"port": "first", "other": second, "partitions": areas});
    has(&session.ok("esp_flash_compare", compared), &["all 3 areas are the same"]);
    has(&session.ok("esp_nvs", json!({"port": second})), &["old-net"]);
    has(&session.ok("esp_boot_check", json!({"port": second})), &["factory starts"]);
}

/// Job 11: a security audit; a plan that would brick the board is not offered.
pub fn audit_names_open_doors_and_a_bricking_plan_is_refused() {
    let mut session = Session::new(4);
    let port = "sim://esp32c3-audit";
    let audit = session.ok("esp_security_audit", json!({"port": port, "profile": "production"}));
    has(&audit, &["jtag", "open"]);
    let plan = json!({"port": port, "mode": "release", "encrypts_at_boot": true});
    assert!(!session.refused("esp_flash_encryption_configure", plan).contains("confirm_token"));
}

/// Job 13: an eFuse that must not be burned now.
pub fn efuse_trap_is_refused_with_reasons() {
    let mut session = Session::new(3);
    let burn = json!({"port": "sim://esp32c3-trap", "efuse_name": "DIS_DOWNLOAD_MODE", "value": "1"});
    let text = session.refused("esp_efuse_burn", burn);
    has(&text, &["findings"]);
}

/// Job 12: a program in Rust on a board.
pub fn rust_program_reaches_a_board() -> Result<(), Stop> {
    let elf = corpus("elf/espflash/esp32c3.elf")?;
    let mut session = Session::new(4);
    session.write("app.elf", &fs::read(elf).unwrap());
    let run = json!({"port": "sim://esp32c3", "project": "app.elf", "duration_s": 2, "record_file": "run.json"});
    let text = session.ok("esp_flash_and_run", run);
    has(&text, &["ESP32-C3", "bytes written"]);
    has(&session.ok("esp_boot_check", json!({"port": "sim://esp32c3"})), &["starts"]);
    assert!(session.path("run.json").exists());
    Ok(())
}

/// The loop of edit, flash and look, on a device that runs what is in its flash.
pub fn flash_and_run_judges_with_evidence() -> Result<(), Stop> {
    let folder = corpus("build/hello-c3")?;
    let mut session = Session::new(3);
    for (name, from) in [("app.bin", "hello_world.bin"), ("bootloader.bin", "bootloader_bootloader.bin")] {
        session.write(name, &fs::read(folder.join(from)).unwrap());
    }
    session.aside("esp_partition_create", json!({"layout": "single_app", "output_file": "table.bin"}));
    let files = json!([{"path": "bootloader.bin", "address": 0}, {"path": "table.bin", "address": "0x8000"},
        {"path": "app.bin", "address": "factory"}]);
    let run = json!({"port": "sim://esp32c3", "files": files, "until": ["Time: \\d+"], "duration_s": 5,
        "junit_file": "junit.xml", "record_file": "run.json"});
    has(&session.ok("esp_flash_and_run", run), &["PASS", "Time: ", "the device runs"]);
    assert!(fs::read_to_string(session.path("junit.xml")).unwrap().contains("failures=\"0\""));
    let never = json!({"port": "sim://esp32c3", "files": files, "until": ["this is never printed"], "duration_s": 1});
    has(&session.ok("esp_flash_and_run", never), &["FAIL", "none of the patterns was seen", "0 bytes written"]);
    Ok(())
}
