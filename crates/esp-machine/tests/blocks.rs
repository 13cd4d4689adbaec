//! Blocks of the chips, driven by their registers: watchdogs, deep sleep, SHA by DMA, USB-Serial-JTAG, the core-local
//! interrupt controller. The processor only waits.
#![cfg(feature = "roms")]
#![allow(clippy::unwrap_used, clippy::disallowed_types, missing_docs)]

use esp_machine::{Config, Event, Input, Machine, What};
use sha2::{Digest as _, Sha256};

#[path = "support/registers.rs"]
mod registers;

use registers::{load, store};

/// 3 to the power of 65537, modulo 1000003.
const POWER: u64 = 486_750;
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

fn near(found: u64, wanted: u64) -> bool {
    found.abs_diff(wanted) < MICROSECOND
}

const TIMG0: u32 = 0x6001_f000;
const RTC: u32 = 0x6000_8000;
const KEY: u32 = 0x50d8_3aa1;

/// The C3's timer-group watchdog with one stage of 100 µs.
fn timer_watchdog(action: u32) -> Machine {
    let mut machine = parked("esp32c3", 0x4038_0000);
    // 80 MHz / 800: 10 µs a tick.
    for (offset, value) in [(0x64, KEY), (0x4c, 800 << 16), (0x50, 10), (0x48, 1 << 31 | action << 29)] {
        store(&mut machine, TIMG0 + offset, value);
    }
    machine
}

#[test]
fn a_timer_watchdog_resets_the_chip_or_the_processor_in_its_time() {
    let (time, cause) = first_reset(&mut timer_watchdog(3), MILLISECOND).unwrap();
    assert!(near(time, 100 * MICROSECOND) && cause == 7, "{time} {cause}");
    let (_, cause) = first_reset(&mut timer_watchdog(2), MILLISECOND).unwrap();
    assert_eq!(cause, 0xb);
    let mut fed = timer_watchdog(3);
    fed.run(60 * MICROSECOND);
    store(&mut fed, TIMG0 + 0x60, 1);
    let (time, _) = first_reset(&mut fed, MILLISECOND).unwrap();
    assert!(near(time, 160 * MICROSECOND), "{time}");
}

#[test]
fn a_timer_watchdog_is_closed_without_its_key() {
    let mut machine = timer_watchdog(3);
    store(&mut machine, TIMG0 + 0x64, 0);
    store(&mut machine, TIMG0 + 0x48, 0);
    assert!(first_reset(&mut machine, MILLISECOND).is_some());
}

#[test]
fn a_timer_watchdog_can_count_the_crystal() {
    let mut machine = timer_watchdog(3);
    store(&mut machine, TIMG0 + 0x48, 1 << 31 | 3 << 29 | 1 << 21);
    let (time, _) = first_reset(&mut machine, MILLISECOND).unwrap();
    assert!(near(time, 200 * MICROSECOND), "{time}");
}

#[test]
fn the_rtc_watchdog_resets_with_the_cause_of_its_action() {
    for (action, wanted) in [(2, 0xd), (3, 9), (4, 0x10)] {
        let mut machine = parked("esp32c3", 0x4038_0000);
        for (offset, value) in [(0xa8, KEY), (0x94, 136), (0x90, 1 << 31 | action << 28)] {
            store(&mut machine, RTC + offset, value);
        }
        let (time, cause) = first_reset(&mut machine, 10 * MILLISECOND).unwrap();
        // 136 ticks of 136 kHz, and the first stage counts double.
        assert!(time.abs_diff(2 * MILLISECOND) < 20 * MICROSECOND && cause == wanted, "{action}: {time} {cause}");
    }
}

