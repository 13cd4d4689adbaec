//! The command lines of those who call esptool, on two simulated chips of the same kind: one answers the reference, one
//! our face. Exit code, flash and the lines that callers read must be the same.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use libtest_mimic::Trial;

use crate::reference::{Stop, fail, same_bytes, scratch, tool, trial};
use crate::{Ran, face, ran};

pub fn trials() -> Vec<Trial> {
    ["esp32", "esp32c3"]
        .map(|chip| trial(format!("faces: callers of esptool flash a simulated {chip}"), move || callers(chip)))
        .into_iter()
        .collect()
}

/// Bytes of the app: several blocks, and not more, as the reference takes RFC 2217 byte by byte.
const APP: u32 = 48_000;

/// A simulator that keeps its flash in a file.
pub struct Sim {
    process: Child,
    /// Where it listens.
    pub port: String,
    /// Its flash.
    pub flash: PathBuf,
}

impl Drop for Sim {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Sim {
    pub fn start(chip: &str, folder: &Path, name: &str) -> Result<Self, Stop> {
        Self::start_with(chip, folder, name, &[])
    }

    /// The same with further options.
    pub fn start_with(chip: &str, folder: &Path, name: &str, options: &[&str]) -> Result<Self, Stop> {
        let flash = folder.join(format!("{name}.flash"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
        command.args(["sim", chip, "--rfc2217", "127.0.0.1:0", "--flash"]).arg(&flash).args(options);
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let Some(stderr) = process.stderr.take() else { return fail("no stderr") };
        let mut lines = BufReader::new(stderr).lines();
        let line = lines.next().transpose()?.unwrap_or_default();
        std::thread::spawn(move || lines.for_each(drop));
        match line.split_whitespace().find_map(|word| word.strip_prefix("rfc2217://")) {
            Some(place) => Ok(Self { process, port: format!("rfc2217://{place}"), flash }),
            None => fail(format!("the simulator said {line:?}")),
        }
    }
}

/// The lines that callers look for, without times and amounts that depend on the line.
fn read_by_callers(text: &str) -> Vec<String> {
    const STARTS: [&str; 22] = [
        "esptool v",
        "Connected to",
        "Chip type",
        "Features",
        "Crystal",
        "MAC",
        "Stub flasher running",
        "Auto-detected flash size",
        "Flash parameters set",
        "Flash will be erased",
        "Hash of data verified",
        "Hard resetting",
        "Manufacturer",
        "Device",
        "Detected flash size",
        "Verification",
        "Staying in",
        "NOTE: Flash address",
        "NOTE: Verification failed",
        "Changed data",
        "No changed",
        "Reflashing",
    ];
    let wrote = |line: &str| {
        line.split_once(" bytes")
            .filter(|(start, _)| start.starts_with("Wrote ") || start.starts_with("Read "))
            .map(|(start, _)| start.to_string())
    };
    let plain = |line: &str| line.split(" on rfc2217").next().unwrap_or_default().to_string();
    text.lines()
        .filter_map(|line| {
            wrote(line).or_else(|| STARTS.iter().any(|start| line.starts_with(start)).then(|| plain(line)))
        })
        .collect()
}

/// A bootloader-like image for the place where settings are patched: magic, one segment, checksum, no SHA-256.
fn bootloader(chip: &str) -> Vec<u8> {
    let mut image = vec![0xe9, 1, 2, 0x00];
    image.extend(0x4008_0000u32.to_le_bytes());
    if let Some(id) = esp_model::chip::by_name(chip).and_then(|chip| chip.chip_id) {
        image.extend([0xee, 0, 0, 0, id as u8, (id >> 8) as u8, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0]);
    }
    let data: Vec<u8> = (0..4096u32).flat_map(|word| word.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    image.extend(0x4008_0000u32.to_le_bytes());
    image.extend((data.len() as u32).to_le_bytes());
    image.extend(&data);
    image.resize(image.len() | 0xf, 0);
    image.push(data.iter().fold(0xef, |sum, byte| sum ^ byte));
    image
}

fn callers(chip: &'static str) -> Result<(), Stop> {
    let folder = scratch(&format!("faces-callers-{chip}"));
    let boot = esp_model::chip::by_name(chip).map_or(0, |chip| chip.flash.bootloader_offset);
    fs::write(folder.join("boot.bin"), bootloader(chip))?;
    fs::write(folder.join("table.bin"), vec![0xaa; 3072])?;
    fs::write(folder.join("app.bin"), (0..APP).map(|at| (at >> 3) as u8 ^ at as u8).collect::<Vec<_>>())?;
    fs::write(
        folder.join("app2.bin"),
        (0..APP).map(|at| (at >> 3) as u8 ^ at as u8 ^ u8::from(at == APP / 4 * 3)).collect::<Vec<_>>(),
    )?;
    fs::write(
        folder.join("flash_args"),
        format!(
            "--flash-mode dio --flash-freq 40m --flash-size 2MB\n{boot:#x} boot.bin\n0x10000 app.bin\n0x8000 table.bin\n"
        ),
    )?;
    // The reference waits most of the time (pyserial asks the port after each change of a time limit): side by side.
    let (groups, folder) = (lines(chip, boot), folder.as_path());
    std::thread::scope(|scope| {
        let begin = |(name, group)| scope.spawn(move || alike(chip, folder, name, group));
        let begun: Vec<_> = groups.iter().map(|(name, group)| begin((name, group))).collect();
        begun.into_iter().try_for_each(|group| group.join().unwrap_or_else(|_| fail("a group of lines broke off")))
    })
}

/// The lines one after the other, on a pair of simulated chips of their own.
fn alike(chip: &str, folder: &Path, name: &str, lines: &[String]) -> Result<(), Stop> {
    let ours = Sim::start(chip, folder, &format!("ours-{name}"))?;
    let theirs = Sim::start(chip, folder, &format!("theirs-{name}"))?;
    for line in lines {
        let words = |port: &str| line.replace("PORT", port);
        let mut reference = Command::new(tool("esptool")?);
        let wanted = ran(reference.args(words(&theirs.port).split(' ')), folder)?;
        let got = ran(face("esptool").args(words(&ours.port).split(' ')), folder)?;
        compare(line, &got, &wanted)?;
        same_bytes(line, &fs::read(&ours.flash)?, &fs::read(&theirs.flash)?)?;
    }
    Ok(())
}

fn compare(line: &str, got: &Ran, wanted: &Ran) -> Result<(), Stop> {
    if got.code != wanted.code {
        return fail(format!(
            "{line}: code {}, not {}\n{}\n--- reference\n{}",
            got.code, wanted.code, got.text, wanted.text
        ));
    }
    // The reference names the changed sector's range when it writes the whole file after all.
    let misnamed = wanted.text.contains("NOTE: Verification failed after fast reflash");
    let read = |text: &str| -> Vec<String> {
        let lines = read_by_callers(text).into_iter();
        lines.filter(|line| !(misnamed && line.starts_with("Flash will be erased"))).collect()
    };
    let (ours, theirs) = (read(&got.text), read(&wanted.text));
    if ours == theirs {
        return Ok(());
    }
    fail(format!("{line}: callers read\n{}\n--- not\n{}", ours.join("\n"), theirs.join("\n")))
}

/// arduino-cli, PlatformIO (names of version 4), ESPHome, pioarduino, idf.py and parttool, as they call; each group begins
/// with a blank chip.
fn lines(chip: &str, boot: u32) -> [(&'static str, Vec<String>); 5] {
    let other = if chip == "esp32" { "esp32c3" } else { "esp32" };
    let boards = vec![
        format!(
            "--chip {chip} --port PORT --baud 460800 --before default-reset --after hard-reset write-flash -z --flash-mode keep --flash-freq keep --flash-size keep {boot:#x} boot.bin 0x8000 table.bin 0x10000 app.bin"
        ),
        format!(
            "--chip {chip} --port PORT --baud 460800 --before default_reset --after hard_reset write_flash -z --flash_mode dio --flash_freq 40m --flash_size detect {boot:#x} boot.bin 0x10000 app.bin"
        ),
        format!(
            "--before default-reset --after hard-reset --baud 460800 --port PORT --chip {chip} write-flash -z --flash-size detect 0x10000 app.bin"
        ),
        format!("--chip {other} -p PORT flash-id"),
    ];
    let build = vec![
        format!("--chip {chip} -p PORT -b 460800 --before=default-reset --after=hard-reset write-flash @flash_args"),
        format!(
            "--chip {chip} -p PORT -b 460800 --before=default-reset --after=hard-reset write-flash --diff-with app.bin --flash-size keep 0x10000 app2.bin"
        ),
        "-p PORT -b 460800 --before default-reset --after hard-reset read-flash 0x8000 0xc00 read.bin".into(),
        "-p PORT -b 460800 erase-region 0x8000 0x1000".into(),
        format!("-c {chip} -p PORT verify-flash 0x10000 app2.bin"),
    ];
    let checks = vec![
        format!("--chip {chip} -p PORT flash-id"),
        "-p PORT write-flash 0x10000 app2.bin".into(),
        format!("-c {chip} -p PORT verify-flash 0x10000 app.bin"),
        "-p PORT write-flash 0x3ff000 app.bin".into(),
        format!("--chip {chip} --port PORT --baud 460800 --before default-reset --after hard-reset erase-flash"),
    ];
    // idf.py with its files of the build before, right and wrong ones.
    let idf = format!("--chip {chip} -p PORT -b 460800 --before=default-reset --after=hard-reset");
    let again = vec![
        format!("{idf} write-flash 0x8000 table.bin 0x10000 app.bin"),
        format!("{idf} write-flash 0x8000 table.bin 0x10000 app2.bin --diff-with skip app.bin --trust-flash-content"),
        format!("{idf} write-flash 0x10000 app2.bin --diff-with app2.bin --trust-flash-content"),
        format!("{idf} write-flash --skip-flashed 0x8000 table.bin 0x10000 app2.bin"),
        format!("{idf} erase-region 0x10000 0x1000"),
        format!("{idf} write-flash 0x10000 app2.bin --diff-with app.bin"),
    ];
    // What stands beside a file in its sectors.
    let beside = vec![
        format!("{idf} write-flash 0x10000 app.bin"),
        format!("{idf} write-flash 0x10104 table.bin"),
        format!("{idf} --no-stub write-flash 0x11104 table.bin"),
    ];
    [("boards", boards), ("build", build), ("checks", checks), ("again", again), ("beside", beside)]
}
