//! Two cores: locks, and interrupts from one to the other.

use super::super::Xtensa;
use crate::cpu::{Core, Cpu};
use crate::device::CoreRequest;
use crate::machine::{Config, Machine};

const CODE: u32 = 0x4008_0000;
const SPIN: u32 = CODE + 0x100;
const DATA: u32 = 0x3ffb_0000;
const MICROSECOND: u64 = 1_000_000;
/// `J .`
const STAY: u32 = 0xff_ff06;
const ROUNDS: u32 = 1000;

fn core(machine: &mut Machine, number: usize) -> &mut Xtensa {
    match &mut machine.cores[number] {
        Core::Xtensa(core) => core,
        other => panic!("{other:?}"),
    }
}

fn place(machine: &mut Machine, address: u32, code: &[u32]) {
    for (index, word) in code.iter().enumerate() {
        assert!(machine.poke(address + 3 * index as u32, &word.to_le_bytes()[..3]));
    }
}

/// A chip whose cores both run, on the spot.
fn machine() -> Machine {
    let mut machine = Machine::new(Config::new("esp32", 1 << 20).unwrap()).unwrap();
    place(&mut machine, SPIN, &[STAY]);
    core(&mut machine, 0).set_pc(SPIN);
    machine.soc.shared.second_core = Some(CoreRequest::Start(SPIN));
    machine.run(10 * MICROSECOND);
    assert_eq!(core(&mut machine, 1).pc, SPIN);
    machine
}

/// Both cores add 1 to the same word so many times, by this code; the word behind it.
fn counted(code: &[u32]) -> u32 {
    let mut machine = machine();
    place(&mut machine, CODE, code);
    let done = CODE + 3 * (code.len() as u32 - 1);
    for number in 0..2 {
        let core = core(&mut machine, number);
        core.set_pc(CODE);
        for (register, value) in [(3, DATA), (4, DATA + 0x100), (5, ROUNDS)] {
            core.set_a(register, value);
        }
    }
    let end = machine.now() + 20_000 * MICROSECOND;
    machine.run(end);
    assert_eq!([core(&mut machine, 0).pc, core(&mut machine, 1).pc], [done; 2], "both are through");
    machine.soc.memory.load32(DATA + 0x100).unwrap()
}

#[test]
fn a_lock_by_compare_and_store_keeps_the_cores_apart() {
    // MOVI a6, 0; WSR.SCOMPARE1 a6; MOVI a7, 1; S32C1I a7, a3, 0; BNEZ a7 to the start: the lock is taken. L32I a8, a4, 0;
    // ADDI a8, a8, 1; S32I a8, a4, 0. MOVI a6, 0; S32I a6, a3, 0: the lock is free. ADDI a5, a5, -1; BNEZ a5 to the start; J .
    let locked = [
        0x00_a062, 0x13_0c60, 0x01_a072, 0x00_e372, 0xff_0756, 0x00_2482, 0x01_c882, 0x00_6482, 0x00_a062, 0x00_6362,
        0xff_c552, 0xfd_b556, STAY,
    ];
    assert_eq!(counted(&locked), 2 * ROUNDS);
    // The same without the lock: the cores' turns end between load and store, too.
    let bare = [0x00_2482, 0x01_c882, 0x00_6482, 0xff_c552, 0xff_0556, STAY];
    let count = counted(&bare);
    assert!(count < 2 * ROUNDS, "{count}");
}

#[test]
fn a_core_wakes_the_other_by_an_interrupt() {
    let mut machine = machine();
    // The second core's matrix: source 24 (CPU_INTR_FROM_CPU_0) drives its line 3.
    machine.soc.store(0x3ff0_0218 + 4 * 24, 4, 3).unwrap();
    // WAITI 0; J .
    place(&mut machine, CODE + 0x200, &[0x00_7000, STAY]);
    // Its handler stays where it is.
    place(&mut machine, CODE + 0x400 + 0x340, &[STAY]);
    let second = core(&mut machine, 1);
    second.set_pc(CODE + 0x200);
    second.set_ps(0x20);
    second.write_special(231, CODE + 0x400).unwrap();
    second.write_special(228, 1 << 3).unwrap();
    let end = machine.now() + 10 * MICROSECOND;
    machine.run(end);
    assert!(core(&mut machine, 1).idles());
    // S32I a2, a3, 0; J .
    place(&mut machine, CODE, &[0x00_6322, STAY]);
    let first = core(&mut machine, 0);
    first.set_pc(CODE);
    first.set_a(2, 1);
    first.set_a(3, 0x3ff0_00dc);
    let end = machine.now() + 10 * MICROSECOND;
    machine.run(end);
    let second = core(&mut machine, 1);
    assert_eq!((second.cause, second.epc[1]), (4, CODE + 0x203));
    assert!(!second.idles());
    assert_eq!(core(&mut machine, 0).pc, CODE + 3, "the first core goes on");
}
