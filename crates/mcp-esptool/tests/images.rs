//! Flash images as devices, partitions by name, NVS values in place.
#![allow(clippy::unwrap_used)]

use std::fs;

use esp_model::job::Job;
use esp_ops::config::{Config, Origin};
use mcp_esptool::ctx::Ctx;
use mcp_esptool::tools;
use serde_json::{Map, Value, json};

const SIZE: usize = 4 << 20;
const NVS: usize = 0x9000;

struct Bench {
    dir: tempfile::TempDir,
    ctx: Ctx,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.set("project_roots", dir.path().display().to_string(), Origin::Flag).unwrap();
        config.set("state_dir", dir.path().join("state").display().to_string(), Origin::Flag).unwrap();
        Self { ctx: Ctx::new(config).unwrap(), dir }
    }

    /// A bench with `dump.bin`: a table, an NVS with four values, bytes behind.
    fn with_dump() -> Self {
        let bench = Self::new();
        bench.data("esp_partition_create", json!({"layout": "single_app", "output_file": "table.bin"}));
        let values = json!({"wifi": {"ssid": "workshop", "psk": "hunter2-99"},
            "app": {"count": {"type": "u16", "value": 7}, "cert": {"type": "hex2bin", "value": "a5".repeat(200)}}});
        bench.data("esp_nvs_partition_create", json!({"data": values, "output_file": "nvs.bin"}));
        let mut flash = vec![0xff; SIZE];
        for (address, name) in [(0x8000, "table.bin"), (NVS, "nvs.bin")] {
            let bytes = fs::read(bench.path(name)).unwrap();
            flash[address..address + bytes.len()].copy_from_slice(&bytes);
        }
        flash[0x20_0000..0x20_1000].fill(0x3c);
        fs::write(bench.path("dump.bin"), flash).unwrap();
        bench
    }

    fn call(&self, tool: &str, input: Value) -> Result<(String, Map<String, Value>), String> {
        let reply = tools::find(tool).unwrap().call(&self.ctx, &Job::new(), input);
        reply.map(|reply| (reply.text, reply.data)).map_err(|error| error.to_string())
    }

    fn data(&self, tool: &str, input: Value) -> Map<String, Value> {
        self.call(tool, input).unwrap().1
    }

    fn text(&self, tool: &str, input: Value) -> String {
        self.call(tool, input).unwrap().0
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }
}

const IMAGE: &str = "image:dump.bin?chip=esp32c3";
const IN_PLACE: &str = "image:dump.bin?chip=esp32c3&write=1";

#[test]
fn nvs_of_an_image_is_listed_with_secrets_masked() {
    let bench = Bench::with_dump();
    let text = bench.text("esp_nvs", json!({"port": IMAGE}));
    assert!(text.contains("workshop") && text.contains("4 entries") && text.contains("0x9000"), "{text}");
    assert!(!text.contains("hunter2") && !text.contains("a5a5"), "{text}");
    let shown = bench.text(
        "esp_nvs",
        json!({"port": IMAGE, "action": "get", "namespace": "wifi", "key": "psk", "show_values": true}),
    );
    assert!(shown.contains("hunter2-99"), "{shown}");
    let error =
        bench.call("esp_nvs", json!({"port": IMAGE, "action": "get", "namespace": "wifi", "key": "pass"})).unwrap_err();
    assert!(error.contains("nvs_key_missing") && error.contains("wifi/psk"), "{error}");
    let error = bench.call("esp_nvs", json!({"port": "image:dump.bin"})).unwrap_err();
    assert!(error.contains("port=image:dump.bin?chip=CHIP"), "{error}");
}

#[test]
fn a_change_goes_into_a_copy_and_only_its_bits_differ() {
    let bench = Bench::with_dump();
    let before = bench.bytes("dump.bin");
    let set = json!({"port": IMAGE, "action": "set", "namespace": "wifi", "key": "psk", "value": "new-secret"});
    let text = bench.text("esp_nvs", set.clone());
    assert!(text.contains("1 change, read back; 3 other entries unchanged"), "{text}");
    assert!(text.contains("dump.changed.bin") && !text.contains("new-secret"), "{text}");
    assert_eq!(bench.bytes("dump.bin"), before);
    let after = bench.bytes("dump.changed.bin");
    let differs: Vec<usize> = (0..SIZE).filter(|&at| before[at] != after[at]).collect();
    assert!(differs.iter().all(|&at| (NVS..NVS + 4096).contains(&at) && before[at] & after[at] == after[at]));
    // A second copy does not take the first one's place.
    bench.data("esp_nvs", set);
    assert!(bench.path("dump.changed-2.bin").exists());
    let diff = bench.data("esp_nvs", json!({"port": IMAGE, "action": "diff", "other": "dump.changed.bin"}));
    assert_eq!(
        diff["entries"],
        json!([{"namespace": "wifi", "key": "psk", "type": "string", "hidden": true, "size_bytes": 10, "change": "changed"}])
    );
}

