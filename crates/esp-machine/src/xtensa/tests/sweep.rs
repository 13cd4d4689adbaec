//! All code of the mask ROMs, instruction by instruction: nothing of it is unknown, and GNU binutils read it the same way.
//!
//! The ROMs' ELF files say in `.xt.prop` which bytes are instructions, so the sweep needs no guesses.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use object::{Object as _, ObjectSection as _};

use super::super::decode::decode;
use super::super::kind::{Kind, Options};
use super::{kept_name, of_text, operands};

/// Flag of `.xt.prop`: instructions.
const INSTRUCTIONS: u32 = 2;

/// ILL and ILL.N: compilers put them where nothing may ever come.
const ILLEGAL_BY_NAME: [u32; 2] = [0, 0xf06d];

/// ROM, and the chip whose core runs it.
const ROMS: [(&str, &str); 4] = [
    ("esp32_rev0_rom", "esp32"),
    ("esp32_rev300_rom", "esp32"),
    ("esp32s2_rev0_rom", "esp32s2"),
    ("esp32s3_rev0_rom", "esp32s3"),
];

fn options(chip: &str) -> Options {
    Options::new(&crate::chip::board(chip).unwrap().isa)
}

/// Address and word of every instruction of a ROM.
fn instructions(rom: &str) -> Vec<(u32, u32)> {
    let Some(folder) = option_env!("ESP_ROM_FILES") else { panic!("the build script has found no ROMs") };
    let bytes = std::fs::read(Path::new(folder).join(format!("{rom}.elf"))).unwrap();
    let file = object::File::parse(bytes.as_slice()).unwrap();
    let code: Vec<_> = file
        .sections()
        .filter(|section| section.kind() == object::SectionKind::Text)
        .map(|section| (section.address() as u32, section.data().unwrap().to_vec()))
        .collect();
    let byte =
        |address: u32| code.iter().find_map(|(start, bytes)| bytes.get(address.wrapping_sub(*start) as usize).copied());
    let properties = file.section_by_name(".xt.prop").unwrap();
    let mut found = Vec::new();
    for entry in properties.data().unwrap().chunks_exact(12) {
        let word = |at: usize| u32::from_le_bytes(entry[at..at + 4].try_into().unwrap());
        let (start, length, flags) = (word(0), word(4), word(8));
        if flags & INSTRUCTIONS == 0 {
            continue;
        }
        let mut at = start;
        while at < start + length {
            let Some(first) = byte(at) else { break };
            let size = match first & 0xf {
                0..=7 => 3,
                8..=13 => 2,
                _ => 4,
            };
            let bytes = (0..size).map(|index| u32::from(byte(at + index).unwrap_or(0)) << (8 * index));
            found.push((at, bytes.sum()));
            at += size;
        }
    }
    found
}

#[test]
#[cfg_attr(not(feature = "roms"), ignore = "needs the ROMs")]
fn every_instruction_of_the_roms_is_known() {
    for (rom, chip) in ROMS {
        let options = options(chip);
        let mut unknown = BTreeMap::new();
        let all = instructions(rom);
        assert!(all.len() > 20_000, "{rom}: {}", all.len());
        for (pc, word) in &all {
            if decode(*word, *pc, &options).kind == Kind::Illegal && !ILLEGAL_BY_NAME.contains(word) {
                unknown.entry(*word).or_insert(*pc);
            }
        }
        assert!(unknown.is_empty(), "{rom}: {} of {}: {unknown:x?}", unknown.len(), all.len());
    }
}

/// Instructions that GNU's disassembler for the LX106 does not have: windows, loops, floating point, MAC16, booleans, vectors and
/// what else the first core of the family lacks. Their words are compared with Capstone instead (`decode.tsv`).
fn foreign(text: &str, word: u32) -> bool {
    // What it does not know it shows as bytes, or as EXCW.
    text.starts_with('.') || text == "excw" && word != 0x00_2080
}

#[test]
#[cfg_attr(not(feature = "roms"), ignore = "needs the ROMs")]
fn the_gnu_disassembler_reads_the_roms_alike() {
    if Command::new("xtensa-lx106-elf-objdump").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "binutils-xtensa-lx106 is not installed");
        eprintln!("ignored: no xtensa-lx106-elf-objdump");
        return;
    }
    let mut words: Vec<(u32, Options)> = Vec::new();
    for (rom, chip) in ROMS {
        let options = options(chip);
        words.extend(instructions(rom).into_iter().map(|(_, word)| (word, options)));
    }
    words.sort_by_key(|(word, _)| *word);
    words.dedup_by_key(|(word, _)| *word);
    // Lengths stand in the first byte: one behind the other they are read in step.
    words.retain(|(word, _)| word & 0xf < 0xe);
    let base = 0x4008_0000;
    let (mut bytes, mut places) = (Vec::new(), BTreeMap::new());
    for (word, options) in words {
        places.insert(base + bytes.len() as u32, (word, options));
        let length = if word & 0xf >= 8 { 2 } else { 3 };
        bytes.extend(&word.to_le_bytes()[..length]);
    }
    let path = std::env::temp_dir().join(format!("esp-machine-sweep-{}", std::process::id()));
    std::fs::write(&path, &bytes).unwrap();
    let mut objdump = Command::new("xtensa-lx106-elf-objdump");
    objdump.args(["-D", "-b", "binary", "-m", "xtensa", "--adjust-vma=0x40080000"]).arg(&path);
    let output = objdump.output().unwrap();
    std::fs::remove_file(&path).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for line in text.lines() {
        let mut columns = line.split('\t');
        let place = columns.next().and_then(|text| u32::from_str_radix(text.trim().trim_end_matches(':'), 16).ok());
        let Some((pc, (word, options))) = place.and_then(|pc| Some((pc, places.get(&pc)?))) else { continue };
        let (Some(_), Some(name)) = (columns.next(), columns.next()) else { continue };
        if foreign(name, *word) {
            continue;
        }
        compared += 1;
        let op = decode(*word, pc, options);
        let ours = operands(&op, pc);
        let theirs = of_text(&columns.collect::<Vec<_>>().join(" "));
        let kept = if name.ends_with("tlb") { "tlb".into() } else { kept_name(name) };
        // It shows no operands of RER.
        let operands_agree = ours.0 == theirs.0 || op.kind == Kind::Rer;
        let same = format!("{:?}", op.kind).to_lowercase() == kept && operands_agree;
        if !same {
            wrong.push(format!("{line}: {op:?} {ours:?} {theirs:?}"));
        }
    }
    assert!(compared > 10_000, "{compared} of {}", places.len());
    assert!(wrong.is_empty(), "{} of {compared}: {:#?}", wrong.len(), &wrong[..wrong.len().min(60)]);
}