#[test]
fn deep_sleep_ends_with_the_timer_and_keeps_rtc_memory() {
    let mut machine = parked("esp32c3", 0x4038_0000);
    machine.run(MILLISECOND);
    assert!(machine.poke(0x5000_0010, b"kept"));
    store(&mut machine, RTC + 0xc, 1 << 31);
    let now = load(&mut machine, RTC + 0x10);
    // The digital part's supply goes.
    for (offset, value) in [(0x88, 1 << 31), (4, now + 1360), (8, 1 << 16), (0x18, 1 << 31)] {
        store(&mut machine, RTC + offset, value);
    }
    let before = machine.instructions();
    let (time, cause) = first_reset(&mut machine, 100 * MILLISECOND).unwrap();
    assert!(time.abs_diff(11 * MILLISECOND) < 20 * MICROSECOND && cause == 5, "{time} {cause}");
    assert_eq!(machine.instructions(), before, "nothing runs in deep sleep");
    assert_eq!(machine.peek(0x5000_0010, 4), b"kept");
    assert_eq!(load(&mut machine, RTC + 0x38) & 0x3f, 5);
}

/// The SHA unit hashes what a chain of two descriptors brings.
fn hashed_by_dma(chip: &str, ram: u32, sha: u32, dma: u32) -> Vec<u8> {
    let mut machine = parked(chip, ram + 0x1_0000);
    let mut message = b"twelve bytes".repeat(8);
    let bits = (message.len() as u64 * 8).to_be_bytes();
    message.push(0x80);
    message.resize(120, 0);
    message.extend(bits);
    assert!(machine.poke(ram + 0x1000, &message[..48]) && machine.poke(ram + 0x2000, &message[48..]));
    let chain =
        [[1 << 31 | 48 << 12 | 48, ram + 0x1000, ram + 0x110], [1 << 31 | 1 << 30 | 80 << 12 | 80, ram + 0x2000, 0]];
    for (at, words) in [ram + 0x100, ram + 0x110].into_iter().zip(chain) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert!(machine.poke(at, &bytes));
    }
    let link = dma + 0xe0;
    store(&mut machine, link + 0x20, 7);
    store(&mut machine, link, (ram + 0x100) & 0xf_ffff | 1 << 21);
    for (offset, value) in [(0, 2), (0xc, 2), (0x1c, 1)] {
        store(&mut machine, sha + offset, value);
    }
    (0..8).flat_map(|index| load(&mut machine, sha + 0x40 + 4 * index).to_le_bytes()).collect()
}

#[test]
fn the_sha_unit_hashes_what_dma_brings() {
    let wanted = Sha256::digest(b"twelve bytes".repeat(8)).to_vec();
    assert_eq!(hashed_by_dma("esp32c3", 0x3fc8_0000, 0x6003_b000, 0x6003_f000), wanted);
    assert_eq!(hashed_by_dma("esp32c6", 0x4080_0000, 0x6008_9000, 0x6008_0000), wanted);
}

#[test]
fn usb_serial_jtag_carries_bytes_both_ways_and_interrupts() {
    let usb = 0x6004_3000;
    let mut machine = parked("esp32c3", 0x4038_0000);
    assert_eq!(load(&mut machine, usb + 4) & 0b110, 0b010, "room to send, nothing received");
    store(&mut machine, usb + 0x10, 1 << 2);
    machine.input(MILLISECOND, Input::Usb(b"ab".to_vec()));
    machine.run(2 * MILLISECOND);
    assert_ne!(machine.soc.shared.sources[0] >> 26 & 1, 0, "received: interrupt");
    assert_eq!(load(&mut machine, usb + 4) & 0b100, 0b100);
    assert_eq!([load(&mut machine, usb), load(&mut machine, usb)], [b'a'.into(), b'b'.into()]);
    assert_eq!(load(&mut machine, usb + 4) & 0b100, 0);
    store(&mut machine, usb + 0x14, 1 << 2);
    assert_eq!(machine.soc.shared.sources[0] >> 26 & 1, 0, "cleared");
    store(&mut machine, usb, b'x'.into());
    let sent: Vec<Event> = machine.take_events();
    assert!(sent.iter().any(|event| event.what == What::Usb(b'x')), "{sent:?}");
}

fn lui(register: u32, upper: u32) -> u32 {
    upper << 12 | register << 7 | 0x37
}

fn addi(register: u32, immediate: u32) -> u32 {
    immediate << 20 | register << 15 | register << 7 | 0x13
}

fn csrw(csr: u32, register: u32) -> u32 {
    csr << 20 | register << 15 | 1 << 12 | 0x73
}

