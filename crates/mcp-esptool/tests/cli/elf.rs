//! A linked program for a chip: a section mapped to flash and one in RAM.

use esp_model::chip::Chip;
use esp_model::image::AppDesc;

#[path = "../../../../tests/support/elf.rs"]
mod made;

pub fn program(chip: &Chip) -> Vec<u8> {
    let ram = chip.memory.iter().find(|region| region.name == "IRAM").unwrap().start;
    let mut data = vec![0; AppDesc::LEN];
    data[..4].copy_from_slice(&AppDesc::MAGIC.to_le_bytes());
    let noise = |length: usize| (0..length).map(|at| (at * 37 % 251) as u8).collect::<Vec<u8>>();
    data.extend(noise(5000));
    made::elf(&[(".flash.appdesc", chip.image.drom[0] + 0x20, data), (".iram0.text", ram, noise(4096))])
}
