//! What the fuzz target `machine` does: a chip whose flash and whose host are random.

use esp_machine::{Config, Input, Machine};

/// More than a chip with its ROM, RAM and 1 MB of flash needs.
const MOST_MEMORY: usize = 16 << 20;

/// The first byte chooses the chip and how it starts; half of the rest is flash, half comes over the serial line.
pub fn machine(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let chips: Vec<&str> = esp_machine::chip::ids().collect();
    let Some(chip) = chips.get(usize::from(*first) % chips.len().max(1)) else { return };
    let Some(mut config) = Config::new(chip, 1 << 20) else { return };
    config.download = first & 0x80 != 0;
    let (flash, line) = rest.split_at(rest.len() / 2);
    // An image that begins well goes further.
    let mut image = vec![0xe9, 1, 2, 0x20];
    image.extend(flash);
    config.flash.load(0, &image);
    config.flash.load(0x1000, &image);
    config.flash.load(0x8000, flash);
    let Ok(mut machine) = Machine::new(config) else { return };
    machine.input(5_000_000_000, Input::Uart { port: 0, bytes: line.to_vec() });
    machine.input(6_000_000_000, Input::Usb(line.to_vec()));
    for byte in line.iter().take(8) {
        machine.input(7_000_000_000, Input::Pin { number: byte % 64, level: Some(byte & 0x80 != 0) });
    }
    let end = 20_000_000_000;
    while machine.now() < end {
        machine.run(end);
        machine.take_events();
    }
    assert!(machine.soc.memory.size() < MOST_MEMORY, "{chip}: {} bytes", machine.soc.memory.size());
}