/// A C5 that waits with interrupts on; line 21 of its CLIC has this level, the threshold is that one.
fn with_clic(level: u32, threshold: u32) -> Machine {
    let mut machine = parked("esp32c5", 0x4080_0000);
    let program = [
        lui(5, 0x40801),
        csrw(0x307, 5),
        addi(5, 3),
        csrw(0x305, 5),
        addi(6, threshold),
        csrw(0x347, 6),
        // csrsi mstatus, 8; then wfi for ever.
        0x3004_6073,
        0x1050_0073,
        0xffdf_f06f,
    ];
    let bytes: Vec<u8> = program.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
    assert!(machine.poke(0x4080_0000, &bytes));
    assert!(machine.poke(0x4080_1000 + 4 * 21, &0x4080_2000u32.to_le_bytes()));
    assert!(machine.poke(0x4080_2000, &HERE.to_le_bytes()));
    // Level, vectored, enabled.
    store(&mut machine, 0x2080_1000 + 4 * 21, level << 24 | 1 << 16 | 1 << 8);
    store(&mut machine, 0x6001_0000 + 4 * 23, 21);
    machine.run(100 * MICROSECOND);
    assert_ne!(machine.cores[0].get().pc(), 0x4080_2000, "nothing is pending yet");
    store(&mut machine, 0x600c_5090, 1);
    machine.run(200 * MICROSECOND);
    machine
}

#[test]
fn the_core_local_controller_takes_levels_above_the_threshold_to_their_vector() {
    assert_eq!(with_clic(0x40, 0x20).cores[0].get().pc(), 0x4080_2000);
    assert_ne!(with_clic(0x40, 0x60).cores[0].get().pc(), 0x4080_2000);
}

/// The numbers of one operation of the C3's accelerator: X, Y, M; Z as it comes out.
fn rsa(start: u32, length: u32, numbers: [(u32, &[u8]); 3]) -> Vec<u8> {
    let base = 0x6003_c000;
    let mut machine = parked("esp32c3", 0x4038_0000);
    for (at, bytes) in numbers {
        for (index, word) in bytes.chunks(4).enumerate() {
            let mut padded = [0; 4];
            padded[..word.len()].copy_from_slice(word);
            store(&mut machine, base + at + 4 * index as u32, u32::from_le_bytes(padded));
        }
    }
    store(&mut machine, base + 0x804, length);
    store(&mut machine, base + 0x82c, 1);
    store(&mut machine, base + start, 1);
    assert_eq!(load(&mut machine, base + 0x818), 1);
    assert_ne!(machine.soc.shared.sources[0] >> 47 & 1, 0, "done: interrupt");
    store(&mut machine, base + 0x81c, 1);
    assert_eq!(machine.soc.shared.sources[0] >> 47 & 1, 0, "cleared");
    (0..=length).flat_map(|index| load(&mut machine, base + 0x200 + 4 * index).to_le_bytes()).collect()
}

#[test]
fn the_accelerator_for_large_numbers_multiplies_and_raises_to_powers() {
    // 3^65537 mod 1000003, and the like, by Python's pow().
    let (x, y, m) = (3u64.to_le_bytes(), 65537u64.to_le_bytes(), 1_000_003u64.to_le_bytes());
    let power = rsa(0x80c, 1, [(0x600, &x), (0x400, &y), (0, &m)]);
    assert_eq!(power, POWER.to_le_bytes());
    let product = rsa(0x810, 1, [(0x600, &y), (0x400, &y), (0, &m)]);
    assert_eq!(product, (65537u64 * 65537 % 1_000_003).to_le_bytes());
    let factor = 0xffff_ffff_ffff_fff1u64;
    let whole = rsa(0x814, 3, [(0x600, &factor.to_le_bytes()), (0x208, &factor.to_le_bytes()), (0, &m)]);
    assert_eq!(whole, (u128::from(factor) * u128::from(factor)).to_le_bytes());
}

