//! Real programs for Xtensa chips on virtual devices, over MCP: flashed, started, their consoles read and decoded. A case whose file is
//! not in the corpus counts as ignored.
#![allow(clippy::unwrap_used)]

#[path = "support/client.rs"]
mod client;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use client::Client;
use libtest_mimic::{Arguments, Trial};
use serde_json::{Value, json};

fn corpus(name: &str) -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    std::env::var_os("MCP_ESPTOOL_CORPUS").map_or(beside, PathBuf::from).join(name)
}

/// Files of the corpus and where they go in flash.
type Files = &'static [(&'static str, &'static str)];

const TABLE: &str = "build/blink-esp32/partition_table_partition-table.bin";
const BOOTLOADER: (&str, &str) = ("0x1000", "build/blink-esp32/bootloader_bootloader.bin");
const BLINK_ESP32: Files = &[BOOTLOADER, ("0x8000", TABLE), ("0x10000", "build/blink-esp32/blink.bin")];
const BLINK_S3: Files =
    &[("0x0", "build/blink-s3/bootloader_bootloader.bin"), ("0x8000", TABLE), ("0x10000", "build/blink-s3/blink.bin")];
const BLINK_S2: Files = &[
    ("0x1000", "image/espflash/esp32s2-bootloader.bin"),
    ("0x8000", TABLE),
    ("0x10000", "image/esptool/esp_idf_blink_esp32s2.bin"),
];
const CORE_DUMP: Files = &[("0x10000", "coredump/esp32.elf"), ("", "coredump/esp32.b64"), BOOTLOADER];

/// A server with a project folder.
struct Bench {
    client: Client,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = format!("state_dir={}", dir.path().join("state").display());
        Self { client: Client::initialized(dir.path(), &["--set", &state]), dir }
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

    /// Copies a file of the corpus into the project; its name there.
    fn copy(&self, name: &str) -> String {
        let short = name.replace('/', "_");
        fs::write(self.dir.path().join(&short), fs::read(corpus(name)).unwrap()).unwrap();
        short
    }

    fn flash(&mut self, port: &str, files: Files) {
        let files: Vec<_> = files.iter().map(|(at, name)| json!({ "path": self.copy(name), "address": at })).collect();
        self.good("esp_flash_firmware", json!({ "port": port, "files": files }));
    }

    /// The app's ELF file, made an image and flashed with a bootloader and a partition table.
    fn flash_elf(&mut self, port: &str, chip: &str, elf: &str, bootloader: (&str, &str)) {
        let elf = self.copy(elf);
        let made = json!({ "elf_file": elf, "chip_type": chip, "output_file": "app.bin", "flash_mode": "dio",
            "flash_size": "2MB", "flash_freq": "40m" });
        self.good("esp_elf_to_binary", made);
        let files = json!([{ "path": self.copy(bootloader.1), "address": bootloader.0 },
            { "path": self.copy(TABLE), "address": "0x8000" }, { "path": "app.bin", "address": "0x10000" }]);
        self.good("esp_flash_firmware", json!({ "port": port, "files": files }));
    }
}

/// Milliseconds at which lines with `part` came, from a console text of lines `[ms] text`.
fn times(console: &Value, part: &str) -> Vec<i64> {
    let time = |line: &str| line.trim_start().strip_prefix('[')?.split_once(']')?.0.trim().parse().ok();
    let text = console["text"].as_str().unwrap();
    text.lines().filter(|line| line.contains(part)).filter_map(time).collect()
}

/// Flashed and started: the app speaks, and its lines come each second of virtual time.
fn blinks(chip: &str, files: Files) {
    let mut bench = Bench::new();
    let port = format!("sim://{chip}");
    bench.flash(&port, files);
    let run = json!({ "port": port, "until": "Turning the LED", "capture_s": 5 });
    let started = bench.good("esp_run_firmware", run);
    let console = &started["console"];
    assert!(console["ended_by"].as_str().unwrap().contains("pattern"), "{started}");
    assert_eq!(console["verdict"], json!("looks_right"), "{started}");
    let capture = json!({ "port": port, "duration_s": 4.5, "reset": true });
    let console = bench.good("esp_console_capture", capture);
    let turns = times(&console, "Turning the LED");
    assert!(turns.len() >= 4, "{console:#}");
    // The first one waits on the line behind the boot messages, which a chip prints faster than 115200 baud carry them.
    for pair in turns[1..].windows(2) {
        assert!((pair[1] - pair[0] - 1000).abs() <= 20, "{turns:?} {console:#}");
    }
    assert_eq!(console["counts"]["panics"], json!(0), "{console:#}");
}

/// The same on a built-in device in a process of its own.
fn built_in_device_runs(chip: &str, files: Files) {
    let mut bench = Bench::new();
    let device = bench.good("esp_qemu_start", json!({ "chip_type": chip, "backend": "builtin", "id": "board" }));
    assert_eq!(device["runs_code"], json!(true), "{device}");
    bench.flash("qemu://board", files);
    let run = json!({ "port": "qemu://board", "until": "Turning the LED", "capture_s": 20 });
    let started = bench.good("esp_run_firmware", run);
    assert!(started["console"]["ended_by"].as_str().unwrap().contains("pattern"), "{started}");
    bench.good("esp_qemu_stop", json!({ "id": "board" }));
}

