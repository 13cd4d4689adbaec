//! Call chains and variables against GDB: the RISC-V dumps of the corpus, and programs of own making that are stopped
//! anywhere, in prologues and epilogues too, at every level of optimization.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use esp_debug::coredump::{Analysis, analyse};
use esp_debug::symbols::{Program, Variable};
use esp_model::coredump::{Check, CoreDump};
use libtest_mimic::Trial;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::coredump::{dumps, raw_core};
use crate::reference::{self, Stop, fail, trial};
use crate::testing::mutate;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("unwinding: registers, chains and variables of real dumps as GDB", real),
        trial("unwinding: a program stopped 1,200 times as GDB, and 10,200 damaged ones", stopped),
    ]
}

fn script() -> std::path::PathBuf {
    reference::root().join("crates/esp-model/tests/reference/stopped.py")
}

fn gdb(elf: &Path, out: &Path, more: &[(&str, String)]) -> Result<Vec<Value>, Stop> {
    let mut command = Command::new("gdb-multiarch");
    command.args(["-batch", "-nx", "-x"]).arg(script()).env("ELF", elf).env("OUT", out);
    command.envs(more.iter().map(|(name, value)| (name, value)));
    reference::run(&mut command)?;
    Ok(serde_json::from_slice(&fs::read(out)?)?)
}

fn has(tool: &str, package: &str) -> Result<(), Stop> {
    match Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Ok(_) => Ok(()),
        Err(_) => reference::missing(format!("{tool} is not installed (package {package})")),
    }
}

/// What was compared, and what differs.
#[derive(Default)]
struct Tally {
    frames: usize,
    values: usize,
    /// GDB finds a value at the call site that the function itself no longer has.
    by_caller: usize,
    /// Places where only the line differs: address, our line, what to say.
    lines: Vec<(u64, u64, String)>,
    differ: Vec<String>,
}

impl Tally {
    fn chain(&mut self, what: &str, task: usize, ours: &Analysis, theirs: &Value) {
        let empty = Vec::new();
        let known = |frame: &&Value| frame["name"].is_string();
        let theirs: Vec<&Value> = theirs["frames"].as_array().unwrap_or(&empty).iter().take_while(known).collect();
        let frames = &ours.tasks[task].backtrace;
        if frames.len() < theirs.len() {
            let names: Vec<_> =
                frames.iter().map(|frame| (&frame.pc, frame.location.as_ref().map(|at| &at.function))).collect();
            self.differ.push(format!("{what}: chain {names:?}, GDB {theirs:?}"));
            return;
        }
        for (depth, (frame, theirs)) in frames.iter().zip(theirs).enumerate() {
            self.frames += 1;
            let at = frame.location.as_ref();
            let ours = (
                u64::from_str_radix(frame.pc.trim_start_matches("0x"), 16).ok(),
                at.and_then(|at| at.function.as_deref()),
                at.and_then(|at| at.line).map(u64::from),
                at.is_some_and(|at| at.inlined),
            );
            let wanted =
                (theirs["pc"].as_u64(), theirs["name"].as_str(), theirs["line"].as_u64(), theirs["inline"] == true);
            let address = ours.0.unwrap_or(0) - u64::from(depth > 0 && frames[0].pc != frame.pc);
            if ours != wanted && (ours.0, ours.1, ours.3) == (wanted.0, wanted.1, wanted.3) {
                let said = format!("{what}: {ours:?}, GDB {wanted:?}");
                self.lines.push((address, ours.2.unwrap_or(0), said));
            } else if ours != wanted {
                self.differ.push(format!("{what}: {ours:?}, GDB {wanted:?}"));
            }
            // A block that was inlined may be there twice, once without its values.
            let mut groups: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
            for row in theirs["variables"].as_array().unwrap_or(&empty) {
                groups.entry(row[0].as_str().unwrap_or_default()).or_default().push(&row[2]);
            }
            for (name, values) in groups {
                self.variable(what, &frame.variables, name, &values);
            }
        }
    }

    fn variable(&mut self, what: &str, ours: &[Variable], name: &str, theirs: &[&Value]) {
        let named: Vec<&Variable> = ours.iter().filter(|variable| variable.name == name).collect();
        let same = |variable: &&Variable, theirs: &Value| match (&variable.value, theirs) {
            (None, Value::Null) => true,
            // GDB shows the byte behind a truth value that was never set.
            (Some(value), Value::Number(byte)) if value == "true" => byte.as_i64() != Some(0),
            (Some(value), Value::Number(_)) => number(value) == theirs.as_i64().map(|value| value as u32),
            (Some(value), Value::Object(kind)) if kind.contains_key("enum") => {
                Some(value.as_str()) == kind["enum"].as_str()
            }
            (_, Value::Object(kind)) => kind.contains_key("other"),
            _ => false,
        };
        if named.iter().any(|variable| theirs.iter().any(|value| same(variable, value))) {
            self.values += usize::from(named.iter().any(|variable| variable.value.is_some()));
        } else if !named.is_empty() && named.iter().all(|variable| variable.value.is_none()) {
            self.by_caller += 1;
        } else {
            self.differ.push(format!("{what}: {name} = {named:?}, GDB {theirs:?}"));
        }
    }

