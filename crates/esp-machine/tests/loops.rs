//! Hardware loops of the cores that have them: the encodings are those of the tests of Espressif's LLVM, the programs' results
//! are counted by hand.
#![cfg(feature = "roms")]
#![allow(clippy::unwrap_used, missing_docs)]

use esp_machine::{Config, Machine, What};

const CODE: u32 = 0x4ff1_0000;
const A0: u32 = 10;
const A1: u32 = 11;
const A2: u32 = 12;
/// The unit is on: csrwi 0x7f1, 1.
const ON: u32 = 0x7f10_d073;
/// j .
const HERE: u32 = 0x6f;
const ILLEGAL: u32 = 2;

fn addi(rd: u32, rs: u32, value: u32) -> u32 {
    value << 20 | rs << 15 | rd << 7 | 0x13
}

/// esp.lp.setup ID, REGISTER, OFFSET (to the last instruction).
fn setup(id: u32, register: u32, offset: u32) -> u32 {
    (offset / 2) << 20 | register << 15 | 4 << 12 | id << 7 | 0x2b
}

/// esp.lp.setupi ID, COUNT, OFFSET.
fn setupi(id: u32, count: u32, offset: u32) -> u32 {
    count << 20 | (offset >> 1 & 31) << 15 | 5 << 12 | (offset >> 6 & 15) << 8 | id << 7 | 0x2b
}

/// esp.lp.starti, endi, count, counti: by their number.
fn single(number: u32, id: u32, high: u32, register: u32) -> u32 {
    high << 20 | register << 15 | number << 12 | id << 7 | 0x2b
}

fn run(program: &[u32]) -> Machine {
    let mut config = Config::new("esp32p4", 4 << 20).unwrap();
    config.download = true;
    let mut machine = Machine::new(config).unwrap();
    let bytes: Vec<u8> = program.iter().flat_map(|word| word.to_le_bytes()).collect();
    assert!(machine.poke(CODE, &bytes) && machine.poke(CODE + 0x100, &HERE.to_le_bytes()));
    let core = machine.cores[0].get_mut();
    for register in 1..32 {
        core.set_register(register, 0);
    }
    core.set_register(65 + 0x305, CODE + 0x100);
    core.set_pc(CODE);
    machine.run(machine.now() + 1_000_000_000);
    machine
}

fn register(machine: &Machine, number: u32) -> u32 {
    machine.cores[0].get().register(number as usize).unwrap()
}

/// GDB's number of a control register.
fn csr(machine: &Machine, number: usize) -> u32 {
    machine.cores[0].get().register(65 + number).unwrap()
}

#[test]
fn encodings_are_those_of_espressifs_assembler() {
    let bytes = |word: u32| word.to_le_bytes();
    assert_eq!(bytes(setup(0, A1, 2048)), [0x2b, 0xc0, 0x05, 0x40]);
    assert_eq!(bytes(setup(0, A1, 8190)), [0x2b, 0xc0, 0xf5, 0xff]);
    assert_eq!(bytes(single(0, 1, 8190 / 2, 0)), [0xab, 0x00, 0xf0, 0xff]);
    assert_eq!(bytes(single(1, 0, 4094 / 2, 0)), [0x2b, 0x10, 0xf0, 0x7f]);
    assert_eq!(bytes(single(2, 0, 0, A1)), [0x2b, 0xa0, 0x05, 0x00]);
    assert_eq!(bytes(single(3, 0, 4000, 0)), [0x2b, 0x30, 0x00, 0xfa]);
    assert_eq!(bytes(setupi(0, 100, 1022)), [0x2b, 0xdf, 0x4f, 0x06]);
}

#[test]
fn a_loop_has_as_many_rounds_as_its_count_says() {
    for count in [1, 2, 7, 1000] {
        // Two instructions a round, the last one compressed: c.addi a2, 2 with c.nop behind.
        let by_register = [ON, addi(A1, 0, count), setup(0, A1, 8), addi(A0, A0, 1), 0x0001_0609, HERE];
        let machine = run(&by_register);
        assert_eq!((register(&machine, A0), register(&machine, A2)), (count, 2 * count));
        assert_eq!(csr(&machine, 0x7c8), 0, "no round is left");
        let by_number = run(&[ON, setupi(1, count, 8), addi(A0, A0, 1), addi(A2, A2, 3), HERE]);
        assert_eq!((register(&by_number, A0), register(&by_number, A2)), (count, 3 * count));
        let in_parts = [
            ON,
            single(0, 0, 16 / 2, 0),
            single(1, 0, 16 / 2, 0),
            single(3, 0, count, 0),
            0x13,
            addi(A0, A0, 1),
            addi(A2, A2, 1),
            HERE,
        ];
        let machine = run(&in_parts);
        // 16 bytes behind the instructions that say so are the two additions.
        assert_eq!((register(&machine, A0), register(&machine, A2)), (count, count));
    }
}

#[test]
fn a_loop_in_a_loop_has_all_its_rounds_each_time() {
    // 5 times: a2 += 1; 3 times a0 += 1; a1 += 1.
    let program = [ON, setupi(1, 5, 16), addi(A2, A2, 1), setupi(0, 3, 4), addi(A0, A0, 1), addi(A1, A1, 1), HERE];
    let machine = run(&program);
    assert_eq!([A0, A1, A2].map(|number| register(&machine, number)), [15, 5, 5]);
}

#[test]
fn a_loop_that_is_left_by_a_branch_keeps_its_rounds() {
    // 9 times: a0 += 1; beq a0, a1, out (a1 = 4); nop.
    let program = [ON, addi(A1, 0, 4), setupi(0, 9, 12), addi(A0, A0, 1), 0x00b5_0463, 0x13, HERE];
    let machine = run(&program);
    assert_eq!((register(&machine, A0), csr(&machine, 0x7c8)), (4, 6));
}

#[test]
fn loops_that_are_off_are_illegal_and_say_why() {
    let machine = run(&[setupi(0, 3, 8), addi(A0, A0, 1), HERE]);
    assert_eq!(register(&machine, A0), 0);
    assert_eq!((csr(&machine, 0x342) & 0xfff, csr(&machine, 0x7f0) & 2), (ILLEGAL, 2));
}

#[test]
fn an_instruction_of_the_vector_unit_is_named() {
    // csrwi 0x7f2, 1; esp.zero.qacc by any version: an opcode of the unit.
    let mut machine = run(&[0x7f20_d073, 0x0200_105f, HERE]);
    let named = machine.take_events().into_iter().any(|event| match event.what {
        What::Unmodelled { name, pc, .. } => name.contains("0x0200105f of the vector unit") && pc == CODE + 4,
        _ => false,
    });
    assert!(named);
    // While the unit is off the system is told, and nobody else.
    let mut machine = run(&[0x0200_105f, HERE]);
    assert_eq!(csr(&machine, 0x7f0) & 4, 4);
    assert!(!machine.take_events().iter().any(|event| format!("{event:?}").contains("vector unit")));
}
