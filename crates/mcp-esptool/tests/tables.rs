//! Partition, NVS and OTA tools on files, through the same door as every caller.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use esp_model::job::Job;
use esp_ops::config::{Config, Origin};
use mcp_esptool::ctx::Ctx;
use mcp_esptool::tools;
use serde_json::{Map, Value, json};

struct Bench {
    dir: tempfile::TempDir,
    ctx: Ctx,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.set("project_roots", dir.path().display().to_string(), Origin::Flag).unwrap();
        Self { ctx: Ctx::new(config).unwrap(), dir }
    }

    fn call(&self, tool: &str, input: Value) -> Map<String, Value> {
        self.try_call(tool, input).unwrap()
    }

    fn try_call(&self, tool: &str, input: Value) -> Result<Map<String, Value>, String> {
        let reply = tools::find(tool).unwrap().call(&self.ctx, &Job::new(), input);
        reply.map(|reply| reply.data).map_err(|error| error.to_string())
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }
}

#[test]
fn a_table_from_every_kind_of_layout() {
    let bench = Bench::new();
    let rows = json!({"partitions": [
        {"name": "nvs", "type": "data", "subtype": "nvs", "size": "24K"},
        {"name": "phy_init", "type": "data", "subtype": 1, "size": 4096},
        {"name": "factory", "type": "app", "subtype": "factory", "size": "1MB"},
    ]});
    let csv = "nvs,data,nvs,,24K\nphy_init,data,phy,,4K\nfactory,app,factory,,1M\n";
    fs::write(bench.path("layout.csv"), csv).unwrap();
    let mut made = Vec::new();
    for layout in [json!("single_app"), json!(csv), json!("layout.csv"), rows] {
        let out = bench.call(
            "esp_partition_create",
            json!({"layout": layout, "output_file": "out/table.bin", "csv_file": "out/table.csv", "flash_size": "2MB"}),
        );
        assert_eq!(out["partitions"][2]["offset"], "0x10000");
        assert_eq!(out["end"], "0x110000");
        made.push(fs::read(bench.path("out/table.bin")).unwrap());
    }
    assert!(made.iter().all(|table| *table == made[0]) && made[0].len() == 0xc00);
    let again = bench.call("esp_partition_create", json!({"layout": "out/table.bin", "output_file": "again.csv"}));
    assert_eq!(again["partitions"].as_array().unwrap().len(), 3);
    assert_eq!(fs::read(bench.path("again.csv")).unwrap(), fs::read(bench.path("out/table.csv")).unwrap());
    let error = bench
        .try_call("esp_partition_create", json!({"layout": "two_ota", "output_file": "x.bin", "flash_size": "2MB"}))
        .unwrap_err();
    assert!(error.contains("flash_too_small") && error.contains("ota_1"), "{error}");
    assert!(!bench.path("x.bin").exists());
    let wrong = "a,data,nvs,,16K\nb,app,factory,0x11000,64K\n";
    let error = bench.try_call("esp_partition_create", json!({"layout": wrong, "output_file": "x.bin"})).unwrap_err();
    assert!(error.contains("line 2 (\"b\")"), "{error}");
}

#[test]
fn nvs_made_encrypted_read_compared_and_changed() {
    let bench = Bench::new();
    fs::write(bench.path("blob.bin"), vec![7u8; 5000]).unwrap();
    let data = json!({"store": {
        "name": "unit", "count": 5, "flag": {"type": "u8", "value": 1}, "cert": {"file": "blob.bin"},
    }});
    let made = bench.call(
        "esp_nvs_partition_create",
        json!({"data": data, "output_file": "nvs.bin", "size": "0x6000", "generate_key_file": "keys.bin"}),
    );
    assert_eq!(made["encrypted"], true);
    assert_eq!(made["entries"].as_array().unwrap().len(), 4);
    let read = bench.call(
        "esp_nvs_partition_create",
        json!({"action": "decode", "image_file": "nvs.bin", "key_file": "keys.bin", "output_file": "nvs.csv"}),
    );
    assert!(read.get("findings").is_none(), "{read:?}");
    let blind = bench.call("esp_nvs_partition_create", json!({"action": "decode", "image_file": "nvs.bin"}));
    assert_eq!(blind["findings"][0]["severity"], "error");
    // The decoded CSV makes the same image again.
    bench.call(
        "esp_nvs_partition_create",
        json!({"data": "nvs.csv", "output_file": "same.bin", "key_file": "keys.bin"}),
    );
    assert_eq!(fs::read(bench.path("same.bin")).unwrap(), fs::read(bench.path("nvs.bin")).unwrap());
    bench.call(
        "esp_nvs_partition_create",
        json!({"action": "edit", "image_file": "nvs.bin", "key_file": "keys.bin", "output_file": "new.bin",
            "data": {"store": {"count": 6, "flag": null}}}),
    );
    let diff = bench.call(
        "esp_nvs_partition_create",
        json!({"action": "diff", "image_file": "nvs.bin", "other_file": "new.bin", "key_file": "keys.bin"}),
    );
    let changes: Vec<_> = diff["entries"].as_array().unwrap().iter().map(|e| (&e["key"], &e["change"])).collect();
    assert_eq!(
        format!("{changes:?}"),
        r#"[(String("count"), String("changed")), (String("flag"), String("removed"))]"#
    );
    let error = bench
        .try_call("esp_nvs_partition_create", json!({"data": {"n": {"a_key_that_is_too_long": 1}}, "output_file": "x"}))
        .unwrap_err();
    assert!(error.contains("nvs_invalid") && error.contains("n/a_key_that_is_too_long"), "{error}");
    let error = bench
        .try_call("esp_nvs_partition_create", json!({"data": "key,type\n", "output_file": "x", "size": 5}))
        .unwrap_err();
    assert!(error.contains("bad_parameter"), "{error}");
}

