//! Builds of other tools, and what is refused before the first byte.

use std::fs;
use std::path::PathBuf;

use esp_model::chip::{Chip, SecureBootScheme};
use esp_model::image::{AppDesc, Header, hex, uf2};
use esp_model::secure::boot_v2;
use esp_ops::firmware::sample;
use serde_json::{Value, json};

use crate::bench::{Bench, chip, flash, load, noise, other_chip, table};

/// Bootloader, table and app of the demonstration.
fn demo(chip: &Chip) -> [Vec<u8>; 3] {
    let mut parts = sample::make(chip).unwrap().into_iter().map(|part| part.bytes);
    std::array::from_fn(|_| parts.next().unwrap())
}

fn folder(bench: &Bench, name: &str, files: &[(&str, &[u8])]) -> PathBuf {
    let folder = bench.path(name);
    fs::create_dir_all(&folder).unwrap();
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).unwrap();
    }
    folder
}

const OTA: &str = "nvs,data,nvs,0x9000,0x5000\notadata,data,ota,0xe000,0x2000\napp0,app,ota_0,0x10000,1M\n\
                   app1,app,ota_1,0x110000,1M\n";

#[test]
fn arduino_and_platformio_builds_go_where_they_belong() {
    let bench = Bench::new();
    let [bootloader, _, app] = demo(chip());
    let rows = table(OTA, 0x8000);
    folder(
        &bench,
        "sketch/build/vendor.board.one",
        &[("blink.ino.bin", &app), ("blink.ino.bootloader.bin", &bootloader), ("blink.ino.partitions.bin", &rows)],
    );
    folder(
        &bench,
        "pio/.pio/build/esp",
        &[("firmware.bin", &app), ("bootloader.bin", &bootloader), ("partitions.bin", &rows)],
    );
    for (path, kind) in [("sketch", "Arduino"), ("pio", "PlatformIO"), ("pio/.pio/build/esp", "PlatformIO")] {
        let (device, port) = bench.device(&path.replace(['/', '.'], "-"), |_| ());
        // An update selected the other slot before.
        load(&device, 0xe000, &[1, 0, 0, 0]);
        let out = bench.call("esp_flash_firmware", json!({"port": port, "project": path}));
        assert_eq!((&out["project"], &out["verified"], &out["notes"]), (&json!(kind), &json!(true), &json!([])));
        assert!(flash(&device, 0x1_0000, app.len()) == app);
        assert!(flash(&device, 0x8000, rows.len()) == rows);
        assert!(flash(&device, chip().flash.bootloader_offset, bootloader.len()) == bootloader);
        assert!(flash(&device, 0xe000, 0x2000).iter().all(|byte| *byte == 0xff), "otadata is blank");
    }
    folder(&bench, "pio/.pio/build/other", &[("firmware.bin", &app)]);
    let (_, port) = bench.device("several", |_| ());
    let error = bench.fail("esp_flash_firmware", json!({"port": port, "project": "pio"}));
    assert_eq!(error.code.as_str(), "no_project");
    assert!(error.evidence["builds"].as_str().unwrap().contains("other"), "{error}");
}

#[test]
fn single_files_are_told_by_their_content() {
    let bench = Bench::new();
    let [bootloader, _, app] = demo(chip());
    let rows = table(OTA, 0x8000);
    let blank = [0xff; 0x2000];
    folder(&bench, "release", &[("v2.bin", &app), ("boot.bin", &bootloader), ("p.bin", &rows), ("data.bin", &blank)]);
    let (device, port) = bench.device("release", |_| ());
    let out = bench.call("esp_flash_firmware", json!({"port": port, "project": "release"}));
    assert_eq!((&out["project"], &out["verified"]), (&json!("single files"), &json!(true)));
    assert!(flash(&device, 0x1_0000, app.len()) == app && flash(&device, 0x8000, rows.len()) == rows);
    assert!(flash(&device, chip().flash.bootloader_offset, bootloader.len()) == bootloader);
    // What is not known might belong to it: nothing is left out silently.
    folder(&bench, "release", &[("spiffs.bin", &noise(4096, 1))]);
    let error = bench.fail("esp_flash_firmware", json!({"port": port, "project": "release"}));
    let found = error.evidence["files"].as_str().unwrap();
    assert!(error.code.as_str() == "no_project" && found.contains("app v2.bin; not known spiffs.bin"), "{error}");
}

