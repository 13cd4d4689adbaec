//! The tools on virtual devices, over MCP.
#![allow(clippy::unwrap_used)]

#[path = "support/client.rs"]
mod client;

use std::fs;
use std::time::{Duration, Instant};

use client::Client;
use serde_json::{Value, json};

struct Bench {
    client: Client,
    dir: tempfile::TempDir,
}

/// One of the chips, whose image header says what it is for.
fn chips() -> (&'static esp_model::chip::Chip, &'static esp_model::chip::Chip) {
    let mut with_id = esp_model::chip::all().iter().filter(|chip| chip.chip_id.is_some());
    (with_id.next().unwrap(), with_id.next().unwrap())
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { client: Client::initialized(dir.path(), &[]), dir }
    }

    fn port() -> String {
        format!("sim://{}", chips().0.id)
    }

    fn file(&self, name: &str, bytes: &[u8]) {
        fs::write(self.dir.path().join(name), bytes).unwrap();
    }

    fn good(&mut self, tool: &str, arguments: Value) -> Value {
        let answer = self.client.call(tool, arguments);
        assert_ne!(answer["isError"], true, "{tool}: {answer}");
        answer["structuredContent"].clone()
    }

    /// The error's machine form.
    fn bad(&mut self, tool: &str, arguments: Value) -> Value {
        let answer = self.client.call(tool, arguments);
        assert_eq!(answer["isError"], true, "{tool}: {answer}");
        answer["_meta"]["mcp-esptool/error"].clone()
    }

    fn is_blank(&mut self) -> bool {
        let read = json!({"port": Self::port(), "address": 0, "size": "64K", "output_file": "all.bin"});
        self.good("esp_flash_read", read);
        fs::read(self.dir.path().join("all.bin")).unwrap().iter().all(|byte| *byte == 0xff)
    }
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 7u32;
    let next = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    next.take(len).collect()
}

/// The header of an image for this chip, with no segments.
fn image_for(chip: &esp_model::chip::Chip) -> Vec<u8> {
    let mut image = vec![0; 48];
    (image[0], image[2]) = (esp_model::image::MAGIC, 2);
    image[12..14].copy_from_slice(&chip.chip_id.unwrap().to_le_bytes());
    (image[17], image[18]) = (0xff, 0xff);
    image[31] = esp_model::image::CHECKSUM_SEED;
    image[8] = 0xee;
    image
}

#[test]
fn what_is_written_is_read_verified_skipped_and_erased() {
    let mut bench = Bench::new();
    let (port, bytes) = (Bench::port(), noise(100_001));
    bench.file("raw.bin", &bytes);
    let files = json!([{"path": "raw.bin", "address": "0x10010"}]);
    let written = bench.good("esp_flash_firmware", json!({"port": port, "files": files}));
    assert_eq!((written["verified"].clone(), written["virtual"].clone()), (json!(true), json!(true)));
    assert_eq!(written["written_bytes"], 102_400);
    let again = bench.good("esp_flash_firmware", json!({"port": port, "files": files}));
    assert_eq!((again["written_bytes"].clone(), again["sent_bytes"].clone()), (json!(0), json!(0)));
    let read = json!({"port": port, "address": 0x10010, "size": bytes.len(), "output_file": "out/back.bin"});
    bench.good("esp_flash_read", read);
    assert_eq!(fs::read(bench.dir.path().join("out/back.bin")).unwrap(), bytes);
    assert_eq!(bench.good("esp_flash_verify", json!({"port": port, "files": files}))["matches"], true);
    let erased = bench.good("esp_flash_erase", json!({"port": port, "region": "0x20000+0x1000"}));
    let copy = erased["copies"][0]["file"].as_str().unwrap();
    assert_eq!(fs::read(copy).unwrap(), bytes[0xfff0..0x10ff0]);
    let verdict = bench.good("esp_flash_verify", json!({"port": port, "files": files}));
    assert_eq!(verdict["matches"], false);
    assert_eq!(verdict["files"][0]["first_difference"], 0x20000);
    assert_eq!(verdict["files"][0]["kind"], "the sector is blank");
}

