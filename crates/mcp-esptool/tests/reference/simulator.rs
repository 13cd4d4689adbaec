//! Espressif's own tools take the simulator for a chip.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::reference::{self, Stop, fail, same_bytes, scratch, trial};

/// The chips that every run covers. All others follow with `MCP_ESPTOOL_LONG`.
const CHIPS: [&str; 6] = ["esp8266", "esp32", "esp32s2", "esp32s3", "esp32c3", "esp32c6"];
/// The chips that every run tries with esptool's older stub.
const OLDER_STUB: [&str; 2] = ["esp32", "esp32c3"];
/// Chips that esptool 4.8 does not know, or only in part.
const NOT_IN_ESPTOOL_4: [&str; 4] = ["esp32e22", "esp32h21", "esp32h4", "esp32s31"];

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for chip in chips() {
        trials.push(trial(format!("simulator::tcp_{chip}"), move || esptool5(chip, Line::Tcp)));
        trials.push(trial(format!("simulator::pty_{chip}"), move || esptool5(chip, Line::Pty)));
        trials.push(trial(format!("simulator::rom_{chip}"), move || rom_only(chip)));
        if long() || OLDER_STUB.contains(&chip) {
            trials.push(trial(format!("simulator::stub1_{chip}"), move || older_stub(chip)));
        }
        if !NOT_IN_ESPTOOL_4.contains(&chip) {
            trials.push(trial(format!("simulator::esptool4_{chip}"), move || esptool4(chip)));
        }
    }
    trials.push(trial("simulator::rfc2217", || on_all_chips("rfc2217", over_rfc2217)));
    trials.push(trial("simulator::espflash", || on_all_chips("espflash", espflash)));
    trials
}

fn long() -> bool {
    std::env::var_os("MCP_ESPTOOL_LONG").is_some()
}

pub fn chips() -> Vec<&'static str> {
    match long() {
        true => esp_model::chip::all().iter().map(|chip| chip.id).collect(),
        false => CHIPS.to_vec(),
    }
}

/// Bytes of test data.
const SIZE: usize = 1 << 20;

/// How the simulator is reached.
#[derive(Clone, Copy, PartialEq)]
pub enum Line {
    Tcp,
    Rfc2217,
    Pty,
}

/// A running simulator.
pub struct Sim {
    child: Child,
    pub url: String,
}

impl Sim {
    pub fn start(chip: &str, line: Line, link: &Path) -> Result<Self, Stop> {
        Self::with(chip, line, link, &[])
    }

    /// One with more options.
    pub fn with(chip: &str, line: Line, link: &Path, options: &[&str]) -> Result<Self, Stop> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
        command.args(["sim", chip]).args(options).stderr(Stdio::piped()).stdin(Stdio::null());
        match line {
            Line::Tcp => command.args(["--tcp", "127.0.0.1:0"]),
            Line::Rfc2217 => command.args(["--rfc2217", "127.0.0.1:0"]),
            Line::Pty => command.arg("--pty").arg(link),
        };
        let mut child = command.spawn()?;
        let mut ready = String::new();
        if let Some(said) = child.stderr.take() {
            BufReader::new(said).read_line(&mut ready)?;
        }
        let Some((_, place)) = ready.trim().split_once(" ready on ") else {
            return fail(format!("the simulator says {ready:?}"));
        };
        let url = place.split(' ').next().unwrap_or_default().to_owned();
        Ok(Self { child, url })
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// esptool in a process that takes one command after the other.
pub struct Esptool {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    port: String,
    /// esptool 4 spells its commands with underscores.
    old: bool,
}

impl Esptool {
    pub fn start(python: PathBuf, port: &str, old: bool) -> Result<Self, Stop> {
        let driver = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/esptool_driver.py");
        let mut command = Command::new(python);
        command.arg(driver).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return fail("no pipes to esptool");
        };
        Ok(Self { child, orders, answers: BufReader::new(answers), port: port.into(), old })
    }

