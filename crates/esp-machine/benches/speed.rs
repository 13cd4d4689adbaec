//! How fast firmware runs, in processor time: loops of instructions, a boot up to the app's first line, idling.
//! `cargo bench -p esp-machine --bench speed`; what the figures mean: docs/performance.md. Linux only (it reads
//! `/proc/self/schedstat`); the boots need the corpus (`MCP_ESPTOOL_CORPUS`).
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types)]

use std::path::{Path, PathBuf};

use esp_machine::{Config, Machine, What};

#[path = "../tests/support/bootable.rs"]
#[allow(dead_code)]
mod bootable;

const MILLISECOND: u64 = 1_000_000_000;
const SECOND: u64 = 1000 * MILLISECOND;

/// Processor time of this process in seconds.
fn spent() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

/// Loops in RAM: register arithmetic, memory, calls. They never end.
const LOOPS: &[(&str, &[u32])] = &[
    // xor a0,a0,a1; slli a2,a0,5; srli a3,a0,27; or a0,a2,a3; addi a1,a1,1; bnez a1,-20; j -24
    ("arithmetic", &[0x00b5_4533, 0x0055_1613, 0x01b5_5693, 0x00d6_6533, 0x0015_8593, 0xfe05_96e3, 0xfe9f_f06f]),
    // lui a4,0x3fc90; lw a0,0(a4); sw a0,64(a4); lbu a1,3(a4); sb a1,7(a4); addi a4,a4,0; j -20
    ("memory", &[0x3fc9_0737, 0x0007_2503, 0x04a7_2023, 0x0037_4583, 0x00b7_03a3, 0x0007_0713, 0xfedf_f06f]),
    // addi a1,a1,3; mul a0,a1,a1; divu a2,a0,a1; j -12
    ("multiply and divide", &[0x0035_8593, 0x02b5_8533, 0x02b5_5633, 0xff5f_f06f]),
];

/// In download mode no watchdog guards the start: the loops go on.
fn unguarded() -> Machine {
    let mut config = Config::new("esp32c3", 4 << 20).unwrap();
    config.download = true;
    Machine::new(config).unwrap()
}

fn loops() {
    for (name, program) in LOOPS {
        let mut machine = unguarded();
        let bytes: Vec<u8> = program.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert!(machine.poke(0x4038_0000, &bytes));
        machine.cores[0].get_mut().set_pc(0x4038_0000);
        let (before, began) = (machine.instructions(), spent());
        while machine.instructions() - before < 200_000_000 {
            machine.run(machine.now() + SECOND);
            machine.take_events();
        }
        let millions = (machine.instructions() - before) as f64 / 1e6;
        println!("{name}: {:.0} million instructions a second", millions / (spent() - began));
    }
}

fn corpus(name: &str) -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    std::env::var_os("MCP_ESPTOOL_CORPUS").map_or(beside, PathBuf::from).join(name)
}

fn boot() {
    let files = [(0, "build/hello-c3/bootloader_bootloader.bin"), (0x1_0000, "build/hello-c3/hello_world.bin")];
    let mut config = Config::new("esp32c3", 4 << 20).unwrap();
    config.flash.load(0x8000, &bootable::factory_table());
    for (offset, file) in files {
        let Ok(bytes) = std::fs::read(corpus(file)) else { return println!("boot: no corpus") };
        config.flash.load(offset, &bytes);
    }
    let began = spent();
    let mut machine = Machine::new(config).unwrap();
    println!("made in {:.3} s, {} KB of memory", spent() - began, machine.soc.memory.size() / 1024);
    let (began, mut console) = (spent(), Vec::new());
    let until = |machine: &mut Machine, console: &mut Vec<u8>, end: u64| {
        machine.run(end);
        console.extend(machine.take_events().into_iter().filter_map(|event| match event.what {
            What::Uart { port: 0, byte } => Some(byte),
            _ => None,
        }));
    };
    while !String::from_utf8_lossy(&console).contains("queue free spaces") && machine.now() < SECOND {
        let end = machine.now() + MILLISECOND;
        until(&mut machine, &mut console, end);
    }
    let (time, instructions) = (machine.now() / MILLISECOND, machine.instructions());
    println!(
        "reset to the app's first line: {:.3} s ({time} ms of virtual time, {:.1} million instructions)",
        spent() - began,
        instructions as f64 / 1e6
    );
    let (began, end) = (spent(), machine.now() + 20 * SECOND);
    while machine.now() < end {
        until(&mut machine, &mut console, end);
    }
    let executed = (machine.instructions() - instructions) as f64 / 1e6;
    println!("20 virtual seconds of the app: {:.3} s ({executed:.1} million instructions)", spent() - began);
}

