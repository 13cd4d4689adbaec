//! Core dumps against esp-coredump: the facts and texts it printed for real dumps, and its own loader on every version.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::testing::mutate;
use esp_debug::coredump::{Analysis, ElfMatch, analyse};
use esp_debug::symbols::Program;
use esp_model::chip;
use esp_model::coredump::{Check, CoreDump};
use libtest_mimic::Trial;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::reference::{self, Stop, fail, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("coredump: facts of real dumps", facts),
        trial("coredump: every thread's backtrace and stack use", threads),
        trial("coredump: all versions, whole and damaged, as esp-coredump's loader", versions),
        trial("coredump: an ELF file of another app is refused", foreign),
        trial("coredump: damaged dumps", damaged),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Name, dump, ELF file.
pub type Sample = (String, Vec<u8>, Vec<u8>);

/// The dumps of the corpus.
pub fn dumps() -> Result<Vec<Sample>, Stop> {
    let dir = reference::corpus()?.join("coredump");
    let mut found = Vec::new();
    for entry in fs::read_dir(&dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ext| ext == "b64") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            found.push((name, fs::read(&path)?, fs::read(path.with_extension("elf"))?));
        }
    }
    found.sort();
    if found.is_empty() { fail("no dumps in the corpus") } else { Ok(found) }
}

/// The ELF core in a base64 dump of version 1.2 (header of 24 bytes, CRC).
pub fn raw_core(base64: &[u8]) -> Vec<u8> {
    let raw: Vec<u8> = String::from_utf8_lossy(base64).lines().flat_map(|line| decode_line(line.trim())).collect();
    raw.get(24..raw.len().saturating_sub(4)).unwrap_or_default().to_vec()
}

fn explain(dump: &CoreDump, elf: &[u8]) -> Result<Analysis, Stop> {
    let program = Program::parse(elf)?;
    let analysis = analyse(dump, Some(&program), None)?;
    if analysis.elf == ElfMatch::Verified { Ok(analysis) } else { fail(format!("{:?}", analysis.elf)) }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, ours: T, theirs: T) -> Result<(), Stop> {
    if ours == theirs { Ok(()) } else { fail(format!("{what}: ours {ours:?}, theirs {theirs:?}")) }
}

fn number(text: &str) -> u32 {
    u32::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or(u32::MAX)
}

fn facts() -> Result<(), Stop> {
    let corpus = reference::corpus()?;
    for (name, bytes, elf) in dumps()? {
        let facts: Value = serde_json::from_slice(&fs::read(corpus.join(format!("facts/coredump__{name}.b64.json")))?)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let dump = CoreDump::parse(&bytes, Check::Enforce)?;
        let version = dump.version.map(|v| u64::from(v.chip_id) << 16 | u64::from(v.layout()));
        same("version", version, facts["version"].as_u64())?;
        let analysis = explain(&dump, &elf)?;
        same("reason", analysis.reason.clone().unwrap_or_default(), text(&facts["panic"][0]))?;

        let crashed = analysis.tasks.iter().find(|task| task.crashed).ok_or(Stop::Failed("no crashed task".into()))?;
        same("crashed", number(&crashed.tcb), number(&text(&facts["crashed"][0])))?;
        same("its name", crashed.info.name.clone().unwrap_or_default(), text(&facts["crashed"][1]))?;
        let tasks: Vec<(u32, String)> =
            analysis.tasks.iter().map(|t| (number(&t.tcb), t.info.name.clone().unwrap_or_default())).collect();
        let theirs = facts["tasks"].as_array().into_iter().flatten();
        same("tasks", tasks, theirs.map(|row| (number(&text(&row[1])), text(&row[2]))).collect())?;

        let mut ours: BTreeMap<&str, u32> = crashed.registers.iter().map(|(n, v)| (*n, number(v))).collect();
        ours.extend(analysis.exception.iter().map(|(n, v)| (*n, number(v.split(' ').next().unwrap_or_default()))));
        for (register, value) in facts["registers"].as_object().into_iter().flatten() {
            // GDB calls s0 by its other name.
            let ours = ours.get(if register == "fp" { "s0" } else { register }).copied();
            same(&format!("{name} {register}"), ours, Some(number(&text(value))))?;
        }
    }
    Ok(())
}

