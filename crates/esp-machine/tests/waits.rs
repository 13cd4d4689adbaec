//! Loops that wait for a time cost little, end when they should, and end at the same cycle however a run is cut into pieces;
//! loops that do something are executed.
#![cfg(feature = "roms")]
#![allow(clippy::unwrap_used, missing_docs)]

use esp_machine::{Config, Machine};

const SECOND: u64 = 1_000_000_000_000;
const CODE: u32 = 0x4038_0000;
/// Registers, by their numbers.
const A0: u32 = 10;
const A1: u32 = 11;
const A2: u32 = 12;
const A3: u32 = 13;
const A4: u32 = 14;
const ZERO: u32 = 0;

fn lui(rd: u32, value: u32) -> u32 {
    value & 0xffff_f000 | rd << 7 | 0x37
}

fn addi(rd: u32, rs: u32, value: i32) -> u32 {
    (value as u32 & 0xfff) << 20 | rs << 15 | rd << 7 | 0x13
}

fn load(rd: u32, base: u32, offset: u32) -> u32 {
    offset << 20 | base << 15 | 2 << 12 | rd << 7 | 0x03
}

fn store(source: u32, base: u32, offset: u32) -> u32 {
    offset >> 5 << 25 | source << 20 | base << 15 | 2 << 12 | (offset & 31) << 7 | 0x23
}

/// Back by so many bytes while the first is less than the second.
fn while_less(first: u32, second: u32, back: u32) -> u32 {
    let offset = 0u32.wrapping_sub(back);
    let bits =
        (offset >> 12 & 1) << 31 | (offset >> 5 & 0x3f) << 25 | (offset >> 1 & 0xf) << 8 | (offset >> 11 & 1) << 7;
    bits | second << 20 | first << 15 | 6 << 12 | 0x63
}

fn constant(rd: u32, value: u32) -> [u32; 2] {
    [lui(rd, value.wrapping_add(0x800)), addi(rd, rd, (value << 20) as i32 >> 20)]
}

/// A machine at the beginning of a program, behind which it stands in a loop.
fn machine(program: &[u32]) -> Machine {
    // In download mode no watchdog guards the start.
    let mut config = Config::new("esp32c3", 1 << 20).unwrap();
    config.download = true;
    let mut machine = Machine::new(config).unwrap();
    let bytes: Vec<u8> = program.iter().chain(&[0x6f]).flat_map(|word| word.to_le_bytes()).collect();
    assert!(machine.poke(CODE, &bytes));
    machine.cores[0].get_mut().set_pc(CODE);
    machine
}

/// Waits until the low word of SYSTIMER's first counter is `ticks`, with what stands in `more` in each round.
fn by_systimer(ticks: u32, more: &[u32]) -> Vec<u32> {
    let mut program = [constant(A0, 0x6002_3000), constant(A1, 1 << 30), constant(A3, ticks)].concat();
    let round = [&[store(A1, A0, 4), load(A2, A0, 0x44)], more].concat();
    let back = 4 * round.len() as u32;
    program.extend(round);
    program.push(while_less(A2, A3, back));
    // What it has read, when it is over.
    program.extend(constant(A4, 0x3fc9_0000));
    program.push(store(A2, A4, 0));
    program
}

/// The count that ended the wait, and the instructions that it took, when the run is cut into pieces of this length.
fn ended(program: &[u32], piece: u64, end: u64) -> (u32, u64) {
    let mut machine = machine(program);
    let before = machine.instructions();
    while machine.now() < end {
        machine.run((machine.now() + piece).min(end));
    }
    let count = u32::from_le_bytes(machine.peek(0x3fc9_0000, 4).try_into().unwrap());
    (count, machine.instructions() - before)
}

#[test]
fn a_wait_costs_little_and_ends_at_the_same_count_in_pieces_of_any_length() {
    let program = by_systimer(32_000_000, &[]);
    let (count, executed) = ended(&program, 3 * SECOND, 3 * SECOND);
    assert!((32_000_000..32_050_000).contains(&count), "{count}");
    assert!(executed < 2_000_000, "{executed} instructions");
    for piece in [SECOND / 1000, SECOND / 7777, SECOND / 3] {
        assert_eq!(ended(&program, piece, 3 * SECOND).0, count, "pieces of {piece} ps");
    }
}

#[test]
fn a_loop_that_counts_its_rounds_is_executed() {
    let program = by_systimer(1_600_000, &[addi(A4, A4, 1)]);
    let mut machine = machine(&program[..program.len() - 3]);
    machine.run(SECOND / 5);
    let rounds = machine.cores[0].get().register(A4 as usize).unwrap();
    let cycles = 4 * u64::from(rounds);
    // 100 ms at the speed that the processor has after its reset.
    let wanted = u64::from(machine.soc.shared.cpu_mhz) * 100_000;
    assert!(cycles.abs_diff(wanted) < wanted / 100, "{rounds} rounds are {cycles} of {wanted} cycles");
}

#[test]
fn a_loop_that_stores_what_it_reads_is_executed() {
    let program = [
        constant(A0, 0x6002_3000).as_slice(),
        &constant(A1, 1 << 30),
        &constant(A4, 0x3fc9_0100),
        &[store(A1, A0, 4), load(A2, A0, 0x44), store(A2, A4, 0), addi(A4, A4, 0), while_less(ZERO, A1, 16)],
    ]
    .concat();
    let mut machine = machine(&program);
    machine.run(SECOND / 10);
    let executed = machine.instructions();
    assert!(executed > 19 * machine.cycles() / 20, "{executed} of {} cycles", machine.cycles());
}

#[test]
fn short_waits_that_follow_each_other_stay_short() {
    // A thousand waits of 1000 cycles: csrr a4; csrr a2; sub a2, a2, a4; bltu a2, a3, -8; addi a0, a0, 1; bltu a0, a1, -20
    let waits = [0x7e20_2773, 0x7e20_2673, 0x40e6_0633, while_less(A2, A3, 8), addi(A0, A0, 1), while_less(A0, A1, 20)];
    let setup = [constant(A0, 0), constant(A1, 1000), constant(A3, 1000)].concat();
    let mut machine = machine(&[setup, waits.to_vec()].concat());
    let behind = CODE + 4 * (6 + 6);
    let mut time = 0;
    while machine.cores[0].get().pc() != behind && time < SECOND {
        time += SECOND / 10_000;
        machine.run(time);
    }
    let cycles = time * u64::from(machine.soc.shared.cpu_mhz) / 1_000_000;
    assert!((1_000_000..1_020_000).contains(&cycles), "{cycles}");
}

#[test]
fn waits_by_the_cycle_counter_cost_little() {
    // csrr a2, 0x7e2
    let program = [constant(A3, 100_000_000).as_slice(), &[0x7e20_2673, while_less(A2, A3, 4)]].concat();
    let mut machine = machine(&program);
    let behind = CODE + 4 * program.len() as u32;
    machine.set_breakpoints(&[]);
    let mut ended = 0;
    while ended == 0 && machine.now() < 20 * SECOND {
        machine.run(machine.now() + SECOND / 1000);
        if machine.cores[0].get().pc() == behind {
            ended = machine.cycles();
        }
    }
    assert!((100_000_000..100_200_000).contains(&ended), "{ended}");
    assert!(machine.instructions() < 500_000, "{}", machine.instructions());
}