    /// GDB takes rows that begin a statement, addr2line the last row: one of them has to say what we say.
    fn ask_addr2line(&mut self, elf: &Path) -> Result<(), Stop> {
        for (address, line, said) in self.lines.drain(..) {
            let mut command = Command::new("riscv64-unknown-elf-addr2line");
            command.arg("-i").arg("-e").arg(elf).arg(format!("{address:#x}"));
            let answer = String::from_utf8_lossy(&reference::run(&mut command)?.stdout).into_owned();
            let same = |place: &str| place.split(" (").next().is_some_and(|place| place.ends_with(&format!(":{line}")));
            if !answer.lines().any(same) {
                self.differ.push(format!("{said}, addr2line {answer}"));
            }
        }
        Ok(())
    }

    fn end(self, values: usize) -> Result<(), Stop> {
        if !self.differ.is_empty() || !self.lines.is_empty() {
            let shown: Vec<_> = self.differ.iter().take(12).collect();
            return fail(format!(
                "{} of {} frames and {} values differ:\n{shown:#?}",
                self.differ.len(),
                self.frames,
                self.values
            ));
        }
        if self.values < values || self.by_caller * 10 > self.values {
            return fail(format!(
                "{} frames, {} values, {} only by the caller",
                self.frames, self.values, self.by_caller
            ));
        }
        Ok(())
    }
}

/// The low 32 bits of a value as we show it.
fn number(shown: &str) -> Option<u32> {
    let first = shown.split(' ').next()?;
    if first == "false" {
        return Some(0);
    }
    match first.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => first.parse::<i128>().ok().map(|value| value as u32),
    }
}

fn registers(what: &str, ours: &Analysis, task: usize, theirs: &Value) -> Result<(), Stop> {
    for (name, value) in &ours.tasks[task].registers {
        let Some(wanted) = theirs["registers"][*name].as_u64() else { continue };
        if u64::from_str_radix(value.trim_start_matches("0x"), 16) != Ok(wanted) {
            return fail(format!("{what}: {name} {value}, GDB {wanted:#x}"));
        }
    }
    Ok(())
}

fn real() -> Result<(), Stop> {
    has("gdb-multiarch", "gdb-multiarch")?;
    let dir = reference::scratch("unwinding-real");
    let mut tally = Tally::default();
    for (name, bytes, elf) in dumps()? {
        let dump = CoreDump::parse(&bytes, Check::Enforce)?;
        // GDB for many machines knows the general Xtensa, not the ESP32's configuration.
        if dump.arch != esp_model::chip::Arch::Riscv {
            continue;
        }
        let (core, file) = (dir.join(format!("{name}.core")), dir.join(format!("{name}.elf")));
        fs::write(&core, raw_core(&bytes))?;
        fs::write(&file, &elf)?;
        let theirs = gdb(&file, &dir.join("out.json"), &[("CORE", core.display().to_string())])?;
        let program = Program::parse(&elf)?;
        let ours = analyse(&dump, Some(&program), None)?;
        if theirs.len() != ours.tasks.len() {
            return fail(format!("{name}: {} tasks, GDB {} threads", ours.tasks.len(), theirs.len()));
        }
        for (index, theirs) in theirs.iter().enumerate() {
            registers(&name, &ours, index, theirs)?;
            // Without the ROM's ELF file GDB stops where the ROM was called.
            tally.chain(&name, index, &ours, theirs);
        }
    }
    tally.end(10)
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn note(name: &str, kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = words(&[name.len() as u32 + 1, data.len() as u32, kind]);
    bytes.extend(name.bytes().chain([0]));
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

const NAMES: &str = "pc ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6";

/// An ELF core of one task, as ESP-IDF's `core_dump_elf.c` lays it out, of what GDB saw.
fn core(stop: &Value, sha256: &str) -> Vec<u8> {
    let register = |name: &str| stop["registers"][name].as_u64().unwrap_or_default() as u32;
    let mut status = vec![0u8; 72];
    status[24..28].copy_from_slice(&register("sp").to_le_bytes());
    status.extend(words(&NAMES.split(' ').map(register).collect::<Vec<_>>()));
    status.extend([0; 4]);
    let mut info = words(&[0x0005_0102]);
    info.extend(sha256.bytes());
    info.resize(72, 0);
    let extra = words(&[register("sp"), 0]);
    let notes =
        [note("CORE", 1, &status), note("ESP_CORE_DUMP_INFO", 8266, &info), note("ESP_EXTRA_INFO", 677, &extra)]
            .concat();
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len() / 2).filter_map(|i| u8::from_str_radix(text.get(i * 2..i * 2 + 2)?, 16).ok()).collect()
    };
    let saved: Vec<(u32, Vec<u8>)> = stop["memory"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| (row[0].as_u64().unwrap_or_default() as u32, hex(row[1].as_str().unwrap_or_default())))
        .collect();
    let count = 1 + saved.len();
    let mut elf = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\xf3\0".to_vec();
    elf.extend(words(&[1, 0, 52, 0, 0]));
    elf.extend([52, 32, count as u16, 0, 0, 0].iter().flat_map(|half: &u16| half.to_le_bytes()));
    let mut at = 52 + 32 * count as u32;
    elf.extend(words(&[4, at, 0, 0, notes.len() as u32, notes.len() as u32, 0, 0]));
    at += notes.len() as u32;
    for (address, bytes) in &saved {
        let len = bytes.len() as u32;
        elf.extend(words(&[1, at, *address, *address, len, len, 6, 0]));
        at += len;
    }
    elf.extend(notes);
    saved.into_iter().for_each(|(_, bytes)| elf.extend(bytes));
    elf
}

