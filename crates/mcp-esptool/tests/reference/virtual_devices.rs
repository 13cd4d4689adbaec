//! esptool works on a virtual device as on a board: no hand between two commands.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use esp_model::chip::{Chip, Emulation};
use esp_virtual::discover;
use libtest_mimic::Trial;
use serde_json::Value;

use crate::reference::{self, Stop, fail, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("virtual: esptool writes, resets and writes again over RFC 2217", esptool_as_on_a_board),
        trial("virtual: Espressif's QEMU is written by us and by esptool, booted, burned and copied", on_a_real_qemu),
    ]
}

/// An image of one segment for the C3, valid for esptool.
fn image() -> Vec<u8> {
    let mut image = vec![0xe9, 1, 2, 0x20];
    image.extend(0x4038_0000u32.to_le_bytes());
    image.extend([0xee, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0]);
    image.extend(0x4038_0000u32.to_le_bytes());
    image.extend(16u32.to_le_bytes());
    image.extend([0; 31]);
    image.push(0xef);
    image
}

struct Device {
    state: std::path::PathBuf,
    id: String,
}

impl Device {
    fn call(&self, args: &[&str]) -> Result<Value, Stop> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
        command.arg("call").args(args).args(["--json", "--set", &format!("state_dir={}", self.state.display())]);
        Ok(serde_json::from_slice(&reference::run(&mut command)?.stdout)?)
    }

    fn console_has(&self, text: &str, times: usize) -> Result<(), Stop> {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let id = format!("id={}", self.id);
            let status = self.call(&["esp_qemu_status", &id, "console_from=0", "console_limit=1000000"])?;
            let console = status["console"].as_str().unwrap_or_default().to_string();
            if console.matches(text).count() >= times {
                return Ok(());
            }
            if Instant::now() > until {
                return fail(format!("{text:?} is not {times} times in {console:?}"));
            }
        }
    }
}

/// The device suite on every chip that the QEMUs below `MCP_ESPTOOL_TEST_QEMU` emulate.
fn on_a_real_qemu() -> Result<(), Stop> {
    let Some(folder) = std::env::var_os("MCP_ESPTOOL_TEST_QEMU") else {
        return Err(reference::Skip("no QEMU (set MCP_ESPTOOL_TEST_QEMU to its folder)".into()).into());
    };
    let mut programs = Vec::new();
    find_programs(Path::new(&folder), 6, &mut programs);
    let places = discover::Places { configured: programs.clone(), ..Default::default() };
    let dir = reference::scratch("qemu");
    let mut ran = 0;
    for chip in esp_model::chip::all() {
        let Some(emulation) = chip.emulation() else { continue };
        if discover::choose(&places, &chip.name, &emulation.program, &emulation.machine).is_err() {
            continue;
        }
        ran += 1;
        let found = programs.iter().find(|path| path.ends_with(&emulation.program));
        let setting = if emulation.program.contains("riscv") { "qemu_riscv" } else { "qemu_xtensa" };
        let program = found.map_or_else(String::new, |path| format!("{setting}={}", path.display()));
        whole_life(chip, emulation, &program, &dir.join(chip.id))
            .map_err(|stop| Stop::Failed(format!("{}: {stop:?}", chip.id)))?;
    }
    if ran == 0 { fail(format!("no QEMU that emulates a chip below {}", folder.display())) } else { Ok(()) }
}

fn find_programs(folder: &Path, depth: u32, found: &mut Vec<PathBuf>) {
    for path in std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && depth > 0 {
            find_programs(&path, depth - 1, found);
        } else if name.starts_with("qemu-system-") {
            found.push(path);
        }
    }
}

