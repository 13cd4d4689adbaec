//! Random code and random flash: nothing panics, time goes on, memory stays bounded.

use esp_machine::{Config, Input, Machine};
use esp_model::image::{CHECKSUM_SEED, checksum};
use libtest_mimic::Trial;

use super::{MILLISECOND, run, trial};

/// A chip, where its code may lie in RAM, and where its bootloader lies in flash.
const CHIPS: [(&str, u32, u32); 3] =
    [("esp32", 0x4008_0000, 0x1000), ("esp32s2", 0x4002_8000, 0x1000), ("esp32s3", 0x4037_8000, 0)];
const SEEDS: u64 = 24;
/// More than a whole machine with 4 MB of flash in its arena takes.
const MOST_MEMORY: usize = 32 << 20;

pub fn trials() -> Vec<Trial> {
    let code = CHIPS.map(|(id, ram, _)| {
        trial(&format!("random_code_on_{id}_never_breaks_the_machine"), &[], move || random_code(id, ram))
    });
    let flash = CHIPS.map(|(id, ram, place)| {
        trial(&format!("random_flash_of_{id}_never_breaks_the_machine"), &[], move || random_flash(id, ram, place))
    });
    code.into_iter().chain(flash).collect()
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// Runs to that time with noise on the line; how far it came.
fn shake(machine: &mut Machine, random: &mut Random, milliseconds: u64) {
    let end = machine.now() + milliseconds * MILLISECOND;
    machine.input(machine.now() + MILLISECOND, Input::Uart { port: 0, bytes: random.bytes(64) });
    run(machine, end);
    assert!(machine.now() >= end);
    assert!(machine.soc.memory.size() < MOST_MEMORY, "{}", machine.soc.memory.size());
}

/// Code and registers are noise; addresses that mean something are among them.
fn random_code(id: &str, ram: u32) {
    for seed in 1..=SEEDS {
        let mut random = Random(seed * 0x9e37_79b9);
        let mut machine = Machine::new(Config::new(id, 4 << 20).unwrap()).unwrap();
        assert!(machine.poke(ram, &random.bytes(0x1000)));
        let core = machine.cores[0].get_mut();
        for number in 1..=64 {
            let value = match random.next() % 4 {
                0 => ram + random.next() % 0x1000,
                1 => random.next() % 64,
                2 => machine.soc.board.registers[0][0] + random.next() % 0x6_0000,
                _ => random.next(),
            };
            core.set_register(number, value);
        }
        // PS: user mode, windows, no exception.
        core.set_register(73, 0x4_0020);
        core.set_pc(ram);
        shake(&mut machine, &mut random, 5);
    }
}

/// An image whose code is noise, which the ROM starts.
fn random_flash(id: &str, ram: u32, place: u32) {
    let mut started = 0;
    for seed in 1..=SEEDS / 2 {
        let mut random = Random(seed * 0x51ed_270b);
        let mut config = Config::new(id, 4 << 20).unwrap();
        let code = random.bytes(0x400);
        let load = ram + 0x4000;
        let mut image = vec![0xe9, 1, 2, 0x20];
        image.extend(load.to_le_bytes());
        image.extend([0xee, 0, 0, 0]);
        image.extend(esp_model::chip::by_name(id).unwrap().chip_id.unwrap().to_le_bytes());
        image.extend([0; 10]);
        image.extend(load.to_le_bytes());
        image.extend((code.len() as u32).to_le_bytes());
        image.extend(&code);
        image.resize(image.len() | 0xf, 0);
        image.push(checksum(&code, CHECKSUM_SEED));
        config.flash.load(place, &image);
        config.flash.load(place + 0x2000, &random.bytes(0x1000));
        let mut machine = Machine::new(config).unwrap();
        machine.set_breakpoints(&[load]);
        machine.run(100 * MILLISECOND);
        started += u32::from(machine.cores[0].get().pc() == load);
        machine.set_breakpoints(&[]);
        shake(&mut machine, &mut random, 5);
    }
    assert!(started > 0, "the ROM starts none of them");
}
