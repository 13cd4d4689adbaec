//! A program of ESP-IDF panics on a virtual chip, with a core dump over its UART: esp-coredump with a GDB and we read the same from it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use esp_machine::{Config, Machine, What};
use libtest_mimic::Trial;
use serde_json::Value;

use crate::reference::{self, Stop, fail, scratch, trial};

const SECOND: u64 = 1_000_000_000_000;
/// The ROM of the chip's usual revision.
const ROM: &str = "resources/roms/esp32c3_rev300_rom.elf";

pub fn trials() -> Vec<Trial> {
    vec![trial("core_dump::esp-coredump_reads_the_same_from_a_running_panic", same)]
}

/// Frames of a task: address (none for the first one of esp-coredump's) and function.
type Frames = Vec<(Option<u32>, String)>;
/// What was read: why the program crashed, and by each task's handle its name and frames.
#[derive(Debug, PartialEq)]
struct Read {
    reason: String,
    tasks: BTreeMap<u32, (String, Frames)>,
}

fn same() -> Result<(), Stop> {
    if Command::new("gdb-multiarch").arg("--version").output().is_err() {
        return reference::missing("no gdb-multiarch".into());
    }
    let (corpus, dir) = (reference::corpus()?, scratch("core-dump"));
    let elf = dir.join("app.elf");
    fs::copy(corpus.join("coredump/esp32c3.elf"), &elf)?;
    ours(
        &dir,
        &["esp_elf_to_binary", "elf_file=app.elf", "chip_type=esp32c3", "output_file=app.bin", "flash_size=4MB"],
    )?;
    let console = crash(&corpus, &fs::read(dir.join("app.bin"))?)?;
    fs::write(dir.join("console.log"), &console)?;
    let Some(rom) = rom() else { return reference::missing("the espflash package is not there".into()) };
    fs::copy(&rom, dir.join("rom.elf"))?;
    let arguments = ["esp_core_dump_analyze", "dump_file=console.log", "elf_file=app.elf", "rom_elf_file=rom.elf"];
    let found = our_reading(&ours(&dir, &arguments)?);
    let wanted = their_reading(&theirs(&dir, &console)?);
    if wanted.tasks.len() < 3 || wanted.tasks.values().all(|(_, frames)| frames.len() < 5) {
        return fail(format!("esp-coredump has read too little: {wanted:#?}"));
    }
    if found != wanted {
        return fail(format!("ours: {found:#?}\nesp-coredump: {wanted:#?}"));
    }
    Ok(())
}

/// The console of the program up to its first restart.
fn crash(corpus: &Path, app: &[u8]) -> Result<String, Stop> {
    let mut config = Config::new("esp32c3", 4 << 20).ok_or_else(|| Stop::Failed("no machine".into()))?;
    config.flash.load(0, &fs::read(corpus.join("build/hello-c3/bootloader_bootloader.bin"))?);
    config.flash.load(0x8000, &fs::read(corpus.join("build/blink-esp32/partition_table_partition-table.bin"))?);
    config.flash.load(0x1_0000, app);
    let mut machine = Machine::new(config)?;
    machine.most_resets = 1;
    machine.run(5 * SECOND);
    let bytes = machine.take_events().into_iter().filter_map(|event| match event.what {
        What::Uart { port: 0, byte } => Some(byte),
        _ => None,
    });
    Ok(String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned())
}

fn rom() -> Option<PathBuf> {
    let cargo = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))?;
    let registries = fs::read_dir(cargo.join("registry/src")).ok()?;
    registries
        .filter_map(Result::ok)
        .map(|folder| folder.path().join("espflash-4.7.0").join(ROM))
        .find(|file| file.is_file())
}

fn ours(dir: &Path, arguments: &[&str]) -> Result<Value, Stop> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-esptool"));
    command.current_dir(dir).arg("call").args(arguments).args(["--json", "--root"]).arg(dir);
    Ok(serde_json::from_slice(&reference::run(&mut command)?.stdout)?)
}

fn number(value: &Value) -> Option<u32> {
    u32::from_str_radix(value.as_str()?.strip_prefix("0x")?, 16).ok()
}

fn our_reading(read: &Value) -> Read {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let frames = |task: &Value| -> Frames {
        let frames = task["backtrace"].as_array().into_iter().flatten();
        let mut frames: Frames = frames
            .filter(|frame| frame["inlined"] != true)
            .map(|frame| {
                (number(&frame["pc"]), text(&frame["function"]).split(' ').next().unwrap_or_default().to_owned())
            })
            .collect();
        if let Some(first) = frames.first_mut() {
            first.0 = None;
        }
        frames
    };
    let tasks = read["tasks"].as_array().into_iter().flatten();
    let tasks = tasks.filter_map(|task| Some((number(&task["handle"])?, (text(&task["name"]), frames(task)))));
    Read { reason: text(&read["reason"]), tasks: tasks.collect() }
}

/// esp-coredump by Debian's GDB, which calls threads otherwise than Espressif's does.
fn theirs(dir: &Path, console: &str) -> Result<String, Stop> {
    let lines = console.lines().skip_while(|line| !line.contains("CORE DUMP START")).skip(1);
    let dump: Vec<&str> = lines.take_while(|line| !line.contains("CORE DUMP END")).collect();
    let (file, gdb) = (dir.join("dump.b64"), dir.join("gdb.sh"));
    fs::write(&file, dump.join("\n"))?;
    fs::write(&gdb, "#!/bin/sh\ngdb-multiarch \"$@\" | sed -u 's/LWP /process /g'\n")?;
    reference::run(Command::new("chmod").arg("+x").arg(&gdb))?;
    let mut command = Command::new(reference::tool("esp-coredump")?);
    command.args(["--chip", "esp32c3", "info_corefile", "-t", "b64", "-c"]).arg(&file).arg("--gdb").arg(&gdb);
    command.arg("--rom-elf").arg(dir.join("rom.elf")).arg(dir.join("app.elf"));
    Ok(reference::text(&reference::run(&mut command)?))
}

fn their_reading(text: &str) -> Read {
    let mut read = Read { reason: String::new(), tasks: BTreeMap::new() };
    let mut current = None;
    for line in text.lines() {
        if let Some(reason) = line.strip_prefix("Panic reason: ") {
            read.reason = reason.to_owned();
        } else if let Some((_, rest)) = line.split_once("(TCB: 0x") {
            let handle = rest.get(..8).and_then(|hex| u32::from_str_radix(hex, 16).ok());
            let name = rest.split('\'').nth(1).unwrap_or_default();
            current = handle;
            read.tasks.extend(handle.map(|handle| (handle, (name.to_owned(), Frames::new()))));
        } else if line.starts_with("======") {
            current = None;
        } else if let Some(frame) = line.strip_prefix('#')
            && let Some((_, frames)) = current.and_then(|handle| read.tasks.get_mut(&handle))
        {
            frames.extend(their_frame(frame).filter(|(address, _)| *address != Some(0)));
        }
    }
    read
}

/// `4  0x400485e4 in ets_vprintf ()` or `0  panic_abort (details=…`.
fn their_frame(text: &str) -> Option<(Option<u32>, String)> {
    let (_, rest) = text.split_once(' ')?;
    let rest = rest.trim_start();
    let Some(place) = rest.strip_prefix("0x") else { return Some((None, rest.split(' ').next()?.to_owned())) };
    let (address, rest) = place.split_once(" in ")?;
    Some((Some(u32::from_str_radix(address, 16).ok()?), rest.split(' ').next()?.to_owned()))
}
