//! Programs that Debian's cross compilers make, as images beside esptool's, and their DWARF beside addr2line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use esp_debug::panic::null_members;
use esp_debug::symbols::{NullMember, Program};
use esp_model::chip::{self, Arch, Chip, ImageFormat};
use esp_model::console::Panic;
use libtest_mimic::Trial;
use serde_json::json;

use crate::image::{Report, same_image};
use crate::image_random::{Rng, ask, options, renamed};
use crate::reference::{self, Stop, fail, trial};
use crate::testing::mutate;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("compiled: programs of own making become esptool's images", images),
        trial("compiled: source lines, and 10,000 damaged programs", lines),
        trial("compiled: a null pointer's offset is a member's", members),
    ]
}

/// What a program is compiled with.
struct Variant {
    app_description: bool,
    page_log2: u32,
    scale: u32,
    debug: bool,
}

/// A region's start; the first that begins with one of the names.
fn region(chip: &Chip, names: &[&str]) -> u32 {
    let found = names.iter().find_map(|name| chip.memory.iter().find(|region| region.name == *name));
    found.map_or(0, |region| region.start)
}

/// Where the sections go: as ESP-IDF's linker scripts do it.
fn script(chip: &Chip) -> String {
    let [irom, _] = chip.image.irom;
    let [drom, _] = chip.image.drom;
    let (iram, dram) =
        (region(chip, &["IRAM", "SRAM", "HP_RAM", "DIRAM_IRAM", "TCM"]), region(chip, &["DRAM", "SRAM", "HP_RAM"]));
    let rtc = region(chip, &["RTC_DRAM", "RTC_DATA", "RTC", "LP_RAM", "DRAM"]);
    let same_window = irom == drom;
    let mapped = if chip.image.format == ImageFormat::Esp8266 {
        format!("  . = {:#x};\n  .irom0.text : {{ *(.flash.text) *(.flash.rodata) }}\n", irom + 0x1_0010)
    } else {
        let code = if same_window { "ALIGN(0x10000) + 0x10020".to_owned() } else { format!("{:#x}", irom + 0x1_0020) };
        format!(
            "  . = {:#x};\n  .flash.appdesc : {{ KEEP(*(.flash.appdesc)) }}\n  .flash.rodata : {{ *(.flash.rodata) }}\n  \
             . = {code};\n  .flash.text : {{ *(.flash.text) }}\n",
            drom + 0x20
        )
    };
    format!(
        "ENTRY(call_start_cpu0)\nSECTIONS {{\n  . = {:#x};\n  .iram0.text : {{ *(.iram0.text .text) }}\n  \
         . = {:#x};\n  .dram0.data : {{ *(.dram0.data .data .rodata) }}\n  .dram0.bss (NOLOAD) : {{ *(.dram0.bss .bss) }}\n\
         {mapped}  . = {:#x};\n  .rtc.data : {{ *(.rtc.data) }}\n}}\n",
        iram + 0x400,
        dram + 0x8000,
        rtc + if rtc == dram { 0x1_4000 } else { 0x100 },
    )
}

