//! esptool works on a virtual device as on a board: no hand between two commands.

use std::process::Command;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::Value;

use crate::reference::{self, Stop, fail, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("virtual: esptool writes, resets and writes again over RFC 2217", esptool_as_on_a_board),
        trial("virtual: Espressif's QEMU is detected, written, read back and booted", on_a_real_qemu),
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

/// The device suite on every chip that the QEMUs in `MCP_ESPTOOL_TEST_QEMU` emulate.
fn on_a_real_qemu() -> Result<(), Stop> {
    let Some(folder) = std::env::var_os("MCP_ESPTOOL_TEST_QEMU") else {
        return Err(reference::Skip("no QEMU (set MCP_ESPTOOL_TEST_QEMU to its folder)".into()).into());
    };
    let dir = reference::scratch("qemu");
    let setting = format!("qemu_xtensa={}", std::path::Path::new(&folder).display());
    let places = esp_link::qemu::discover::Places::usual(vec![folder.into()]);
    let mut ran = 0;
    for chip in esp_model::chip::all() {
        let Some(emulation) = chip.emulation() else { continue };
        if esp_link::qemu::discover::choose(&places, &chip.name, &emulation.program, &emulation.machine).is_err() {
            continue;
        }
        ran += 1;
        let mut device = Device { state: dir.join(chip.id), id: String::new() };
        let chip_type = format!("chip_type={}", chip.id);
        let started = device.call(&["esp_qemu_start", &chip_type, "backend=qemu", "--set", &setting])?;
        device.id = started["id"].as_str().unwrap_or_default().into();
        let port = format!("port={}", started["port"].as_str().unwrap_or_default());
        let found = device.call(&["esp_detect_chip", &port])?;
        if !found["chip"].as_str().is_some_and(|name| name.starts_with(&chip.name)) {
            return fail(format!("{}: {found}", chip.id));
        }
        let file = dir.join("data.bin");
        let data: Vec<u8> = (0..64 * 1024u32).map(|n| (n * 7 / 3) as u8).collect();
        std::fs::write(&file, &data)?;
        let root = format!("project_roots={}", dir.display());
        let files = r#"files=[{"path": "data.bin", "address": 131072}]"#;
        device.call(&["esp_flash_firmware", &port, files, "--set", &root])?;
        device.call(&[
            "esp_flash_read",
            &port,
            "address=0x20000",
            "size=64K",
            "output_file=back.bin",
            "--set",
            &root,
        ])?;
        reference::same_bytes(chip.id, &std::fs::read(dir.join("back.bin"))?, &data)?;
        let id = format!("id={}", device.id);
        device.call(&["esp_qemu_start", &id, "boot_mode=normal"])?;
        device.console_has("boot:", 2)?;
    }
    if ran == 0 { fail("the folder has no QEMU that emulates a chip") } else { Ok(()) }
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
