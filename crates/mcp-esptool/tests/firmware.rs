//! The firmware tools as a client calls them, on files in a project folder.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use esp_model::job::Job;
use esp_ops::config::{Config, Origin};
use esp_ops::error::ToolError;
use mcp_esptool::ctx::Ctx;
use mcp_esptool::tool::Reply;
use mcp_esptool::tools;
use serde_json::{Value, json};

#[path = "../../../tests/support/elf.rs"]
mod elf_file;
use elf_file::elf;

struct Project {
    dir: tempfile::TempDir,
    ctx: Ctx,
}

impl Project {
    fn new() -> Self {
        Self::with(|_, _| ())
    }

    fn with(set: impl FnOnce(&mut Config, &Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.set("project_roots", dir.path().display().to_string(), Origin::Flag).unwrap();
        set(&mut config, dir.path());
        let ctx = Ctx::new(config).unwrap();
        Self { dir, ctx }
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.dir.path().join(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.dir.path().join(name)).unwrap()
    }

    fn call(&self, tool: &str, input: Value) -> Result<Reply, ToolError> {
        tools::find(tool).unwrap().call(&self.ctx, &Job::new(), input)
    }

    fn data(&self, tool: &str, input: Value) -> Value {
        Value::Object(self.call(tool, input).unwrap_or_else(|error| panic!("{error}")).data)
    }
}

fn app() -> Vec<u8> {
    let mut desc = vec![0; 256];
    desc[..4].copy_from_slice(&0xabcd_5432u32.to_le_bytes());
    desc[16..21].copy_from_slice(b"1.2.3");
    elf(&[
        (".flash.appdesc", 0x3c00_0020, desc),
        (".flash.text", 0x4201_0020, vec![0x11; 0x300]),
        (".iram0.text", 0x4038_0000, vec![0x22; 0x120]),
    ])
}

#[test]
fn an_elf_file_becomes_an_image_that_is_analysed() {
    let project = Project::new();
    project.write("app.elf", &app());
    let made = project.data(
        "esp_elf_to_binary",
        json!({"elf_file": "app.elf", "chip_type": "ESP32-C3", "flash_size": "4MB", "flash_mode": "dio"}),
    );
    assert_eq!(made["files"][0]["size_bytes"], project.read("app.bin").len());
    let seen = project.data("esp_firmware_analyze", json!({"binary_file": "app.bin"}));
    assert_eq!((&seen["kind"], &seen["boots"]), (&json!("image"), &json!("yes")), "{seen}");
    assert_eq!(seen["image"]["app"]["version"], "1.2.3");
    assert_eq!(seen["image"]["app"]["elf_sha256"], made["elf_sha256"]);
    let refused = project.call("esp_elf_to_binary", json!({"elf_file": "app.bin", "chip_type": "esp32c3"}));
    assert_eq!(refused.unwrap_err().code.as_str(), "elf_invalid");
}

#[test]
fn a_prepared_set_boots_and_merges_to_the_same_file() {
    let project = Project::new();
    project.write("app.elf", &app());
    let set = project.data(
        "esp_app_prepare",
        json!({"elf_file": "app.elf", "chip_type": "esp32c3", "partition_table": "two_ota", "bootloader_source": "stock"}),
    );
    assert!(set["bootloader_origin"].as_str().unwrap().contains("ESP-IDF v"), "{set}");
    let args: Value = serde_json::from_slice(&project.read("app-flash/flasher_args.json")).unwrap();
    assert_eq!(args["app"]["file"], "app.bin");
    let files: Vec<Value> = args["flash_files"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(address, file)| json!({"address": address, "path": format!("app-flash/{}", file.as_str().unwrap())}))
        .collect();
    assert_eq!(files.len(), 4, "bootloader, table, otadata, app");
    project.data("esp_binary_merge", json!({"files": files, "output_file": "again.bin"}));
    assert_eq!(project.read("again.bin"), project.read("app-flash/merged.bin"));

    let seen = project.data("esp_firmware_analyze", json!({"binary_file": "again.bin"}));
    assert_eq!((&seen["kind"], &seen["boots"]), (&json!("merged_flash"), &json!("yes")), "{seen}");

    let parts = project.data("esp_binary_merge", json!({"split_file": "again.bin", "output_file": "part-"}));
    let names: Vec<&str> =
        parts["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert!(names.iter().any(|name| name.ends_with("part-factory-0x10000.bin")), "{names:?}");
    assert_eq!(project.read("part-factory-0x10000.bin"), project.read("app-flash/app.bin"));

    let mut broken = project.read("again.bin");
    broken[0x1_0100] ^= 1;
    project.write("broken.bin", &broken);
    let seen = project.data("esp_firmware_analyze", json!({"binary_file": "broken.bin"}));
    assert_eq!(seen["boots"], "no", "{seen}");
}

#[test]
fn overlap_is_refused_and_formats_agree() {
    let project = Project::new();
    project.write("a.bin", &[1; 100]);
    project.write("b.bin", &[2; 5000]);
    let files = json!([{"path": "a.bin", "address": "0x1000"}, {"path": "b.bin", "address": "64K"}]);
    for format in ["raw", "hex", "uf2"] {
        let output = format!("out.{format}");
        project.data(
            "esp_binary_merge",
            json!({"files": files, "output_file": output, "chip_type": "esp32", "format": format}),
        );
        project.data("esp_binary_merge", json!({"split_file": output, "output_file": format!("{format}-")}));
        assert_eq!(project.read(&format!("{format}-part-0x10000.bin")), vec![2; 5000]);
    }
    let near = json!([{"path": "a.bin", "address": 0x1000}, {"path": "b.bin", "address": 0x1800}]);
    let refused = project.call("esp_binary_merge", json!({"files": near, "output_file": "x", "chip_type": "esp32"}));
    assert_eq!(refused.unwrap_err().code.as_str(), "overlap");
    assert!(!project.dir.path().join("x").exists());
}

#[test]
fn a_stock_bootloader_is_set_up_and_a_signed_one_is_left_alone() {
    let project = Project::new();
    let config = json!({"flash_mode": "qio", "flash_size": "8MB", "flash_freq": "80m"});
    let made = project.data(
        "esp_bootloader_build",
        json!({"chip_type": "esp32s3", "config": config, "source": "stock", "output_file": "boot.bin"}),
    );
    assert_eq!((&made["flash_mode"], &made["flash_size"]), (&json!("dio"), &json!("8MB")));
    assert!(made["origin"].as_str().unwrap().starts_with("esp32s3-qio-bootloader.bin of the espflash"), "{made}");

    let mut signed = project.read("boot.bin");
    signed.extend([0; 4]);
    signed.extend((0..64u8).map(|byte| byte | 0x40));
    project.write("signed.bin", &signed);
    let patch = json!({"chip_type": "esp32s3", "input_file": "signed.bin", "config": {"flash_size": "4MB"}});
    assert_eq!(project.call("esp_bootloader_build", patch).unwrap_err().code.as_str(), "image_signed");
    let other = json!({"chip_type": "esp32", "input_file": "boot.bin", "config": {"flash_size": "4MB"}});
    assert_eq!(project.call("esp_bootloader_build", other).unwrap_err().code.as_str(), "chip_mismatch");
    let options = json!({"chip_type": "esp32", "config": {"sdkconfig": {"CONFIG_X": "y"}}});
    assert_eq!(project.call("esp_bootloader_build", options).unwrap_err().code.as_str(), "idf_missing");
}

/// A stand-in for ESP-IDF that "builds" what it was given.
#[cfg(unix)]
#[test]
fn an_installed_esp_idf_builds_the_bootloader() {
    use std::os::unix::fs::PermissionsExt;
    let project = Project::with(|config, root| {
        let idf = root.join("idf");
        fs::create_dir_all(idf.join("tools/cmake")).unwrap();
        fs::write(idf.join("tools/cmake/project.cmake"), "").unwrap();
        fs::write(idf.join("version.txt"), "v9.9\n").unwrap();
        fs::write(idf.join("export.sh"), "export PATH=\"$IDF_PATH/tools:$PATH\"\n").unwrap();
        let script = "#!/bin/sh\necho \"$@\"\ngrep -q CONFIG_ESPTOOLPY_FLASHSIZE_8MB=y \"$2/sdkconfig.defaults\" || exit 3\n\
                      mkdir -p \"$2/build/bootloader\"\ncp \"$IDF_PATH/made.bin\" \"$2/build/bootloader/bootloader.bin\"\n";
        fs::write(idf.join("tools/idf.py"), script).unwrap();
        fs::set_permissions(idf.join("tools/idf.py"), fs::Permissions::from_mode(0o755)).unwrap();
        config.set("idf_path", idf.display().to_string(), Origin::Flag).unwrap();
    });
    project.data(
        "esp_bootloader_build",
        json!({"chip_type": "esp32c3", "source": "stock", "output_file": "idf/made.bin"}),
    );
    let made = project.data("esp_bootloader_build", json!({"chip_type": "esp32c3", "config": {"flash_size": "8MB"}}));
    assert_eq!((&made["origin"], &made["flash_size"]), (&json!("a build with ESP-IDF v9.9"), &json!("8MB")));
    let failed = project.call("esp_bootloader_build", json!({"chip_type": "esp32c3", "source": "idf"})).unwrap_err();
    assert_eq!(failed.code.as_str(), "build_failed");
    assert!(failed.evidence["log"].as_str().unwrap().contains("-DIDF_TARGET=esp32c3"), "{failed}");
}

const MAP: &str = "Memory Configuration

Name             Origin             Length             Attributes
iram0_0_seg      0x40380000         0x00010000         xr
irom_seg         0x42000020         0x007fffe0         xr

Linker script and memory map

                0x00000000                IDF_TARGET_ESP32C3 = 0x0
.iram0.text     0x40380000      0x120
 .iram1.0       0x40380000      0x120 esp-idf/a/liba.a(one.c.obj)

.flash.text     0x42010020      0x300
 .text.f        0x42010020      0x300 esp-idf/b/libb.a(two.c.obj)

";

#[test]
fn sizes_are_reported_compared_and_drawn() {
    let project = Project::new();
    project.write("app.elf", &app());
    project.write("app.map", MAP.as_bytes());
    project.write("old.elf", &app());
    project.write("old.map", MAP.replace("0x300", "0x200").as_bytes());
    let input = json!({"elf_file": "app.elf", "diff": "old.elf", "show_treemap": true, "treemap_file": "tree.svg"});
    let reply = project.call("esp_size_analysis", input).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(reply.data["archives"][0]["name"], "libb.a");
    assert_eq!(
        reply.data["diff"]["archives"][0],
        json!({"name": "esp-idf/b/libb.a", "before_bytes": 0x200, "after_bytes": 0x300})
    );
    assert_eq!((reply.pictures.len(), reply.pictures[0].mime), (1, "image/png"));
    assert!(project.read("tree.svg").starts_with(b"<svg"));
    let picture = project.call("esp_size_analysis", json!({"elf_file": "tree.svg", "chip_type": "esp32c3"}));
    assert_eq!(picture.unwrap_err().code.as_str(), "elf_invalid");
}

#[test]
fn a_link_that_failed_is_explained_by_its_map_alone() {
    let project = Project::new();
    project.write("app.map", MAP.replace("0x00010000         xr", "0x00000100         xr").as_bytes());
    let reply = project.call("esp_size_analysis", json!({"map_file": "app.map", "partition_size": "0x200"}));
    let reply = reply.unwrap_or_else(|error| panic!("{error}"));
    let over = &reply.data["overflows"][0];
    assert_eq!((over["overflow_bytes"].as_u64(), over["largest"][0]["size_bytes"].as_u64()), (Some(0x20), Some(0x120)));
    assert!(over["largest"][0]["name"].as_str().unwrap().ends_with("one.c.obj"), "{over}");
    assert!(reply.data["partition_free_bytes"].as_i64().unwrap() < 0, "{:?}", reply.data);
    assert!(project.call("esp_size_analysis", json!({})).unwrap_err().code.as_str() == "missing_parameter");
}

#[test]
fn a_map_of_another_build_is_told() {
    let project = Project::new();
    project.write("app.elf", &app());
    project.write("app.map", MAP.replace("0x300", "0x200").as_bytes());
    let reply =
        project.call("esp_size_analysis", json!({"elf_file": "app.elf"})).unwrap_or_else(|error| panic!("{error}"));
    assert!(reply.data["notes"].to_string().contains("different builds"), "{:?}", reply.data);
}

#[test]
fn a_padded_file_becomes_smaller() {
    let project = Project::new();
    project.write("app.elf", &app());
    let input = json!({"elf_file": "app.elf", "chip_type": "esp32c3", "pad_to_size": "256K"});
    project.data("esp_elf_to_binary", input);
    let out = project.data("esp_binary_optimize", json!({"binary_file": "app.bin", "output_file": "small.bin"}));
    assert_eq!(out["size_bytes"], 256 << 10);
    assert!(project.read("small.bin").len() < 0x2_0000);
    let seen = project.data("esp_firmware_analyze", json!({"binary_file": "small.bin"}));
    assert_eq!(seen["boots"], "yes");
}
