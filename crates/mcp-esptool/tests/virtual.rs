//! Virtual devices through the tools, as a client uses them; each in a process of its own.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use esp_model::job::Job;
use esp_ops::config::{Config, Sources};
use mcp_esptool::ctx::Ctx;
use mcp_esptool::tools;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

struct World {
    dir: tempfile::TempDir,
    ctx: Ctx,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let text = |path: &Path| path.display().to_string();
    let flags = [
        ("project_roots", text(dir.path())),
        ("state_dir", text(&dir.path().join("state"))),
        ("program", env!("CARGO_BIN_EXE_mcp-esptool").to_string()),
    ];
    let flags = flags.map(|(name, value)| (name.to_string(), value)).to_vec();
    let config = Config::load(&Sources { file: None, flags, env: &|_| None }).unwrap();
    World { ctx: Ctx::new(config).unwrap(), dir }
}

impl World {
    fn try_call(&self, tool: &str, input: Value) -> Result<Value, (String, String)> {
        let entry = tools::find(tool).unwrap();
        match entry.call(&self.ctx, &Job::new(), input) {
            Ok(reply) => Ok(Value::Object(reply.data)),
            Err(error) => Err((error.code.to_string(), error.message)),
        }
    }

    fn call(&self, tool: &str, input: Value) -> Value {
        self.try_call(tool, input.clone()).unwrap_or_else(|error| panic!("{tool} {input}: {error:?}"))
    }