#[test]
fn bad_input_is_a_coded_error_and_nothing_is_written() {
    let mut bench = Bench::new();
    let port = Bench::port();
    let (chip, other) = chips();
    let offset = chip.flash.bootloader_offset;
    bench.file("empty.bin", b"");
    bench.file("some.bin", &noise(8192));
    bench.file("other.bin", &image_for(other));
    bench.file("own.bin", &image_for(chip));
    fs::write(bench.dir.path().parent().unwrap().join("outside.bin"), b"x").unwrap();
    let file = |path: &str, address: Value| json!({"port": port, "files": [{"path": path, "address": address}]});
    let wrong_offset = if offset == 0 { 0x1000 } else { 0 };
    for (arguments, code) in [
        (file("none.bin", json!(0)), "file_not_found"),
        (file("empty.bin", json!(0)), "file_empty"),
        (file("../outside.bin", json!(0)), "path_refused"),
        (file("some.bin", json!("4MB")), "address_out_of_range"),
        (file("some.bin", json!(0x3f_ffff)), "address_out_of_range"),
        (file("some.bin", json!("0x1ffffffff")), "address_out_of_range"),
        (file("some.bin", json!("-1")), "bad_parameter"),
        (file("other.bin", json!(0x10000)), "chip_mismatch"),
        (file("own.bin", json!(wrong_offset)), "wrong_bootloader_offset"),
        (json!({"port": port, "files": []}), "nothing_to_do"),
        (json!({"port": port}), "missing_parameter"),
        (json!({"port": port, "file": "some.bin"}), "unknown_parameter"),
        (json!({"port": port, "project": "."}), "no_project"),
        (
            json!({"port": port, "files": [{"path": "some.bin", "address": 0}, {"path": "some.bin", "address": 4096}]}),
            "overlap",
        ),
        (json!({"port": "/dev/ttyNONE", "files": [{"path": "some.bin", "address": 0}]}), "port_not_found"),
        (json!({"port": "sim://nochip", "files": [{"path": "some.bin", "address": 0}]}), "unknown_chip"),
        (json!({"port": "socket://127.0.0.1:1", "files": [{"path": "some.bin", "address": 0}]}), "port_unreachable"),
        (json!({"port": "nosuch://x", "files": [{"path": "some.bin", "address": 0}]}), "port_unsupported"),
    ] {
        let error = bench.bad("esp_flash_firmware", arguments.clone());
        assert_eq!(error["code"], code, "{arguments}: {error}");
        assert!(!error["next_step"].as_str().unwrap().is_empty(), "{error}");
        assert_eq!(error["flash_state"], "unchanged", "{error}");
    }
    assert!(bench.is_blank());
    let read = json!({"port": port, "address": "4MB", "size": 16, "output_file": "never.bin"});
    assert_eq!(bench.bad("esp_flash_read", read)["code"], "address_out_of_range");
    assert!(!bench.dir.path().join("never.bin").exists());
    assert_eq!(bench.bad("esp_flash_erase", json!({"port": port, "region": "0x1+0x10"}))["code"], "not_aligned");
    assert_eq!(bench.bad("esp_flash_erase", json!({"port": port, "region": "nvs"}))["code"], "no_partition_table");
}

#[test]
fn progress_is_strictly_increasing_and_comes_before_the_answer() {
    let mut bench = Bench::new();
    bench.file("raw.bin", &noise(1 << 20));
    let arguments = json!({"port": Bench::port(), "files": [{"path": "raw.bin", "address": 0}]});
    let call = json!({"name": "esp_flash_firmware", "arguments": arguments, "_meta": {"progressToken": "p1"}});
    bench.client.request("tools/call", call).unwrap();
    let seen = &bench.client.seen;
    let notes: Vec<&Value> = seen.iter().filter(|message| message["method"] == "notifications/progress").collect();
    assert!(!notes.is_empty());
    let mut last = -1.0;
    for note in notes {
        assert_eq!(note["params"]["progressToken"], "p1");
        let value = note["params"]["progress"].as_f64().unwrap();
        assert!(value > last, "{value} after {last}");
        last = value;
    }
    assert!(seen.last().unwrap().get("id").is_some());
}