#[test]
fn a_program_becomes_a_whole_set() {
    let bench = Bench::new();
    let elf = std::env::current_exe().unwrap();
    fs::copy(elf, bench.path("host.elf")).unwrap();
    let (device, port) = bench.device_of(other_chip(), "elf", |_| ());
    let error = bench.fail("esp_flash_firmware", json!({"port": port, "project": "host.elf"}));
    assert!(
        ["elf_invalid", "image_not_possible"].contains(&error.code.as_str()),
        "a program of this computer: {error}"
    );
    assert!(flash(&device, 0, 0x10000).iter().all(|byte| *byte == 0xff));
    fs::write(bench.path("text.txt"), "no program").unwrap();
    let error = bench.fail("esp_flash_firmware", json!({"port": port, "project": "text.txt"}));
    assert_eq!(error.code.as_str(), "no_project");
    fs::write(bench.path("app.elf"), esp_elf()).unwrap();
    let out = bench.call("esp_flash_firmware", json!({"port": port, "project": "app.elf"}));
    assert_eq!((&out["project"], out["files"].as_array().unwrap().len()), (&json!("ELF"), 3));
    let walked = bench.call("esp_boot_check", json!({"port": port}));
    assert_eq!(walked["outcome"], "starts", "{walked:?}");
}

#[test]
fn zephyr_builds_go_where_west_would_write_them() {
    let bench = Bench::new();
    let [bootloader, _, app] = demo(chip());
    let runners = |file: &str, address: u32| {
        format!(
            "config:\n  bin_file: {file}\nargs:\n  esp32:\n    - --esp-idf-path=/none\n    - --esp-app-address={address:#x}\n  \
             openocd:\n    - --cmd-load\n"
        )
    };
    let offset = chip().flash.bootloader_offset;
    let single = runners("zephyr.bin", offset);
    folder(&bench, "simple/build/zephyr", &[("runners.yaml", single.as_bytes()), ("zephyr.bin", &bootloader)]);
    let (device, port) = bench.device("simple", |_| ());
    let out = bench.call("esp_flash_firmware", json!({"port": port, "project": "simple"}));
    assert_eq!((&out["project"], &out["verified"]), (&json!("Zephyr"), &json!(true)));
    assert!(flash(&device, offset, bootloader.len()) == bootloader);

    // Several images (sysbuild): the folder has moved since it was built, and the signed app counts.
    let domains = "default: app\nbuild_dir: /gone\ndomains:\n- name: app\n  build_dir: /gone/app\n- name: mcuboot\n  \
                   build_dir: /gone/mcuboot\nflash_order:\n- mcuboot\n- app\n";
    folder(&bench, "multi", &[("domains.yaml", domains.as_bytes())]);
    let (first, second) = (runners("zephyr.bin", offset), runners("zephyr.bin", 0x2_0000));
    folder(&bench, "multi/mcuboot/zephyr", &[("runners.yaml", first.as_bytes()), ("zephyr.bin", &bootloader)]);
    let files: [(&str, &[u8]); 3] =
        [("runners.yaml", second.as_bytes()), ("zephyr.bin", b"plain"), ("zephyr.signed.bin", &app)];
    folder(&bench, "multi/app/zephyr", &files);
    let (device, port) = bench.device("multi", |_| ());
    bench.call("esp_flash_firmware", json!({"port": port, "project": "multi"}));
    assert!(flash(&device, offset, bootloader.len()) == bootloader);
    assert!(flash(&device, 0x2_0000, app.len()) == app);
}

#[test]
fn a_rust_package_is_flashed_by_its_folder() {
    let bench = Bench::new();
    folder(&bench, "blinky", &[("Cargo.toml", b"[package]\nname = \"blinky\"\n")]);
    let (_, port) = bench.device_of(other_chip(), "rust", |_| ());
    let call = json!({"port": port, "project": "blinky"});
    let error = bench.fail("esp_flash_firmware", call.clone());
    assert!(error.code.as_str() == "no_project" && error.next_step.contains("cargo build"), "{error}");
    // A program of this computer is not meant.
    folder(&bench, "blinky/target/release", &[("blinky", b"\x7fELF host")]);
    assert_eq!(bench.fail("esp_flash_firmware", call.clone()).code.as_str(), "no_project");
    folder(&bench, "blinky/target/some-none-elf/debug", &[("blinky", &esp_elf()), ("blinky.d", b"")]);
    assert_eq!(bench.call("esp_flash_firmware", call.clone())["project"], "ELF");
    folder(&bench, "blinky", &[("Cargo.toml", b"[package]\nname = \"blinky\"\n[[bin]]\nname = \"other\"\n")]);
    folder(&bench, "blinky/target/some-none-elf/debug", &[("other", &esp_elf())]);
    let error = bench.fail("esp_flash_firmware", call);
    assert!(error.evidence["builds"].as_str().unwrap().contains("other"), "{error}");
}

