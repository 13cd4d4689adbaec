//! The RV32 core against QEMU's user-mode emulator (`qemu-riscv32`), an independent implementation: random programs must leave the
//! same registers and memory. Without QEMU the cases count as ignored.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::process::{Command, ExitCode};

use esp_machine::{Config, Machine, Stop};
use libtest_mimic::{Arguments, Failed, Trial};

/// A chip, and where in its memory programs and their data lie.
#[derive(Clone, Copy)]
struct Target {
    chip: &'static str,
    code: u32,
    data: u32,
}

const INTEGERS: Target = Target { chip: "esp32c6", code: 0x4081_0000, data: 0x4082_0000 };
const FLOATS: Target = Target { chip: "esp32p4", code: 0x4ff1_0000, data: 0x4ff2_0000 };
/// Registers, then memory that programs load from and store to.
const DUMPED: usize = 128 + 512;
const ROUNDS: u64 = 40;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    fn below(&mut self, limit: u32) -> u32 {
        self.next() % limit
    }
}

fn long(code: &mut Vec<u8>, word: u32) {
    code.extend(word.to_le_bytes());
}

fn short(code: &mut Vec<u8>, half: u32) {
    code.extend((half as u16).to_le_bytes());
}

fn load_constant(code: &mut Vec<u8>, register: u32, value: u32) {
    long(code, value.wrapping_add(0x800) & 0xffff_f000 | register << 7 | 0x37);
    long(code, (value & 0xfff) << 20 | register << 15 | register << 7 | 0x13);
}

fn store(source: u32, base: u32, offset: u32, width: u32) -> u32 {
    offset >> 5 << 25 | source << 20 | base << 15 | width << 12 | (offset & 31) << 7 | 0x23
}

/// x30 and x31 point to memory; any other register may be anything.
fn instruction(random: &mut Random, code: &mut Vec<u8>) {
    let (rd, rs1, rs2) = (random.below(30), random.below(32), random.below(32));
    let wide = 128 + 4 * random.below(64);
    match random.below(7) {
        0 => {
            let funct7 = [0, 0, 1, 1, 0x20][random.below(5) as usize];
            let funct3 = if funct7 == 0x20 { [0, 5][random.below(2) as usize] } else { random.below(8) };
            long(code, funct7 << 25 | rs2 << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | 0x33);
        }
        1 => {
            let funct3 = random.below(8);
            let immediate = match funct3 {
                1 => random.below(32),
                5 => random.below(32) | random.below(2) << 10,
                _ => random.below(0x1000),
            };
            long(code, immediate << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | 0x13);
        }
        2 => {
            let width = [0, 1, 2, 4, 5][random.below(5) as usize];
            long(code, wide << 20 | 31 << 15 | width << 12 | rd << 7 | 0x03);
        }
        3 => long(code, store(rs2, 31, wide, random.below(3))),
        4 => {
            let funct3 = [0, 1, 4, 5, 6, 7][random.below(6) as usize];
            // Over the next instruction, or not.
            long(code, rs2 << 20 | rs1 << 15 | funct3 << 12 | 8 << 7 | 0x63);
            long(code, random.below(0x1000) << 20 | rs1 << 15 | rd << 7 | 0x13);
        }
        5 => {
            let funct5 = [0, 1, 4, 8, 12, 16, 20, 24, 28][random.below(9) as usize];
            long(code, funct5 << 27 | rs2 << 20 | 30 << 15 | 2 << 12 | rd << 7 | 0x2f);
        }
        _ => compressed(random, code),
    }
}

fn compressed(random: &mut Random, code: &mut Vec<u8>) {
    // Registers x3 … x29 for the long forms, x8 … x15 for the short ones.
    let (full, other) = (3 + random.below(27), 1 + random.below(31));
    let (low, high) = (random.below(8), random.below(8));
    let bits = random.below(31) + 1;
    short(
        code,
        match random.below(9) {
            0 => full << 7 | bits << 2 | 1,
            1 => 2 << 13 | random.below(2) << 12 | full << 7 | bits << 2 | 1,
            2 => 3 << 13 | random.below(2) << 12 | full << 7 | bits << 2 | 1,
            3 => 4 << 13 | random.below(2) << 10 | low << 7 | bits << 2 | 1,
            4 => 4 << 13 | random.below(2) << 12 | 2 << 10 | low << 7 | bits << 2 | 1,
            5 => 4 << 13 | 3 << 10 | low << 7 | random.below(4) << 5 | high << 2 | 1,
            6 => full << 7 | bits << 2 | 2,
            7 => 4 << 13 | full << 7 | other << 2 | 2,
            _ => 4 << 13 | 1 << 12 | full << 7 | other << 2 | 2,
        },
    );
}