/// One frame as GDB prints it: `#1  0x4008510c in name (args) at file:line`.
#[derive(Debug, PartialEq)]
struct Frame {
    pc: Option<u32>,
    function: String,
    source: Option<String>,
    /// Parameters with their values; None: GDB has none either.
    arguments: Vec<(String, Option<String>)>,
}

/// `a=1, b=b@entry=0x3ffb0000 "text", c=<optimized out>` in parts.
fn arguments(text: &str) -> Vec<(String, Option<String>)> {
    let is_name =
        |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let mut found: Vec<(String, String)> = Vec::new();
    for part in text.split(", ").filter(|part| !part.is_empty()) {
        match (part.split_once('='), found.last_mut()) {
            // `name@entry=…` repeats what stands before it.
            (Some((name, value)), _) if is_name(name) => found.push((name.into(), value.into())),
            (_, Some((_, value))) if !part.contains("@entry=") => *value += &format!(", {part}"),
            _ => {}
        }
    }
    let value = |text: String| {
        let text = text.rsplit_once("@entry=").map_or(text.as_str(), |(_, value)| value);
        (!text.starts_with("<optimized out>") && !text.starts_with("<error")).then(|| plain(text))
    };
    found.into_iter().map(|(name, text)| (name, value(text))).collect()
}

/// A value without what it points to and without its form as a character.
fn plain(value: &str) -> String {
    let first = value.split(' ').next().unwrap_or_default();
    match first.parse::<i64>() {
        // What is signed in one place is not in the other: the bits count.
        Ok(number) => format!("{:#x}", number as u32),
        Err(_) => first.to_owned(),
    }
}

fn gdb_frame(line: &str) -> Option<Frame> {
    let rest = line.strip_prefix('#')?.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
    let (pc, rest) = match rest.strip_prefix("0x").and_then(|rest| rest.split_once(" in ")) {
        Some((pc, rest)) => (Some(number(pc)), rest),
        None => (None, rest),
    };
    let (function, tail) = rest.split_once(" (")?;
    let source = tail.rsplit_once(" at ").map(|(_, source)| source.to_owned());
    let inside = source.as_ref().map_or(tail, |source| tail.trim_end_matches(source.as_str()).trim_end_matches(" at "));
    let arguments = arguments(inside.strip_suffix(')').unwrap_or(inside));
    Some(Frame { pc, function: function.to_owned(), source, arguments })
}

