//! What debuggers and scripts do to a machine: watchpoints, single steps, power that goes in the middle of a write.
#![cfg(feature = "roms")]
#![allow(clippy::unwrap_used, missing_docs)]

use esp_machine::soc::Watch;
use esp_machine::{Config, Machine, Stop, What};

#[path = "support/registers.rs"]
#[allow(dead_code)]
mod registers;

use registers::store;

const MICROSECOND: u64 = 1_000_000;
const MILLISECOND: u64 = 1000 * MICROSECOND;
/// `j .`
const HERE: u32 = 0x6f;

/// A chip whose processor stands in a loop at `code`, in its RAM.
fn parked(chip: &str, code: u32) -> Machine {
    let mut machine = Machine::new(Config::new(chip, 4 << 20).unwrap()).unwrap();
    assert!(machine.poke(code, &HERE.to_le_bytes()));
    machine.cores[0].get_mut().set_pc(code);
    machine
}

/// The first reset in this time: when, and its cause.
fn first_reset(machine: &mut Machine, time: u64) -> Option<(u64, u32)> {
    machine.most_resets = 1;
    machine.run(machine.now() + time);
    machine.take_events().into_iter().find_map(|event| match event.what {
        What::Reset { cause, .. } => Some((event.time, cause)),
        _ => None,
    })
}

/// The C3's flash controller: write enable, then a program of eight zeros.
fn program_zeros(machine: &mut Machine, address: u32) {
    const SPI1: u32 = 0x6000_2000;
    for (offset, value) in [(0, 1 << 30), (4, 8 << 24 | address), (0x58, 0), (0x5c, 0), (0, 1 << 25)] {
        store(machine, SPI1 + offset, value);
    }
}

#[test]
fn power_goes_in_the_middle_of_the_write_that_a_script_names() {
    let mut machine = parked("esp32c3", 0x4038_0000);
    for (time, input) in esp_machine::stimuli::parse("[[power_cut]]\nflash_writes = 2", false).unwrap() {
        machine.input(time, input);
    }
    machine.run(MICROSECOND);
    // As the ROM leaves it when it has attached the flash: the cache's controller reads by a command.
    store(&mut machine, 0x6000_3020, 0x03);
    program_zeros(&mut machine, 0x1000);
    assert_eq!(first_reset(&mut machine, MICROSECOND), None, "the first write is whole");
    program_zeros(&mut machine, 0x2000);
    assert_eq!(first_reset(&mut machine, MICROSECOND).map(|(_, cause)| cause), Some(1));
    let flash = &machine.soc.shared.flash;
    assert_eq!(flash.read(0x1000, 8).unwrap(), [0; 8]);
    assert_eq!(flash.read(0x2000, 8).unwrap(), [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
}

#[test]
fn machine_stops_after_an_access_to_what_is_watched_and_steps_one_by_one() {
    const CODE: u32 = 0x4038_0000;
    const DATA: u32 = 0x3fc9_0000;
    let mut machine = parked("esp32c3", CODE);
    // sw a1, 0(a0); lw a2, 0(a0); j .
    for (index, word) in [0x00b5_2023u32, 0x0005_2603, HERE].iter().enumerate() {
        assert!(machine.poke(CODE + 4 * index as u32, &word.to_le_bytes()));
    }
    for (register, value) in [(10, DATA), (11, 0x55)] {
        machine.cores[0].get_mut().set_register(register, value);
    }
    let watch = |reads, writes| Watch { address: DATA, length: 4, reads, writes };
    machine.soc.set_watches(vec![watch(false, true)]);
    let stop = machine.run(MILLISECOND);
    assert_eq!(stop, Stop::Watch { core: 0, watch: watch(false, true), write: true });
    assert_eq!((machine.peek(DATA, 1), machine.cores[0].get().pc()), (vec![0x55], CODE + 4));
    machine.soc.set_watches(vec![watch(true, false)]);
    assert_eq!(machine.peek(DATA, 1), [0x55], "looking is no access");
    assert!(matches!(machine.run(MILLISECOND), Stop::Watch { write: false, .. }));
    assert_eq!(machine.cores[0].get().register(12), Some(0x55));
    machine.soc.set_watches(Vec::new());
    assert_eq!(machine.run(MILLISECOND), Stop::Time);

    machine.cores[0].get_mut().set_pc(CODE);
    machine.set_breakpoints(&[CODE, CODE + 4]);
    assert_eq!(machine.run(2 * MILLISECOND), Stop::Breakpoint { core: 0 });
    assert_eq!(machine.step(0, 2 * MILLISECOND), None);
    assert_eq!(machine.cores[0].get().pc(), CODE + 4);
    assert_eq!(machine.step(0, 2 * MILLISECOND), None);
    assert_eq!(machine.cores[0].get().pc(), CODE + 8);
}