#[test]
fn changes_in_place_keep_types_and_what_is_there_is_not_written() {
    let bench = Bench::with_dump();
    let set = json!({"port": IN_PLACE, "action": "set", "namespace": "app", "key": "count", "value": 8});
    assert_eq!(bench.data("esp_nvs", set.clone())["entries"][0]["type"], "u16");
    let after = bench.bytes("dump.bin");
    let again = bench.call("esp_nvs", set).unwrap();
    assert!(again.0.contains("nothing to change") && bench.bytes("dump.bin") == after, "{}", again.0);
    let many =
        json!({"port": IN_PLACE, "action": "set", "data": {"app": {"cert": null, "name": "unit"}, "wifi": null}});
    assert_eq!(bench.data("esp_nvs", many)["entry_count"], 4);
    let left = bench.data("esp_nvs", json!({"port": IN_PLACE}));
    assert_eq!(left["entry_count"], 2);
    let error = bench.call("esp_nvs", json!({"port": IN_PLACE, "action": "delete", "namespace": "wifi"})).unwrap_err();
    assert!(error.contains("nothing was deleted"), "{error}");
}

#[test]
fn nvs_of_a_device_is_changed_by_partition_name_encrypted_too() {
    let bench = Bench::with_dump();
    let port = "sim://esp32c3-nvs";
    let data = json!({"wifi": {"ssid": "workshop", "psk": "hunter2-99"}});
    bench.data(
        "esp_nvs_partition_create",
        json!({"data": data, "output_file": "enc.bin", "generate_key_file": "keys.bin"}),
    );
    let files = json!([{"path": "table.bin", "address": "0x8000"}, {"path": "enc.bin", "address": "nvs"}]);
    bench.data("esp_flash_firmware", json!({"port": port, "files": files}));
    let error = bench.call("esp_nvs", json!({"port": port})).unwrap_err();
    assert!(error.contains("key_file"), "{error}");
    let set = json!({"port": port, "action": "set", "namespace": "wifi", "key": "psk", "value": "changed", "key_file": "keys.bin"});
    assert_eq!(bench.data("esp_nvs", set)["verified"], true);
    bench.data("esp_flash_read", json!({"port": port, "region": "nvs", "output_file": "back.bin"}));
    let back = bench.bytes("back.bin");
    assert!(back.len() == 0x6000 && !back.windows(7).any(|bytes| bytes == b"changed"));
    let read = json!({"port": port, "action": "get", "namespace": "wifi", "key": "psk", "key_file": "keys.bin", "show_values": true});
    assert_eq!(bench.data("esp_nvs", read)["entries"][0]["value"], "changed");
}

#[test]
fn flash_tools_work_on_an_image() {
    let bench = Bench::with_dump();
    let table = bench.text("esp_partition_read", json!({"port": IMAGE}));
    assert!(table.contains("nvs") && table.contains("factory"), "{table}");
    assert!(bench.text("esp_flash_analyze", json!({"port": IMAGE})).contains("nvs"));
    bench.data("esp_flash_read", json!({"port": IMAGE, "region": "0x200000+0x10", "output_file": "cut.bin"}));
    assert_eq!(bench.bytes("cut.bin"), [0x3c; 16]);
    let matches =
        bench.data("esp_flash_verify", json!({"port": IMAGE, "files": [{"path": "nvs.bin", "address": "nvs"}]}));
    assert_eq!(matches["matches"], true);
    let verdict = bench.data("esp_boot_check", json!({"port": IMAGE}));
    assert_eq!(verdict["outcome"], "stops");
    bench.data("esp_flash_erase", json!({"port": IN_PLACE, "region": "nvs", "no_backup": true}));
    assert!(bench.bytes("dump.bin")[NVS..NVS + 0x6000].iter().all(|byte| *byte == 0xff));
    assert_eq!(bench.bytes("dump.bin").len(), SIZE);
    bench.data("esp_flash_backup", json!({"port": IMAGE, "output_dir": "backup"}));
    assert!(bench.path("backup/manifest.json").exists());
}

