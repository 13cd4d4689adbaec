//! The loaders of the mask ROMs.

use esp_machine::{Config, Input, Machine};
use libtest_mimic::Trial;

use super::{MILLISECOND, SECOND, run, sent, trial};

pub fn trials() -> Vec<Trial> {
    let answers = |id: &'static str| {
        trial(&format!("the_rom_of_{id}_answers_sync_in_download_mode"), &[], move || answers_sync(id))
    };
    vec![answers("esp32"), answers("esp32s2"), answers("esp32s3")]
}

/// A SYNC request of the loader protocol, in its frame.
fn sync() -> Vec<u8> {
    let mut frame = vec![0xc0, 0x00, 0x08, 0x24, 0x00, 0, 0, 0, 0, 0x07, 0x07, 0x12, 0x20];
    frame.extend([0x55; 32]);
    frame.push(0xc0);
    frame
}

fn answers_sync(id: &str) {
    let mut config = Config::new(id, 4 << 20).unwrap();
    config.download = true;
    let mut machine = Machine::new(config).unwrap();
    let mut events = run(&mut machine, 20 * MILLISECOND);
    // The first requests are what the rate is measured by.
    for attempt in 1..=8 {
        machine.input(attempt * 100 * MILLISECOND, Input::Uart { port: 0, bytes: sync() });
    }
    events.extend(run(&mut machine, SECOND));
    let sent = sent(&events);
    let text = String::from_utf8_lossy(&sent);
    assert!(text.contains("waiting for download"), "{id}: {text}");
    let answer = [0xc0, 0x01, 0x08];
    let answers = sent.windows(3).filter(|part| *part == answer).count();
    assert!(answers >= 8, "{id}: {answers} {text}");
}