/// A linked program for the chip: a section mapped to flash and one in RAM.
fn esp_elf() -> Vec<u8> {
    let chip = other_chip();
    let ram = chip.memory.iter().find(|region| region.name == "IRAM").unwrap().start;
    let mut data = vec![0; AppDesc::LEN];
    data[..4].copy_from_slice(&AppDesc::MAGIC.to_le_bytes());
    data.extend(noise(5000, 3));
    elf::elf(&[(".flash.appdesc", chip.image.drom[0] + 0x20, data), (".iram0.text", ram, noise(4096, 4))])
}

#[path = "../../../../tests/support/elf.rs"]
mod elf;

fn files(list: &[(&str, u32)]) -> Value {
    list.iter().map(|(path, address)| json!({"path": path, "address": address})).collect()
}

#[test]
fn what_would_not_start_is_refused_before_the_first_byte() {
    let bench = Bench::new();
    let [bootloader, _, app] = demo(chip());
    let at = chip().flash.bootloader_offset;
    let small =
        table("nvs,data,nvs,0x9000,0x6000\nfactory,app,factory,0x10000,64K\nfs,data,spiffs,0x20000,64K\n", 0x8000);
    let beyond = table("nvs,data,nvs,0x9000,0x6000\nfactory,app,factory,0x10000,6M\n", 0x8000);
    let mut two = bootloader.clone();
    two[3] = two[3] & 0xf | chip().flash.sizes["2MB"];
    let mut eight = bootloader.clone();
    eight[3] = eight[3] & 0xf | chip().flash.sizes["8MB"];
    assert!(Header::decode(&two).is_some());
    let whole = table("nvs,data,nvs,0x9000,0x6000\nfactory,app,factory,0x10000,3M\n", 0x8000);
    let long = [bootloader.clone(), vec![0; 0x8000]].concat();
    for (name, bytes) in [
        ("app.bin", &app),
        ("small.bin", &small),
        ("beyond.bin", &beyond),
        ("whole.bin", &whole),
        ("two.bin", &two),
        ("eight.bin", &eight),
        ("long.bin", &long),
        ("boot.bin", &bootloader),
        ("fs.bin", &noise(0x1_8000, 1)),
    ] {
        fs::write(bench.path(name), bytes).unwrap();
    }
    let (device, port) = bench.device("checks", |_| ());
    for (list, code) in [
        (files(&[("small.bin", 0x8000), ("app.bin", 0x1_0000)]), "app_too_large"),
        (files(&[("small.bin", 0x8000), ("fs.bin", 0x2_0000)]), "partition_overflow"),
        (files(&[("beyond.bin", 0x8000)]), "flash_too_small"),
        (files(&[("two.bin", at), ("whole.bin", 0x8000)]), "header_too_small"),
        (files(&[("eight.bin", at)]), "flash_too_small"),
        (files(&[("long.bin", at), ("whole.bin", 0x8000)]), "overlap"),
    ] {
        let error = bench.fail("esp_flash_firmware", json!({"port": port, "files": list}));
        assert_eq!(error.code.as_str(), code, "{error}");
        assert!(!error.next_step.is_empty());
        assert!(flash(&device, 0, 0x4_0000).iter().all(|byte| *byte == 0xff), "{code}: nothing is written");
    }
    // Against what is on the chip already.
    load(&device, 0x8000, &small);
    let error = bench.fail("esp_flash_firmware", json!({"port": port, "files": files(&[("app.bin", 0x1_0000)])}));
    assert_eq!(error.code.as_str(), "app_too_large");
    let error = bench.fail("esp_flash_firmware", json!({"port": port, "files": files(&[("long.bin", at)])}));
    assert_eq!(error.code.as_str(), "overlap");
    let odd = bench.call("esp_flash_firmware", json!({"port": port, "files": files(&[("app.bin", 0x10_0000)])}));
    assert!(odd["notes"].to_string().contains("no partition begins"), "{odd:?}");
}