/// The ROMs of the Xtensa chips poll their UARTs in download mode: real code, no idling.
fn xtensa() {
    for chip in ["esp32", "esp32s2", "esp32s3"] {
        let mut config = Config::new(chip, 4 << 20).unwrap();
        config.download = true;
        let mut machine = Machine::new(config).unwrap();
        let (before, began, end) = (machine.instructions(), spent(), machine.now() + 4 * SECOND);
        while machine.now() < end {
            machine.run(end);
            machine.take_events();
        }
        let millions = (machine.instructions() - before) as f64 / 1e6;
        println!("{chip}, its ROM: {:.0} million instructions a second", millions / (spent() - began));
    }
}

/// Applications of the corpus, from the reset to a text on the console, then 20 virtual seconds more.
const APPS: &[(&str, &str, u32)] = &[("esp32", "blink-esp32", 0x1000), ("esp32s3", "blink-s3", 0)];
const FIRST_LINE: &str = "LED";

fn apps() {
    for (chip, folder, offset) in APPS {
        let mut config = Config::new(chip, 4 << 20).unwrap();
        config.flash.load(0x8000, &bootable::factory_table());
        let read = |name: &str| std::fs::read(corpus(&format!("build/{folder}/{name}")));
        let (Ok(bootloader), Ok(app)) = (read("bootloader_bootloader.bin"), read("blink.bin")) else {
            println!("{chip}: no corpus");
            continue;
        };
        config.flash.load(*offset, &bootloader);
        config.flash.load(0x1_0000, &app);
        let began = spent();
        let mut machine = Machine::new(config).unwrap();
        let mut console = String::new();
        let run = |machine: &mut Machine, console: &mut String, end: u64| {
            machine.run(end);
            console.extend(machine.take_events().into_iter().filter_map(|event| match event.what {
                What::Uart { port: 0, byte } => Some(char::from(byte)),
                _ => None,
            }));
        };
        while !console.contains(FIRST_LINE) && machine.now() < 2 * SECOND {
            let end = machine.now() + MILLISECOND;
            run(&mut machine, &mut console, end);
        }
        println!(
            "{chip}: reset to its first line {:.3} s ({} ms virtual)",
            spent() - began,
            machine.now() / MILLISECOND
        );
        let (began, end) = (spent(), machine.now() + 20 * SECOND);
        while machine.now() < end {
            run(&mut machine, &mut console, end);
        }
        println!("{chip}: 20 virtual seconds more {:.3} s", spent() - began);
    }
}

/// Kilobytes that the process has resident.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Sixteen machines with an application each, on two threads: real time for 10 virtual seconds, and memory.
fn sixteen() {
    let before = resident();
    let began = std::time::Instant::now();
    let machines: Vec<Machine> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut machines: Vec<Machine> = (0..8).filter_map(|_| hello()).collect();
                    for step in 1..=100u64 {
                        for machine in &mut machines {
                            machine.run(step * SECOND / 10);
                            machine.take_events();
                        }
                    }
                    machines
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let each = (resident() - before) / machines.len().max(1) as u64;
    println!(
        "{} machines, 10 virtual seconds: {:.2} s, {each} KB resident each, with 4 MB of flash",
        machines.len(),
        began.elapsed().as_secs_f64()
    );
}

fn hello() -> Option<Machine> {
    let mut config = Config::new("esp32c3", 4 << 20)?;
    config.flash.load(0x8000, &bootable::factory_table());
    for (offset, file) in [(0, "bootloader_bootloader.bin"), (0x1_0000, "hello_world.bin")] {
        config.flash.load(offset, &std::fs::read(corpus(&format!("build/hello-c3/{file}"))).ok()?);
    }
    Machine::new(config).ok()
}

/// A program that waits by polling a timer, for 20 virtual seconds.
fn polls() {
    // lui a0,0x60023; lui a1,0x40000; sw a1,4(a0); lw a2,68(a0); bltu x0,a1,-8
    let program = [0x6002_3537u32, 0x4000_05b7, 0x00b5_2223, 0x0445_2603, 0xfeb0_6ce3];
    let mut machine = unguarded();
    let bytes: Vec<u8> = program.iter().flat_map(|word| word.to_le_bytes()).collect();
    assert!(machine.poke(0x4038_0000, &bytes));
    machine.cores[0].get_mut().set_pc(0x4038_0000);
    let began = spent();
    machine.run(20 * SECOND);
    println!("20 virtual seconds of polling a timer: {:.3} s", spent() - began);
}

fn main() {
    loops();
    boot();
    polls();
    xtensa();
    apps();
    sixteen();
}
