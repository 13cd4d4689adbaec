//! What a board has around the chip, driven by the registers as drivers do: voltages, PWM, SPI, trains of pulses, counted edges.
//! Programs that do the same through esp-hal: crates/mcp-esptool/tests/reference/own_firmware.rs.
#![cfg(feature = "roms")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;

use esp_machine::spi_bus::{Answers, Device};
use esp_machine::{Config, Input, Machine, What};

#[path = "support/registers.rs"]
mod registers;

use registers::{load, store};

const MICROSECOND: u64 = 1_000_000;
const MILLISECOND: u64 = 1000 * MICROSECOND;
/// `j .` and where the chips' RAM takes it; the others run their ROM meanwhile.
const HERE: u32 = 0x6f;
const RAM: [(&str, u32); 6] = [
    ("esp32c2", 0x4038_0000),
    ("esp32c3", 0x4038_0000),
    ("esp32c5", 0x4080_1000),
    ("esp32c6", 0x4080_1000),
    ("esp32c61", 0x4080_1000),
    ("esp32h2", 0x4080_1000),
];

fn parked(chip: &str) -> Machine {
    let mut machine = Machine::new(Config::new(chip, 1 << 20).unwrap()).unwrap();
    if let Some((_, code)) = RAM.iter().find(|(id, _)| *id == chip) {
        assert!(machine.poke(*code, &HERE.to_le_bytes()));
        machine.cores[0].get_mut().set_pc(*code);
    }
    machine
}

fn run(machine: &mut Machine, time: u64) {
    machine.run(machine.now() + time);
}

/// An input that is there before anything else happens.
fn give(machine: &mut Machine, input: Input) {
    let now = machine.now();
    machine.input(now, input);
    run(machine, MICROSECOND);
}

fn active(machine: &Machine, source: u32) -> bool {
    machine.soc.shared.sources[source as usize / 64] >> (source % 64) & 1 != 0
}

#[test]
fn one_conversion_gives_what_the_script_says_else_the_middle() {
    for (chip, base, source) in [
        ("esp32c2", 0x6004_0000, 32),
        ("esp32c3", 0x6004_0000, 43),
        ("esp32c5", 0x6000_e000, 64),
        ("esp32c6", 0x6000_e000, 60),
        ("esp32c61", 0x6000_e000, 55),
        ("esp32h2", 0x6000_e000, 48),
    ] {
        let (sample, data, enable, raw, status, clear) =
            (base + 0x20, base + 0x2c, base + 0x40, base + 0x44, base + 0x48, base + 0x4c);
        let mut machine = parked(chip);
        give(&mut machine, Input::Adc { unit: 1, channel: 2, value: 1234 });
        let mut convert = |channel: u32| {
            store(&mut machine, enable, 1 << 31);
            store(&mut machine, sample, 1 << 31 | channel << 25);
            store(&mut machine, sample, 1 << 31 | channel << 25 | 1 << 29);
            assert_eq!(load(&mut machine, raw) >> 31, 0, "{chip}: a conversion takes its time");
            run(&mut machine, 20 * MICROSECOND);
            assert_eq!(load(&mut machine, status) >> 31, 1, "{chip}");
            assert!(active(&machine, source), "{chip}");
            let value = load(&mut machine, data);
            store(&mut machine, clear, 1 << 31);
            assert!(!active(&machine, source), "{chip}");
            value
        };
        assert_eq!([convert(2), convert(3)], [1234, 0x800], "{chip}");
    }
}

#[test]
fn converters_of_the_low_power_part_measure_the_pad_that_is_chosen() {
    for (chip, register) in [("esp32", 0x3ff4_8854), ("esp32s2", 0x3f40_880c), ("esp32s3", 0x6000_880c)] {
        let mut machine = parked(chip);
        give(&mut machine, Input::Adc { unit: 1, channel: 3, value: 99 });
        for (pads, wanted) in [(1 << 3, 99), (1 << 4, 0x800), (0, 0)] {
            store(&mut machine, register, pads << 19);
            store(&mut machine, register, pads << 19 | 1 << 17);
            assert_eq!(load(&mut machine, register) >> 16 & 1, 0, "{chip}");
            run(&mut machine, 20 * MICROSECOND);
            assert_eq!(load(&mut machine, register) & 0x1_ffff, 1 << 16 | wanted, "{chip}");
        }
    }
}