/// A chip that takes ECDSA signatures, whose keys are quickly made, and its enabling field.
fn signed_chip() -> (&'static Chip, String) {
    let known = esp_model::chip::all().iter().find_map(|chip| {
        let boot = chip.security.secure_boot.iter().find(|boot| boot.scheme == SecureBootScheme::V2Ecdsa)?;
        let usual = chip.efuse().field("KEY_PURPOSE_0").is_some() && chip.chip_id.is_some();
        usual.then(|| (chip, boot.enable.clone()))
    });
    known.unwrap()
}

#[test]
fn secure_boot_takes_only_what_is_signed_for_it() {
    let bench = Bench::new();
    let (chip, enable) = signed_chip();
    let [_, _, app] = demo(chip);
    fs::write(bench.path("plain.bin"), &app).unwrap();
    for name in ["good", "other"] {
        let (key, out) = (format!("{name}.pem"), format!("{name}.bin"));
        bench.call("esp_secure_sign", json!({"action": "generate_key", "scheme": "ecdsa256", "output_file": key}));
        let sign = json!({"action": "sign", "key_files": [key], "input_file": "plain.bin", "output_file": out});
        bench.call("esp_secure_sign", sign);
    }
    let good = fs::read(bench.path("good.bin")).unwrap();
    let digest = boot_v2::check(&good).unwrap()[0].block.key_digest();
    let (device, port) = bench.device_of(chip, "secure", |_| ());
    device.with(|chip, _| {
        chip.efuse().set(&enable, &[1]);
        // SECURE_BOOT_DIGEST0 of ESP-IDF's esp_efuse_purpose_t.
        chip.efuse().set("KEY_PURPOSE_0", &[9]);
        chip.efuse().set("BLOCK_KEY0", &digest);
    });
    let write = |name: &str| json!({"port": port, "files": files(&[(&format!("{name}.bin"), 0x1_0000)])});
    assert_eq!(bench.fail("esp_flash_firmware", write("plain")).code.as_str(), "signature_missing");
    assert_eq!(bench.fail("esp_flash_firmware", write("other")).code.as_str(), "signature_untrusted");
    let end = good.len();
    let mut broken = good.clone();
    broken[end - 4096 + 40] ^= 1;
    fs::write(bench.path("broken.bin"), broken).unwrap();
    let error = bench.fail("esp_flash_firmware", write("broken"));
    assert!(["signature_invalid", "signature_missing"].contains(&error.code.as_str()), "{error}");
    assert!(flash(&device, 0, 0x4_0000).iter().all(|byte| *byte == 0xff));
    bench.call("esp_flash_firmware", write("good"));
    assert!(flash(&device, 0x1_0000, 4096) == good[..4096]);
}

#[test]
fn hex_and_uf2_files_bring_their_own_addresses() {
    let bench = Bench::new();
    let (device, port) = bench.device("formats", |_| ());
    let parts = [(0x1_0000, 5000, 1), (0x2_0000, 3000, 2)]
        .map(|(address, size, seed)| hex::Part { address, data: noise(size, seed) });
    fs::write(bench.path("a.hex"), hex::write(&parts)).unwrap();
    fs::write(bench.path("a.uf2"), uf2::write(&parts, 0x1c5f_21b0, None, true).unwrap()).unwrap();
    for (file, base) in [("a.hex", 0), ("a.uf2", 0x10_0000)] {
        let files = json!([{"path": file, "address": base}]);
        let out = bench.call("esp_flash_firmware", json!({"port": port, "files": files}));
        assert_eq!(out["files"].as_array().unwrap().len(), 2, "{out:?}");
        for part in &parts {
            assert!(flash(&device, base + part.address, part.data.len()) == part.data, "{file} at {:#x}", part.address);
        }
    }
}

/// UF2 files for USB bootloaders count from the app partition, as TinyUF2 writes them.
#[test]
fn a_uf2_file_that_counts_from_the_app_partition_is_refused_with_the_address_to_give() {
    let bench = Bench::new();
    let (device, port) = bench.device("tinyuf2", |_| ());
    let [_, _, app] = demo(chip());
    let parts = [hex::Part { address: 0, data: app.clone() }];
    fs::write(bench.path("firmware.uf2"), uf2::write(&parts, 0xc47e_5767, Some(256), false).unwrap()).unwrap();
    let give = |address: u32| json!({"port": port, "files": [{"path": "firmware.uf2", "address": address}]});
    let error = bench.fail("esp_flash_firmware", give(0));
    assert_eq!(error.code.as_str(), "wrong_place", "{error}");
    assert!(error.next_step.contains("address 0x10000"), "{error}");
    assert!(flash(&device, 0, 0x2_0000).iter().all(|byte| *byte == 0xff));
    bench.call("esp_flash_firmware", give(0x1_0000));
    assert!(flash(&device, 0x1_0000, app.len()) == app);
}

