//! Whole processes beside the reference tools: ELF to image, a merged file of 16 MB, analysis of an image.
//!
//! `cargo bench -p mcp-esptool --bench firmware` (needs the corpus, see `tests/support/reference.rs`). Prints the best of
//! several runs; fails when we are less than 20 times as fast as esptool, or slower than espflash.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

#[path = "../../../tests/support/reference.rs"]
mod reference;

use reference::{Skip, Stop};

const RUNS: usize = 7;
/// What "much faster than the Python tool" means here.
const FACTOR: f64 = 20.0;

fn main() -> ExitCode {
    match compare() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Stop::Skipped(Skip(reason))) => {
            println!("skipped: {reason}");
            ExitCode::SUCCESS
        }
        Err(Stop::Failed(text)) => {
            println!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn compare() -> Result<bool, Stop> {
    let folder = reference::scratch("bench");
    let elf = copy(&reference::corpus()?.join("build/blink-s3/blink.elf"), &folder, "app.elf")?;
    let image = copy(&reference::corpus()?.join("build/blink-s3/blink.bin"), &folder, "app.bin")?;
    let esptool = reference::tool("esptool")?;
    let espflash = reference::espflash()?;

    let out = |name: &str| folder.join(name).display().to_string();
    let ours = |args: &[String]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
        command.env("MCP_ESP_PROJECT_DIR", &folder).arg("call").args(args);
        command
    };
    let theirs = |args: &[&str]| {
        let mut command = Command::new(&esptool);
        command.args(args);
        command
    };
    let text = |path: &Path| path.display().to_string();
    let mut fast = true;

    let build = ours(&[
        "esp_elf_to_binary".into(),
        format!("elf_file={}", text(&elf)),
        "chip_type=esp32s3".into(),
        format!("output_file={}", out("ours.bin")),
    ]);
    let reference = theirs(&["--chip", "esp32s3", "elf2image", "-o", &out("theirs.bin"), &text(&elf)]);
    let mut flasher = Command::new(&espflash);
    flasher.args(["save-image", "--chip", "esp32s3", &text(&elf), &out("espflash.bin")]);
    fast &= row("ELF to image", build, reference, Some(flasher))?;

    let merge = ours(&[
        "esp_binary_merge".into(),
        format!("files=[{{\"path\":\"{}\",\"address\":\"0x10000\"}}]", text(&image)),
        "chip_type=esp32s3".into(),
        "pad_to_size=16MB".into(),
        format!("output_file={}", out("merged.bin")),
    ]);
    let args = ["--chip", "esp32s3", "merge-bin", "--pad-to-size", "16MB", "-o"];
    let mut reference = theirs(&args);
    reference.args([&out("merged2.bin"), "0x10000", &text(&image)]);
    fast &= row("merge, 16 MB", merge, reference, None)?;

    let analyse = ours(&["esp_firmware_analyze".into(), format!("binary_file={}", text(&image))]);
    fast &= row("analyse an image", analyse, theirs(&["image-info", &text(&image)]), None)?;
    Ok(fast)
}

fn copy(from: &Path, folder: &Path, name: &str) -> Result<PathBuf, Stop> {
    let to = folder.join(name);
    std::fs::copy(from, &to)?;
    Ok(to)
}

/// One line of the table; false when we are too slow.
fn row(name: &str, ours: Command, reference: Command, espflash: Option<Command>) -> Result<bool, Stop> {
    let ours = best(ours)?;
    let theirs = best(reference)?;
    let factor = theirs.as_secs_f64() / ours.as_secs_f64();
    let flash = espflash.map(best).transpose()?;
    let beside = flash.map_or_else(String::new, |time| format!(", espflash {:.1} ms", time.as_secs_f64() * 1e3));
    println!(
        "{name}: {:.1} ms, esptool {:.1} ms ({factor:.0} times){beside}",
        ours.as_secs_f64() * 1e3,
        theirs.as_secs_f64() * 1e3
    );
    Ok(factor >= FACTOR && flash.is_none_or(|flash| ours <= flash))
}

/// The shortest of several runs.
fn best(mut command: Command) -> Result<Duration, Stop> {
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        let start = Instant::now();
        reference::run(&mut command)?;
        best = best.min(start.elapsed());
    }
    Ok(best)
}
