//! Real ESP-IDF programs on Xtensa cores. Needs the corpus beside the repository and the built-in ROMs.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_types, missing_docs)]

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use esp_machine::{Config, Event, Input, Machine, What};

const SECOND: u64 = 1_000_000_000_000;
const MILLISECOND: u64 = SECOND / 1000;

fn corpus() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    let named = std::env::var_os("ESP_CORPUS").map(PathBuf::from);
    named.into_iter().chain([beside]).find(|folder| folder.join("build").exists())
}

/// A chip with these files (below the corpus) in its flash; nothing when the corpus is not there.
fn chip(id: &str, files: &[(u32, &str)]) -> Option<Machine> {
    let Some(corpus) = corpus() else {
        eprintln!("ignored: no corpus");
        return None;
    };
    let mut config = Config::new(id, 4 << 20).unwrap();
    for (offset, file) in files {
        config.flash.load(*offset, &std::fs::read(corpus.join(file)).unwrap());
    }
    Some(Machine::new(config).unwrap())
}

fn blink_esp32() -> Option<Machine> {
    chip("esp32", &[(0, "build/blink-esp32/flash_image.bin")])
}

fn blink_s3() -> Option<Machine> {
    let files = [
        (0, "build/blink-s3/bootloader_bootloader.bin"),
        // The corpus has none for this program; the usual one is the same for both.
        (0x8000, "build/blink-esp32/partition_table_partition-table.bin"),
        (0x1_0000, "build/blink-s3/blink.bin"),
    ];
    chip("esp32s3", &files)
}

fn run(machine: &mut Machine, until: u64) -> Vec<Event> {
    let mut events = Vec::new();
    while machine.now() < until {
        machine.run(until);
        events.extend(machine.take_events());
    }
    events
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

#[test]
fn blink_of_the_esp32_runs_on_both_cores_with_a_rhythm_of_one_second() {
    if let Some(machine) = blink_esp32() {
        blinks_each_second(machine, "ets Jul 29 2019");
    }
}

#[test]
fn blink_of_the_esp32s3_runs_on_both_cores_with_a_rhythm_of_one_second() {
    if let Some(machine) = blink_s3() {
        blinks_each_second(machine, "ESP-ROM:esp32s3-20210327");
    }
}

#[test]
fn blink_of_the_esp32s2_sends_its_light_through_rmt_each_second() {
    let files = [
        (0x1000, "image/espflash/esp32s2-bootloader.bin"),
        (0x8000, "build/blink-esp32/partition_table_partition-table.bin"),
        (0x1_0000, "image/esptool/esp_idf_blink_esp32s2.bin"),
    ];
    let Some(mut machine) = chip("esp32s2", &files) else { return };
    let lines = lines(&run(&mut machine, 4 * SECOND));
    assert!(lines.iter().any(|(_, line)| line.contains("ESP-ROM:esp32s2")), "{lines:#?}");
    let blinks = lines.iter().filter(|(_, line)| line.contains("Turning the LED"));
    let turns: Vec<u64> = blinks.map(|(time, _)| *time).collect();
    assert_eq!(turns.len(), 4, "{lines:#?}");
    assert!((turns[3] - turns[2]).abs_diff(SECOND) < MILLISECOND / 100, "{turns:?}");
}

/// A SYNC request of the loader protocol, in its frame.
fn sync() -> Vec<u8> {
    let mut frame = vec![0xc0, 0x00, 0x08, 0x24, 0x00, 0, 0, 0, 0, 0x07, 0x07, 0x12, 0x20];
    frame.extend([0x55; 32]);
    frame.push(0xc0);
    frame
}

#[test]
#[cfg_attr(not(feature = "roms"), ignore = "needs the ROMs")]
fn the_roms_answer_sync_in_download_mode() {
    for id in ["esp32s2", "esp32s3"] {
        let mut config = Config::new(id, 4 << 20).unwrap();
        config.download = true;
        let mut machine = Machine::new(config).unwrap();
        let mut events = run(&mut machine, 20 * MILLISECOND);
        // The first requests are what the rate is measured by.
        for attempt in 1..=8 {
            machine.input(attempt * 100 * MILLISECOND, Input::Uart { port: 0, bytes: sync() });
        }
        events.extend(run(&mut machine, SECOND));
        let sent = events.iter().filter_map(|event| match event.what {
            What::Uart { port: 0, byte } => Some(byte),
            _ => None,
        });
        let sent: Vec<u8> = sent.collect();
        let text = String::from_utf8_lossy(&sent);
        assert!(text.contains("waiting for download"), "{id}: {text}");
        let answer = [0xc0, 0x01, 0x08];
        let answers = sent.windows(3).filter(|part| *part == answer).count();
        assert!(answers >= 8, "{id}: {answers} {text}");
    }
}

#[test]
fn the_same_inputs_give_the_same_events() {
    for make in [blink_esp32, blink_s3] {
        let hash = || {
            let mut machine = make()?;
            let events = run(&mut machine, 1200 * MILLISECOND);
            let mut hasher = DefaultHasher::new();
            events.hash(&mut hasher);
            Some((hasher.finish(), events.len(), machine.cycles(), machine.cores[1].get().cycles()))
        };
        assert_eq!(hash(), hash());
    }
}