/// `firmware.factory.bin` of ESPHome and Tasmota: all of the flash in one file.
#[test]
fn the_only_factory_image_of_a_folder_is_written_from_0_on() {
    let bench = Bench::new();
    let [bootloader, _, app] = demo(chip());
    let mut merged = vec![0xff; 0x1_0000];
    let at = chip().flash.bootloader_offset as usize;
    merged[at..at + bootloader.len()].copy_from_slice(&bootloader);
    let rows = table(OTA, 0x8000);
    merged[0x8000..0x8000 + rows.len()].copy_from_slice(&rows);
    merged.extend(&app);
    folder(&bench, "lamp", &[("firmware.factory.bin", &merged), ("firmware.ota.bin", &app)]);
    let (device, port) = bench.device("factory", |_| ());
    let out = bench.call("esp_flash_firmware", json!({"port": port, "project": "lamp"}));
    assert_eq!((&out["project"], &out["verified"]), (&json!("factory image"), &json!(true)), "{out:?}");
    assert!(flash(&device, 0, merged.len()) == merged);
    folder(&bench, "lamp", &[("other.factory.bin", &merged)]);
    let error = bench.fail("esp_flash_firmware", json!({"port": port, "project": "lamp"}));
    assert!(error.message.contains("several builds"), "{error}");
}

/// What releases hold: a manifest, an argument file, paths of another system.
#[test]
fn published_builds_are_read_and_their_wrong_addresses_refused() {
    let bench = Bench::new();
    let [bootloader, _, app] = demo(chip());
    let rows = table(OTA, 0x8000);
    let at = chip().flash.bootloader_offset;
    let files: [(&str, &[u8]); 3] = [("boot.bin", &bootloader), ("table.bin", &rows), ("app.bin", &app)];
    let manifest = |offset: u32| {
        json!({"name": "lamp", "builds": [{"chipFamily": chip().name, "parts": [
            {"path": "boot.bin", "offset": offset}, {"path": "table.bin", "offset": 0x8000}, {"path": "app.bin", "offset": 0x1_0000},
        ]}]})
        .to_string()
    };
    let arguments = format!(
        "--flash_mode dio --flash_freq 80m --flash_size 4MB\n{at:#x} boot.bin\n0x10000 app.bin\n0x8000 table.bin\n"
    );
    let windows = json!({"flash_files": {format!("{at:#x}"): "sub\\boot.bin", "0x8000": "sub\\table.bin", "0x10000": "sub\\app.bin"}});
    folder(&bench, "web", &files);
    fs::write(bench.path("web/manifest.json"), manifest(at)).unwrap();
    folder(&bench, "args", &files);
    fs::write(bench.path("args/flash_args"), arguments).unwrap();
    folder(&bench, "win/sub", &files);
    folder(&bench, "win", &[("flasher_args.json", windows.to_string().as_bytes())]);
    for (path, kind) in [
        ("web/manifest.json", "ESP Web Tools"),
        ("args", "ESP-IDF"),
        ("args/flash_args", "ESP-IDF"),
        ("win", "ESP-IDF"),
    ] {
        let (device, port) = bench.device(&path.replace(['/', '.'], "-"), |_| ());
        let out = bench.call("esp_flash_firmware", json!({"port": port, "project": path}));
        assert_eq!((&out["project"], &out["verified"]), (&json!(kind), &json!(true)), "{out:?}");
        assert!(flash(&device, 0x1_0000, app.len()) == app);
        assert!(flash(&device, 0x8000, rows.len()) == rows);
    }
    // The bootloader of another chip's address.
    let wrong = if at == 0 { 0x1000 } else { 0 };
    fs::write(bench.path("web/manifest.json"), manifest(wrong)).unwrap();
    let (_, port) = bench.device("wrong", |_| ());
    let error = bench.fail("esp_flash_firmware", json!({"port": port, "project": "web/manifest.json"}));
    assert_eq!(error.code.as_str(), "wrong_bootloader_offset", "{error}");
}
