//! Real ESP-IDF programs.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use esp_machine::{Config, Event, Machine, What};
use esp_model::image::build::{Built, Settings, build};
use libtest_mimic::Trial;

use super::{Files, MILLISECOND, SECOND, chip, run, trial};

const BLINK_ESP32: Files = &[(0, "build/blink-esp32/flash_image.bin")];
/// The same, file by file.
pub const BLINK_ESP32_FILES: Files = &[
    (0x1000, "build/blink-esp32/bootloader_bootloader.bin"),
    (0x8000, "build/blink-esp32/partition_table_partition-table.bin"),
    (0x1_0000, "build/blink-esp32/blink.bin"),
];
pub const BLINK_S3: Files = &[
    (0, "build/blink-s3/bootloader_bootloader.bin"),
    // The corpus has none for this program; the usual one is the same for both.
    (0x8000, "build/blink-esp32/partition_table_partition-table.bin"),
    (0x1_0000, "build/blink-s3/blink.bin"),
];
pub const BLINK_S2: Files = &[
    (0x1000, "image/espflash/esp32s2-bootloader.bin"),
    (0x8000, "build/blink-esp32/partition_table_partition-table.bin"),
    (0x1_0000, "image/esptool/esp_idf_blink_esp32s2.bin"),
];

/// The first builds of Zephyr for this chip: a program for RAM that the ROM loads, in the bootloader's place.
const ZEPHYR: Files = &[(0x1000, "elf/esptool/esp32-zephyr.elf")];

pub fn trials() -> Vec<Trial> {
    let blinks = |id: &'static str, files, banner| {
        let name = format!("blink_of_{id}_runs_on_both_cores_with_a_rhythm_of_one_second");
        trial(&name, files, move || blinks_each_second(chip(id, files), banner))
    };
    let repeats = |id: &'static str, files| {
        trial(&format!("the_same_inputs_give_{id}_the_same_events"), files, move || same_twice(id, files))
    };
    vec![
        blinks("esp32", BLINK_ESP32, "ets Jul 29 2019"),
        blinks("esp32s3", BLINK_S3, "ESP-ROM:esp32s3-20210327"),
        trial("blink_of_esp32s2_sends_its_light_through_rmt_each_second", BLINK_S2, blink_s2),
        repeats("esp32", BLINK_ESP32),
        repeats("esp32s3", BLINK_S3),
        repeats("esp32s2", BLINK_S2),
        trial("zephyr_says_hello_on_esp32_without_a_bootloader", ZEPHYR, zephyr),
    ]
}

/// Lines of the console with the time of their first byte.
fn lines(events: &[Event]) -> Vec<(u64, String)> {
    let mut lines = vec![(0, String::new())];
    for event in events {
        if let What::Uart { port: 0, byte } = event.what {
            let (time, line) = lines.last_mut().unwrap();
            match byte {
                b'\n' => lines.push((0, String::new())),
                b'\r' => {}
                _ => {
                    if line.is_empty() {
                        *time = event.time;
                    }
                    line.push(byte.into());
                }
            }
        }
    }
    lines
}

fn blinks_each_second(mut machine: Machine, banner: &str) {
    let events = run(&mut machine, 6 * SECOND);
    let lines = lines(&events);
    let text: Vec<_> = lines.iter().map(|(_, line)| line.as_str()).collect();
    let has = |part: &str| assert!(text.iter().any(|line| line.contains(part)), "{part}: {text:#?}");
    has(banner);
    has("Multicore app");
    has("Started on CPU0");
    let blinks = lines.iter().filter(|(_, line)| line.contains("Turning the LED"));
    let turns: Vec<u64> = blinks.map(|(time, _)| *time).collect();
    assert_eq!(turns.len(), 6, "{text:#?}");
    // From the second on each comes with a tick of the same timer; what comes before it is a few instructions' work.
    for pair in turns[1..].windows(2) {
        assert!((pair[1] - pair[0]).abs_diff(SECOND) < MILLISECOND / 100, "{turns:?}");
    }
    assert_eq!(machine.resets, 0);
    assert!(machine.cores[1].get().cycles() > machine.cycles() / 2, "the second core runs");
}

fn blink_s2() {
    let mut machine = chip("esp32s2", BLINK_S2);
    let lines = lines(&run(&mut machine, 4 * SECOND));
    assert!(lines.iter().any(|(_, line)| line.contains("ESP-ROM:esp32s2")), "{lines:#?}");
    let blinks = lines.iter().filter(|(_, line)| line.contains("Turning the LED"));
    let turns: Vec<u64> = blinks.map(|(time, _)| *time).collect();
    assert_eq!(turns.len(), 4, "{lines:#?}");
    assert!((turns[3] - turns[2]).abs_diff(SECOND) < MILLISECOND / 100, "{turns:?}");
}

/// Events with their times, instructions and cycles of each core: all are the same in a second run.
fn same_twice(id: &str, files: Files) {
    let hash = || {
        let mut machine = chip(id, files);
        let events = run(&mut machine, 1200 * MILLISECOND);
        let mut hasher = DefaultHasher::new();
        events.hash(&mut hasher);
        let cores = machine.cores.iter().map(|core| (core.get().cycles(), core.get().instructions()));
        (hasher.finish(), events.len(), cores.collect::<Vec<_>>())
    };
    let first = hash();
    assert!(first.1 > 1000, "{} events", first.1);
    assert_eq!(first, hash());
}

fn zephyr() {
    let (place, file) = ZEPHYR[0];
    let elf = std::fs::read(super::corpus(file)).unwrap();
    let known = esp_model::chip::by_name("esp32").unwrap();
    let Built::One(image) = build(known, &elf, &Settings::default()).unwrap() else { panic!("two files") };
    let mut config = Config::new("esp32", 4 << 20).unwrap();
    config.flash.load(place, &image);
    let mut machine = Machine::new(config).unwrap();
    let lines = lines(&run(&mut machine, 50 * MILLISECOND));
    let text: Vec<_> = lines.iter().map(|(_, line)| line.as_str()).collect();
    assert!(text.iter().any(|line| line.contains("Booting Zephyr OS")), "{text:#?}");
    assert!(text.contains(&"Hello World! esp32"), "{text:#?}");
}