#[test]
fn nvs_secrets_are_shown_only_when_asked_for() {
    let bench = Bench::new();
    let data = json!({"wifi": {"ssid": "home", "psk": "hunter2-99", "password": "x", "apiToken": "t0ken-abc", "count": 5,
        "blob": {"type": "hex2bin", "value": "c0ffee00"}}});
    let made = bench.call("esp_nvs_partition_create", json!({"data": data, "output_file": "nvs.bin"}));
    let call = |extra: serde_json::Value| {
        let mut input = json!({"image_file": "nvs.bin"});
        input.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::Value::Object(bench.call("esp_nvs_partition_create", input)).to_string()
    };
    let edit = json!({"action": "edit", "output_file": "new.bin", "data": {"wifi": {"psk": "other-secret"}}});
    let edited = call(edit);
    let diff = call(json!({"action": "diff", "other_file": "new.bin"}));
    let decoded = call(json!({"action": "decode"}));
    for text in [serde_json::Value::Object(made).to_string(), edited, diff, decoded.clone()] {
        for secret in ["hunter2", "other-secret", "t0ken", "c0ffee"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
        assert!(text.contains("\"hidden\":true"), "{text}");
    }
    assert!(decoded.contains("home"), "{decoded}");
    let all = call(json!({"action": "decode", "show_values": true}));
    assert!(all.contains("hunter2-99") && all.contains("c0ffee00") && !all.contains("hidden"), "{all}");
    assert!(!call(json!({"action": "decode", "show_values": false})).contains("home"));
    // A whole flash: its table tells where NVS is.
    let chip = esp_model::chip::by_chip_id(0).unwrap();
    let parts = esp_ops::firmware::sample::make(chip).unwrap();
    let mut flash = vec![0xff; 0x1_0000];
    let nvs = fs::read(bench.path("nvs.bin")).unwrap();
    for (address, bytes) in [(parts[0].address, &parts[0].bytes), (parts[1].address, &parts[1].bytes), (0x9000, &nvs)] {
        flash[address as usize..address as usize + bytes.len()].copy_from_slice(bytes);
    }
    fs::write(bench.path("nvs.bin"), flash).unwrap();
    let whole = bench.call("esp_nvs_partition_create", json!({"action": "decode", "image_file": "nvs.bin"}));
    assert_eq!((&whole["entry_count"], whole.get("findings")), (&json!(6), None), "{whole:?}");
}

/// An app image of the corpus' form, made here: header, one mapped segment with an app description, checksum, hash.
fn app(version: &str, salt: u8) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    let mut data = vec![salt; 4096];
    data[..256].fill(0);
    data[..4].copy_from_slice(&0xabcd_5432u32.to_le_bytes());
    data[16..16 + version.len()].copy_from_slice(version.as_bytes());
    let mut out = vec![0xe9, 1, 2, 0x20, 0, 0, 0x38, 0x40, 0xee, 0, 0, 0, 5, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 1];
    out.extend_from_slice(&0x3c00_0020u32.to_le_bytes());
    out.extend_from_slice(&(data.len() as u32).to_le_bytes());
    out.extend_from_slice(&data);
    let sum = data.iter().fold(0xef, |sum, byte| sum ^ byte);
    out.resize(out.len() | 15, 0);
    out.push(sum);
    out.extend_from_slice(&Sha256::digest(&out));
    out
}