fn outputs(machine: &mut Machine) -> Vec<(u64, u64, u32, u32)> {
    let events = machine.take_events().into_iter();
    let outputs = events.filter_map(|event| match event.what {
        What::Pwm { channel, millihertz, duty, full } => {
            assert!(channel < 8);
            Some((event.time, millihertz, duty, full))
        }
        _ => None,
    });
    outputs.collect()
}

/// 5 kHz in 1024 steps of a clock of 80 MHz: a divider of 15.625.
const DIVIDER: u32 = 4000;

/// Half of 128 steps of 4 and 5 periods each, from 256 up: 768 after 128 ms.
fn fades(chip: &str, machine: &mut Machine, [channel, raw]: [u32; 2]) {
    run(machine, MILLISECOND);
    let shown = outputs(machine);
    assert_eq!(shown.iter().map(|it| (it.1, it.2, it.3)).collect::<Vec<_>>(), [(5_000_000, 256, 1024)], "{chip}");
    store(machine, raw + 12, !0);
    store(machine, channel + 8, 256 << 4);
    store(machine, channel + 12, 1 << 31 | 1 << 30 | 128 << 20 | 5 << 10 | 4);
    store(machine, channel, 1 << 2 | 1 << 4);
    let began = machine.now();
    run(machine, 64 * MILLISECOND);
    let half = load(machine, channel + 16) >> 4;
    assert!((510..=514).contains(&half), "{chip}: {half}");
    assert_eq!(load(machine, raw), 0, "{chip}");
    run(machine, 70 * MILLISECOND);
    let shown = outputs(machine);
    assert_eq!(shown.len(), 1, "{chip}: {shown:?}");
    assert!((shown[0].0 - began).abs_diff(128 * MILLISECOND) < MILLISECOND && shown[0].2 == 768, "{chip}: {shown:?}");
    assert_ne!(load(machine, raw), 0, "{chip}: the end is told");
    assert_eq!(load(machine, channel + 12) >> 31, 0, "{chip}");
}

#[test]
fn pwm_is_an_event_and_fades_end_in_their_time() {
    let mut machine = parked("esp32c3");
    let base = 0x6001_9000;
    for (offset, value) in
        [(0xd0, 1), (0xa0, 10 | DIVIDER << 4 | 1 << 25), (8, 256 << 4), (12, 1 << 31), (0, 1 << 2 | 1 << 4)]
    {
        store(&mut machine, base + offset, value);
    }
    fades("esp32c3", &mut machine, [base, base + 0xc0]);
    // The first chip's fast channels need not be told.
    let mut machine = parked("esp32");
    let base = 0x3ff5_9000;
    for (offset, value) in [(0x140, 10 | DIVIDER << 5 | 1 << 25), (8, 256 << 4), (0, 1 << 2), (12, 1 << 31)] {
        store(&mut machine, base + offset, value);
    }
    let shown = outputs(&mut machine);
    assert_eq!(shown.last().map(|it| (it.1, it.2, it.3)), Some((5_000_000, 256, 1024)), "{shown:?}");
}

