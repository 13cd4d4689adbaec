//! Every fuzz target takes damaged inputs and claims of 4 GB, and allocates little.
//!
//! The tests beside each parser give it 10,000 damaged inputs or more; those that have none get them here.
// What the process allocated is in a file.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::unwrap_used)]

#[path = "../../../fuzz/src/lib.rs"]
mod fuzz;
#[path = "../src/testing.rs"]
mod testing;

use esp_model::image::hex::Part;
use esp_model::image::{Built, Settings, build, merge, uf2};
use esp_model::partition::otadata::{Otadata, State};
use esp_model::partition::{Options, preset};
use esp_model::{chip, nvs, ota};

/// Damaged inputs of a target.
fn rounds(target: &str) -> usize {
    if matches!(target, "symbols" | "wire") { 10_000 } else { 1_000 }
}

/// Address space that a parser may take beside its input.
const MOST: u64 = 96 << 20;

/// An ELF file for RISC-V with one section of code.
fn elf(address: u32, code: &[u8]) -> Vec<u8> {
    let names = b"\0.iram0.text\0.shstrtab\0";
    let mut out = b"\x7fELF\x01\x01\x01".to_vec();
    out.resize(16, 0);
    out.extend([2, 0, 243, 0]);
    let sections = 52 + code.len() + names.len();
    for word in [1, address, 0, sections as u32, 0] {
        out.extend(word.to_le_bytes());
    }
    for half in [52u16, 32, 0, 40, 3, 2] {
        out.extend(half.to_le_bytes());
    }
    out.extend(code);
    out.extend(names);
    let text = [1, 1, 6, address, 52, code.len() as u32, 0, 0, 4, 0];
    let strings = [13, 3, 0, 0, 52 + code.len() as u32, names.len() as u32, 0, 0, 1, 0];
    for word in [[0; 10], text, strings].concat() {
        out.extend(word.to_le_bytes());
    }
    out
}

fn with_choice(choice: u8, bytes: &[u8]) -> Vec<u8> {
    [&[choice], bytes].concat()
}

/// What each target begins with.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let elf = elf(0x4038_0000, &[0x13; 256]);
    let c3 = chip::by_name("esp32c3").unwrap();
    let Built::One(image) = build(c3, &elf, &Settings::default()).unwrap() else { panic!("one file") };
    let parts = [Part { address: 0, data: image.clone() }, Part { address: 0x8000, data: vec![7; 300] }];
    let table = preset("two_ota").unwrap().table(&Options::default()).unwrap();
    let rows =
        "key,type,encoding,value\nstore,namespace,,\na,data,u8,255\nt,data,string,text\nb,data,hex2bin,00ff00ff\n";
    let store = nvs::generate(&[rows.as_bytes()], 0x3000, nvs::Version::V2, None, &mut |_| Err(String::new())).unwrap();
    let mut flash = image.clone();
    flash.resize(0x8000, 0xff);
    flash.extend(table.to_binary(true).unwrap());
    match target {
        "image" => vec![image],
        "elf" => chip::all().iter().enumerate().map(|(index, _)| with_choice(index as u8, &elf)).collect(),
        "flash_file" => vec![flash, image],
        "hex_uf2" => vec![merge::to_hex(&parts).into_bytes(), uf2::write(&parts, 1, None, true).unwrap()],
        "linker_map" => vec![b"Memory Configuration\n\nName Origin Length\niram 0x40380000 0x1000\n\n.iram0.text 0x40380000 0x30\n *(.text)\n .text 0x40380000 0x20 lib/liba.a(a.o)\n".to_vec()],
        "partition" => vec![
            table.to_binary(true).unwrap(),
            table.to_csv(false, &Options::default().subtypes).into_bytes(),
            Otadata::BLANK.switch_to(1, 2, State::New).unwrap().bytes(),
        ],
        "nvs" => vec![store, rows.into()],
        "boot_walk" => (0..3).map(|choice| with_choice(choice, &flash)).collect(),
        "core_dump" => vec![core(&[0xa5; 64])],
        "symbols" => vec![elf],
        "console" => vec![
            b"ESP-ROM:esp32c3-api1-20210207\r\nrst:0x1 (POWERON),boot:0xd (SPI_FAST_FLASH_BOOT)\r\nI (24) boot: ESP-IDF v5.1\r\nGuru Meditation Error: Core  0 panic'ed (Load access fault).\r\nCore  0 register dump:\r\nMEPC    : 0x42008a12  RA      : 0x42008a10\r\nStack memory:\r\n3fc8f000: 0x00000000 0x00000001\r\n".to_vec(),
            b"Backtrace: 0x400d66b9:0x3ffb4f90 0x400d1e2c:0x3ffb4fb0 |<-CORRUPTED\r\nELF file SHA256: 0123456789abcdef\r\n".to_vec(),
        ],
        "log_splice" => vec![
            [&[0, 7, 15, 23, 31, 39, 47, 55, 63, 1, 2, 3, 4, 5, 6, 0x87][..], b"E (703) esp_image: Image length 1877008 doesn't fit in partition length 1048576\nrst:0x8 (TG1WDT_SYS_RST),boot:0x8 (SPI_FAST_FLASH_BOOT)\nSaved PC:0x4200a4d1\nException (28):\nepc1=0x40201234 epc2=0x00000000 excvaddr=0x00000004\n================= CORE DUMP START =================\nabort() was called at PC 0x42009351 on core 0\nBacktrace: 0x40375bb1:0x3fceb190\n"].concat(),
        ],
        // The seeds of the file systems stand beside their parsers (`src/fs/tests.rs`), which repeat this.
        "file_system" => vec![[b"\x01\0\0\0\xf0\x0f\xff\xf7littlefs".to_vec(), vec![0; 8192]].concat()],
        "ota" => vec![[vec![1; 64], ota::delta::make(&[1; 64], &[2; 200]).unwrap()].concat(), image],
        "wire" => vec![b"\xc0\0\x02\x10\0\x12\x34\0\0\0\0\x10\0\0\0\x10\0\0\0\x04\0\0\0\0\0\xc0".to_vec(), vec![0; 40]],
        other => panic!("{other} has no seed"),
    }
}