/// A bootloader: an app in its place is refused.
fn bootloader() -> Vec<u8> {
    esp_ops::firmware::sample::make(esp_model::chip::by_name("esp32c3").unwrap()).unwrap().remove(0).bytes
}

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_package_proves_itself() {
    let bench = Bench::new();
    write(&bench.path("old.bin"), &app("1.0", 3));
    write(&bench.path("new.bin"), &app("1.1", 3));
    let input = json!({"firmware_file": "new.bin", "base_file": "old.bin", "output_dir": "pkg"});
    let made = bench.call("esp_ota_package_create", input.clone());
    assert_eq!((&made["manifest"]["chip"], &made["manifest"]["version"]), (&json!("esp32c3"), &json!("1.1")));
    assert!(made["delta_ratio"].as_f64().unwrap() < 0.2);
    let mut check = input;
    check["verify"] = json!(true);
    assert_eq!(bench.call("esp_ota_package_create", check.clone())["verified"], true);
    write(&bench.path("new.bin"), &app("1.2", 3));
    let refused = bench.call("esp_ota_package_create", check);
    assert_eq!(refused["verified"], false);
    assert!(refused["problems"].to_string().contains("sha256"));
    let error = bench
        .try_call("esp_ota_package_create", json!({"firmware_file": "new.bin", "require_signature": true}))
        .unwrap_err();
    assert!(error.contains("image_refused"), "{error}");
    write(&bench.path("bad.bin"), &app("1.2", 3)[..4000]);
    let error = bench.try_call("esp_ota_package_create", json!({"firmware_file": "bad.bin"})).unwrap_err();
    assert!(error.contains("image_cut"), "{error}");
}

#[test]
fn a_boot_check_names_the_step() {
    let bench = Bench::new();
    bench.call("esp_partition_create", json!({"layout": "single_app", "output_file": "table.bin"}));
    let mut flash = vec![0xff; 1 << 21];
    flash[0x8000..0x8c00].copy_from_slice(&fs::read(bench.path("table.bin")).unwrap());
    let image = app("3.0", 0);
    let boot = bootloader();
    flash[..boot.len()].copy_from_slice(&boot);
    flash[0x10000..0x10000 + image.len()].copy_from_slice(&image);
    write(&bench.path("flash.bin"), &flash);
    let out = bench.call("esp_boot_check", json!({"image": "flash.bin", "revision": 3}));
    assert_eq!((&out["outcome"], &out["partition"]), (&json!("starts"), &json!("factory")), "{out:?}");
    assert_eq!(out["app_version"], "3.0");
    flash[0x10100] ^= 1;
    write(&bench.path("flash.bin"), &flash);
    let out = bench.call("esp_boot_check", json!({"image": "flash.bin", "chip_type": "esp32c3"}));
    assert_eq!((&out["outcome"], &out["stage"]), (&json!("stops"), &json!("app")));
    assert!(out["predicted_console"].as_str().unwrap().contains("Checksum failed"));
    assert!(out.get("console").is_none(), "a prediction does not look like a recording");
    let short = json!({"image": "flash.bin", "chip_type": "esp32c3", "predict_console": false});
    assert!(bench.call("esp_boot_check", short).get("predicted_console").is_none());
}

#[test]
fn a_simulated_device_from_blank_to_updated_and_back() {
    let bench = Bench::new();
    let port = "sim://esp32c3";
    let blank = bench.call("esp_boot_check", json!({"port": port}));
    assert_eq!((&blank["outcome"], &blank["stage"]), (&json!("stops"), &json!("rom")), "{blank:?}");
    assert!(bench.try_call("esp_partition_read", json!({"port": port})).unwrap_err().contains("blank"));
    write(&bench.path("boot.bin"), &bootloader());
    write(&bench.path("one.bin"), &app("1.0", 1));
    write(&bench.path("two.bin"), &app("2.0", 2));
    bench.call("esp_flash_firmware", json!({"port": port, "files": [{"path": "boot.bin", "address": 0}]}));
    let setup = bench.call(
        "esp_ota_partition_setup",
        json!({"port": port, "app_size": "1MB", "app_file": "one.bin", "storage": "littlefs"}),
    );
    assert_eq!((&setup["slot_size_bytes"], &setup["verified"]), (&json!(1 << 20), &json!(true)));
    let table = bench.call("esp_partition_read", json!({"port": port}));
    assert_eq!(table["partitions"].as_array().unwrap().len(), 6);
    let out = bench.call("esp_boot_check", json!({"port": port}));
    assert_eq!((&out["partition"], &out["app_version"]), (&json!("ota_0"), &json!("1.0")), "{out:?}");
    let first = bench.call("esp_ota_flash_prepare", json!({"port": port, "firmware_file": "two.bin"}));
    assert_eq!((&first["written"], &first["selected"]), (&json!("ota_1"), &json!("ota_1")), "{first:?}");
    let out = bench.call("esp_boot_check", json!({"port": port}));
    assert_eq!(out["app_version"], "2.0");
    let back = bench.call("esp_ota_flash_prepare", json!({"port": port, "action": "switch", "slot": 0}));
    assert_eq!((&back["before"], &back["selected"]), (&json!("ota_1"), &json!("ota_0")));
    let back = bench.call("esp_ota_flash_prepare", json!({"port": port, "action": "rollback"}));
    assert_eq!(back["selected"], "ota_1");
    let seen = bench.call("esp_partition_analyze", json!({"port": port}));
    assert_eq!(seen["updates"], "ota");
    assert!(seen["partitions"][3]["about"].as_str().unwrap().contains("1.0"), "{seen:?}");
    bench.call("esp_partition_create", json!({"layout": "single_app", "output_file": "table.bin"}));
    let plan = bench.call("esp_partition_flash", json!({"port": port, "partition_file": "table.bin", "dry_run": true}));
    assert_eq!((&plan["written"], &plan["before"][0]["fate"]), (&json!(false), &json!("resized")));
    let done = bench.call("esp_partition_flash", json!({"port": port, "partition_file": "table.bin"}));
    assert_eq!(done["verified"], true);
}