    fn file(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.dir.path().join(name), bytes).unwrap();
    }

    fn console_has(&self, id: &str, text: &str) {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let status = self.call("esp_qemu_status", json!({"id": id, "console_from": 0, "console_limit": 100_000}));
            let console = status["console"].as_str().unwrap();
            if console.contains(text) {
                return;
            }
            assert!(Instant::now() < until, "no {text:?} in {console:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// No device, no directory.
    fn is_clean(&self) {
        assert_eq!(self.call("esp_qemu_list", json!({}))["devices"], json!([]));
        let left = std::fs::read_dir(self.dir.path().join("state/virtual")).map(|dir| dir.count()).unwrap_or(0);
        assert_eq!(left, 0);
    }
}

/// An image with one segment of 16 bytes, as the ROM reads it.
fn image() -> Vec<u8> {
    let mut image = vec![0xe9, 1, 2, 0x20];
    image.extend(0x4038_0000u32.to_le_bytes());
    image.extend([0xee, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0]);
    image.extend(0x4038_0000u32.to_le_bytes());
    image.extend(16u32.to_le_bytes());
    image.extend([0; 16]);
    image.extend([0; 15]);
    image.push(0xef);
    image
}

#[test]
fn lives_between_calls_and_is_a_port_like_any_other() {
    let world = world();
    let device = world.call("esp_qemu_start", json!({"chip_type": "esp32c3", "backend": "builtin"}));
    assert_eq!((&device["id"], &device["state"]), (&json!("esp32c3-1"), &json!("running")));
    assert_eq!((&device["virtual"], &device["runs_code"]), (&json!(true), &json!(true)));
    // No mask ROM of this chip is published.
    let imitated = world.call("esp_qemu_start", json!({"chip_type": "esp8266", "backend": "builtin"}));
    assert_eq!(imitated["runs_code"], json!(false));
    world.call("esp_qemu_stop", json!({"id": imitated["id"]}));
    let port = &device["port"];
    let scanned = world.call("esp_scan_ports", json!({}));
    assert!(scanned["ports"].as_array().unwrap().iter().any(|found| found["port"] == *port), "{scanned}");

    let found = world.call("esp_detect_chip", json!({"port": port}));
    assert!(found["chip"].as_str().unwrap().starts_with("ESP32-C3"), "{found}");
    assert_eq!(found["virtual"], json!(true));
    world.file("boot.bin", &image());
    let files = json!([{"path": "boot.bin", "address": 0}]);
    let written = world.call("esp_flash_firmware", json!({"port": port, "files": files}));
    assert_eq!(written["verified"], json!(true), "{written}");
    // What the loader wrote is in the file while the device runs.
    let file = std::fs::read(device["flash_file"].as_str().unwrap()).unwrap();
    assert!(file.starts_with(&image()) && file.len() == 4 << 20);
    world.call("esp_reset_chip", json!({"port": port}));
    world.console_has("esp32c3-1", "entry 0x40380000");

    world.call("esp_qemu_stop", json!({"id": "esp32c3-1"}));
    assert_eq!(world.try_call("esp_detect_chip", json!({"port": port})).unwrap_err().0, "virtual_failed");
    assert_eq!(world.try_call("esp_qemu_status", json!({"id": "esp32c3-1"})).unwrap_err().0, "no_such_virtual");
    world.is_clean();
}

#[test]
fn restarts_in_either_mode_with_the_same_name() {
    let world = world();
    world.file("boot.bin", &image());
    let start = json!({"chip_type": "esp32c3", "backend": "builtin", "id": "bench", "flash_image": "boot.bin",
                       "boot_mode": "normal"});
    world.call("esp_qemu_start", start.clone());
    world.console_has("bench", "entry 0x40380000");
    assert_eq!(world.try_call("esp_qemu_start", start).unwrap_err().0, "virtual_exists");
    let again = world.call("esp_qemu_start", json!({"id": "bench", "boot_mode": "download"}));
    assert_eq!(again["boot_mode"], json!("download"));
    world.console_has("bench", "waiting for download");
    world.call("esp_qemu_stop", json!({"all": true}));
    world.is_clean();
}

#[test]
fn flash_is_filled_erased_kept_and_brought_back() {
    let world = world();
    world.file("a.bin", b"first");
    world.file("b.bin", b"second");
    let device = world.call("esp_qemu_start", json!({"chip_type": "esp32", "backend": "builtin", "persist": true}));
    let id = device["id"].as_str().unwrap();
    let flash = || std::fs::read(device["flash_file"].as_str().unwrap()).unwrap();
    world.call("esp_qemu_flash", json!({"id": id, "image": "a.bin", "address": "0x1000"}));
    assert!(flash()[0x1000..].starts_with(b"first\xff"));
    let kept = json!({"id": id, "snapshot": "s1", "erase": true, "files": [{"path": "b.bin", "address": 0}]});
    world.call("esp_qemu_flash", kept);
    assert!(flash().starts_with(b"second\xff") && flash()[0x1000..].starts_with(b"\xff\xff"));
    world.call("esp_qemu_flash", json!({"id": id, "restore": "s1"}));
    assert!(flash()[0x1000..].starts_with(b"first\xff"));
    let far = world.try_call("esp_qemu_flash", json!({"id": id, "image": "a.bin", "address": "0x3ffffe"}));
    assert_eq!(far.unwrap_err().0, "address_out_of_range");
    // The loader sees what is in the file.
    let md5 = world
        .call("esp_flash_verify", json!({"port": device["port"], "files": [{"path": "a.bin", "address": "0x1000"}]}));
    assert_eq!(md5["matches"], json!(true), "{md5}");
    let stopped = world.call("esp_qemu_stop", json!({"id": id}));
    assert_eq!(stopped["kept_files"].as_array().unwrap().len(), 1);
    // A stopped one takes files too, and starts again on them.
    world.call("esp_qemu_flash", json!({"id": id, "image": "b.bin", "address": 0}));
    let resumed = world.call("esp_qemu_start", json!({"id": id}));
    assert_eq!(resumed["state"], json!("running"));
    assert!(flash().starts_with(b"second\xff"));
    world.call("esp_qemu_stop", json!({"id": id, "remove_files": true}));
    world.is_clean();
}

#[test]
fn a_twin_has_the_flash_and_the_efuses_of_its_original() {
    let world = world();
    world.file("data.bin", &[0x5a; 5000]);
    let original = "sim://esp32c6-original";
    let files = json!([{"path": "data.bin", "address": "0x20000"}]);
    world.call("esp_flash_firmware", json!({"port": original, "files": files}));
    let about = world.call("esp_detect_chip", json!({"port": original}));
    let twin = world.call("esp_qemu_start", json!({"clone_from": original, "backend": "builtin"}));
    assert_eq!((&twin["chip"], &twin["copy_of"]), (&json!("esp32c6"), &json!(original)));
    assert_eq!(twin["copied_bytes"], json!(65536), "the rest was known to be blank");
    let flash = std::fs::read(twin["flash_file"].as_str().unwrap()).unwrap();
    assert!(flash[0x2_0000..0x2_0000 + 5000].iter().all(|byte| *byte == 0x5a));
    assert!(flash[..0x2_0000].iter().chain(&flash[0x2_0000 + 5000..]).all(|byte| *byte == 0xff));
    let copy = world.call("esp_detect_chip", json!({"port": twin["port"]}));
    assert_eq!((&copy["mac"], &copy["chip"]), (&about["mac"], &about["chip"]));
    let wrong = json!({"clone_from": original, "chip_type": "esp32c3", "backend": "builtin"});
    assert_eq!(world.try_call("esp_qemu_start", wrong).unwrap_err().0, "chip_mismatch");
    world.call("esp_qemu_stop", json!({"all": true}));
    world.is_clean();
}

#[test]
fn every_chip_is_served() {
    let world = world();
    for chip in esp_model::chip::all() {
        let device = world.call("esp_qemu_start", json!({"chip_type": chip.id, "backend": "builtin"}));
        let found = world.try_call("esp_detect_chip", json!({"port": device["port"]}));
        let name = found.as_ref().map(|found| found["chip"].as_str().unwrap_or_default().to_string());
        assert!(name.as_ref().is_ok_and(|name| name.starts_with(&chip.name)), "{}: {found:?}", chip.id);
        world.call("esp_qemu_stop", json!({"id": device["id"]}));
    }
    world.is_clean();
}

#[test]
fn twenty_at_once() {
    let world = world();
    world.file("data.bin", &[0xa5; 100_000]);
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let device = world.call("esp_qemu_start", json!({"chip_type": "esp32s3", "backend": "builtin"}));
                let files = json!([{"path": "data.bin", "address": "0x10000"}]);
                let written = world.call("esp_flash_firmware", json!({"port": device["port"], "files": files}));
                assert_eq!(written["verified"], json!(true));
                world.call("esp_qemu_stop", json!({"id": device["id"]}));
            });
        }
    });
    world.is_clean();
}