#[test]
fn waiting_for_an_interrupt_ends_with_one_and_not_because_somebody_looked() {
    let mut machine = parked("esp32c3", 0x4038_0000);
    // wfi; addi a0, a0, 1; j .-8
    let program = [0x1050_0073, 0x0015_0513, 0xff9f_f06f];
    let bytes: Vec<u8> = program.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
    assert!(machine.poke(0x4038_0000, &bytes));
    for _ in 0..50 {
        machine.run(machine.now() + 10 * MICROSECOND);
    }
    assert_eq!(machine.cores[0].get().register(10), Some(0));
    // FROM_CPU_0 on line 1, with a priority that reaches the threshold; MIE is off, so that nobody takes it.
    for (address, value) in [(0x600c_20c8, 1), (0x600c_2118, 1), (0x600c_2104, 2), (0x600c_0028, 1)] {
        store(&mut machine, address, value);
    }
    machine.run(machine.now() + 10 * MICROSECOND);
    assert!(machine.cores[0].get().register(10) > Some(0));
}

/// What a wait for one bit of a register of the radio does, with the setting that lets it through: until the bit is 1, or 0, or
/// until a counter has gone on; how long it took in microseconds.
#[test]
fn a_wait_for_the_radio_ends_by_the_setting_whatever_it_waits_for() {
    const CODE: u32 = 0x4080_1000;
    // lui a0, 0x600a0; lw a1, 0x418(a0); slli a1, a1, 9
    let begin = [0x600a_0537, 0x4185_2583, 0x0095_9593];
    let waits: [(&str, &[u32]); 3] = [
        // bgez a1, -8; j .
        ("set", &[0xfe05_dce3, 0x6f]),
        // bltz a1, -8; j .
        ("clear", &[0xfe05_cce3, 0x6f]),
        // lw a2, 0x418(a0); lw a3, 0x418(a0); beq a2, a3, -8; j .: another value at the next read
        ("changes", &[0x4185_2603, 0x4185_2683, 0xfed6_0ce3, 0x6f]),
    ];
    for (name, rest) in waits {
        for lets_through in [false, true] {
            let mut machine = parked("esp32c6", CODE);
            machine.soc.shared.radio.lets_through = lets_through;
            let program: Vec<u8> = begin.iter().chain(rest).flat_map(|word| word.to_le_bytes()).collect();
            assert!(machine.poke(CODE, &program));
            store(&mut machine, 0x600a_0418, if name == "clear" { !0 } else { 0 });
            machine.run(machine.now() + 20 * MILLISECOND);
            let end = CODE + program.len() as u32 - 4;
            assert_eq!(machine.cores[0].get().pc() == end, lets_through, "{name}");
        }
    }
}

/// A loop that reads a register of the radio again and again.
fn polls_radio(id: &str, code: u32, register: u32) -> Vec<Event> {
    let mut machine = parked(id, code);
    // lui a0, …; addi a0, a0, …; lw a1, 0(a0); j -4
    let upper = register.wrapping_add(0x800) & 0xffff_f000;
    let lower = register.wrapping_sub(upper) & 0xfff;
    let program = [upper | 10 << 7 | 0x37, lower << 20 | 10 << 15 | 10 << 7 | 0x13, 0x0005_2583, 0xffdf_f06f];
    let bytes: Vec<u8> = program.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
    assert!(machine.poke(code, &bytes));
    machine.run(200 * MILLISECOND);
    machine.take_events()
}

#[test]
fn a_program_that_waits_for_the_radio_is_told_once_with_its_place() {
    for (id, code, register) in [
        ("esp32c3", 0x4038_0000, 0x6000_6000),
        ("esp32c3", 0x4038_0000, 0x6000_e050),
        ("esp32c6", 0x4080_1000, 0x600a_00cc),
        ("esp32h2", 0x4080_1000, 0x600a_00cc),
    ] {
        let events = polls_radio(id, code, register);
        let told: Vec<_> = events
            .iter()
            .filter_map(|event| match &event.what {
                What::RadioNotEmulated { address, pc, .. } => Some((event.time, *address, *pc)),
                _ => None,
            })
            .collect();
        assert_eq!(told.len(), 1, "{id}: {told:?}");
        let (time, address, pc) = told[0];
        assert!(address == register && (code..code + 16).contains(&pc), "{id}: {told:x?}");
        assert!((50 * MILLISECOND..60 * MILLISECOND).contains(&time), "{id}: {time}");
    }
}

