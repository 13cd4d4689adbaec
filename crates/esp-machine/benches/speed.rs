//! How fast firmware runs, in processor time: loops of instructions, a boot up to the app's first line, idling.
//! `cargo bench -p esp-machine --bench speed`; what the figures mean: docs/performance.md. Linux only (it reads
//! `/proc/self/schedstat`); the boots need the corpus (`MCP_ESPTOOL_CORPUS`). Each figure is the best of several runs: a core that is
//! shared with other work is slower, never faster.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types)]

use std::path::{Path, PathBuf};

use esp_machine::device::CoreRequest;
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

/// Runs of each measurement.
const ROUNDS: usize = 5;

/// In download mode no watchdog guards the start: the loops go on.
fn unguarded(chip: &str) -> Machine {
    let mut config = Config::new(chip, 4 << 20).unwrap();
    config.download = true;
    Machine::new(config).unwrap()
}

/// The most instructions a second, in millions.
fn rate(machine: &mut Machine) -> f64 {
    let rates = (0..ROUNDS).map(|_| {
        let (before, began) = (machine.instructions(), spent());
        while machine.instructions() - before < 60_000_000 {
            machine.run(machine.now() + SECOND);
            machine.take_events();
        }
        (machine.instructions() - before) as f64 / 1e6 / (spent() - began)
    });
    rates.fold(0.0, f64::max)
}

fn loops() {
    for (name, program) in LOOPS {
        let mut machine = unguarded("esp32c3");
        let bytes: Vec<u8> = program.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert!(machine.poke(0x4038_0000, &bytes));
        machine.cores[0].get_mut().set_pc(0x4038_0000);
        println!("RV32, {name}: {:.0} million instructions a second", rate(&mut machine));
    }
}

/// The same for Xtensa, with a4 for an address: xor, slli, extui, or, addi, bnez, j; l32i, s32i, l8ui, s8i, addi, j.
const XTENSA: &[(&str, &[u8])] = &[
    ("arithmetic", b"\x30\x22\x30\xb0\x62\x11\x20\x50\xa5\x50\x26\x20\x32\xc3\x01\x56\xd3\xfe\x86\xfa\xff"),
    ("memory", b"\x22\x24\x00\x22\x64\x10\x32\x04\x03\x32\x44\x07\x52\xc5\x01\x46\xfb\xff"),
];

/// Loops on all cores of a chip at once, in turns.
fn xtensa() {
    for (chip, cores, code, data) in [
        ("esp32", 2, 0x4008_8000, 0x3ffe_0000),
        ("esp32s2", 1, 0x4002_8000, 0x3ffc_0000),
        ("esp32s3", 2, 0x4037_8000, 0x3fc9_0000),
    ] {
        for (name, program) in XTENSA {
            let mut machine = unguarded(chip);
            assert!(machine.poke(code, program));
            if cores == 2 {
                machine.soc.shared.second_core = Some(CoreRequest::Start(code));
            }
            machine.run(MILLISECOND / 100);
            for core in &mut machine.cores {
                let core = core.get_mut();
                assert!(core.set_register(5, data) && core.set_register(69, 0));
                core.set_pc(code);
            }
            println!("{chip}, {cores} cores, {name}: {:.0} million instructions a second", rate(&mut machine));
            assert!((0..cores).all(|core| machine.is_running(core)), "{chip}: a core stands still");
        }
    }
}

fn corpus(name: &str) -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    std::env::var_os("MCP_ESPTOOL_CORPUS").map_or(beside, PathBuf::from).join(name)
}

/// Applications of the corpus: chip, folder, bootloader's place, app, and what it says first.
const APPS: &[(&str, &str, u32, &str, &str)] = &[
    ("esp32c3", "hello-c3", 0, "hello_world.bin", "queue free spaces"),
    ("esp32", "blink-esp32", 0x1000, "blink.bin", "LED"),
    ("esp32s3", "blink-s3", 0, "blink.bin", "LED"),
];

fn app(index: usize) -> Option<Machine> {
    let (chip, folder, offset, app, _) = APPS.get(index)?;
    let mut config = Config::new(chip, 4 << 20)?;
    config.flash.load(0x8000, &bootable::factory_table());
    for (offset, file) in [(*offset, "bootloader_bootloader.bin"), (0x1_0000, *app)] {
        config.flash.load(offset, &std::fs::read(corpus(&format!("build/{folder}/{file}"))).ok()?);
    }
    Machine::new(config).ok()
}

/// From the reset to a text on the console, then 20 virtual seconds more: processor time, virtual time, instructions.
fn boot(index: usize) -> Option<[(f64, u64, u64); 2]> {
    let began = spent();
    let mut machine = app(index)?;
    let mut console = String::new();
    let run = |machine: &mut Machine, console: &mut String, end: u64| {
        machine.run(end);
        console.extend(machine.take_events().into_iter().filter_map(|event| match event.what {
            What::Uart { port: 0, byte } => Some(char::from(byte)),
            _ => None,
        }));
    };
    while !console.contains(APPS[index].4) && machine.now() < 2 * SECOND {
        let end = machine.now() + MILLISECOND;
        run(&mut machine, &mut console, end);
    }
    let (time, instructions) = (machine.now(), machine.instructions());
    let first = (spent() - began, time, instructions);
    let (began, end) = (spent(), machine.now() + 20 * SECOND);
    while machine.now() < end {
        run(&mut machine, &mut console, end);
    }
    Some([first, (spent() - began, machine.now() - time, machine.instructions() - instructions)])
}

fn boots() {
    for (index, (chip, folder, ..)) in APPS.iter().enumerate() {
        let runs: Option<Vec<_>> = (0..ROUNDS).map(|_| boot(index)).collect();
        let Some(runs) = runs else {
            println!("{chip}: no corpus");
            continue;
        };
        for (part, name) in ["reset to the first line", "20 virtual seconds more"].into_iter().enumerate() {
            let best = runs.iter().map(|run| run[part].0).fold(f64::MAX, f64::min);
            let (_, time, instructions) = runs[0][part];
            let (time, millions) = (time / MILLISECOND, instructions as f64 / 1e6);
            println!("{chip} {folder}, {name}: {best:.3} s ({time} ms virtual, {millions:.1} million instructions)");
        }
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
                    let mut machines: Vec<Machine> = (0..8).filter_map(|_| app(0)).collect();
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

/// A program that waits by polling a timer, for 20 virtual seconds.
fn polls() {
    // lui a0,0x60023; lui a1,0x40000; sw a1,4(a0); lw a2,68(a0); bltu x0,a1,-8
    let program = [0x6002_3537u32, 0x4000_05b7, 0x00b5_2223, 0x0445_2603, 0xfeb0_6ce3];
    let mut machine = unguarded("esp32c3");
    let bytes: Vec<u8> = program.iter().flat_map(|word| word.to_le_bytes()).collect();
    assert!(machine.poke(0x4038_0000, &bytes));
    machine.cores[0].get_mut().set_pc(0x4038_0000);
    let began = spent();
    machine.run(20 * SECOND);
    println!("20 virtual seconds of polling a timer: {:.3} s", spent() - began);
}

fn main() {
    loops();
    xtensa();
    boots();
    polls();
    sixteen();
}
