//! Every chip whose ROM is built in.
#![cfg(feature = "roms")]
#![allow(clippy::unwrap_used, clippy::disallowed_types, missing_docs)]

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use esp_machine::{Config, Input, Machine, What};

#[path = "../../../fuzz/src/machine.rs"]
mod body;

const MILLISECOND: u64 = 1_000_000_000;

/// A SYNC request of the loader protocol, in its frame.
fn sync() -> Vec<u8> {
    let mut frame = vec![0xc0, 0x00, 0x08, 0x24, 0x00, 0, 0, 0, 0, 0x07, 0x07, 0x12, 0x20];
    frame.extend([0x55; 32]);
    frame.push(0xc0);
    frame
}

fn in_download_mode(id: &str) -> Machine {
    let config = Config { download: true, ..Config::new(id, 1 << 20).unwrap() };
    let mut machine = Machine::new(config).unwrap();
    // The first requests are what the rate is measured by.
    for attempt in 1..=4 {
        machine.input(attempt * 30 * MILLISECOND, Input::Uart { port: 0, bytes: sync() });
    }
    machine
}

/// What UART0 sends until then, and a hash of all events with their times.
fn run(machine: &mut Machine, until: u64) -> (Vec<u8>, u64) {
    let (mut sent, mut hasher) = (Vec::new(), DefaultHasher::new());
    while machine.now() < until {
        machine.run(until);
        for event in machine.take_events() {
            event.hash(&mut hasher);
            if let What::Uart { port: 0, byte } = event.what {
                sent.push(byte);
            }
        }
    }
    (sent, hasher.finish())
}

#[test]
fn the_roms_of_the_risc_v_chips_answer_sync_in_download_mode() {
    for id in ["esp32c3", "esp32c2", "esp32c6", "esp32h2", "esp32c5", "esp32c61", "esp32p4", "esp32s31"] {
        let (sent, _) = run(&mut in_download_mode(id), 200 * MILLISECOND);
        let text = String::from_utf8_lossy(&sent);
        assert!(text.contains("waiting for download"), "{id}: {text}");
        assert!(sent.windows(3).any(|part| part == [0xc0, 0x01, 0x08]), "{id}: {text}");
    }
}

#[test]
fn the_same_inputs_give_the_same_events_on_every_chip_and_from_a_copy() {
    let mut seen = std::collections::BTreeSet::new();
    for id in esp_machine::chip::ids() {
        let (mut one, mut other) = (in_download_mode(id), in_download_mode(id));
        assert_eq!(run(&mut one, 40 * MILLISECOND), run(&mut other, 40 * MILLISECOND), "{id}");
        let mut copy = one.clone();
        let after = run(&mut one, 80 * MILLISECOND);
        assert_eq!(after, run(&mut copy, 80 * MILLISECOND), "{id}: the copy");
        let whole = run(&mut in_download_mode(id), 80 * MILLISECOND);
        assert!(whole.0.ends_with(&after.0) && seen.insert(whole.1), "{id} behaves as another chip");
    }
}

#[test]
fn random_flash_and_inputs_neither_panic_nor_take_much_memory() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for round in 0..24u8 {
        let mut data = vec![round];
        data.extend((0..2048).map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        }));
        body::machine(&data);
    }
}

/// An empty flash: the watchdogs that guard a start from flash reset the chip again and again, and the console gets no more
/// than a line of 115200 baud could have carried.
#[test]
fn an_empty_flash_gives_the_boot_loop_of_its_watchdog_on_every_chip() {
    for id in esp_machine::chip::ids() {
        let mut machine = Machine::new(Config::new(id, 1 << 20).unwrap()).unwrap();
        let (sent, _) = run(&mut machine, 2000 * MILLISECOND);
        let text = String::from_utf8_lossy(&sent);
        assert!(text.contains("invalid header: 0xffffffff"), "{id}: {text}");
        assert!((2..=7).contains(&machine.resets), "{id}: {} resets", machine.resets);
        assert!(text.contains("rst:0x7 ("), "{id}: {text}");
        assert!(sent.len() < 48 << 10, "{id}: {} bytes", sent.len());
        let whole = text.lines().filter(|line| line.contains("invalid header: 0xffffffff")).count();
        let parts = text.matches("invalid").count();
        assert!(whole + 4 * machine.resets as usize + 4 >= parts, "{id}: bytes are lost: {text}");
    }
}

/// espflash asks a stub that runs already for a word that lies in the flash window of some chips.
#[test]
fn a_page_of_flash_that_is_not_mapped_reads_as_nothing_in_download_mode_only() {
    for id in ["esp32p4", "esp32c3", "esp32c6"] {
        for download in [true, false] {
            let mut config = Config::new(id, 4 << 20).unwrap();
            config.download = download;
            let mut machine = Machine::new(config).unwrap();
            let window = machine.soc.board.cache.windows[0];
            let read = machine.soc.load(window.start + window.size - 0x1000, 4);
            assert_eq!(read.is_ok(), download, "{id}");
        }
    }
}
