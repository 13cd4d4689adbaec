//! Instructions one by one: the values are worked out from the instruction set's manual.

use crate::cpu::{Cpu, Exit};
use crate::machine::{Config, Machine};
use crate::xtensa::{EXCM, WOE};

const CODE: u32 = 0x4008_0000;
const DATA: u32 = 0x3ffb_0000;

/// A chip whose first core begins at `CODE` with these instructions.
fn machine(code: &[u32]) -> Machine {
    let mut machine = Machine::new(Config::new("esp32", 1 << 20).unwrap()).unwrap();
    let mut at = CODE;
    for word in code {
        let length = if word & 0xf >= 8 { 2 } else { 3 };
        assert!(machine.poke(at, &word.to_le_bytes()[..length]));
        at += length as u32;
    }
    core(&mut machine).set_pc(CODE);
    core(&mut machine).set_ps(0);
    machine
}

fn core(machine: &mut Machine) -> &mut super::super::Xtensa {
    match &mut machine.cores[0] {
        crate::cpu::Core::Xtensa(core) => core,
        other => panic!("{other:?}"),
    }
}

/// Executes so many instructions with these registers; the core behind them.
fn run(code: &[u32], registers: &[(u8, u32)], count: u64) -> Machine {
    let mut machine = machine(code);
    for (number, value) in registers {
        core(&mut machine).set_a(*number, *value);
    }
    step(&mut machine, count);
    machine
}

fn step(machine: &mut Machine, count: u64) -> Exit {
    let Machine { soc, cores, .. } = machine;
    cores[0].get_mut().run(soc, count)
}

fn a(machine: &mut Machine, number: u8) -> u32 {
    core(machine).a(number)
}

/// `op2 op1 r s t op0` of a three-register instruction on a2 = a3 op a4.
fn rrr(op2: u32, op1: u32) -> u32 {
    op2 << 20 | op1 << 16 | 2 << 12 | 3 << 8 | 4 << 4
}

#[test]
fn arithmetic_gives_what_the_manual_says() {
    let max = 0x7fff_ffff;
    let cases: &[(u32, u32, u32, u32)] = &[
        (rrr(8, 0), u32::MAX, 2, 1),
        (rrr(11, 0), 3, 5, 29),
        (rrr(12, 0), 3, 5, (-2i32) as u32),
        (rrr(15, 0), 3, 5, 19),
        (rrr(1, 0), 0xff0f, 0x0ff0, 0x0f00),
        (rrr(8, 2), 0x1_0001, 0x1_0001, 0x2_0001),
        (rrr(10, 2), u32::MAX, u32::MAX, 0xffff_fffe),
        (rrr(11, 2), u32::MAX, 2, u32::MAX),
        (rrr(12, 2), u32::MAX, 10, 429_496_729),
        (rrr(13, 2), (-7i32) as u32, 2, (-3i32) as u32),
        (rrr(13, 2), 0x8000_0000, u32::MAX, 0x8000_0000),
        (rrr(14, 2), 7, 4, 3),
        (rrr(15, 2), (-7i32) as u32, 2, u32::MAX),
        (rrr(12, 1), 0x1_ffff, 0x2_0003, 0xffff * 3),
        (rrr(13, 1), 0xffff, 3, (-3i32) as u32),
        (rrr(4, 3), u32::MAX, 1, u32::MAX),
        (rrr(5, 3), u32::MAX, 1, 1),
        (rrr(6, 3), u32::MAX, 1, 1),
        (rrr(7, 3), u32::MAX, 1, u32::MAX),
        // SEXT a2, a3, 11 and CLAMPS a2, a3, 11 (t = 4 is bit 11).
        (rrr(2, 3), 0x0800, 4, 0xffff_f800),
        (rrr(3, 3), 5000, 4, 2047),
        (rrr(3, 3), (-5000i32) as u32, 4, (-2048i32) as u32),
        (rrr(3, 3), max, 4, 2047),
    ];
    for (word, s, t, expected) in cases {
        let mut machine = run(&[*word], &[(3, *s), (4, *t)], 1);
        assert_eq!(a(&mut machine, 2), *expected, "{word:#08x} {s:#x} {t:#x}");
    }
}