/// What the generator cuts off is told, what spreadsheets put before it is not in the way.
#[test]
fn an_nvs_csv_as_people_write_it_is_read_or_explained() {
    let bench = Bench::new();
    let create = |data: &str, size: &str| {
        bench.try_call("esp_nvs_partition_create", json!({"data": data, "output_file": "nvs.bin", "size": size}))
    };
    let comma = "key,type,encoding,value\nwifi,namespace,,\nssid,data,string,Home, sweet home\n";
    let out = create(comma, "0x3000").unwrap();
    let warning = out["findings"][0]["text"].as_str().unwrap();
    assert!(warning.contains("line 3") && warning.contains("5 columns"), "{warning}");
    let marked = "\u{feff}key,type,encoding,value\r\nwifi,namespace,,\r\nssid,data,string,abc\r\n";
    let out = create(marked, "0x3000").unwrap();
    assert_eq!((out["entry_count"].as_u64(), out.contains_key("findings")), (Some(1), false), "{out:?}");
    let small = create(marked, "0x1000").unwrap();
    assert!(small["findings"].to_string().contains("0x3000"), "{small:?}");
    for (data, step) in [
        ("key, type, encoding, value\na, namespace, ,\n", "write type instead of"),
        ("key;type;encoding;value\na;namespace;;\n", "commas"),
        (
            "key,type,encoding,value\na,namespace,,\nca,data,string,-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUQ0FURVNUQ0VSVDAxMDAwCgYIKoZIzj0EAwIwDzENMAsG\n",
            "double quotes",
        ),
        ("key,type,encoding,value\na,namespace,,\nb,data,u8,300\n", "u16"),
    ] {
        let error = create(data, "0x3000").unwrap_err();
        assert!(error.contains(step), "{error}");
    }
}

#[test]
fn a_partition_row_that_is_refused_leads_to_its_own_repair() {
    let bench = Bench::new();
    let create =
        |layout: &str| bench.try_call("esp_partition_create", json!({"layout": layout, "output_file": "t.bin"}));
    for (layout, step) in [
        ("nvs,data,nvs,0x9000,0x6000,\nfactory,app,factory,,4MB,\n", "write 4M"),
        ("nvs,data,nvs,0x9000,0x6000,  # moved\nfactory,app,factory,,1M,\n", "lines of their own"),
        ("nvs;data;nvs;0x9000;0x5000;\napp0;app;ota_0;0x10000;0x1E0000;\n", "by commas"),
        ("nvs,data,nvs,0x9000,0x6000,\nb,app,factory,0x11000,64K\n", "multiple of 0x10000"),
        ("nvs,data,nvs,0x9000,0x1000,\n", "0x3000"),
        ("nvs,data,nvs,0x9000,0x6000,\nb,data,spiffs,0xa000,64K\n", "leave the offset out"),
    ] {
        let error = create(layout).unwrap_err();
        assert!(error.contains(step), "{error}");
    }
    let marked = create("nvs,data,nvs,0x9000,0x4000,encrypted\nfactory,app,factory,0x10000,1M,\n").unwrap();
    assert!(marked["warnings"].to_string().contains("must not be marked encrypted"), "{marked:?}");
}

#[test]
fn a_key_file_is_no_nvs_image() {
    let bench = Bench::new();
    fs::write(bench.path("key.bin"), [7; 32]).unwrap();
    let error =
        bench.try_call("esp_nvs_partition_create", json!({"action": "decode", "image_file": "key.bin"})).unwrap_err();
    assert!(error.contains("32 bytes") && error.contains("hmac_key_file"), "{error}");
}