/// The program; behind `stop` are the system calls that show the result.
fn program(target: Target, seed: u64) -> (Vec<u8>, u32) {
    let mut random = Random(seed | 1);
    let mut code = Vec::new();
    for register in 1..30 {
        let value = [random.next(), random.below(40), 0, !0, 1 << 31][random.below(5) as usize];
        load_constant(&mut code, register, value);
    }
    load_constant(&mut code, 31, target.data);
    load_constant(&mut code, 30, target.data + 256);
    for _ in 0..400 {
        instruction(&mut random, &mut code);
    }
    while !code.len().is_multiple_of(4) {
        short(&mut code, 1);
    }
    finish(target, code)
}

/// Stores the registers and shows all of it; where that begins.
fn finish(target: Target, mut code: Vec<u8>) -> (Vec<u8>, u32) {
    for register in 1..31 {
        long(&mut code, store(register, 31, 4 * register, 2));
    }
    let stop = target.code + code.len() as u32;
    for (register, value) in [(10, 1), (11, target.data), (12, DUMPED as u32), (17, 64)] {
        load_constant(&mut code, register, value);
    }
    long(&mut code, 0x73);
    load_constant(&mut code, 10, 0);
    load_constant(&mut code, 17, 93);
    long(&mut code, 0x73);
    (code, stop)
}

/// A number, or one of those at which something changes.
fn single(random: &mut Random) -> u32 {
    const EDGES: [u32; 14] = [
        0,
        0x3f80_0000,
        0x7f80_0000,
        0x7fc0_0000,
        0x7f80_0001,
        0x7fff_ffff,
        0x0080_0000,
        0x007f_ffff,
        1,
        0x7f7f_ffff,
        0x4f00_0000,
        0x4f80_0000,
        0x3eff_ffff,
        0x3f00_0000,
    ];
    let sign = random.below(2) << 31;
    match random.below(4) {
        0 => random.next(),
        1 => sign | EDGES[random.below(EDGES.len() as u32) as usize],
        // Near 1 and near the smallest: sums, quotients and roots that need rounding.
        2 => sign | (0x7e + random.below(4)) << 23 | random.below(1 << 23),
        _ => sign | random.below(32) << 23 | random.below(1 << 23),
    }
}

/// Single precision: arithmetic in every rounding mode, conversions, comparisons, moves; flags are read in between.
fn float_instruction(random: &mut Random, code: &mut Vec<u8>) {
    let (rd, rs1, rs2, rs3) = (random.below(32), random.below(32), random.below(32), random.below(32));
    let x = random.below(30);
    let mode = [0, 1, 2, 3, 4, 7][random.below(6) as usize];
    let operation = |funct7: u32, rs2: u32, rs1: u32, form: u32, rd: u32| {
        funct7 << 25 | rs2 << 20 | rs1 << 15 | form << 12 | rd << 7 | 0x53
    };
    let form = random.below(3);
    let half = random.below(2);
    long(
        code,
        match random.below(13) {
            0 | 1 => operation(random.below(4) << 2, rs2, rs1, mode, rd),
            2 => operation(0x2c, 0, rs1, mode, rd),
            3 | 4 => rs3 << 27 | rs2 << 20 | rs1 << 15 | mode << 12 | rd << 7 | (0x43 + 4 * random.below(4)),
            5 => operation(0x10, rs2, rs1, form, rd),
            6 => operation(0x14, rs2, rs1, half, rd),
            7 => operation(0x50, rs2, rs1, form, x),
            8 => operation(0x60, half, rs1, mode, x),
            9 => operation(0x68, half, x, mode, rd),
            10 => operation(0x70, 0, rs1, half, x),
            // FSRM, or FRFLAGS.
            11 => 2 << 20 | (5 + random.below(2)) << 12 | 1 << 15 | 0x73,
            _ => 1 << 20 | 2 << 12 | x << 7 | 0x73,
        },
    );
}