fn stopped() -> Result<(), Stop> {
    has("gdb-multiarch", "gdb-multiarch")?;
    has("qemu-riscv32", "qemu-user")?;
    has("riscv64-unknown-elf-gcc", "gcc-riscv64-unknown-elf")?;
    let dir = reference::scratch("unwinding");
    let (mut tally, mut damaged) = (Tally::default(), 0);
    let seed: u64 = std::env::var("MCP_ESPTOOL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    for flags in
        ["-O0", "-O0 -fno-omit-frame-pointer -gdwarf-4", "-Og", "-O1 -gdwarf-4", "-O2", "-Os -fno-omit-frame-pointer"]
    {
        let name = flags.replace(' ', "_");
        let elf = dir.join(format!("{name}.elf"));
        let mut compiler = Command::new("riscv64-unknown-elf-gcc");
        compiler.args(["-march=rv32imc", "-mabi=ilp32", "-g", "-ffreestanding", "-nostdlib", "-static"]);
        compiler.args(flags.split(' ')).arg("-o").arg(&elf);
        compiler.arg(reference::root().join("crates/esp-model/tests/reference/stopped.c")).arg("-lgcc");
        reference::run(&mut compiler)?;
        let socket = dir.join(format!("{name}.sock"));
        let _ = fs::remove_file(&socket);
        let mut emulator = Command::new("qemu-riscv32");
        emulator.arg("-g").arg(&socket).arg(&elf).stderr(Stdio::null());
        let mut emulator = emulator.spawn()?;
        let until = Instant::now() + Duration::from_secs(10);
        while !socket.exists() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        let more = [("REMOTE", socket.display().to_string()), ("STOPS", "200".into()), ("SEED", seed.to_string())];
        let theirs = gdb(&elf, &dir.join("out.json"), &more);
        emulator.kill().ok();
        emulator.wait()?;
        let bytes = fs::read(&elf)?;
        let program = Program::parse(&bytes)?;
        let sha256: String = Sha256::digest(&bytes).iter().take(8).fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        let theirs = theirs?;
        for (index, stop) in theirs.iter().enumerate() {
            let dump = CoreDump::parse(&core(stop, &sha256), Check::Enforce)?;
            let ours = analyse(&dump, Some(&program), None)?;
            let what = format!("{flags} stop {index}");
            registers(&what, &ours, 0, stop)?;
            tally.chain(&what, 0, &ours, stop);
        }
        tally.ask_addr2line(&elf)?;
        // The same with a damaged ELF file: no names, or wrong ones, but no harm.
        let deepest = theirs.iter().max_by_key(|stop| stop["frames"].as_array().map_or(0, Vec::len));
        let Some(deepest) = deepest else { return fail("no stops") };
        let dump = CoreDump::parse(&core(deepest, ""), Check::Enforce)?;
        mutate(&[bytes], 1_700, |bytes| {
            if let Ok(Ok(analysis)) = Program::parse(bytes).map(|program| analyse(&dump, Some(&program), None)) {
                damaged += usize::from(analysis.tasks[0].backtrace.iter().any(|frame| !frame.variables.is_empty()));
            }
        });
    }
    if damaged < 1000 {
        return fail(format!("only {damaged} of the damaged programs gave variables"));
    }
    tally.end(3000)
}