#[test]
fn shifts_by_the_shift_register_reach_32() {
    // SSL a3; SLL a2, a5. SSR a3; SRC a2, a5, a6. SSA8L a3; SRL a2, a5.
    let cases: &[([u32; 2], u32, u32)] = &[
        ([0x40_1300, 0xa1_2500], 0, 0x8000_0001),
        ([0x40_1300, 0xa1_2500], 4, 0x0000_0010),
        ([0x40_0300, 0x81_2560], 8, 0x01_abcdef),
        ([0x40_0300, 0x91_2050], 31, 1),
        ([0x40_2300, 0x91_2050], 3, 0x80),
        ([0x40_0300, 0xb1_2050], 4, 0xf800_0000),
    ];
    for (code, shift, expected) in cases {
        let registers = [(3, *shift), (5, 0x8000_0001), (6, 0xabcd_ef12)];
        let mut machine = run(code, &registers, 2);
        assert_eq!(a(&mut machine, 2), *expected, "{code:x?} {shift}");
    }
}

#[test]
fn counting_leading_bits_is_right_at_the_ends() {
    // NSA a4, a3; NSAU a5, a3.
    for (value, signed, unsigned) in
        [(0, 31, 32), (u32::MAX, 31, 0), (1, 30, 31), (0x8000_0000, 0, 0), (0x4000_0000, 0, 1)]
    {
        let mut machine = run(&[0x40_e340, 0x40_f350], &[(3, value)], 2);
        assert_eq!((a(&mut machine, 4), a(&mut machine, 5)), (signed, unsigned), "{value:#x}");
    }
}

#[test]
fn a_loop_runs_its_body_as_often_as_asked_and_not_at_all_for_zero() {
    // LOOPNEZ a3, +4; ADDI a2, a2, 1 (its body); MOVI a5, 7.
    let code = [0x02_9376, 0x01_c222, 0x07_a052];
    let mut machine = run(&code, &[(3, 5)], 7);
    assert_eq!((a(&mut machine, 2), a(&mut machine, 5)), (5, 7));
    let mut machine = run(&code, &[(3, 0)], 2);
    assert_eq!((a(&mut machine, 2), a(&mut machine, 5)), (0, 7));
}

#[test]
fn compare_and_store_changes_only_the_expected_word() {
    // WSR.SCOMPARE1 a5; S32C1I a4, a3, 0.
    let code = [0x13_0c50, 0x00_e342];
    for (expected, after) in [(7, 9), (8, 7)] {
        let mut machine = machine(&code);
        machine.poke(DATA, &7u32.to_le_bytes());
        for (number, value) in [(3, DATA), (4, 9), (5, expected)] {
            core(&mut machine).set_a(number, value);
        }
        step(&mut machine, 2);
        assert_eq!(a(&mut machine, 4), 7);
        assert_eq!(machine.soc.memory.load32(DATA), Some(after));
    }
}

#[test]
fn windows_move_by_calls_and_the_oldest_registers_are_saved_by_the_overflow_handler() {
    let mut machine = machine(&[]);
    let core = core(&mut machine);
    core.set_ps(WOE);
    core.set_pc(CODE);
    // f: ENTRY a1, 32; CALL8 f (itself): until the register file is full.
    let entry: u32 = 0x00_4136;
    let call: u32 = ((0u32.wrapping_sub(2) & 0x3_ffff) << 6) | 2 << 4 | 5;
    machine.poke(CODE, &entry.to_le_bytes()[..3]);
    machine.poke(CODE + 3, &[0xf0, 0x20, 0x00]);
    machine.poke(CODE + 6, &call.to_le_bytes()[..3]);
    let core = core_of(&mut machine);
    core.set_a(1, DATA + 0x1000);
    // PS.CALLINC = 2, as a CALL8 has left it.
    core.ps |= 2 << 16;
    let mut overflows = 0;
    for _ in 0..60 {
        step(&mut machine, 1);
        let core = core_of(&mut machine);
        if core.ps & EXCM != 0 && core.pc & 0xff == 0x80 {
            overflows += 1;
            break;
        }
    }
    assert_eq!(overflows, 1, "the handler for calls by eight is reached");
    let core = core_of(&mut machine);
    // Eight frames of eight registers are the whole file: the oldest is the window's, its owner is kept in PS.
    assert_eq!(core.epc[1] & !7, CODE);
    assert_ne!(core.window_base(), core.ps >> 8 & 0xf);
}

fn core_of(machine: &mut Machine) -> &mut super::super::Xtensa {
    core(machine)
}