#[test]
fn a_program_that_polls_another_register_does_not_wait_for_the_radio() {
    let events = polls_radio("esp32c3", 0x4038_0000, 0x6000_4004);
    assert!(!events.iter().any(|event| matches!(event.what, What::RadioNotEmulated { .. })));
}

#[test]
fn deep_sleep_of_the_newer_chips_ends_with_the_timer_of_the_low_power_part() {
    const PMU: u32 = 0x600b_0000;
    const LP_TIMER: u32 = 0x600b_0c00;
    for id in ["esp32c6", "esp32h2"] {
        let mut machine = parked(id, 0x4080_1000);
        machine.run(MILLISECOND);
        assert!(machine.poke(0x5000_0010, b"kept"));
        store(&mut machine, LP_TIMER + 0x10, 1 << 28);
        let now = load(&mut machine, LP_TIMER + 0x14);
        store(&mut machine, LP_TIMER, now + 1360);
        store(&mut machine, LP_TIMER + 4, 1 << 31);
        store(&mut machine, PMU + 0x68, 1 << 31);
        store(&mut machine, PMU + 0x120, 1 << 31);
        let before = machine.instructions();
        let (time, cause) = first_reset(&mut machine, 100 * MILLISECOND).unwrap();
        assert!(time.abs_diff(11 * MILLISECOND) < 20 * MICROSECOND && cause == 5, "{id}: {time} {cause}");
        assert_eq!(machine.instructions(), before, "{id}: nothing runs in deep sleep");
        assert_eq!(machine.peek(0x5000_0010, 4), b"kept", "{id}");
        assert_eq!(load(&mut machine, PMU + 0x140), 1 << 4, "{id}: the timer has woken it");
    }
}

#[test]
fn light_sleep_stops_the_processor_and_goes_on_where_it_was() {
    // Chip, a place for code, time (update, low), timer, sleep register, raw interrupts with the bit of waking up.
    struct Case(&'static str, u32, [u32; 3], [u32; 2], u32, (u32, u32));
    let cases = [
        Case("esp32c3", 0x4038_0000, [RTC + 0xc, 31, RTC + 0x10], [RTC + 4, 16], RTC + 0x18, (RTC + 0x44, 0)),
        Case("esp32c6", 0x4080_1000, [0x600b_0c10, 28, 0x600b_0c14], [0x600b_0c00, 31], 0x600b_0120, (0x600b_015c, 31)),
    ];
    for Case(id, code, [update, update_bit, time], [timer, arm], sleep, (raw, bit)) in cases {
        let mut machine = parked(id, code);
        machine.run(MILLISECOND);
        store(&mut machine, update, 1 << update_bit);
        let now = load(&mut machine, time);
        for (address, value) in [(timer, now + 1360), (timer + 4, 1 << arm), (sleep, 1 << 31)] {
            store(&mut machine, address, value);
        }
        let before = machine.instructions();
        machine.run(10 * MILLISECOND);
        assert_eq!(machine.instructions(), before, "{id} sleeps");
        assert_eq!(load(&mut machine, raw) >> bit & 1, 0, "{id}");
        machine.run(12 * MILLISECOND);
        assert!(machine.instructions() > before, "{id} is awake");
        assert_eq!(load(&mut machine, raw) >> bit & 1, 1, "{id}: it says that it was woken");
        assert!(machine.resets == 0 && machine.cores[0].get().pc() == code, "{id}");
        // Clocks of the crystal stood meanwhile: drivers add what they slept.
        let systimer = if id == "esp32c3" { 0x6002_3000 } else { 0x6000_a000 };
        store(&mut machine, systimer + 4, 1 << 30);
        let (count, all) = (load(&mut machine, systimer + 0x44), machine.now() / 62_500);
        assert!((150_000..170_000).contains(&all.abs_diff(count.into())), "{id}: {count} of {all} ticks");
    }
}