/// What both analyses of the same crash must agree on.
fn crash(analysis: &Value) -> Value {
    let task = &analysis["tasks"][0];
    let functions: Vec<_> =
        task["backtrace"].as_array().unwrap().iter().map(|frame| frame["function"].clone()).collect();
    let mut exception: Vec<_> = analysis["exception"].as_array().unwrap().clone();
    exception.retain(|pair| matches!(pair[0].as_str().unwrap(), "exccause" | "excvaddr"));
    json!({ "reason": analysis["reason"], "in_interrupt": analysis["in_interrupt"], "elf": analysis["elf_match"],
        "name": task["name"], "crashed": task["crashed"], "functions": functions, "exception": exception })
}

/// ESP-IDF's test program for core dumps panics; its dump over UART says what the one of a real board says.
fn panic_leaves_a_core_dump() {
    let mut bench = Bench::new();
    let port = "sim://esp32";
    bench.flash_elf(port, "esp32", "coredump/esp32.elf", BOOTLOADER);
    let capture =
        json!({ "port": port, "duration_s": 3, "reset": true, "until": ["CORE DUMP END"], "log_file": "log.txt" });
    let console = bench.good("esp_console_capture", capture);
    assert!(console["ended_by"].as_str().unwrap().contains("pattern"), "{console:#}");
    let here = json!({ "dump_file": "log.txt", "elf_file": "coredump_esp32.elf" });
    let here = bench.good("esp_core_dump_analyze", here);
    assert_eq!((&here["checksum_ok"], &here["damaged"]), (&json!(true), &Value::Null), "{here:#}");
    let dump = bench.copy("coredump/esp32.b64");
    let board = bench.good("esp_core_dump_analyze", json!({ "dump_file": dump, "elf_file": "coredump_esp32.elf" }));
    assert_eq!(crash(&here), crash(&board));
    let reason = "abort() was called at PC 0x400d66b9 on core 0";
    assert_eq!(here["reason"].as_str().unwrap().trim(), reason);
    // Both cores' idle tasks and all others are in it.
    let names = |analysis: &Value| {
        let tasks = analysis["tasks"].as_array().unwrap();
        let mut names: Vec<_> = tasks.iter().map(|task| task["name"].as_str().unwrap_or("").to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&here), names(&board));
}

/// A program for RAM.
fn runs_from_ram(chip: &str, file: &'static str) {
    let mut bench = Bench::new();
    let firmware = bench.copy(file);
    let load = json!({ "port": format!("sim://{chip}"), "firmware": firmware, "capture_s": 1 });
    let loaded = bench.good("esp_load_ram", load);
    assert!(loaded["console"]["text"].as_str().unwrap().contains("Hello world!"), "{loaded}");
}

/// An image that is not for this chip is refused before anything is written.
fn foreign_image_is_refused(chip: &str, file: &'static str, address: &str, words: &[&str]) {
    let mut bench = Bench::new();
    let path = bench.copy(file);
    let files = json!([{ "path": path, "address": address }]);
    let error = bench.bad("esp_flash_firmware", json!({ "port": format!("sim://{chip}"), "files": files }));
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{word}: {error:#}");
    }
}

/// A test that needs files of the corpus.
fn trial(name: impl Into<String>, files: &[&str], test: impl FnOnce() + Send + 'static) -> Trial {
    let missing = files.iter().any(|file| !corpus(file).is_file());
    let runs = move || {
        test();
        Ok(())
    };
    Trial::test(name, runs).with_ignored_flag(missing)
}

fn names(files: Files) -> Vec<&'static str> {
    files.iter().map(|(_, name)| *name).collect()
}

fn main() -> ExitCode {
    let mut trials = Vec::new();
    for (chip, files) in [("esp32", BLINK_ESP32), ("esp32s3", BLINK_S3), ("esp32s2", BLINK_S2)] {
        let name = format!("blink_runs_on_sim_{chip}_with_a_rhythm_of_one_second");
        trials.push(trial(name, &names(files), move || blinks(chip, files)));
        let name = format!("blink_runs_on_a_built_in_{chip}");
        trials.push(trial(name, &names(files), move || built_in_device_runs(chip, files)));
    }
    let name = "a_panic_on_sim_esp32_leaves_the_core_dump_that_a_board_leaves";
    trials.push(trial(name, &names(CORE_DUMP), panic_leaves_a_core_dump));
    for (chip, file) in
        [("esp32", "image/esptool/helloworld-esp32.bin"), ("esp32s3", "image/esptool/helloworld-esp32s3.bin")]
    {
        let name = format!("a_program_for_ram_runs_on_sim_{chip}");
        trials.push(trial(name, &[file], move || runs_from_ram(chip, file)));
    }
    let file = "build/rtos-8266/hello-world.bin";
    let name = "an_esp8266_image_is_refused_on_sim_esp32";
    trials.push(trial(name, &[file], move || foreign_image_is_refused("esp32", file, "0x10000", &["ESP8266"])));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