/// One chip from its start to its stop, by our tools and by esptool in turns.
fn whole_life(chip: &Chip, emulation: &Emulation, program: &str, dir: &Path) -> Result<(), Stop> {
    std::fs::create_dir_all(dir)?;
    let mut device = Device { state: dir.join("state"), id: String::new() };
    let started = device.call(&[
        "esp_qemu_start",
        &format!("chip_type={}", chip.id),
        "backend=qemu",
        "keep=true",
        "--set",
        program,
    ])?;
    device.id = started["id"].as_str().unwrap_or_default().into();
    let (id, port) = (format!("id={}", device.id), format!("port=qemu://{}", device.id));
    let root = format!("project_roots={}", dir.display());
    let data: Vec<u8> = (0..64 * 1024u32).map(|n| (n * 7 / 3) as u8).collect();
    std::fs::write(dir.join("data.bin"), &data)?;

    let found = device.call(&["esp_detect_chip", &port])?;
    if !found["chip"].as_str().is_some_and(|name| name.starts_with(&chip.name)) {
        return fail(format!("{found}"));
    }
    let files = r#"files=[{"path": "data.bin", "address": 131072}]"#;
    device.call(&["esp_flash_firmware", &port, files, "--set", &root])?;
    let read = ["esp_flash_read", &port, "address=0x20000", "size=64K", "output_file=back.bin", "--set", &root];
    device.call(&read)?;
    reference::same_bytes(chip.id, &std::fs::read(dir.join("back.bin"))?, &data)?;

    // The self-test that users run on their boards.
    let mut test = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
    test.args(["selftest", "--port", &format!("qemu://{}", device.id), "--scratch", "0x40000"]);
    reference::run(test.args(["--set", &format!("state_dir={}", device.state.display())]))?;

    // esptool, through the line with DTR and RTS; then the device has booted.
    let mut esptool = Command::new(reference::tool("esptool")?);
    esptool.args(["--chip", chip.id, "--port", started["rfc2217"].as_str().unwrap_or_default()]);
    if !emulation.runs_stub {
        esptool.arg("--no-stub");
    }
    let small = dir.join("small.bin");
    std::fs::write(&small, &data[..8192])?;
    let output = reference::run(esptool.args(["write-flash", "0x50000"]).arg(&small))?;
    if !reference::text(&output).contains("Hash of data verified") {
        return fail(reference::text(&output));
    }
    device.console_has("boot:", 2)?;
    let read = ["esp_flash_read", &port, "address=0x50000", "size=8K", "output_file=small2.bin", "--set", &root];
    device.call(&read)?;
    reference::same_bytes("by esptool", &std::fs::read(dir.join("small2.bin"))?, &data[..8192])?;

    // eFuses that are burned are in the file, and survive a restart.
    let before = std::fs::read(started["efuse_file"].as_str().unwrap_or_default())?;
    let burn = ["esp_efuse_burn", &port, "efuse_name=WR_DIS", "value=0x2"];
    let planned = device.call(&burn)?;
    let token = format!("confirm_token={}", planned["confirm_token"].as_str().unwrap_or_default());
    device.call(&[&burn[..], &[token.as_str()]].concat())?;
    device.call(&["esp_qemu_start", &id, "boot_mode=normal"])?;
    if std::fs::read(started["efuse_file"].as_str().unwrap_or_default())? == before {
        return fail("the eFuse file is as before");
    }

    // A copy of it has the same flash.
    let clone = format!("clone_from=qemu://{}", device.id);
    let twin = device.call(&["esp_qemu_start", "id=twin", "backend=qemu", &clone, "--set", program])?;
    let content = |device: &Value| std::fs::read(device["flash_file"].as_str().unwrap_or_default());
    reference::same_bytes("the twin's flash", &content(&twin)?, &content(&started)?)?;
    device.call(&["esp_qemu_stop", "all=true"])?;
    let left = std::fs::read_dir(device.state.join("virtual")).map_or(0, Iterator::count);
    if left > 0 { fail(format!("{left} folders are left")) } else { Ok(()) }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.call(&["esp_qemu_stop", "all=true"]);
    }
}

fn esptool_as_on_a_board() -> Result<(), Stop> {
    let dir = reference::scratch("virtual");
    let mut device = Device { state: dir.join("state"), id: String::new() };
    let started = device.call(&["esp_qemu_start", "chip_type=esp32c3", "backend=builtin"])?;
    device.id = started["id"].as_str().unwrap_or_default().into();
    let url = started["rfc2217"].as_str().unwrap_or_default().to_string();
    let file = dir.join("boot.bin");
    std::fs::write(&file, image())?;
    for round in 1..=2 {
        let mut esptool = Command::new(reference::tool("esptool")?);
        esptool.args(["--chip", "esp32c3", "--port", &url, "--before", "default-reset", "--after", "hard-reset"]);
        let output = reference::run(esptool.args(["write-flash", "0"]).arg(&file))?;
        if !reference::text(&output).contains("Hash of data verified") {
            return fail(reference::text(&output));
        }
        device.console_has("entry 0x40380000", round)?;
    }
    let content = std::fs::read(started["flash_file"].as_str().unwrap_or_default())?;
    reference::same_bytes("flash file", content.get(..image().len()).unwrap_or_default(), &image())
}
