//! The loaders of the mask ROMs.

use esp_machine::{Config, Input, Machine};
use libtest_mimic::Trial;

use super::{MILLISECOND, run, sent, trial};

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

/// Ten requests from `first` on, one each `step` milliseconds: the first one or two are what the rate is measured by, whatever the ROM
/// was doing when they came.
fn answers_sync(id: &str) {
    for (first, step) in [(0, 3), (0, 100), (2, 100), (3, 50), (20, 100), (30, 10), (50, 7), (100, 100)] {
        let mut config = Config::new(id, 4 << 20).unwrap();
        config.download = true;
        let mut machine = Machine::new(config).unwrap();
        for attempt in 0..10 {
            let time = (first + step * attempt) * MILLISECOND;
            machine.input(time, Input::Uart { port: 0, bytes: sync() });
        }
        let sent = sent(&run(&mut machine, 1500 * MILLISECOND));
        let text = String::from_utf8_lossy(&sent);
        assert!(text.contains("waiting for download"), "{id}: {text}");
        // Each request is answered eight times.
        let answers = sent.windows(3).filter(|part| *part == [0xc0, 0x01, 0x08]).count();
        assert!(answers >= 6 * 8, "{id} from {first} ms on each {step} ms: {answers} {text}");
    }
}
