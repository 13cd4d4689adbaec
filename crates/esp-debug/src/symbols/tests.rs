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