#[test]
fn what_is_not_there_or_not_possible_is_named() {
    let world = world();
    let code = |tool: &str, input: Value| world.try_call(tool, input).unwrap_err().0;
    assert_eq!(code("esp_qemu_start", json!({"chip_type": "esp33"})), "unknown_chip");
    assert_eq!(code("esp_qemu_start", json!({"chip_type": "esp32c2", "backend": "qemu"})), "no_emulator");
    assert_eq!(code("esp_qemu_start", json!({"backend": "builtin", "psram_mb": 4})), "bad_parameter");
    assert_eq!(code("esp_qemu_start", json!({"backend": "builtin", "flash_size": "3MB"})), "virtual_failed");
    assert_eq!(code("esp_qemu_start", json!({"backend": "builtin", "id": "../x"})), "no_such_virtual");
    assert_eq!(code("esp_qemu_start", json!({"backend": "builtin", "flash_image": "none.bin"})), "file_not_found");
    assert_eq!(code("esp_qemu_start", json!({"backend": "builtin", "extra_args": "-S"})), "unknown_parameter");
    assert_eq!(code("esp_qemu_stop", json!({})), "missing_parameter");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    assert_eq!(code("esp_qemu_start", json!({"backend": "builtin", "rfc2217_port": port})), "tcp_port_taken");
    world.is_clean();
}

