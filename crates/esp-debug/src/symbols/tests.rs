use super::*;
use esp_model::chip::Arch;
use esp_model::coredump::Registers;

struct Words(Vec<(u32, Vec<u8>)>);

impl Words {
    fn new(start: u32, words: &[u32]) -> Self {
        Self(vec![(start, words.iter().flat_map(|word| word.to_le_bytes()).collect())])
    }
}

impl Memory for Words {
    fn read(&self, address: u32, len: usize) -> Option<&[u8]> {
        self.0.iter().find_map(|(start, bytes)| {
            let at = address.checked_sub(*start)? as usize;
            bytes.get(at..at + len)
        })
    }
}

#[test]
fn xtensa_windows_are_walked_up_the_stack() {
    // Two call8 frames: the callee's a0–a3 save area lies 16 bytes below each stack pointer.
    let mut stack = vec![0u32; 64];
    let base = 0x3ffb_0000u32;
    // Frame 0 has sp = base + 64; its caller's a0–a3 are at sp − 16.
    stack[12..16].copy_from_slice(&[0x800d_2222, base + 128, 7, 8]);
    // The caller's caller's a0–a3 are below base + 128: the chain ends there with a0 = 0.
    stack[28..32].copy_from_slice(&[0, base + 192, 9, 10]);
    // a4–a7 of frame 1 lie 32 bytes below the stack pointer of its own caller (base + 128, read at base + 64 − 12 …).
    let memory = Words::new(base, &stack);
    let mut general = vec![0u32; 16];
    general[0] = 0x800d_1111;
    general[1] = base + 64;
    let start = Registers { arch: Arch::Xtensa, pc: 0x400d_0000, general, special: vec![] };
    let frames = Unwinder { programs: &[], memory: &memory, rom: None }.unwind(&start);
    let pcs: Vec<u32> = frames.iter().map(|frame| frame.pc).collect();
    assert_eq!(pcs, [0x400d_0000, 0x400d_1111, 0x400d_2222]);
    assert_eq!(frames[1].register(2), Some(7));
    assert_eq!(frames[2].register(3), Some(10));
}

#[test]
fn a_stack_that_runs_in_circles_ends() {
    let base = 0x3ffb_0000u32;
    let memory = Words::new(base, &[0x800d_1111, base + 16, 0, 0, 0, 0, 0, 0]);
    let mut general = vec![0u32; 16];
    general[0] = 0x800d_1111;
    general[1] = base + 16;
    let start = Registers { arch: Arch::Xtensa, pc: 0x400d_0000, general, special: vec![] };
    assert_eq!(Unwinder { programs: &[], memory: &memory, rom: None }.unwind(&start).len(), 1);
}

#[test]
fn files_that_are_no_elf_are_refused() {
    assert_eq!(Program::parse(b"").err(), Some(SymbolError::NotElf));
    assert_eq!(Program::parse(&[0xe9; 64]).err(), Some(SymbolError::NotElf));
}

/// A RISC-V ELF file with one section of code and nothing to unwind it by.
fn code_only(address: u32, code: &[u8]) -> Vec<u8> {
    let (names, code_at) = (b"\0.text\0.names\0", 52 + 32);
    let names_at = code_at + code.len() as u32;
    let sections_at = (names_at + names.len() as u32).next_multiple_of(4);
    let mut out = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let halves = |out: &mut Vec<u8>, values: &[u16]| values.iter().for_each(|value| out.extend(value.to_le_bytes()));
    let words = |out: &mut Vec<u8>, values: &[u32]| values.iter().for_each(|value| out.extend(value.to_le_bytes()));
    halves(&mut out, &[2, 243]);
    words(&mut out, &[1, address, 52, sections_at, 0]);
    halves(&mut out, &[52, 32, 1, 40, 3, 2]);
    words(&mut out, &[1, code_at, address, address, code.len() as u32, code.len() as u32, 5, 4]);
    out.extend(code);
    out.extend(names);
    out.resize(sections_at as usize, 0);
    words(&mut out, &[0; 10]);
    words(&mut out, &[1, 1, 6, address, code_at, code.len() as u32, 0, 0, 4, 0]);
    words(&mut out, &[7, 3, 0, 0, names_at, names.len() as u32, 0, 0, 1, 0]);
    out
}

/// The ROM's own file must not hide frames that are found without it.
#[test]
fn rom_file_keeps_the_frames_in_the_rom() {
    let (base, rom, call) = (0x3fc9_0000u32, 0x4004_8000u32, 0x4004_8722u32);
    let mut code = vec![0x13; 0x1000];
    // jal ra before the return address; nothing of that kind before 0x40048800.
    code[(call - 4 - rom) as usize..][..4].copy_from_slice(&0x0000_00efu32.to_le_bytes());
    let file = code_only(rom, &code);
    let program = Program::parse(&file).unwrap();
    let memory = Words::new(base, &[rom + 0x800, 0, call, 0, 0, 0]);
    let mut general = vec![0u32; 32];
    general[2] = base;
    let start = Registers { arch: Arch::Riscv, pc: 0x4200_0000, general, special: vec![] };
    let pcs = |programs: &[&Program]| {
        let unwinder = Unwinder { programs, memory: &memory, rom: Some((0x4000_0000, 0x4006_0000)) };
        unwinder.unwind(&start).iter().map(|frame| frame.pc).collect::<Vec<_>>()
    };
    assert_eq!(pcs(&[]), [0x4200_0000, rom + 0x800, call]);
    assert_eq!(pcs(&[&program]), [0x4200_0000, call], "only what follows a call");
}