    /// Runs one command; what it said. Words are parted by blanks.
    pub fn run(&mut self, command: &str) -> Result<String, Stop> {
        let words =
            command.split(' ').map(|word| match self.old && !word.starts_with('/') && !word.starts_with("--") {
                true => word.replace('-', "_"),
                false => word.to_owned(),
            });
        let args: Vec<String> = ["--port".into(), self.port.clone()].into_iter().chain(words).collect();
        writeln!(self.orders, "{}", json!(args))?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let answer: Value = serde_json::from_str(&line)?;
        let said = answer["said"].as_str().unwrap_or_default().to_owned();
        if answer["ok"] == json!(true) { Ok(said) } else { fail(format!("esptool {command}: {said}")) }
    }

    /// Runs one command that must say something.
    pub fn expect(&mut self, command: &str, text: &str) -> Result<(), Stop> {
        let said = self.run(command)?;
        if said.contains(text) { Ok(()) } else { fail(format!("esptool {command}: no {text:?} in {said}")) }
    }
}

impl Drop for Esptool {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Half noise, half of one kind, so that compression has something to do.
pub fn test_data(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9u32;
    let noise = std::iter::repeat_with(move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    noise.take(length / 2).chain(std::iter::repeat_n(0x5a, length - length / 2)).collect()
}

/// A simulator, an esptool on it, a file to write and one to read into.
struct Bench {
    _sim: Sim,
    esptool: Esptool,
    data: Vec<u8>,
    input: String,
    output: PathBuf,
}

impl Bench {
    fn new(name: &str, chip: &str, line: Line, old: bool) -> Result<Self, Stop> {
        let python = if old { reference::tool4("python")? } else { reference::tool("python")? };
        let dir = scratch(&format!("{name}-{chip}"));
        let data = test_data(if line == Line::Rfc2217 { 20_000 } else { SIZE });
        fs::write(dir.join("in.bin"), &data)?;
        let sim = Sim::start(chip, line, &dir.join("tty"))?;
        let esptool = Esptool::start(python, &sim.url, old)?;
        let input = dir.join("in.bin").display().to_string();
        Ok(Self { _sim: sim, esptool, data, input, output: dir.join("out.bin") })
    }

    /// Reads `length` bytes of flash with esptool.
    fn read(&mut self, options: &str, address: u32, length: usize) -> Result<Vec<u8>, Stop> {
        self.esptool.run(&format!("{options}read-flash {address:#x} {length} {}", self.output.display()))?;
        Ok(fs::read(&self.output)?)
    }
}

fn esptool5(chip: &str, line: Line) -> Result<(), Stop> {
    let name = if line == Line::Tcp { "tcp" } else { "pty" };
    let mut bench = Bench::new(name, chip, line, false)?;
    let file = bench.input.clone();
    let esptool = &mut bench.esptool;
    esptool.expect("flash-id", "Detected flash size: 4MB")?;
    esptool.expect("read-mac", "02:e5:")?;
    esptool.run("chip-id")?;
    esptool.expect(&format!("write-flash 0x10000 {file}"), "Hash of data verified")?;
    esptool.expect(&format!("verify-flash 0x10000 {file}"), "Verification successful")?;
    // pyserial's socket reads byte by byte: keep it short there.
    let part = if line == Line::Tcp && !long() { 10_000 } else { bench.data.len() };
    same_bytes("read-flash", &bench.read("", 0x10000, part)?, &bench.data[..part])?;
    let esptool = &mut bench.esptool;
    esptool.expect(&format!("write-flash --no-compress 0x20000 {file}"), "Hash of data verified")?;
    esptool.run("erase-region 0x10000 0x10000")?;
    same_bytes("erase-region", &bench.read("", 0x10000, 4096)?, &[0xff; 4096])?;
    same_bytes("no-compress", &bench.read("", 0x20000, 4096)?, &bench.data[..4096])?;
    // Without a stub esptool cannot: no published one fits this chip yet.
    if esp_model::chip::by_name(chip).is_some_and(|chip| !chip.stub.is_empty()) {
        bench.esptool.run("erase-flash")?;
        same_bytes("erase-flash", &bench.read("", 0x20000, 4096)?, &[0xff; 4096])?;
    }
    bench.esptool.run("run").map(drop)
}

/// The stub of esptool 4, which esptool 5 still brings along.
fn older_stub(chip: &str) -> Result<(), Stop> {
    let mut bench = Bench::new("stub1", chip, Line::Pty, false)?;
    let (file, options) = (bench.input.clone(), "--stub-version 1 ");
    bench.esptool.expect(&format!("{options}flash-id"), "Detected flash size: 4MB")?;
    bench.esptool.expect(&format!("{options}write-flash 0x10000 {file}"), "Hash of data verified")?;
    bench.esptool.expect(&format!("{options}verify-flash 0x10000 {file}"), "Verification successful")?;
    let length = bench.data.len();
    same_bytes("read-flash", &bench.read(options, 0x10000, length)?, &bench.data)?;
    bench.esptool.expect(&format!("{options}write-flash --no-compress 0x20000 {file}"), "Hash of data verified")?;
    bench.esptool.run(&format!("{options}erase-region 0x10000 0x10000"))?;
    same_bytes("erase-region", &bench.read(options, 0x10000, 4096)?, &[0xff; 4096])?;
    same_bytes("no-compress", &bench.read(options, 0x20000, 4096)?, &bench.data[..4096])
}

/// What the ROM loader can do without a stub.
fn rom_only(id: &str) -> Result<(), Stop> {
    // A simulator of its own: on a line that cannot reset the chip a stub stays.
    let mut bench = Bench::new("rom", id, Line::Pty, false)?;
    let Some(chip) = esp_model::chip::by_name(id) else { return fail("unknown chip") };
    let file = bench.input.clone();
    let esptool = &mut bench.esptool;
    esptool.expect("--no-stub flash-id", "Detected flash size: 4MB")?;
    // The ESP8266's ROM has no MD5: esptool does not verify there.
    let written = if chip.rom.extended { "Hash of data verified" } else { "Wrote" };
    esptool.expect(&format!("--no-stub write-flash 0x30000 {file}"), written)?;
    if chip.rom.extended {
        same_bytes("ROM read", &bench.read("--no-stub ", 0x30000, 1000)?, &bench.data[..1000])?;
        bench.esptool.run("--no-stub erase-region 0x30000 0x1000")?;
    }
    bench.esptool.expect(&format!("--no-stub write-flash --no-compress 0x50000 {file}"), written)?;
    let length = bench.data.len();
    same_bytes("ROM write", &bench.read("", 0x50000, length.min(20_000))?, &bench.data[..length.min(20_000)])
}

fn esptool4(chip: &str) -> Result<(), Stop> {
    let mut bench = Bench::new("esptool4", chip, Line::Pty, true)?;
    let file = bench.input.clone();
    bench.esptool.expect("flash-id", "Detected flash size: 4MB")?;
    bench.esptool.expect("read-mac", "02:e5:")?;
    bench.esptool.expect(&format!("write-flash 0x10000 {file}"), "Hash of data verified")?;
    bench.esptool.expect(&format!("verify-flash 0x10000 {file}"), "verify OK")?;
    let length = bench.data.len();
    same_bytes("read-flash", &bench.read("", 0x10000, length)?, &bench.data)?;
    bench.esptool.run("erase-region 0x10000 0x10000")?;
    bench.esptool.run("erase-flash")?;
    bench.esptool.run("run").map(drop)
}

/// Runs a body for all chips at once: these tools mostly sleep.
fn on_all_chips(what: &str, body: fn(&str) -> Result<(), Stop>) -> Result<(), Stop> {
    let running: Vec<_> = chips().into_iter().map(|chip| (chip, thread::spawn(move || body(chip)))).collect();
    let mut failures = Vec::new();
    for (chip, thread) in running {
        match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(Stop::Skipped(skip))) => return Err(skip.into()),
            Ok(Err(Stop::Failed(text))) => failures.push(format!("{chip}: {text}")),
            Err(_) => failures.push(format!("{chip}: panicked")),
        }
    }
    if failures.is_empty() { Ok(()) } else { fail(format!("{what}: {}", failures.join("\n"))) }
}