#[test]
fn a_division_by_zero_and_an_absent_address_are_exceptions_with_their_causes() {
    let mut machine = run(&[rrr(12, 2)], &[(3, 1), (4, 0)], 1);
    assert_eq!((core(&mut machine).cause, core(&mut machine).epc[1]), (6, CODE));
    // L32I a2, a3, 0 from address 0.
    let mut machine = run(&[0x00_2322], &[(3, 0)], 1);
    assert_eq!((core(&mut machine).cause, core(&mut machine).fault_address), (28, 0));
    // S32I a2, a3, 4.
    let mut machine = run(&[0x01_6322], &[(3, 0)], 1);
    assert_eq!((core(&mut machine).cause, core(&mut machine).fault_address), (29, 4));
    assert_eq!(core(&mut machine).pc, 0x4000_0300);
    core(&mut machine).set_pc(CODE);
    step(&mut machine, 1);
    assert_eq!(core(&mut machine).pc, 0x4000_03c0, "PS.EXCM was set: a double exception");
}

#[test]
fn a_timer_interrupts_at_its_cycle() {
    // J . (three bytes: offset -4).
    let mut machine = machine(&[0xff_ff06]);
    let core = core(&mut machine);
    core.set_ps(0);
    core.write_special(228, 1 << 6).unwrap();
    let now = core.count();
    core.write_special(240, now + 100).unwrap();
    assert_eq!(core.next_timer(), Some(100));
    step(&mut machine, 100);
    assert_eq!(core_of(&mut machine).pc, CODE);
    step(&mut machine, 1);
    let core = core_of(&mut machine);
    assert_eq!((core.cause, core.epc[1]), (4, CODE));
    assert!(core.raised() & 1 << 6 != 0);
    core.write_special(240, 0).unwrap();
    assert!(core.raised() & 1 << 6 == 0, "a write to CCOMPARE ends it");
}

#[test]
fn single_precision_division_and_root_sequences_give_the_exact_result() {
    // What compilers emit for f0 = f1 / f2 (their library's __divsf3).
    let division: Vec<u32> = vec![
        0xfa_3270, 0xfa_42b0, 0xfa_5130, 0x6a_5430, 0xfa_6300, 0xfa_7200, 0xfa_21b0, 0x6a_6560, 0xfa_5130, 0xfa_0030,
        0xfa_8260, 0x6a_5460, 0x6a_0830, 0xfa_71d0, 0x6a_6560, 0x6a_8400, 0xfa_3130, 0x6a_3460, 0x6a_0860, 0xfa_2260,
        0x6a_6360, 0x6a_2400, 0xfa_07f0, 0xfa_67e0, 0x7a_0260,
    ];
    for (dividend, divisor) in [(1.0f32, 3.0f32), (-7.5, 0.1), (1e-20, 1e10), (5.0, 0.0)] {
        let mut machine = machine(&division);
        core(&mut machine).coprocessors = 1;
        core(&mut machine).fr[1] = dividend.to_bits();
        core(&mut machine).fr[2] = divisor.to_bits();
        step(&mut machine, division.len() as u64);
        assert_eq!(core(&mut machine).fr[0], (dividend / divisor).to_bits(), "{dividend} / {divisor}");
    }
}

#[test]
fn sixteen_bit_products_are_added_to_forty_bits() {
    // MUL.AA.LL a3, a4; MULA.AA.HH a3, a4; RSR.ACCLO a2; RSR.ACCHI a5.
    let code = [0x74_0344, 0x7b_0344, 0x03_1020, 0x03_1150];
    let mut machine = run(&code, &[(3, 0x8000_0002), (4, 0x8000_ffff)], 4);
    // 2 × -1 + -32768 × -32768.
    assert_eq!((a(&mut machine, 2), a(&mut machine, 5)), (0x3fff_fffe, 0));
}

#[test]
fn waiting_ends_with_an_interrupt() {
    // WAITI 0.
    let mut machine = machine(&[0x00_7000]);
    core(&mut machine).set_ps(0x20);
    assert_eq!(step(&mut machine, 10), Exit::Idle);
    assert!(core(&mut machine).idles());
    core(&mut machine).write_special(228, 1 << 7).unwrap();
    core(&mut machine).write_special(226, 1 << 7).unwrap();
    step(&mut machine, 1);
    let core = core(&mut machine);
    assert_eq!((core.cause, core.epc[1]), (4, CODE + 3));
}