fn threads() -> Result<(), Stop> {
    let corpus = reference::corpus()?;
    let mut arguments = 0;
    for (name, bytes, elf) in dumps()? {
        let text = fs::read_to_string(corpus.join(format!("coredump/{name}.expected.txt")))?;
        let dump = CoreDump::parse(&bytes, Check::Enforce)?;
        let analysis = explain(&dump, &elf)?;
        for task in &analysis.tasks {
            let (tcb, info) = (task.tcb.replace("0x0", "0x"), &task.info);
            let usage = format!(
                "{tcb:>10}{:>17}{:>9}{:>17}",
                info.name.as_deref().unwrap_or_default(),
                format!("{}/{}", info.priority.unwrap_or(99), info.base_priority.unwrap_or(99)),
                format!("{}/{}", info.stack_used_bytes.unwrap_or(0), info.stack_free_bytes.unwrap_or(0)),
            );
            if !text.lines().any(|line| line == usage) {
                return fail(format!("{name}: no line {usage:?}"));
            }
            let section = text.split(&format!("(TCB: {tcb},")).nth(1).unwrap_or_default();
            let theirs: Vec<Frame> = section
                .lines()
                .skip(1)
                .take_while(|line| line.starts_with('#'))
                .filter_map(gdb_frame)
                .filter(|frame| frame.function != "??")
                .collect();
            same(&format!("{name} {tcb} depth"), task.backtrace.len(), theirs.len())?;
            for (ours, theirs) in task.backtrace.iter().zip(&theirs) {
                let at = ours.location.as_ref();
                if let Some(pc) = theirs.pc {
                    same(&format!("{name} {tcb} pc"), number(&ours.pc), pc)?;
                }
                let source = at.and_then(|at| Some(format!("{}:{}", at.file.as_ref()?, at.line?)));
                same(&format!("{name} {tcb} source"), source, theirs.source.clone())?;
                for (name, value) in &theirs.arguments {
                    let ours = ours.variables.iter().find(|variable| variable.parameter && variable.name == *name);
                    let ours = ours.ok_or_else(|| Stop::Failed(format!("no parameter {name}")))?;
                    let shown = ours.value.as_deref().map(plain);
                    same(&format!("{name} in {}", theirs.function), shown, value.clone())?;
                    arguments += 1;
                }
                // The reference had the ROM's ELF file; the app's alone names no function there.
                let rom = theirs.source.is_none();
                let function = at.and_then(|at| at.function.clone());
                if !rom || function.is_some() {
                    same(&format!("{name} {tcb} function"), function.as_ref(), Some(&theirs.function))?;
                }
            }
        }
    }
    if arguments > 40 { Ok(()) } else { fail(format!("only {arguments} arguments were compared")) }
}

/// Puts an ELF core into each container version; binary layouts are made of its tasks.
fn containers(dump: &CoreDump, core: &[u8]) -> Vec<(String, Vec<u8>)> {
    let chip = u32::from(dump.version.map_or(0, |version| version.chip_id)) << 16;
    let mut made = Vec::new();
    for (version, header, sha) in
        [(0x100u32, 20, false), (0x101, 20, true), (0x102, 24, false), (0x103, 24, true), (0x104, 12, true)]
    {
        let total = header + core.len() + if sha { 32 } else { 4 };
        let mut words = vec![total as u32, chip | version];
        words.resize(header / 4, 300);
        made.push((format!("{version:#x}"), sealed(&words, core, sha)));
    }
    let mut body = Vec::new();
    let mut tasks = 0u32;
    for task in &dump.tasks {
        let (Some((start, len)), Some(tcb)) = (task.stack, dump.read(task.tcb, 340)) else { continue };
        let Some(stack) = dump.read(start, len as usize) else { continue };
        for word in [task.tcb, start, start + len] {
            body.extend(word.to_le_bytes());
        }
        body.extend(tcb);
        body.extend(stack);
        tasks += 1;
    }
    for (version, header) in [(2u32, 20usize), (3, 24)] {
        let total = header + body.len() + 4;
        let mut words = vec![total as u32, chip | version, tasks, 340, 0];
        words.resize(header / 4, 300);
        made.push((format!("{version:#x}"), sealed(&words, &body, false)));
    }
    made
}

fn sealed(header: &[u32], body: &[u8], sha: bool) -> Vec<u8> {
    let mut bytes: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.extend(body);
    let sum = if sha { Sha256::digest(&bytes).to_vec() } else { crc32(&bytes).to_le_bytes().to_vec() };
    bytes.extend(sum);
    bytes
}

/// CRC-32 bit by bit: written apart from the one under test.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg()))
    })
}