fn float_program(target: Target, seed: u64) -> (Vec<u8>, u32) {
    let mut random = Random(seed | 1);
    let mut code = Vec::new();
    for register in 1..30 {
        let value = [random.next(), random.below(40), 0, !0, 1 << 31][random.below(5) as usize];
        load_constant(&mut code, register, value);
    }
    load_constant(&mut code, 31, target.data);
    for register in 0..32 {
        load_constant(&mut code, 30, single(&mut random));
        long(&mut code, 0x78 << 25 | 30 << 15 | register << 7 | 0x53);
    }
    for step in 0..400 {
        // What has become a NaN is a number again now and then.
        if step % 4 == 0 {
            let register = random.below(32);
            load_constant(&mut code, 30, single(&mut random));
            long(&mut code, 0x78 << 25 | 30 << 15 | register << 7 | 0x53);
        }
        float_instruction(&mut random, &mut code);
    }
    for register in 0..32 {
        let offset = 128 + 4 * register;
        long(&mut code, offset >> 5 << 25 | register << 20 | 31 << 15 | 2 << 12 | (offset & 31) << 7 | 0x27);
    }
    // FLW of what was just stored, and the control register.
    long(&mut code, 132 << 20 | 31 << 15 | 2 << 12 | 7 << 7 | 0x07);
    long(&mut code, 0x70 << 25 | 7 << 15 | 30 << 7 | 0x53);
    long(&mut code, store(30, 31, 300, 2));
    long(&mut code, 3 << 20 | 2 << 12 | 30 << 7 | 0x73);
    long(&mut code, store(30, 31, 304, 2));
    finish(target, code)
}

fn here(target: Target, code: &[u8], stop: u32) -> Vec<u8> {
    let mut machine = Machine::new(Config::new(target.chip, 1 << 20).unwrap()).unwrap();
    assert!(machine.poke(target.code, code) && machine.poke(target.data, &[0; DUMPED]));
    let core = machine.cores[0].get_mut();
    core.set_pc(target.code);
    // MSTATUS.FS, by the number that GDB has for it: an operating system does that.
    core.set_register(65 + 0x300, 0x2000);
    machine.set_breakpoints(&[stop]);
    let end = machine.now() + 1_000_000_000_000;
    assert_eq!(machine.run(end), Stop::Breakpoint { core: 0 });
    machine.peek(target.data, DUMPED)
}

/// A static program for Linux: one segment with the code, one with the data.
fn elf(target: Target, code: &[u8]) -> Vec<u8> {
    let Target { code: at, data, .. } = target;
    let mut file = vec![0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut put = |words: &[u32]| words.iter().for_each(|word| file.extend(word.to_le_bytes()));
    put(&[2 | 243 << 16, 1, at, 52, 0, 1, 52 | 32 << 16, 2 | 40 << 16, 0]);
    let length = code.len() as u32;
    put(&[1, 0x1000, at, at, length, length, 5, 0x1000]);
    put(&[1, 0x4000, data, data, DUMPED as u32, DUMPED as u32, 6, 0x1000]);
    file.resize(0x1000, 0);
    file.extend(code);
    file.resize(0x4000 + DUMPED, 0);
    file
}

fn agrees(target: Target, program: fn(Target, u64) -> (Vec<u8>, u32)) -> Result<(), Failed> {
    let path = std::env::temp_dir().join(format!("esp-machine-{}-{}", target.chip, std::process::id()));
    for seed in 1..=ROUNDS {
        let (code, stop) = program(target, seed * 0x9e37_79b9);
        std::fs::write(&path, elf(target, &code))?;
        #[cfg(unix)]
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        let there = Command::new("qemu-riscv32").arg(&path).output()?.stdout;
        let here = here(target, &code, stop);
        if there != here {
            let at = there.iter().zip(&here).position(|(a, b)| a != b);
            return Err(
                format!("seed {seed}: {} and {} bytes, first difference at {at:?}", there.len(), here.len()).into()
            );
        }
    }
    std::fs::remove_file(&path)?;
    Ok(())
}

fn main() -> ExitCode {
    let missing = Command::new("qemu-riscv32").arg("--version").output().is_err();
    let integers = Trial::test("random_programs_leave_what_qemu_leaves", || agrees(INTEGERS, program));
    let floats = Trial::test("random_calculations_leave_what_qemu_leaves", || agrees(FLOATS, float_program));
    let trials = [integers, floats].map(|trial| trial.with_ignored_flag(missing));
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
}