/// The compiler of an instruction set, or that it is missing.
fn compiler(arch: Arch) -> Result<(&'static str, &'static [&'static str]), Stop> {
    let (name, package, flags): (_, _, &[&str]) = match arch {
        Arch::Riscv => ("riscv64-unknown-elf-gcc", "gcc-riscv64-unknown-elf", &["-march=rv32imc", "-mabi=ilp32"]),
        Arch::Xtensa => ("xtensa-lx106-elf-gcc", "gcc-xtensa-lx106", &["-mlongcalls", "-mtext-section-literals"]),
    };
    match Command::new(name).arg("--version").output() {
        Ok(_) => Ok((name, flags)),
        Err(_) => reference::missing(format!("{name} is not installed (package {package})")),
    }
}

fn compile(chip: &Chip, variant: &Variant, folder: &Path, name: &str) -> Result<PathBuf, Stop> {
    compile_file("compiled.c", chip, variant, folder, name)
}

fn compile_file(source: &str, chip: &Chip, variant: &Variant, folder: &Path, name: &str) -> Result<PathBuf, Stop> {
    let (compiler, flags) = compiler(chip.arch)?;
    let (linker, elf) = (folder.join(format!("{name}.ld")), folder.join(format!("{name}.elf")));
    fs::write(&linker, script(chip))?;
    let mut command = Command::new(compiler);
    command.args(flags).args(["-Os", "-ffreestanding", "-nostdlib", "-nostartfiles", "-Wl,--build-id=none"]);
    command.arg(format!("-DAPP_DESCRIPTION={}", u8::from(variant.app_description)));
    command.arg(format!("-DMMU_PAGE_LOG2={}", variant.page_log2)).arg(format!("-DSCALE={}", variant.scale));
    command.args(variant.debug.then_some("-g")).arg("-T").arg(linker).arg("-o").arg(&elf);
    command.arg(reference::root().join("crates/esp-model/tests/reference").join(source));
    reference::run(&mut command)?;
    Ok(elf)
}

fn images() -> Result<(), Stop> {
    let folder = reference::scratch("compiled");
    let mut rng = Rng::seeded(0xc0de);
    let (mut questions, mut asked) = (Vec::new(), Vec::new());
    for chip in chip::all() {
        for (number, scale) in [9, 40, 500].into_iter().enumerate() {
            let variant = Variant {
                app_description: chip.image.format == ImageFormat::Esp32 && number != 1,
                page_log2: *rng.pick(&[0, 0, 16, 15, 14]),
                scale,
                debug: number == 2,
            };
            let name = format!("{}-{number}", chip.id);
            let elf = compile(chip, &variant, &folder, &name)?;
            let bytes = fs::read(&elf)?;
            for round in 0..6 {
                let mut options = if round == 0 { Vec::new() } else { options(&mut rng, chip) };
                if chip.image.format == ImageFormat::Esp8266 && round == 0 {
                    options = vec!["--version".into(), "2".into()];
                }
                let output = format!("{name}-{round}-out-");
                let mut argv: Vec<String> = ["--chip", chip.id, "elf2image", "-o"].map(str::to_owned).to_vec();
                argv.push(format!("@/{output}"));
                argv.extend(options.iter().cloned());
                argv.push(format!("@/{name}.elf"));
                questions.push(json!({"op": "elf2image", "argv": argv, "output": output}));
                asked.push((chip, name.clone(), bytes.clone(), options));
            }
        }
    }
    let answers = ask(&folder, &questions)?;
    let accepted = answers.iter().filter(|answer| answer["out"].is_object()).count();
    let mut report = Report::default();
    for ((chip, name, elf, options), answer) in asked.into_iter().zip(answers) {
        let options = options.iter().map(String::as_str);
        report.add(same_image(&name, chip.id, options, &elf, &renamed(&answer["out"])));
    }
    if accepted < 100 {
        return fail(format!("only {accepted} of the programs became images"));
    }
    report.finish()?;
    fs::remove_dir_all(folder)?;
    Ok(())
}

fn lines() -> Result<(), Stop> {
    let folder = reference::scratch("compiled-lines");
    for (id, tool) in [("esp32c3", "riscv64-unknown-elf-addr2line"), ("esp8266", "xtensa-lx106-elf-addr2line")] {
        let chip = chip::by_name(id).ok_or_else(|| Stop::Failed(format!("no {id}")))?;
        let variant = Variant { app_description: false, page_log2: 0, scale: 9, debug: true };
        let elf = compile(chip, &variant, &folder, id)?;
        let bytes = fs::read(&elf)?;
        let program = Program::parse(&bytes)?;
        let code = || program.code().iter().flat_map(|(start, size)| (*start..start + size).step_by(2));
        // Literals between functions are no code.
        let list: Vec<u32> = code().filter(|address| program.symbol(*address).is_some()).collect();
        let mut oracle = Command::new(tool);
        oracle.args(["-e"]).arg(&elf).args(list.iter().map(|address| format!("{address:#x}")));
        let answer = String::from_utf8_lossy(&reference::run(&mut oracle)?.stdout).into_owned();
        let (mut compared, mut differ) = (0, Vec::new());
        for (address, theirs) in list.iter().zip(answer.lines()) {
            let place = theirs.split(" (").next().unwrap_or_default();
            let Some((_, line)) = place.rsplit_once(':').filter(|(file, line)| *file != "??" && *line != "?") else {
                continue;
            };
            compared += 1;
            let ours = program.locate(*address).first().and_then(|at| at.line).unwrap_or(0).to_string();
            if ours != line {
                differ.push(format!("{address:#x}: {ours}, addr2line {line}"));
            }
        }
        if compared < 50 || !differ.is_empty() {
            return fail(format!("{id}: {compared} compared, {differ:?}"));
        }
        let mut found = 0;
        mutate(&[bytes], 10_000, |bytes| {
            if let Ok(program) = Program::parse(bytes) {
                found += list.iter().step_by(29).filter(|address| !program.locate(**address).is_empty()).count();
            }
        });
        if found < 1000 {
            return fail(format!("{id}: only {found} lookups in damaged programs found something"));
        }
    }
    fs::remove_dir_all(folder)?;
    Ok(())
}

/// A crash at the start of a function, whose first parameter has this value.
fn crash_in(program: &Program<'_>, function: &str, first: u32) -> Panic {
    let start = program.address_of(function).map_or(0, |(start, _)| start);
    let (counter, parameter) = match program.arch() {
        Arch::Riscv => ("MEPC", "A0"),
        Arch::Xtensa => ("PC", "A2"),
    };
    let registers = vec![(counter.to_owned(), start), (parameter.to_owned(), first)];
    Panic { sort: "exception", registers, fault: "load", ..Panic::default() }
}

fn members() -> Result<(), Stop> {
    let folder = reference::scratch("compiled-members");
    for id in ["esp32c3", "esp8266"] {
        let chip = chip::by_name(id).ok_or_else(|| Stop::Failed(format!("no {id}")))?;
        let variant = Variant { app_description: false, page_log2: 0, scale: 9, debug: true };
        let bytes = fs::read(compile_file("members.c", chip, &variant, &folder, id)?)?;
        let program = Program::parse(&bytes)?;
        let told = |function, first, offset| {
            NullMember::words(&null_members(&crash_in(&program, function, first), &program, offset))
        };
        for (function, first, offset, want) in [
            ("high", 0, 8, "`limits[0].high` of const reading through `reading`, which is null"),
            ("high", 0, 24, "`limits[2].high` of const reading through `reading`, which is null"),
            ("high", 0, 28, "`raw` of const reading through `reading`, which is null"),
            // A pointer that is not null is not the one; what it points to is not in the log.
            ("high", 0x3ffb_0000, 8, "perhaps `limits[0].high` of reading through `reading->next`"),
            ("last_raw", 0x3ffb_0000, 28, "perhaps `raw` of reading through `station->last`"),
            ("of_current", 7, 12, "perhaps `last` of station through `current`"),
            ("high", 0, 400, ""),
        ] {
            let found = told(function, first, offset).replace("const const", "const");
            if found != want && found != want.replace("const ", "") {
                return fail(format!("{id}: {function} {first:#x} + {offset}: {found:?}, not {want:?}"));
            }
        }
    }
    fs::remove_dir_all(folder)?;
    Ok(())
}