/// What esp-coredump's loader makes of a file: its ELF core's segments and register notes.
const LOADER: &str = r#"
import sys, json, hashlib
from esp_coredump.corefile.loader import ESPCoreDumpFileLoader
from esp_coredump.corefile.elf import ESPCoreDumpElfFile
answers = {}
for line in sys.stdin:
    path, machine, b64 = line.split()
    try:
        loader = ESPCoreDumpFileLoader(path, b64 == "1")
        loader.create_corefile(e_machine=int(machine))
        core = ESPCoreDumpElfFile(loader.core_elf_file, e_machine=int(machine))
        regs = []
        for seg in core.note_segments:
            for note in seg.note_secs:
                if note.name == b"CORE":
                    regs.append([int.from_bytes(note.desc[24:28], "little"), int.from_bytes(note.desc[72:76], "little")])
        segments = [[s.addr, hashlib.sha256(s.data).hexdigest()] for s in core.load_segments]
        answers[path] = {"target": loader.target, "rev": loader.chip_rev, "tasks": regs, "segments": segments}
    except BaseException as error:
        answers[path] = {"error": str(error)[:120]}
json.dump(answers, sys.stdout)
"#;

fn versions() -> Result<(), Stop> {
    let dir = reference::scratch("coredump");
    let mut list = String::new();
    let mut cases: Vec<(PathBuf, Vec<u8>)> = Vec::new();
    for (name, bytes, _) in dumps()? {
        let dump = CoreDump::parse(&bytes, Check::Enforce)?;
        let text = String::from_utf8_lossy(&bytes);
        let raw: Vec<u8> = text.lines().flat_map(|line| decode_line(line.trim())).collect();
        let core = &raw[24..raw.len() - 4];
        let machine = if name.contains("c3") { 0xf3 } else { 0x5e };
        for (version, whole) in containers(&dump, core) {
            let mut damaged = whole.clone();
            let middle = damaged.len() / 2;
            damaged[middle] ^= 0x10;
            let mut trailing = whole.clone();
            trailing.extend([0xff; 300]);
            let cut = whole[..whole.len() - 7].to_vec();
            let kinds = [("whole", whole), ("damaged", damaged), ("trailing", trailing), ("cut", cut)];
            for (kind, bytes) in kinds {
                let path = dir.join(format!("{name}-{version}-{kind}"));
                fs::write(&path, &bytes)?;
                list += &format!("{} {machine} 0\n", path.display());
                cases.push((path, bytes));
            }
        }
        // The same core as any other chip of its kind would have written it, and as one that is none.
        let of_kind = |chip: &&chip::Chip| chip.arch == dump.arch && chip.image.format == chip::ImageFormat::Esp32;
        let ids = chip::all().iter().filter(of_kind).filter_map(|chip| chip.chip_id);
        for id in ids {
            let word = u32::from(id) << 16 | 0x103;
            let total = 24 + core.len() as u32 + 32;
            let bytes = sealed(&[total, word, 0, 0, 0, 300], core, true);
            let path = dir.join(format!("{name}-chip-{id}"));
            fs::write(&path, &bytes)?;
            list += &format!("{} {machine} 0\n", path.display());
            cases.push((path, bytes));
        }
        let path = dir.join(format!("{name}-b64"));
        fs::write(&path, &bytes)?;
        list += &format!("{} {machine} 1\n", path.display());
        cases.push((path, bytes));
    }
    let answers = loader(&dir, &list)?;
    let mut accepted = 0;
    for (path, bytes) in &cases {
        let theirs = &answers[&*path.to_string_lossy()];
        let what = path.display().to_string();
        match (CoreDump::parse(bytes, Check::Enforce), theirs.get("error")) {
            (Ok(dump), None) => {
                accepted += 1;
                same_dump(&what, &dump, theirs)?;
            }
            (Err(_), Some(_)) => {}
            // A chip that is younger than the reference.
            (Ok(_), Some(error)) if error.to_string().contains("is not supported") => {}
            (ours, theirs) => return fail(format!("{what}: ours {:?}, theirs {theirs:?}", ours.map(|d| d.format))),
        }
    }
    if accepted >= 38 { Ok(()) } else { fail(format!("only {accepted} dumps were accepted")) }
}

