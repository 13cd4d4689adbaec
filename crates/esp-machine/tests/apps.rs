//! A small program of our own (`programs/hello.S`), started from flash by the chip's ROM and ESP-IDF's published bootloader, on the
//! chips for which there is no ESP-IDF application to try. Without an assembler for RISC-V the cases count as ignored.
#![cfg(feature = "roms")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use esp_machine::{Config, Machine, What};
use libtest_mimic::{Arguments, Failed, Trial};

#[path = "support/bootable.rs"]
#[allow(dead_code)]
mod bootable;

/// A chip, its bootloader and where that goes, where things are, and what the program must say.
struct Case {
    chip: &'static str,
    bootloader: (&'static str, u32),
    symbols: &'static [(&'static str, u32)],
    console: &'static [&'static str],
}

const SIMPLE: &[&str] = &["2nd stage bootloader", "app: hello", "app: 3 alarms", "app: end"];
const CASES: &[Case] = &[
    Case {
        chip: "esp32c5",
        bootloader: ("esp32c5-bootloader.bin", 0x2000),
        symbols: &[("UART0", 0x6000_0000), ("SYSTIMER", 0x6000_a000), ("MATRIX", 0x6001_00f4), ("RAM", 0x4082_0000)],
        console: SIMPLE,
    },
    Case {
        chip: "esp32c61",
        bootloader: ("esp32c61-bootloader.bin", 0),
        symbols: &[("UART0", 0x6000_0000), ("SYSTIMER", 0x6000_a000), ("MATRIX", 0x6001_00d0), ("RAM", 0x4082_0000)],
        console: SIMPLE,
    },
    Case {
        chip: "esp32p4",
        bootloader: ("esp32p4-v3-bootloader.bin", 0x2000),
        symbols: &[
            ("UART0", 0x500c_a000),
            ("SYSTIMER", 0x500e_2000),
            ("MATRIX", 0x500d_60d4),
            ("RAM", 0x4ff2_0000),
            ("FLOAT", 1),
            ("SECOND", 1),
            ("ENTRY", 0x5011_0164),
            ("CLOCK", 0x500e_6014),
            ("CLOCK_BIT", 1 << 4),
            ("RESET", 0x500e_60c0),
            ("RESET_BIT", 1 << 8),
        ],
        console: &[
            "2nd stage bootloader",
            "app: hello",
            "app: 3 alarms",
            "app: float 7",
            "app: second core 1",
            "app: end",
        ],
    },
    Case {
        chip: "esp32s31",
        bootloader: ("esp32s31-bootloader.bin", 0x2000),
        symbols: &[
            ("UART0", 0x2038_a000),
            ("SYSTIMER", 0x2039_9000),
            ("MATRIX", 0x2058_5084),
            ("CLIC", 0x1080_1000),
            ("RAM", 0x2f02_0000),
            ("FLOAT", 1),
            ("SECOND", 1),
            ("ENTRY", 0x2070_0164),
            ("CLOCK", 0x2058_7020),
            ("CLOCK_BIT", 1 << 1),
            ("RESET", 0x2058_7020),
            ("RESET_BIT", 1 << 2),
        ],
        console: &[
            "2nd stage bootloader",
            "app: hello",
            "app: 3 alarms",
            "app: float 7",
            "app: second core 1",
            "app: end",
        ],
    },
];

/// The program for a chip, as bytes.
fn assembled(case: &Case) -> Result<Vec<u8>, Failed> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/hello.S");
    let file =
        |kind: &str| std::env::temp_dir().join(format!("esp-machine-{}-{}.{kind}", std::process::id(), case.chip));
    let (object, linked, binary): (PathBuf, PathBuf, PathBuf) = (file("o"), file("elf"), file("bin"));
    let mut assembler = Command::new("riscv64-unknown-elf-as");
    assembler.args(["-march=rv32imafc_zicsr", "-mabi=ilp32f"]).arg(source).arg("-o").arg(&object);
    for (name, value) in case.symbols {
        assembler.args(["--defsym", &format!("{name}={value}")]);
    }
    let mut link = Command::new("riscv64-unknown-elf-ld");
    link.args(["-m", "elf32lriscv", "-Ttext", &format!("{:#x}", text_at(case.chip))])
        .arg(&object)
        .arg("-o")
        .arg(&linked);
    let mut copy = Command::new("riscv64-unknown-elf-objcopy");
    copy.args(["-O", "binary", "-j", ".text"]).arg(&linked).arg(&binary);
    for mut command in [assembler, link, copy] {
        let output = command.output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
    }
    let code = std::fs::read(&binary)?;
    [object, linked, binary].iter().for_each(|path| drop(std::fs::remove_file(path)));
    Ok(code)
}

/// So long that the code behind it begins at a multiple of 64: where a vector must be.
const DESCRIPTION: usize = 280;

/// Where the code lies: in the second page, at the same place of a page as in flash.
fn text_at(chip: &str) -> u32 {
    let known = esp_model::chip::by_name(chip).unwrap();
    known.image.irom[0] + 0x1_0000 + 32 + DESCRIPTION as u32 + 8
}

/// An application's image: a description in the window for data, the code in the next page of the window for code.
fn application(chip: &str, code: Vec<u8>) -> Vec<u8> {
    let known = esp_model::chip::by_name(chip).unwrap();
    let mut description = vec![0; DESCRIPTION];
    description[..4].copy_from_slice(&esp_model::image::AppDesc::MAGIC.to_le_bytes());
    description[48..53].copy_from_slice(b"hello");
    description[180] = 16;
    let data = known.image.drom[0] + 32;
    let text = text_at(chip);
    bootable::image(chip, text, &[(data, description), (text, code)])
}

fn runs(case: &Case) -> Result<(), Failed> {
    let Some(roms) = option_env!("ESP_ROM_FILES") else { return Err("no folder of ROMs".into()) };
    let (file, place) = case.bootloader;
    let mut config = Config::new(case.chip, 4 << 20).unwrap();
    config.flash.load(place, &std::fs::read(Path::new(roms).join("../bootloaders").join(file))?);
    config.flash.load(0x8000, &bootable::factory_table());
    config.flash.load(0x1_0000, &application(case.chip, assembled(case)?));
    let mut machine = Machine::new(config)?;
    let (mut console, end) = (Vec::new(), 200_000_000_000);
    while machine.now() < end {
        machine.run(end);
        for event in machine.take_events() {
            if let What::Uart { port: 0, byte } = event.what {
                console.push(byte);
            }
        }
    }
    let console = String::from_utf8_lossy(&console);
    let mut rest = &*console;
    for wanted in case.console {
        let Some(at) = rest.find(wanted) else { return Err(format!("no {wanted:?} in {console}").into()) };
        rest = &rest[at + wanted.len()..];
    }
    if machine.resets == 0 { Ok(()) } else { Err(format!("{} resets: {console}", machine.resets).into()) }
}

fn main() -> ExitCode {
    let missing = Command::new("riscv64-unknown-elf-as").arg("--version").output().is_err();
    let trials = CASES.iter().map(|case| {
        let name = format!("an_app_of_{}_runs_by_its_rom_and_bootloader", case.chip);
        Trial::test(name, || runs(case)).with_ignored_flag(missing)
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