/// The normal resets by DTR and RTS, into download mode and out of it, several connections in a row.
fn over_rfc2217(chip: &str) -> Result<(), Stop> {
    let mut bench = Bench::new("rfc2217", chip, Line::Rfc2217, false)?;
    let file = bench.input.clone();
    let options = "--before default-reset --after hard-reset ";
    bench.esptool.expect(&format!("{options}write-flash 0x10000 {file}"), "Hash of data verified")?;
    same_bytes("read-flash", &bench.read(options, 0x10000, 5000)?, &bench.data[..5000])?;
    if long() {
        for command in ["flash-id", "read-mac", "chip-id", "erase-region 0x10000 0x1000", "erase-flash", "run"] {
            bench.esptool.run(&format!("{options}{command}"))?;
        }
    }
    Ok(())
}

fn espflash(chip: &str) -> Result<(), Stop> {
    // espflash does not know these.
    if ["esp8266", "esp32e22", "esp32h21", "esp32h4", "esp32s31"].contains(&chip) {
        return Ok(());
    }
    espflash_on(chip, SIZE, &[])
}

/// espflash's commands on a simulator with these options, with so many bytes.
pub fn espflash_on(chip: &str, size: usize, options: &[&str]) -> Result<(), Stop> {
    let listed = reference::listed_terminal()?;
    let program = reference::espflash()?;
    let dir = scratch(&format!("espflash-{chip}{}", options.concat()));
    let data = test_data(size);
    let (input, output) = (dir.join("in.bin"), dir.join("out.bin"));
    fs::write(&input, &data)?;
    let sim = Sim::with(chip, Line::Pty, &dir.join("tty"), options)?;
    // espflash only opens ports that the system lists, and no pseudo terminal is: in a mount namespace of its own the
    // terminal stands in the place of one that is.
    let terminal = fs::canonicalize(&sim.url)?;
    let run = |args: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", r#"mount --bind "$0" "$1" && shift && exec "$@""#]);
        command.arg(&terminal).arg(&listed).arg(&program).args(&args[..1]).args(["--port", &listed]);
        command
            .args(["--non-interactive", "--chip", chip, "--before", "no-reset", "--after", "no-reset"])
            .args(&args[1..]);
        reference::run(command.env("ESPFLASH_SKIP_UPDATE_CHECK", "true"))
    };
    // On the S2 board-info ends in an error: it asks the stub for the security info, which that stub does not know.
    let known = esp_model::chip::by_name(chip).is_none_or(|chip| chip.rom.security_info_len != 12);
    let info = if known { reference::text(&run(&["board-info"])?) } else { String::new() };
    if known && !(info.contains("Flash size:") && info.contains("4MB")) {
        return fail(format!("board-info: {info}"));
    }
    let (input, output) = (input.display().to_string(), output.display().to_string());
    run(&["write-bin", "0x10000", &input])?;
    run(&["read-flash", "0x10000", &data.len().to_string(), &output])?;
    same_bytes("read-flash", &fs::read(&output)?, &data)?;
    run(&["checksum-md5", "0x10000", &data.len().to_string()])?;
    run(&["erase-region", "0x10000", "0x1000"])?;
    run(&["read-flash", "0x10000", "4096", &output])?;
    same_bytes("erase-region", &fs::read(&output)?, &[0xff; 4096])
}
