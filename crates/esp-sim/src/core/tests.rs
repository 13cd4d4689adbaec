use std::time::Duration;

use esp_model::chip;

use super::*;
use crate::Config;

fn machine(id: &str) -> Machine {
    let mut machine = Machine::new(&Config::new(chip::by_name(id).unwrap(), "core"));
    machine.time = Duration::ZERO;
    machine
}

/// Loads bytes and runs them from their start.
fn start(machine: &mut Machine, at: u32, code: &[u8]) -> Core {
    machine.store(at, code);
    Core::new(machine, at)
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[test]
fn a_riscv_program_counts_and_prints() {
    let mut machine = machine("esp32c3");
    machine.store(0x3fce_0000, b"%d of %u: %s 0x%04x%%\n\0");
    machine.store(0x3fce_0100, b"steps\0");
    let printf = machine.chip.rom.printf.unwrap();
    let code = words(&[
        0x0000_0593,                // li a1, 0
        0x0015_8593,                // addi a1, a1, 1
        0x00a0_0613,                // li a2, 10
        0xfec5_9ce3,                // bne a1, a2, -8
        0x3fce_0537,                // lui a0, 0x3fce0
        0x1005_0693,                // addi a3, a0, 0x100
        0x02c5_8733,                // mul a4, a1, a2
        0x4000_02b7,                // lui t0, 0x40000
        0x0002_80e7 | printf << 20, // jalr ra, printf(t0)
        0x0000_006f,                // j .
    ]);
    let mut core = start(&mut machine, 0x3fca_0000, &code);
    assert_eq!(core.run(&mut machine, 1000), Outcome::Says("10 of 10: steps 0x0064%\n".into()));
    assert_eq!(core.run(&mut machine, 1000), Outcome::Works);
}

#[test]
fn xtensa_programs_print_with_and_without_windows() {
    // l32r, l32r, call, jump back to it; literals stand before the code.
    let literals = |machine: &Machine| words(&[0x3ffe_8000, machine.chip.rom.printf.unwrap()]);
    let plain = [0x21, 0xfe, 0xff, 0x01, 0xfe, 0xff, 0xc0, 0x00, 0x00, 0xc6, 0xfc, 0xff];
    let windowed = [0x36, 0x41, 0x00, 0xa1, 0xfd, 0xff, 0x81, 0xfd, 0xff, 0xe0, 0x08, 0x00, 0xc6, 0xfc, 0xff];
    for (id, code) in [("esp8266", &plain[..]), ("esp32", &windowed[..])] {
        let mut machine = machine(id);
        let literals = literals(&machine);
        machine.store(0x3ffe_8000, b"tick\n\0");
        machine.store(0x4010_8000, &literals);
        let mut core = start(&mut machine, 0x4010_8008, code);
        for _ in 0..3 {
            assert_eq!(core.run(&mut machine, 100), Outcome::Says("tick\n".into()), "{id}");
        }
    }
}

#[test]
fn a_program_that_returns_ends() {
    let mut riscv = machine("esp32c3");
    let mut core = start(&mut riscv, 0x3fca_0000, &[0x82, 0x80]);
    assert_eq!(core.run(&mut riscv, 10), Outcome::Stops, "ret");
    let mut xtensa = machine("esp32");
    let mut core = start(&mut xtensa, 0x4008_0000, &[0x36, 0x41, 0x00, 0x1d, 0xf0]);
    assert_eq!(core.run(&mut xtensa, 10), Outcome::Stops, "entry, retw.n");
}

#[test]
fn random_programs_do_no_harm() {
    let mut seed = 7u64;
    for id in ["esp32c3", "esp32"] {
        let mut machine = machine(id);
        for _ in 0..2000 {
            let mut code = [0u8; 64];
            for byte in &mut code {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = (seed >> 33) as u8;
            }
            let mut core = start(&mut machine, 0x4008_0000, &code);
            let _ = core.run(&mut machine, 200);
        }
    }
}