#[test]
fn a_breakpoint_stops_before_its_instruction_and_is_passed_over_then() {
    let mut machine = machine(&[0x01_c222, 0x01_c222, 0x01_c222]);
    core(&mut machine).set_breakpoints(&[CODE + 3]);
    assert_eq!(step(&mut machine, 10), Exit::Breakpoint);
    assert_eq!((core(&mut machine).pc, a(&mut machine, 2)), (CODE + 3, 1));
    step(&mut machine, 1);
    assert_eq!(a(&mut machine, 2), 2);
}

#[test]
fn the_instruction_bus_carries_whole_words_only() {
    // L8UI, L32I, S8I and S32I a2, a3, 0; the last one to the mask ROM.
    let cases = [
        (0x00_0322, CODE + 0x100, 3),
        (0x00_2322, CODE + 0x102, 9),
        (0x00_4322, CODE + 0x100, 3),
        (0x00_6322, 0x4000_0100, 3),
    ];
    for (word, address, cause) in cases {
        let mut machine = run(&[word], &[(3, address)], 1);
        let core = core(&mut machine);
        assert_eq!((core.cause, core.fault_address, core.epc[1]), (cause, address, CODE), "{word:#x} {address:#x}");
    }
    let mut machine = machine(&[0x00_2322]);
    machine.poke(DATA, &[0, 0x78, 0x56, 0x34, 0x12]);
    core(&mut machine).set_a(3, DATA + 1);
    step(&mut machine, 1);
    assert_eq!(a(&mut machine, 2), 0x1234_5678, "the data bus is not as strict");
}

#[test]
fn an_interrupt_that_waited_for_a_window_handler_is_taken_when_it_returns() {
    // RFWO.
    let mut machine = machine(&[0x00_3400]);
    let core = core(&mut machine);
    core.write_special(228, 1 << 7).unwrap();
    core.write_special(226, 1 << 7).unwrap();
    core.epc[1] = CODE + 0x20;
    core.set_ps(WOE | EXCM);
    step(&mut machine, 2);
    let core = core_of(&mut machine);
    assert_eq!((core.cause, core.epc[1]), (4, CODE + 0x20));
}

#[test]
fn registers_have_the_numbers_that_espressifs_gdb_gives_them() {
    // In the order of its register listing: `ps` is 73, then these.
    let names = [
        "threadptr",
        "br",
        "scompare1",
        "acclo",
        "acchi",
        "m0",
        "m1",
        "m2",
        "m3",
        "expstate",
        "f64r_lo",
        "f64r_hi",
        "f64s",
        "f0",
        "f1",
    ];
    let number = |name: &str| 74 + names.iter().position(|known| *known == name).unwrap();
    let mut machine = machine(&[]);
    let core = core(&mut machine);
    core.write_user(231, 0x11).unwrap();
    core.write_special(4, 0x22).unwrap();
    core.write_special(12, 0x33).unwrap();
    core.write_special(16, 0x44).unwrap();
    core.write_special(17, 0x55).unwrap();
    core.write_special(33, 0x66).unwrap();
    core.write_user(236, 0x77).unwrap();
    core.fr[1] = 0x88;
    let expected = [
        ("threadptr", 0x11),
        ("br", 0x22),
        ("scompare1", 0x33),
        ("acclo", 0x44),
        ("acchi", 0x55),
        ("m1", 0x66),
        ("f64s", 0x77),
        ("f1", 0x88),
    ];
    for (name, value) in expected {
        assert_eq!(core.register(number(name)), Some(value), "{name}");
        assert!(core.set_register(number(name), value + 1), "{name}");
        assert_eq!(core.register(number(name)), Some(value + 1), "{name}");
    }
    // f2 … f15, FCR and FSR follow; then there is nothing more.
    assert!(core.register(number("f1") + 16).is_some());
    assert_eq!(core.register(number("f1") + 17), None);
}

#[test]
fn floats_work_from_the_reset_on_and_are_an_exception_while_they_are_off() {
    // LSI f0, a3, 4.
    let mut on = run(&[0x01_0303], &[(3, DATA)], 1);
    assert_eq!(core(&mut on).pc, CODE + 3);
    // WSR.CPENABLE a4; LSI f0, a3, 4.
    let mut off = run(&[0x13_e040, 0x01_0303], &[(3, DATA), (4, 0)], 2);
    assert_eq!((core(&mut off).cause, core(&mut off).epc[1]), (32, CODE + 3));
}