#[test]
fn a_cancelled_call_is_never_answered_and_frees_the_device() {
    let mut bench = Bench::new();
    let port = Bench::port();
    // Waits for what never comes, in the simulator's time: only a cancel ends it early enough.
    let arguments = json!({"port": port, "address": 0, "size": "4MB", "output_file": "x.bin"});
    let call = json!({"name": "esp_flash_read", "arguments": arguments, "_meta": {"progressToken": 1}});
    let id = bench.client.send("tools/call", call);
    while bench.client.receive()["method"] != "notifications/progress" {}
    bench.client.notify("notifications/cancelled", json!({"requestId": id}));
    let began = Instant::now();
    bench.good("esp_detect_chip", json!({"port": port}));
    assert!(began.elapsed() < Duration::from_secs(10));
    while bench.client.receive_within(Duration::from_millis(300)).is_some() {}
    assert!(bench.client.seen.iter().all(|message| message["id"] != id));
    assert!(!bench.dir.path().join("x.bin").exists());
}

#[test]
fn a_background_call_becomes_a_job() {
    let mut bench = Bench::new();
    let port = Bench::port();
    let arguments = json!({"port": port, "address": 0, "size": "64K", "output_file": "x.bin", "background": true});
    let started = bench.good("esp_flash_read", arguments);
    let job = json!({"job_id": started["job_id"], "action": "wait"});
    let ended = bench.good("esp_job", job);
    assert_eq!(ended["jobs"][0]["state"], "done");
    assert_eq!(ended["jobs"][0]["result"]["size_bytes"], 65536);
    assert!(bench.dir.path().join("x.bin").exists());
}

#[test]
fn every_chip_is_detected_and_started() {
    let mut bench = Bench::new();
    for chip in esp_model::chip::all() {
        let port = format!("sim://{}", chip.id);
        let found = bench.good("esp_detect_chip", json!({"port": port}));
        assert_eq!((found["chip_id"].as_str(), &found["virtual"]), (Some(chip.id), &json!(true)));
        let info = bench.good("esp_get_chip_info", json!({"port": port}));
        assert_eq!(info["mac"], found["mac"], "{port}");
        assert_eq!(bench.good("esp_flash_size_detect", json!({"port": port}))["size_bytes"], 4 << 20, "{port}");
        let run = bench.good("esp_run_firmware", json!({"port": port, "capture_s": 1}));
        let verdict = run["console"]["verdict"].as_str().unwrap();
        assert!(!["looks_right", "app_loaded"].contains(&verdict), "a blank chip does not boot: {run}");
        assert_eq!(bench.good("esp_reset_chip", json!({"port": port}))["reset_mode"], "hard-reset");
    }
}

#[test]
fn results_fit_their_published_schema() {
    let mut bench = Bench::new();
    // The whole list leaves the results' fields out; the command line shows them.
    let listed =
        std::process::Command::new(env!("CARGO_BIN_EXE_mcp-esptool")).args(["tools", "--json"]).output().unwrap();
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let listed = listed.get("tools").unwrap_or(&listed).as_array().unwrap().clone();
    let port = Bench::port();
    for (tool, arguments) in [
        ("esp_scan_ports", json!({"probe": false})),
        ("esp_detect_chip", json!({"port": port})),
        ("esp_connect_advanced", json!({"port": port, "baud": 921_600})),
        ("esp_test_connection", json!({"port": port, "rounds": 5})),
        ("esp_recover_chip", json!({"port": port})),
        ("esp_flash_size_detect", json!({"port": port})),
    ] {
        let result = bench.good(tool, arguments);
        let schema = listed.iter().find(|entry| entry["name"] == tool).unwrap();
        let schema = &schema["outputSchema"];
        for name in schema["required"].as_array().into_iter().flatten() {
            assert!(result.get(name.as_str().unwrap()).is_some(), "{tool}: {name} is missing");
        }
        for name in result.as_object().unwrap().keys() {
            assert!(schema["properties"].get(name).is_some(), "{tool}: {name} is not in the schema");
        }
    }
}

#[test]
fn the_demonstration_goes_through() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
    let output = command.arg("demo").env("XDG_CONFIG_HOME", dir.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("verified") && text.contains("verdict app_loaded"), "{text}");
}
