//! Short instructions beyond C (Zcb, Zcmp, Zcmt), as LLVM encodes them; what they must do is counted by hand.
#![cfg(feature = "roms")]
#![allow(clippy::unwrap_used, missing_docs)]

use esp_machine::{Config, Machine};

const CODE: u32 = 0x2f01_0000;
const DATA: u32 = 0x2f02_0000;
/// j .
const HERE: [u16; 2] = [0x6f, 0];
const RA: usize = 1;
const SP: usize = 2;
const A0: usize = 10;

/// Runs a program with these registers until it stands at its end.
fn run(program: &[u16], registers: &[(usize, u32)], memory: &[u8]) -> Machine {
    let mut config = Config::new("esp32s31", 4 << 20).unwrap();
    config.download = true;
    let mut machine = Machine::new(config).unwrap();
    let halves = |halves: &[u16]| halves.iter().flat_map(|half| half.to_le_bytes()).collect::<Vec<u8>>();
    assert!(machine.poke(CODE, &halves(&[program, &HERE].concat())) && machine.poke(DATA, memory));
    assert!(machine.poke(CODE + 0x100, &halves(&HERE)));
    let core = machine.cores[0].get_mut();
    for register in 1..32 {
        core.set_register(register, 0x1000 + register as u32);
    }
    for (register, value) in registers {
        core.set_register(*register, *value);
    }
    core.set_pc(CODE);
    machine.run(machine.now() + 10_000_000);
    machine
}

fn register(machine: &Machine, number: usize) -> u32 {
    machine.cores[0].get().register(number).unwrap()
}

fn words(machine: &mut Machine, address: u32, count: usize) -> Vec<u32> {
    let bytes = machine.peek(address, 4 * count);
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
}

#[test]
fn registers_are_pushed_below_the_stacks_old_top() {
    // cm.push {ra, s0-s2}, -32
    let mut machine = run(&[0xb876], &[(SP, DATA + 0x100)], &[]);
    assert_eq!(register(&machine, SP), DATA + 0xe0);
    // From the top: s2, s1, s0, ra.
    assert_eq!(words(&mut machine, DATA + 0xf0, 4), [0x1001, 0x1008, 0x1009, 0x1012]);
    // cm.push {ra}, -16
    let mut machine = run(&[0xb842], &[(SP, DATA + 0x100)], &[]);
    assert_eq!((register(&machine, SP), words(&mut machine, DATA + 0xfc, 1)[0]), (DATA + 0xf0, 0x1001));
    // cm.push {ra, s0-s11}, -112
    let mut machine = run(&[0xb8fe], &[(SP, DATA + 0x100)], &[]);
    assert_eq!(register(&machine, SP), DATA + 0x90);
    let all: Vec<u32> = [1, 8, 9].into_iter().chain(18..28).map(|number| 0x1000 + number).collect();
    assert_eq!(words(&mut machine, DATA + 0xcc, 13), all);
}

#[test]
fn what_was_pushed_is_popped_and_returned_to() {
    // cm.push {ra, s0-s11}, -112; li s1, 0; li s11, 0; cm.pop {ra, s0-s11}, 112
    let machine = run(&[0xb8fe, 0x4481, 0x4d81, 0xbafe], &[(SP, DATA + 0x100)], &[]);
    assert_eq!([SP, 9, 27, RA].map(|number| register(&machine, number)), [DATA + 0x100, 0x1009, 0x101b, 0x1001]);
    // cm.popret {ra, s0}, 16: the return address is on the stack below s0.
    let stack: Vec<u8> = [0, 0, CODE + 0x100, 7].into_iter().flat_map(u32::to_le_bytes).collect();
    let machine = run(&[0xbe52], &[(SP, DATA)], &stack);
    assert_eq!((register(&machine, 32), register(&machine, 8)), (CODE + 0x100, 7));
    assert_eq!((register(&machine, SP), register(&machine, A0)), (DATA + 16, 0x100a));
    // cm.popretz {ra, s0-s5}, 48: a0 becomes 0.
    let mut stack = vec![0; 48];
    stack[20..24].copy_from_slice(&(CODE + 0x100).to_le_bytes());
    let machine = run(&[0xbca6], &[(SP, DATA)], &stack);
    assert_eq!([32, A0, SP].map(|number| register(&machine, number)), [CODE + 0x100, 0, DATA + 48]);
}

#[test]
fn pairs_are_moved_and_tables_jumped_by() {
    // cm.mva01s s3, s0
    let machine = run(&[0xade2], &[], &[]);
    assert_eq!([A0, A0 + 1].map(|number| register(&machine, number)), [0x1013, 0x1008]);
    // cm.mvsa01 s1, s7
    let machine = run(&[0xacbe], &[], &[]);
    assert_eq!([9, 23].map(|number| register(&machine, number)), [0x100a, 0x100b]);
    // cm.jt 3, cm.jalt 40, by the table at DATA (jvt).
    let mut table = vec![0; 256];
    table[12..16].copy_from_slice(&(CODE + 0x100).to_le_bytes());
    table[160..164].copy_from_slice(&(CODE + 0x100).to_le_bytes());
    for (half, link) in [(0xa00e, 0x1001), (0xa0a2, CODE + 2)] {
        let machine = run(&[half], &[(65 + 0x17, DATA)], &table);
        assert_eq!((register(&machine, 32), register(&machine, RA)), (CODE + 0x100, link), "{half:#x}");
    }
}

#[test]
fn bytes_and_halves_are_loaded_stored_extended_and_multiplied() {
    let memory = [1, 2, 0x83, 0x84];
    let cases: [(u16, usize, u32, u32); 7] = [
        // c.lbu a0, 3(a1); c.lhu a2, 2(a3); c.lh a2, 2(a3)
        (0x81e8, 10, DATA, 0x84),
        (0x86b0, 12, DATA, 0x8483),
        (0x86f0, 12, DATA, 0xffff_8483),
        // c.zext.b a0; c.not a4; c.mul a5, a0
        (0x9d61, 10, DATA, 0x0a),
        (0x9f75, 14, DATA, !0x100e),
        (0x9fc9, 15, DATA, 0x100f * 0x100a),
        // c.sext.b a5, whose fields are those of c.zext.b
        (0x9fe5, 15, DATA, 0x0f),
    ];
    for (half, changed, data, wanted) in cases {
        let machine = run(&[half], &[(11, data), (13, data)], &memory);
        assert_eq!(register(&machine, changed), wanted, "{half:#x}");
    }
    // c.sb a0, 1(a1); c.sh a4, 2(a5)
    let mut machine = run(&[0x89c8, 0x8fb8], &[(11, DATA), (15, DATA)], &memory);
    assert_eq!(machine.peek(DATA, 4), [1, 0x0a, 0x0e, 0x10]);
}