/// A PWM of the newer kind: chip, the clock's register and choice of 80 MHz, where the table is (None: filled through registers),
/// and the register that says how long it is.
type Tables = (&'static str, [u32; 2], Option<u32>, u32);

#[test]
fn tables_of_the_newer_pwm_fade_one_after_the_other() {
    let kinds: [Tables; 3] = [
        ("esp32c6", [0x6009_6038, 1], None, 0x180),
        ("esp32c5", [0x6009_604c, 2], Some(0x400), 0x100),
        ("esp32c61", [0x6009_6038, 2], Some(0x400), 0x100),
    ];
    for (chip, [clock, choice], table, length) in kinds {
        let mut machine = parked(chip);
        let base = 0x6000_7000;
        store(&mut machine, clock, 1 << 22 | choice << 20);
        for (offset, value) in [(0xa0, 10 | DIVIDER << 5 | 1 << 26), (8, 256 << 4)] {
            store(&mut machine, base + offset, value);
        }
        // Up by 100 in 50 periods, then down by 300 in 100.
        for (place, up, cycle, scale, count) in [(0, 1, 1, 2, 50), (1, 0, 1, 3, 100)] {
            let entry = up | cycle << 1 | scale << 11 | count << 21;
            if let Some(table) = table {
                store(&mut machine, base + table + 4 * place, entry);
                continue;
            }
            store(&mut machine, base + 0x104, place);
            store(&mut machine, base + 0x100, entry);
            store(&mut machine, base + 0x104, place);
        }
        for (offset, value) in [(length, 2), (12, 1 << 31), (0, 1 << 2 | 1 << 4)] {
            store(&mut machine, base + offset, value);
        }
        run(&mut machine, 35 * MILLISECOND);
        let shown = outputs(&mut machine);
        let wanted = [(5_000_000, 256, 1024), (5_000_000, 56, 1024)];
        assert_eq!(shown.iter().map(|it| (it.1, it.2, it.3)).collect::<Vec<_>>(), wanted, "{chip}");
        assert!((shown[1].0 - shown[0].0).abs_diff(30 * MILLISECOND) < MILLISECOND, "{chip}: {shown:?}");
    }
}

/// Registers of an SPI controller: CMD and its start bit, USER, USER2, length of what is received, first word of the buffer.
type Controller = (&'static str, u32, u32, [u32; 4]);

#[test]
fn spi_command_is_answered_by_the_device_of_the_script() {
    let controllers: [Controller; 4] = [
        ("esp32c3", 0x6002_4000, 24, [0x10, 0x18, 0x1c, 0x98]),
        ("esp32c6", 0x6008_1000, 24, [0x10, 0x18, 0x1c, 0x98]),
        ("esp32", 0x3ff6_4000, 18, [0x1c, 0x24, 0x2c, 0x80]),
        ("esp32s2", 0x3f42_4000, 24, [0x18, 0x20, 0x28, 0x98]),
    ];
    for (chip, base, start, [user, user2, length, buffer]) in controllers {
        let mut machine = parked(chip);
        let read = |machine: &mut Machine| {
            for (offset, value) in [(user, 1 << 31 | 1 << 28), (user2, 7 << 28 | 0x9f), (length, 23), (0, 1 << start)] {
                store(machine, base + offset, value);
            }
            assert_eq!(load(machine, base) >> start & 1, 1, "{chip}: it takes its time");
            run(machine, 40 * MICROSECOND);
            assert_eq!(load(machine, base) >> start & 1, 0, "{chip}");
            load(machine, base + buffer) & 0xff_ffff
        };
        assert_eq!(read(&mut machine), 0xff_ffff, "{chip}: nobody is there");
        machine.take_events();
        let answers = Answers::Commands(BTreeMap::from([(0x9f, vec![0xef, 0x40, 0x18])]));
        give(&mut machine, Input::SpiDevice { bus: 2, device: Device { select: None, answers } });
        assert_eq!(read(&mut machine), 0x0018_40ef, "{chip}");
        let events = machine.take_events();
        let transfer = events.iter().find_map(|event| match &event.what {
            What::Spi { bus: 2, sent, received } => Some((sent.clone(), received.clone())),
            _ => None,
        });
        assert_eq!(transfer, Some((vec![0x9f], vec![0xef, 0x40, 0x18])), "{chip}");
    }
}

/// Where a channel's CONF (with the start bit), TX_LIM, INT_RAW and the memory are; what to write to start it in wrapping memory;
/// bits of threshold and end.
struct Pulses {
    chip: &'static str,
    base: u32,
    start: (u32, u32),
    before: Option<(u32, u32)>,
    limit: u32,
    raw: u32,
    memory: u32,
    bits: [u32; 2],
}

#[test]
fn pulses_beyond_the_threshold_are_asked_for_and_the_end_is_told() {
    for it in [
        Pulses {
            chip: "esp32c3",
            base: 0x6001_6000,
            start: (0x10, 1 | 1 << 4 | 80 << 8 | 1 << 16),
            before: None,
            limit: 0x58,
            raw: 0x38,
            memory: 0x400,
            bits: [8, 0],
        },
        Pulses {
            chip: "esp32s3",
            base: 0x6001_6000,
            start: (0x20, 1 | 1 << 4 | 80 << 8 | 1 << 16),
            before: None,
            limit: 0xa0,
            raw: 0x70,
            memory: 0x800,
            bits: [8, 0],
        },
        Pulses {
            chip: "esp32",
            base: 0x3ff5_6000,
            start: (0x24, 1 | 1 << 17),
            before: Some((0x20, 80 | 1 << 24)),
            limit: 0xd0,
            raw: 0xa0,
            memory: 0x800,
            bits: [24, 0],
        },
    ] {
        let mut machine = parked(it.chip);
        if it.before.is_none() {
            // The clock of 80 MHz, undivided.
            let conf = it.base + if it.chip == "esp32c3" { 0x68 } else { 0xc0 };
            store(&mut machine, conf, 1 << 24 | 1 << 26);
        }
        for word in 0..64 {
            store(&mut machine, it.base + it.memory + 4 * word, 10 << 16 | 10 | 1 << 15);
        }
        store(&mut machine, it.base + it.limit, 24);
        if let Some((offset, value)) = it.before {
            store(&mut machine, it.base + offset, value);
            store(&mut machine, it.base + 0xf0, 1 << 1 | 1);
        }
        store(&mut machine, it.base + it.start.0, it.start.1);
        let [threshold, end] = it.bits;
        run(&mut machine, 470 * MICROSECOND);
        assert_eq!(load(&mut machine, it.base + it.raw), 0, "{}", it.chip);
        run(&mut machine, 20 * MICROSECOND);
        assert_eq!(load(&mut machine, it.base + it.raw), 1 << threshold, "{}: 24 pulses of 20 µs", it.chip);
        store(&mut machine, it.base + it.raw + 12, !0);
        // The end comes with the 30th.
        store(&mut machine, it.base + it.memory + 4 * 29, 0);
        run(&mut machine, 480 * MICROSECOND);
        let raw = load(&mut machine, it.base + it.raw);
        // What was looked at when the threshold was met is sent already: the end is met in the next round at the latest.
        assert!(raw == 1 << threshold || raw == 1 << end, "{}: {raw:#x}", it.chip);
        run(&mut machine, 2 * MILLISECOND);
        assert_eq!(load(&mut machine, it.base + it.raw) >> end & 1, 1, "{}", it.chip);
    }
}

#[test]
fn counter_follows_the_edges_of_its_pin_and_its_limits() {
    let (pcnt, matrix) = (0x6001_2000, 0x6009_1154);
    let mut machine = parked("esp32c6");
    // Signal 101 from pin 5; rising edges count up; the threshold is 2, the high limit 5.
    store(&mut machine, matrix + 4 * 101, 5 | 1 << 7);
    store(&mut machine, pcnt, 1 << 18 | 1 << 14 | 1 << 12);
    store(&mut machine, pcnt + 4, 2);
    store(&mut machine, pcnt + 8, 5);
    store(&mut machine, pcnt + 0x48, 1);
    store(&mut machine, pcnt + 0x60, 0x54 | 1 << 16);
    let pulse = |machine: &mut Machine| {
        give(machine, Input::Pin { number: 5, level: Some(true) });
        give(machine, Input::Pin { number: 5, level: Some(false) });
        load(machine, pcnt + 0x30)
    };
    assert_eq!([pulse(&mut machine), pulse(&mut machine)], [1, 2]);
    assert!(active(&machine, 62) && load(&mut machine, pcnt + 0x50) >> 3 & 1 != 0, "the threshold is met");
    store(&mut machine, pcnt + 0x4c, 1);
    assert!(!active(&machine, 62));
    assert_eq!([pulse(&mut machine), pulse(&mut machine), pulse(&mut machine)], [3, 4, 0], "the limit is zero again");
    assert!(load(&mut machine, pcnt + 0x50) >> 5 & 1 != 0);
    // Downwards while the control, from pin 6, is high.
    store(&mut machine, matrix + 4 * 103, 6 | 1 << 7);
    store(&mut machine, pcnt, 1 << 18 | 1 << 20);
    give(&mut machine, Input::Pin { number: 6, level: Some(true) });
    assert_eq!([pulse(&mut machine), pulse(&mut machine)], [0xffff, 0xfffe]);
    store(&mut machine, pcnt + 0x60, 0x56 | 1 << 16);
    assert_eq!(pulse(&mut machine), 0xfffe, "it pauses");
    store(&mut machine, pcnt + 0x60, 0x55 | 1 << 16);
    assert_eq!(load(&mut machine, pcnt + 0x30), 0, "it is cleared");
}