#[test]
fn started_from_the_command_line_it_stays() {
    let world = world();
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
        command.args(args).args([
            "--set",
            &format!("state_dir={}", world.dir.path().join("state").display()),
            "--json",
        ]);
        let output = command.current_dir(world.dir.path()).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let device = run(&["call", "esp_qemu_start", "chip_type=esp32", "backend=builtin"]);
    let found = run(&["call", "esp_detect_chip", &format!("port={}", device["port"].as_str().unwrap())]);
    assert!(found["chip"].as_str().unwrap().starts_with("ESP32"), "{found}");
    // The command is over: its application runs again.
    let until = Instant::now() + Duration::from_secs(5);
    while world.call("esp_qemu_status", json!({"id": device["id"]}))["boot_mode"] != "normal" {
        assert!(Instant::now() < until, "the chip is still in its loader");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Another process of this user sees and ends it.
    let listed = world.call("esp_qemu_list", json!({}));
    assert_eq!(listed["devices"][0]["pid"], device["pid"]);
    assert_eq!(listed["devices"][0]["keep"], json!(true));
    world.call("esp_qemu_stop", json!({"id": device["id"]}));
    world.is_clean();
}

/// The same check as on every way into a flash. A linked program is no fault here: it becomes an image.
#[test]
fn virtual_flash_refuses_wrong_firmware() {
    let world = world();
    for name in ["esp32c3", "esp32"] {
        let chip = esp_model::chip::by_name(name).unwrap();
        let boot = chip.flash.bootloader_offset;
        let parts = esp_ops::firmware::sample::make(chip).unwrap();
        let app = parts[2].bytes.as_slice();
        let mut merged = vec![0xff; 0x1_0000];
        merged[boot as usize..][..parts[0].bytes.len()].copy_from_slice(&parts[0].bytes);
        merged[0x8000..][..parts[1].bytes.len()].copy_from_slice(&parts[1].bytes);
        merged.extend(app);
        let device = world.call("esp_qemu_start", json!({"chip_type": name, "backend": "builtin"}));
        let id = device["id"].as_str().unwrap();
        for (file, bytes, address, code) in [
            ("app.bin", app, boot, "wrong_place"),
            ("boot.bin", &parts[0].bytes, 0x1_0000, "wrong_place"),
            ("merged.bin", &merged, 0x1_0000, "wrong_place"),
            ("page.bin", b"<!DOCTYPE html><html></html>", boot, "not_firmware"),
            ("answer.bin", b"404: Not Found", 0x1_0000, "not_firmware"),
            ("app.zip", b"PK\x03\x04\x14\0\0\0", 0x1_0000, "not_firmware"),
            ("app.gz", b"\x1f\x8b\x08\0\0\0\0\0", boot, "not_firmware"),
            ("pointer.bin", b"version https://git-lfs.github.com/spec/v1\n", 0x20_0000, "not_firmware"),
            ("cut.bin", &app[..app.len() - 100], 0x1_0000, "image_cut"),
            ("host.elf", b"\x7fELF\x02\x01\x01\0", 0x1_0000, "image_invalid"),
        ] {
            world.file(file, bytes);
            let input = json!({"id": id, "image": file, "address": address});
            let (found, text) = world.try_call("esp_qemu_flash", input).unwrap_err();
            assert_eq!(found, code, "{file} at {address:#x} of {name}: {text}");
        }
        let flash = std::fs::read(device["flash_file"].as_str().unwrap()).unwrap();
        assert!(flash.iter().all(|byte| *byte == 0xff), "not one byte was written");
    }
    world.call("esp_qemu_stop", json!({"all": true}));
}

#[test]
fn firmware_is_debugged_from_call_to_call() {
    let world = world();
    let (chip, parts) = esp_ops::firmware::sample::program().unwrap();
    parts.iter().for_each(|part| world.file(part.name, &part.bytes));
    let files: Vec<_> = parts.iter().map(|part| json!({"path": part.name, "address": part.address})).collect();
    let start = json!({"chip_type": chip.id, "backend": "builtin", "id": "d", "files": files, "wait_for_gdb": true});
    let device = world.call("esp_qemu_start", start);
    assert!(device["gdb_port"].is_u64(), "{device}");
    let debug = |action: &str, more: Value| {
        let mut input = json!({"id": "d", "action": action});
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        world.try_call("esp_debug", input)
    };
    assert_eq!(debug("stop", json!({})).unwrap_err().0, "debug_failed", "in download mode no code of the chip runs");
    world.call("esp_qemu_start", json!({"id": "d", "boot_mode": "normal"}));
    let stopped = debug("stop", json!({})).unwrap();
    assert_eq!((&stopped["pc"], &stopped["time"]), (&json!("0x40000000"), &json!("0 s")), "{stopped}");

    let run = debug("run", json!({"until": ["console:beat 1"], "timeout_s": 60})).unwrap();
    assert_eq!(run["done"], json!("the console's \"beat 1\""), "{run}");
    assert!(run["console"].as_str().unwrap().contains("demo: hello"), "{run}");
    let (pc, time) = (run["pc"].clone(), run["time"].clone());
    let registers = debug("registers", json!({})).unwrap();
    assert!(registers["registers"].as_array().unwrap().contains(&json!(["s1", "0x00000001"])), "{registers}");
    let memory = debug("memory", json!({"address": pc, "size": 4})).unwrap();
    assert_eq!(memory["memory"].as_str().unwrap().len(), 8, "{memory}");

    debug("snapshot", json!({"name": "here"})).unwrap();
    assert_ne!(debug("step", json!({"count": 3})).unwrap()["pc"], pc);
    let late = debug("run", json!({"until": ["time:1.8"], "timeout_s": 60})).unwrap();
    assert!(late["console"].as_str().unwrap().contains("beat 2"), "{late}");
    let back = debug("restore", json!({"name": "here"})).unwrap();
    assert_eq!((&back["pc"], &back["time"]), (&pc, &time), "{back}");
    let again = debug("run", json!({"until": ["time:1.8"], "timeout_s": 60})).unwrap();
    assert_eq!((&again["pc"], &again["time"]), (&late["pc"], &late["time"]), "the same run again");

    let wrong = debug("run", json!({"until": ["main"]})).unwrap_err();
    assert_eq!(wrong.0, "missing_parameter", "{wrong:?}");
    assert_eq!(debug("restore", json!({"name": "nowhere"})).unwrap_err().0, "bad_parameter");
    assert_eq!(debug("go", json!({})).unwrap()["stopped"], json!(false));
    world.console_has("d", "beat 4");
    world.call("esp_qemu_stop", json!({"id": "d"}));
    world.is_clean();
}

/// The app's code begins with these instructions instead; checksum and hash are made right again.
fn with_code(app: &mut [u8], instructions: &[u32]) {
    let program = esp_ops::firmware::sample::PROGRAM;
    let at = app.windows(program.len()).position(|window| window == program).unwrap();
    let end = app.len() - 32;
    for (index, byte) in instructions.iter().flat_map(|word| word.to_le_bytes()).enumerate() {
        app[end - 1] ^= app[at + index] ^ byte;
        app[at + index] = byte;
    }
    let hash = Sha256::digest(&app[..end]);
    app[end..].copy_from_slice(&hash);
}

#[test]
fn a_program_that_waits_for_the_radio_is_named_by_all_that_listen() {
    let world = world();
    let (chip, mut parts) = esp_ops::firmware::sample::program().unwrap();
    // lui a0, 0x60006; lw a1, 0(a0); j -4: the base band's registers, for ever.
    let app = parts.iter_mut().find(|part| part.name == "app.bin").unwrap();
    with_code(&mut app.bytes, &[0x6000_6537, 0x0005_2583, 0xffdf_f06f]);
    parts.iter().for_each(|part| world.file(part.name, &part.bytes));
    let files: Vec<_> = parts.iter().map(|part| json!({"path": part.name, "address": part.address})).collect();
    let port = format!("sim://{}-radio", chip.id);
    let run = world.call("esp_flash_and_run", json!({"port": port, "files": files, "duration_s": 1}));
    let told = |finding: &Value| {
        assert_eq!(finding["code"], json!("radio_not_emulated"), "{finding}");
        let cause = finding["cause"].as_str().unwrap();
        assert!(cause.starts_with("the program at 0x42") && cause.contains("(0x60006000) of the radio"), "{cause}");
    };
    told(&run["findings"][0]);
    let heard = world.call("esp_console_capture", json!({"port": port, "reset": true, "duration_s": 1}));
    told(&heard["findings"][0]);
    let run = world.call("esp_run_firmware", json!({"port": port, "capture_s": 1}));
    let finding = run["console"]["findings"][0].as_str().unwrap();
    assert!(finding.starts_with("radio_not_emulated (likely): the program at 0x42"), "{finding}");

    // lui a0, 0x60006; lw a1, 0(a0); beqz a1, -4; j .: with the setting it goes on, which is still said.
    let (_, mut parts) = esp_ops::firmware::sample::program().unwrap();
    let app = parts.iter_mut().find(|part| part.name == "app.bin").unwrap();
    with_code(&mut app.bytes, &[0x6000_6537, 0x0005_2583, 0xfe05_8ee3, 0x6f]);
    world.file(app.name, &app.bytes);
    let start = json!({"chip_type": chip.id, "backend": "builtin", "id": "r", "files": files, "boot_mode": "normal", "radio": "finish"});
    world.call("esp_qemu_start", start);
    let heard = world.call("esp_console_capture", json!({"port": "qemu://r", "reset": true, "duration_s": 1}));
    let finding = &heard["findings"][0];
    assert_eq!(finding["code"], json!("radio_not_emulated"), "{heard}");
    assert!(finding["cause"].as_str().unwrap().contains("let through"), "{finding}");
    let status = world.call("esp_qemu_status", json!({"id": "r"}));
    assert!(status.to_string().contains("was let through, as radio=finish wants"), "{status}");
}
