//! Images of random ELF files, random merges and damaged images, beside esptool's answers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use esp_model::chip::{self, Chip, ImageFormat};
use esp_model::image::hex::Part;
use esp_model::image::merge::{self, FlashSettings};
use esp_model::image::{self, FlashMode};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::image::{Report, facts_differ, hex_sha256, same_image};
use crate::reference::{Stop, fail, root, run, scratch, tool, trial};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("image: random ELF files become esptool's images", random_elfs),
        trial("image: random merges are esptool's", random_merges),
        trial("image: damaged images are judged as esptool judges them", damaged_images),
    ]
}

/// A small generator of numbers: the same seeds give the same files.
pub struct Rng(u64);

impl Rng {
    /// Starts at `seed`, turned by `MCP_ESPTOOL_SEED` when that is set: other files of the same kind.
    pub fn seeded(seed: u64) -> Self {
        let turn: u64 = std::env::var("MCP_ESPTOOL_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        Self(seed.wrapping_add(turn.wrapping_mul(0x1_0000_0001)))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len() as u64) as usize]
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// Asks esptool all questions in one process.
pub fn ask(folder: &Path, questions: &[Value]) -> Result<Vec<Value>, Stop> {
    let text: Vec<String> = questions.iter().map(Value::to_string).collect();
    fs::write(folder.join("questions.jsonl"), text.join("\n") + "\n")?;
    let script = root().join("crates/esp-model/tests/reference/image_oracle.py");
    run(Command::new(tool("python")?).arg(script).arg(folder))?;
    let answers = fs::read_to_string(folder.join("answers.jsonl"))?;
    let answers: Vec<Value> = answers.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    if answers.len() == questions.len() { Ok(answers) } else { fail("esptool left questions unanswered") }
}

struct ElfSection {
    name: &'static str,
    kind: u32,
    addr: u32,
    align: u32,
    data: Vec<u8>,
}

const NAMES: &[&str] = &[
    ".iram0.vectors",
    ".iram0.text",
    ".dram0.data",
    ".flash.text",
    ".flash.rodata",
    ".flash.appdesc",
    ".rtc.text",
    ".dram0.bootdesc",
    ".eh_frame",
    ".init_array",
    ".noinit",
    ".irom0.text",
    ".text",
    ".rodata",
    ".flash.rodata_noload",
];

fn elf_section(rng: &mut Rng, chip: &Chip, before: Option<&ElfSection>) -> ElfSection {
    let name = *rng.pick(NAMES);
    let len = match rng.below(12) {
        0 => rng.below(0x2_1000),
        1..4 => rng.below(0x1800),
        4 => 0,
        _ => rng.below(0x300),
    };
    let mut data = rng.bytes(len as usize);
    if name == ".flash.appdesc" || rng.one_in(10) {
        data.resize(data.len().max(0x100), 0);
        data[..4].copy_from_slice(&0xabcd_5432u32.to_le_bytes());
        data[16..0x100].fill(0);
        data[180] = *rng.pick(&[0, 0, 0, 13, 14, 15, 16, 17, 18, 200, 3]);
    }
    let region = rng.pick(&chip.memory);
    let ranges = [chip.image.irom, chip.image.drom, [region.start, region.end]];
    let [from, to] = if name.starts_with(".flash") { *rng.pick(&ranges[..2]) } else { *rng.pick(&ranges) };
    let offset = rng.below(u64::from(to.saturating_sub(from)).min(0x20_0000)) as u32;
    let offset = match rng.below(4) {
        0 => offset & !0xffff | 0x20,
        1 => offset & !0xff,
        2 if !rng.one_in(8) => offset & !3,
        _ => offset & !0xf,
    };
    let mut addr = from.wrapping_add(offset);
    let align = *rng.pick(&[1, 4, 4, 8, 16, 256, 0x1_0000]);
    if let Some(before) = before.filter(|_| rng.one_in(2)) {
        addr = before.addr.wrapping_add(before.data.len().next_multiple_of(4) as u32);
        if rng.one_in(3) {
            addr = addr.next_multiple_of(align);
        }
    }
    let kind = *rng.pick(&[1, 1, 1, 1, 1, 1, 8, 14, 15, 16, 2]);
    ElfSection { name, kind, addr: if rng.one_in(30) { 0 } else { addr }, align, data }
}

/// A 32-bit little-endian ELF file: header, program headers, contents, names, section headers.
fn elf_file(rng: &mut Rng, chip: &Chip) -> Vec<u8> {
    let mut sections: Vec<ElfSection> = Vec::new();
    for _ in 0..=rng.below(9) {
        let section = elf_section(rng, chip, sections.last());
        sections.push(section);
    }
    let programs = if rng.one_in(6) { 0 } else { sections.len() };
    let mut names = vec![0u8];
    let mut out = vec![0; 52 + programs * 32];
    let mut rows: Vec<[u32; 10]> = vec![[0; 10]];
    let mut segments: Vec<[u32; 8]> = Vec::new();
    for section in &sections {
        let (at, len) = (out.len() as u32, section.data.len() as u32);
        rows.push([names.len() as u32, section.kind, 6, section.addr, at, len, 0, 0, section.align, 0]);
        let kind = if rng.one_in(8) { 4 } else { 1 };
        segments.push([kind, at, section.addr, section.addr, len, len, 5, section.align]);
        names.extend(section.name.bytes().chain([0]));
        if section.kind != 8 {
            out.extend_from_slice(&section.data);
        }
    }
    rows.push([0, 3, 0, 0, out.len() as u32, names.len() as u32, 0, 0, 1, 0]);
    out.extend(names);
    let table = out.len() as u32;
    rows.iter().flatten().for_each(|word| out.extend(word.to_le_bytes()));

    let machine: u16 = if rng.one_in(2) { 94 } else { 243 };
    let mut header = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0".to_vec();
    header.extend(machine.to_le_bytes());
    for word in [1, 0x4008_0000 + rng.below(0x1000) as u32, 52, table, 0] {
        header.extend(word.to_le_bytes());
    }
    for half in [52, 32, programs as u16, 40, rows.len() as u16, rows.len() as u16 - 1] {
        header.extend(half.to_le_bytes());
    }
    out[..52].copy_from_slice(&header);
    for (index, row) in segments.iter().take(programs).enumerate() {
        let bytes: Vec<u8> = row.iter().flat_map(|word| word.to_le_bytes()).collect();
        out[52 + index * 32..][..32].copy_from_slice(&bytes);
    }
    damage(rng, &mut out, 6);
    out
}

/// Changes some bytes in one of `n` files.
fn damage(rng: &mut Rng, bytes: &mut Vec<u8>, n: u64) {
    if !rng.one_in(n) || bytes.is_empty() {
        return;
    }
    match rng.below(4) {
        0 => bytes.truncate(rng.below(bytes.len() as u64) as usize),
        1 => {
            let at = rng.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << rng.below(8);
        }
        2 => {
            let at = rng.below((bytes.len() as u64).min(64)) as usize;
            bytes[at] = rng.next() as u8;
        }
        _ => {
            let tail = bytes.len().saturating_sub(40 * 4);
            let at = tail + rng.below((bytes.len() - tail) as u64) as usize;
            bytes[at] = *rng.pick(&[0, 0xff, 0x7f, 0x80]);
        }
    }
}

pub fn options(rng: &mut Rng, chip: &Chip) -> Vec<String> {
    let mut options: Vec<String> = Vec::new();
    let mut add = |words: &[&str]| options.extend(words.iter().map(|word| (*word).to_owned()));
    if chip.image.format == ImageFormat::Esp8266 {
        add(&["--version", *rng.pick(&["1", "2", "3"])]);
    }
    if rng.one_in(3) {
        add(&["-ff", *rng.pick(&["80m", "40m", "26m", "20m", "48m", "24m", "60m", "30m", "16m"])]);
    }
    if rng.one_in(3) {
        add(&["-fm", *rng.pick(&["qio", "qout", "dio", "dout"])]);
    }
    if rng.one_in(3) {
        add(&["-fs", *rng.pick(&["512KB", "1MB", "2MB", "4MB", "8MB", "16MB", "32MB", "2MB-c1"])]);
    }
    if rng.one_in(4) {
        add(&["--min-rev-full", &rng.below(900).to_string(), "--max-rev-full", &rng.below(65536).to_string()]);
    }
    if rng.one_in(8) {
        add(&["--min-rev", &rng.below(256).to_string()]);
    }
    if rng.one_in(8) {
        add(&["--secure-pad"]);
    }
    if rng.one_in(8) {
        add(&["--secure-pad-v2"]);
    }
    if rng.one_in(10) {
        add(&["--elf-sha256-offset", *rng.pick(&["0xb0", "0x20", "48", "0x1000", "0"])]);
    }
    if rng.one_in(5) {
        add(&["--use-segments"]);
    }
    if rng.one_in(6) {
        add(&["--ram-only-header"]);
    }
    if rng.one_in(4) {
        add(&["--flash-mmu-page-size", *rng.pick(&["64KB", "32KB", "16KB", "8KB"])]);
    }
    // esptool destroys an image that it pads without a SHA-256 (see docs/compatibility.md).
    let ram_only = options.iter().any(|option| option == "--ram-only-header");
    match rng.below(8) {
        0 => options.push(String::from("--dont-append-digest")),
        1 if !ram_only => {
            options.extend([String::from("--pad-to-size"), (*rng.pick(&["1MB", "256KB", "64KB"])).to_owned()])
        }
        _ => {}
    }
    options
}

fn random_elfs() -> Result<(), Stop> {
    let folder = scratch("random-elf");
    let mut rng = Rng::seeded(0x1357_2468);
    let (mut questions, mut asked) = (Vec::new(), Vec::new());
    for index in 0..600 {
        let chip = rng.pick(chip::all());
        let elf = elf_file(&mut rng, chip);
        let options = options(&mut rng, chip);
        let file = format!("{index}.elf");
        fs::write(folder.join(&file), &elf)?;
        let output = format!("{index}-out-");
        let mut argv: Vec<String> = ["--chip", chip.id, "elf2image", "-o"].map(str::to_owned).to_vec();
        argv.push(format!("@/{output}"));
        argv.extend(options.iter().cloned());
        argv.push(format!("@/{file}"));
        questions.push(json!({"op": "elf2image", "argv": argv, "output": output}));
        asked.push((chip, file, elf, options));
    }
    let answers = ask(&folder, &questions)?;
    let mut report = Report::default();
    let accepted = answers.iter().filter(|answer| answer["out"].is_object()).count();
    for ((chip, file, elf, options), answer) in asked.into_iter().zip(answers) {
        let options = options.iter().map(String::as_str);
        report.add(same_image(&format!("{file} {}", chip.id), chip.id, options, &elf, &renamed(&answer["out"])));
    }
    if accepted < 150 {
        return fail(format!("only {accepted} of the random files became images"));
    }
    report.finish()?;
    fs::remove_dir_all(folder)?;
    Ok(())
}

/// A single output is written under the whole name that was asked for.
pub fn renamed(outputs: &Value) -> Value {
    let Some(files) = outputs.as_object() else { return Value::Null };
    files.iter().map(|(name, facts)| (if name.is_empty() { "bin" } else { name }.to_owned(), facts.clone())).collect()
}

/// Bytes to merge: a bootloader-like image, text, blank, or anything.
fn content(rng: &mut Rng, chip: &Chip, images: &[PathBuf]) -> Vec<u8> {
    match rng.below(5) {
        0 | 1 => {
            let mut bytes = fs::read(rng.pick(images)).unwrap_or_default();
            if chip.chip_id.is_some() && bytes.len() > 24 && rng.one_in(2) {
                bytes[12] = chip.chip_id.unwrap_or(0) as u8;
            }
            damage(rng, &mut bytes, 5);
            bytes.truncate(0x9000);
            bytes
        }
        2 => vec![0xff; rng.below(0x800) as usize],
        _ => {
            let len = rng.below(0x2800) as usize;
            rng.bytes(len)
        }
    }
}

fn random_merges() -> Result<(), Stop> {
    let folder = scratch("random-merge");
    let corpus = crate::reference::corpus()?;
    let images: Vec<PathBuf> = fs::read_dir(corpus.join("image/esptool"))?
        .chain(fs::read_dir(corpus.join("image/espflash"))?)
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.metadata().is_ok_and(|data| data.len() < 100_000))
        .collect();
    let mut rng = Rng::seeded(0xbeef);
    let (mut questions, mut ours) = (Vec::new(), Vec::new());
    for index in 0..150 {
        let chip = rng.pick(chip::all());
        let format = *rng.pick(&["raw", "hex", "uf2"]);
        let mut argv: Vec<String> =
            ["--chip", chip.id, "merge-bin", "--format", format, "-o"].map(str::to_owned).to_vec();
        let output = format!("{index}-out-");
        argv.push(format!("@/{output}"));
        let (mut flash, mut target, mut pad, mut chunk, mut md5) = (FlashSettings::default(), 0, None, None, true);
        if rng.one_in(2) {
            flash.mode = Some(*rng.pick(&FlashMode::ALL));
            argv.extend(["-fm".into(), flash.mode.map_or("", FlashMode::name).into()]);
        }
        if rng.one_in(3) {
            let size = *rng.pick(&["1MB", "4MB", "8MB", "512KB"]);
            flash.size = Some(size.into());
            argv.extend(["-fs".into(), size.into()]);
        }
        if rng.one_in(3) {
            let frequency = *rng.pick(&["80m", "40m", "20m", "48m"]);
            flash.frequency = Some(frequency.into());
            argv.extend(["-ff".into(), frequency.into()]);
        }
        if rng.one_in(3) {
            target = *rng.pick(&[0x1000u32, 0x2000, 0x1_0000, 0x800]);
            argv.extend(["-t".into(), format!("{target:#x}")]);
        }
        if rng.one_in(4) {
            pad = Some(0x4_0000);
            argv.extend(["--pad-to-size".into(), "256KB".into()]);
        }
        if rng.one_in(4) {
            chunk = Some(*rng.pick(&[256u32, 4, 452, 476, 480, 0, 100]));
            argv.extend(["--chunk-size".into(), chunk.unwrap_or(0).to_string()]);
        }
        if rng.one_in(4) {
            md5 = false;
            argv.push("--md5-disable".into());
        }
        let mut at = *rng.pick(&[chip.flash.bootloader_offset, 0, 0x1000, 0x8000]);
        let mut parts: Result<Vec<Part>, _> = Ok(Vec::new());
        for number in 0..=rng.below(4) {
            let mut data = content(&mut rng, chip, &images);
            let path = format!("{index}-{number}.bin");
            let (len, address) = (data.len() as u32, at);
            if rng.one_in(5) && !data.is_empty() {
                data = merge::to_hex(&[Part { address: at, data }]).into_bytes();
            }
            fs::write(folder.join(&path), &data)?;
            argv.extend([format!("{address:#x}"), format!("@/{path}")]);
            parts = parts.and_then(|mut parts| {
                parts.extend(merge::parts_of(address, data)?);
                Ok(parts)
            });
            at = (at + len).next_multiple_of(if rng.one_in(6) { 4 } else { 0x1000 }) + rng.below(3) as u32 * 0x1000;
        }
        questions.push(json!({"op": "merge-bin", "argv": argv, "output": output}));
        let first_before = |parts: &[Part]| parts.first().is_some_and(|part| part.address < target);
        ours.push(parts.and_then(|parts| merge::prepare(chip, parts, &flash)).and_then(|parts| match format {
            // esptool compares with the target offset in every format.
            _ if first_before(&parts) => merge::raw(&parts, target, None).map(|pieces| pieces.concat()),
            "raw" => merge::raw(&parts, target, pad).map(|pieces| pieces.concat()),
            "hex" => Ok(merge::to_hex(&parts).into_bytes()),
            _ => merge::to_uf2(chip, &parts, chunk, md5),
        }));
    }
    let mut report = Report::default();
    let answers = ask(&folder, &questions)?;
    let accepted = answers.iter().filter(|answer| answer["out"].is_object()).count();
    for ((question, ours), answer) in questions.iter().zip(ours).zip(answers) {
        let theirs = &answer["out"][""];
        report.add(match (ours, answer["out"].is_object()) {
            (Err(_), false) => Ok(()),
            (Ok(bytes), true) if json!([bytes.len(), hex_sha256(&bytes)]) == *theirs => Ok(()),
            (ours, _) => Err(format!("{}: {:?}, esptool: {theirs}", question["argv"], ours.map(|bytes| bytes.len()))),
        });
    }
    if accepted < 50 {
        return fail(format!("only {accepted} of the random merges were possible"));
    }
    report.finish()?;
    fs::remove_dir_all(folder)?;
    Ok(())
}

fn damaged_images() -> Result<(), Stop> {
    let folder = scratch("damaged-images");
    let mut rng = Rng::seeded(0x0dd_ba11);
    let (mut questions, mut images) = (Vec::new(), Vec::new());
    while images.len() < 300 {
        let chip = rng.pick(chip::all());
        let settings = image::Settings { version: 2, ..image::Settings::default() };
        let elf = elf_file(&mut rng, chip);
        let Ok(image::Built::One(mut bytes)) = image::build(chip, &elf, &settings) else { continue };
        damage(&mut rng, &mut bytes, 2);
        let file = format!("{}.bin", images.len());
        fs::write(folder.join(&file), &bytes)?;
        questions.push(json!({"op": "image-info", "file": file}));
        images.push(bytes);
    }
    let mut report = Report::default();
    for ((question, bytes), facts) in questions.iter().zip(&images).zip(ask(&folder, &questions)?) {
        report.add(facts_differ(&question["file"].to_string(), bytes, &facts, false));
    }
    report.finish()?;
    fs::remove_dir_all(folder)?;
    Ok(())
}