fn loader(dir: &Path, list: &str) -> Result<Value, Stop> {
    let input = dir.join("list");
    fs::write(&input, list)?;
    let mut python = Command::new(reference::tool("python")?);
    python.args(["-c", LOADER]).stdin(fs::File::open(&input)?);
    Ok(serde_json::from_slice(&reference::run(&mut python)?.stdout)?)
}

fn same_dump(what: &str, dump: &CoreDump, theirs: &Value) -> Result<(), Stop> {
    let pair = |row: &Value| (row[0].as_u64().unwrap_or(0), row[1].as_u64().unwrap_or(0));
    let tasks: Vec<(u64, u64)> = theirs["tasks"].as_array().into_iter().flatten().map(pair).collect();
    let ours = dump.tasks.iter().map(|task| (u64::from(task.tcb), u64::from(task.registers.pc))).collect();
    same(&format!("{what} tasks"), ours, tasks)?;
    same(&format!("{what} revision"), dump.chip_revision.map(u64::from), theirs["rev"].as_u64())?;
    same(&format!("{what} chip"), dump.chip(), theirs["target"].as_str())?;
    let segments: Vec<(u64, String)> = theirs["segments"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| (row[0].as_u64().unwrap_or(0), row[1].as_str().unwrap_or_default().to_owned()))
        .collect();
    let ours = dump.segments.iter().map(|s| (u64::from(s.address), hex(&Sha256::digest(&s.bytes)))).collect();
    same(&format!("{what} segments"), ours, segments)
}

/// Base64, apart from the decoder under test.
fn decode_line(line: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
    for value in line.bytes().filter_map(|byte| ALPHABET.iter().position(|letter| *letter == byte)) {
        bits = bits << 6 | value as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

fn foreign() -> Result<(), Stop> {
    let dumps = dumps()?;
    for (name, bytes, elf) in &dumps {
        let dump = CoreDump::parse(bytes, Check::Enforce)?;
        // The same program with one byte of a comment changed is another build.
        let mut changed = elf.clone();
        if let Some(last) = changed.last_mut() {
            *last ^= 1;
        }
        for other in
            [changed.as_slice()].into_iter().chain(dumps.iter().filter(|d| d.0 != *name).map(|d| d.2.as_slice()))
        {
            let program = Program::parse(other)?;
            if analyse(&dump, Some(&program), None).is_ok() {
                return fail(format!("{name}: a foreign ELF file was accepted"));
            }
        }
    }
    Ok(())
}

/// 3,000 dumps, 12,000 with `MCP_ESPTOOL_LONG`: no panic, and no more memory than a dump can hold.
fn damaged() -> Result<(), Stop> {
    let count = if std::env::var_os("MCP_ESPTOOL_LONG").is_some() { 12_000 } else { 3_000 };
    let mut seeds = Vec::new();
    for (_, bytes, _) in dumps()? {
        let dump = CoreDump::parse(&bytes, Check::Enforce)?;
        let raw: Vec<u8> = String::from_utf8_lossy(&bytes).lines().flat_map(|line| decode_line(line.trim())).collect();
        seeds.extend(containers(&dump, &raw[24..raw.len() - 4]).into_iter().map(|(_, bytes)| bytes));
        seeds.push(raw[24..raw.len() - 4].to_vec());
        seeds.push(bytes);
    }
    let mut decoded = 0;
    mutate(&seeds, count, |bytes| {
        if let Ok(dump) = CoreDump::parse(bytes, Check::Report) {
            decoded += 1;
            let held: usize = dump.segments.iter().map(|segment| segment.bytes.len()).sum();
            // Of a dump that a console may have printed (1 MB) any part may be lost, and is zeros.
            assert!(held <= (2 * bytes.len()).max(1 << 20));
            if decoded % 4 == 0 {
                let _ = analyse(&dump, None, None);
            }
        }
    });
    if decoded > count / 12 { Ok(()) } else { fail(format!("only {decoded} damaged dumps were decoded")) }
}