/// Version 1.2 of a core dump for RISC-V: one task, one segment.
fn core(memory: &[u8]) -> Vec<u8> {
    let mut registers = vec![0u8; 72];
    registers[24..28].copy_from_slice(&0x3fc8_0000u32.to_le_bytes());
    registers.extend((0..32u32).flat_map(|index| (0x4200_0000 + index * 16).to_le_bytes()));
    registers.extend([0; 4]);
    let mut note: Vec<u8> = [5, registers.len() as u32, 1].iter().flat_map(|word| word.to_le_bytes()).collect();
    note.extend(b"CORE\0\0\0\0");
    note.extend(registers);
    let mut bytes = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\xf3\0".to_vec();
    let headers = [1u32, 0, 52, 0, 0].iter().flat_map(|word| word.to_le_bytes());
    bytes.extend(headers.chain([52u16, 32, 2, 0, 0, 0].iter().flat_map(|half| half.to_le_bytes())));
    let at = 52 + 64;
    for (kind, offset, address, len) in [(4, at, 0, note.len()), (1, at + note.len(), 0x3fc8_0000, memory.len())] {
        for word in [kind, offset as u32, address, address, len as u32, len as u32, 6, 0] {
            bytes.extend(word.to_le_bytes());
        }
    }
    bytes.extend(note);
    bytes.extend(memory);
    let head = [24 + bytes.len() as u32 + 4, 0x0005_0102, 0, 0, 0, 101];
    let mut dump: Vec<u8> = head.iter().flat_map(|word: &u32| word.to_le_bytes()).chain(bytes).collect();
    dump.extend(crc32fast::hash(&dump).to_le_bytes());
    dump
}

/// Address space that was ever in use, in bytes; 0 where the system does not tell.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) << 10
}

/// One test, so that nothing else allocates beside it.
#[test]
fn damaged_and_boasting_inputs_do_no_harm() {
    for (name, target) in fuzz::TARGETS {
        let seeds = seeds(name);
        seeds.iter().for_each(|seed| target(seed));
        let before = peak();
        testing::mutate(&seeds, rounds(name), target);
        // Each word of the seeds' beginning and end claims (almost) 4 GB, and 2 GB.
        for seed in seeds.iter().take(3) {
            let places = (0..seed.len().min(512)).chain(seed.len().saturating_sub(512)..seed.len()).step_by(2);
            for at in places {
                for claim in [u32::MAX - 0xfff, 0x7fff_fff0] {
                    let mut bytes = seed.clone();
                    bytes.iter_mut().skip(at).zip(claim.to_le_bytes()).for_each(|(to, from)| *to = from);
                    target(&bytes);
                }
            }
        }
        let taken = peak().saturating_sub(before);
        assert!(taken <= MOST, "{name} took {} MB", taken >> 20);
    }
}

#[test]
fn every_target_has_its_file() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz");
    let manifest = std::fs::read_to_string(format!("{dir}/Cargo.toml")).unwrap();
    for (name, _) in fuzz::TARGETS {
        let file = std::fs::read_to_string(format!("{dir}/fuzz_targets/{name}.rs")).unwrap();
        assert!(file.contains(&format!("mcp_esptool_fuzz::{name}(data)")), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}
