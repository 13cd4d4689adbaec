//! The RV32 core against QEMU's user-mode emulator (`qemu-riscv32`), an independent implementation: random programs must leave the
//! same registers and memory. Without QEMU the cases count as ignored.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::process::{Command, ExitCode};

use esp_machine::{Config, Machine, Stop};
use libtest_mimic::{Arguments, Failed, Trial};

const CODE: u32 = 0x4081_0000;
const DATA: u32 = 0x4082_0000;
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
fn program(seed: u64) -> (Vec<u8>, u32) {
    let mut random = Random(seed | 1);
    let mut code = Vec::new();
    for register in 1..30 {
        let value = [random.next(), random.below(40), 0, !0, 1 << 31][random.below(5) as usize];
        load_constant(&mut code, register, value);
    }
    load_constant(&mut code, 31, DATA);
    load_constant(&mut code, 30, DATA + 256);
    for _ in 0..400 {
        instruction(&mut random, &mut code);
    }
    while !code.len().is_multiple_of(4) {
        short(&mut code, 1);
    }
    for register in 1..31 {
        long(&mut code, store(register, 31, 4 * register, 2));
    }
    let stop = CODE + code.len() as u32;
    for (register, value) in [(10, 1), (11, DATA), (12, DUMPED as u32), (17, 64)] {
        load_constant(&mut code, register, value);
    }
    long(&mut code, 0x73);
    load_constant(&mut code, 10, 0);
    load_constant(&mut code, 17, 93);
    long(&mut code, 0x73);
    (code, stop)
}

fn here(code: &[u8], stop: u32) -> Vec<u8> {
    let mut machine = Machine::new(Config::new("esp32c6", 1 << 20).unwrap()).unwrap();
    assert!(machine.poke(CODE, code) && machine.poke(DATA, &[0; DUMPED]));
    machine.cores[0].get_mut().set_pc(CODE);
    machine.set_breakpoints(&[stop]);
    let end = machine.now() + 1_000_000_000_000;
    assert_eq!(machine.run(end), Stop::Breakpoint { core: 0 });
    machine.peek(DATA, DUMPED)
}

/// A static program for Linux: one segment with the code, one with the data.
fn elf(code: &[u8]) -> Vec<u8> {
    let mut file = vec![0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut put = |words: &[u32]| words.iter().for_each(|word| file.extend(word.to_le_bytes()));
    put(&[2 | 243 << 16, 1, CODE, 52, 0, 1, 52 | 32 << 16, 2 | 40 << 16, 0]);
    let length = code.len() as u32;
    put(&[1, 0x1000, CODE, CODE, length, length, 5, 0x1000]);
    put(&[1, 0x4000, DATA, DATA, DUMPED as u32, DUMPED as u32, 6, 0x1000]);
    file.resize(0x1000, 0);
    file.extend(code);
    file.resize(0x4000 + DUMPED, 0);
    file
}

fn agrees() -> Result<(), Failed> {
    let path = std::env::temp_dir().join(format!("esp-machine-riscv-{}", std::process::id()));
    for seed in 1..=ROUNDS {
        let (code, stop) = program(seed * 0x9e37_79b9);
        std::fs::write(&path, elf(&code))?;
        #[cfg(unix)]
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        let there = Command::new("qemu-riscv32").arg(&path).output()?.stdout;
        let here = here(&code, stop);
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
    let trial = Trial::test("random_programs_leave_what_qemu_leaves", agrees).with_ignored_flag(missing);
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}