#[test]
fn what_needs_a_chip_refuses_an_image_and_a_failed_call_changes_nothing() {
    let bench = Bench::with_dump();
    for (tool, input) in [
        ("esp_efuse_read", json!({"port": IMAGE})),
        ("esp_mac_address_read", json!({"port": IMAGE})),
        ("esp_batch_program", json!({"ports": [IMAGE], "files": []})),
    ] {
        let error = bench.call(tool, input).unwrap_err();
        assert!(error.contains("image_has_only_flash"), "{tool}: {error}");
    }
    let before = bench.bytes("dump.bin");
    fs::write(bench.path("long.bin"), vec![0; 0x7000]).unwrap();
    let files = json!([{"path": "long.bin", "address": "nvs"}]);
    let error = bench.call("esp_flash_firmware", json!({"port": IN_PLACE, "files": files})).unwrap_err();
    assert!(error.contains("size 0x7000 of `long.bin` exceeds partition `nvs` (0x6000)"), "{error}");
    let error =
        bench.call("esp_flash_read", json!({"port": "image:../x.bin?chip=esp32", "region": "all", "output_file": "x"}));
    assert!(error.unwrap_err().contains("path_refused"));
    assert_eq!(bench.bytes("dump.bin"), before);
}

#[test]
fn compare_names_what_differs_between_devices_images_and_backups() {
    let bench = Bench::with_dump();
    let device = "sim://esp32c3-compare";
    bench.data(
        "esp_flash_firmware",
        json!({"port": device, "files": [{"path": "dump.bin", "address": 0}], "accept_wrong_place": true}),
    );
    let same = bench.data("esp_flash_compare", json!({"port": device, "other": "dump.bin"}));
    assert_eq!((&same["same"], &same["different_count"]), (&json!(true), &json!(0)), "{same:?}");
    bench.data("esp_flash_backup", json!({"port": device, "output_dir": "backup"}));
    bench
        .data("esp_nvs", json!({"port": device, "action": "set", "namespace": "wifi", "key": "psk", "value": "other"}));
    for first in [device, "backup"] {
        let other = if first == device { "backup" } else { device };
        let found = bench.data("esp_flash_compare", json!({"port": first, "other": other}));
        assert_eq!(found["different_count"], 1, "{found:?}");
        let area = &found["areas"][0];
        assert_eq!((&area["name"], &area["verdict"]), (&json!("nvs"), &json!("differs")));
        assert_eq!(area["how"], "wifi/psk changed");
    }
    let only = json!({"port": "dump.bin", "other": "backup", "partitions": ["factory", "nvs"]});
    let text = bench.text("esp_flash_compare", only);
    assert!(text.contains("all 2 areas are the same"), "{text}");
    bench.data("esp_partition_create", json!({"layout": "two_ota", "output_file": "other.bin"}));
    bench.data("esp_partition_flash", json!({"port": IMAGE, "partition_file": "other.bin"}));
    let moved = bench.data("esp_flash_compare", json!({"port": "dump.bin", "other": "dump.changed.bin"}));
    let names: Vec<&Value> = moved["areas"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|area| area["verdict"] == "only_other")
        .map(|area| &area["name"])
        .collect();
    assert!(names.contains(&&json!("ota_0")), "{moved:?}");
}

#[test]
fn a_virtual_copy_of_the_flash_is_started_by_the_chips_own_rom() {
    let bench = Bench::new();
    let (_, parts) = esp_ops::firmware::sample::program().unwrap();
    let mut flash = vec![0xff; SIZE];
    for part in &parts {
        let at = part.address as usize;
        flash[at..at + part.bytes.len()].copy_from_slice(&part.bytes);
    }
    fs::write(bench.path("good.bin"), &flash).unwrap();
    let good = bench.data("esp_boot_check", json!({"image": "good.bin"}));
    let last = good["steps"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["stage"], &last["verdict"]), (&json!("trial"), &json!("pass")), "{last}");
    assert_eq!(good["outcome"], "starts");
    flash[0x1_0000..0x1_0004].fill(0);
    fs::write(bench.path("bad.bin"), &flash).unwrap();
    let bad = bench.data("esp_boot_check", json!({"image": "bad.bin"}));
    let last = bad["steps"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["stage"], &last["verdict"], &bad["outcome"]), (&json!("trial"), &json!("fail"), &json!("stops")));
    assert!(last["text"].as_str().unwrap().contains("No bootable app"), "{last}");
}
