//! Secure boot v2 and flash encryption, done by the chips' own ROMs: a small program in the bootloader's place.
#![cfg(feature = "roms")]
#![allow(clippy::unwrap_used, clippy::disallowed_types, missing_docs)]

use esp_machine::{Config, Machine, What};
use esp_model::secure::block::key_digest;
use esp_model::secure::flash_encryption::{Direction, FlashKey};
use esp_model::secure::{PrivateKey, Scheme};
use esp_sim::efuse::Efuse;

#[path = "support/bootable.rs"]
#[allow(dead_code)]
mod bootable;
use bootable::{key, noise, signed};

const SAID: &str = "the program runs";
/// The chips, and where their ROMs let a bootloader be loaded to.
const CHIPS: [(&str, u32); 2] = [("esp32c3", 0x403c_f000), ("esp32c6", 0x4086_f000)];
const DIGEST_PURPOSE: u8 = 9;
const XTS_128_PURPOSE: u8 = 4;

/// `register` = `address`, by LUI and ADDI.
fn set(register: u32, address: u32) -> [u32; 2] {
    let upper = address.wrapping_add(0x800) & 0xffff_f000;
    let lower = address.wrapping_sub(upper) & 0xfff;
    [upper | register << 7 | 0x37, lower << 20 | register << 15 | register << 7 | 0x13]
}

/// An image of one segment whose program lets the ROM print a line, then stays where it is.
fn image(chip: &str, load: u32) -> Vec<u8> {
    let machine = Machine::new(Config::new(chip, 4 << 20).unwrap()).unwrap();
    let print = machine.rom().functions.iter().find(|(_, name)| *name == "ets_printf").map(|(at, _)| *at).unwrap();
    let mut program: Vec<u32> = Vec::new();
    program.extend(set(10, load + 0x40));
    program.extend(set(5, print));
    // jalr ra, t0; j .
    program.extend([5 << 15 | 1 << 7 | 0x67, 0x6f]);
    let mut code: Vec<u8> = program.iter().flat_map(|word| word.to_le_bytes()).collect();
    code.resize(0x40, 0);
    code.extend(SAID.bytes().chain(*b"\r\n\0"));
    code.resize(code.len().next_multiple_of(4), 0);

    bootable::image(chip, load, &[(load, code)])
}

/// A chip with this key in its first key block, and these fields.
fn chip(id: &str, key: [u8; 32], fields: &[(&str, u8)]) -> Config {
    let mut config = Config::new(id, 4 << 20).unwrap();
    let mut words = config.efuse.decoded().words.clone();
    let block = config.efuse.table().blocks.iter().find(|block| block.name == "BLOCK_KEY0").unwrap().id;
    let content = key.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
    words.insert(block, content.collect());
    config.efuse = Efuse::new(config.efuse.table(), words);
    for (name, value) in fields {
        config.efuse.set(name, &[*value]);
    }
    config
}

/// What the chip says with this at the bootloader's place.
fn console(mut config: Config, content: &[u8]) -> String {
    config.flash.load(0, content);
    let mut machine = Machine::new(config).unwrap();
    let (mut sent, end) = (Vec::new(), 400_000_000_000);
    machine.most_resets = 3;
    while machine.now() < end && machine.resets < 3 {
        machine.run(end);
        sent.extend(machine.take_events().into_iter().filter_map(|event| match event.what {
            What::Uart { port: 0, byte } => Some(byte),
            _ => None,
        }));
    }
    String::from_utf8_lossy(&sent).into_owned()
}

fn secured(id: &str) -> Config {
    let digest = key_digest(&key().public().unwrap());
    chip(id, digest, &[("KEY_PURPOSE_0", DIGEST_PURPOSE), ("SECURE_BOOT_EN", 1)])
}

#[test]
fn a_program_in_the_bootloaders_place_runs_on_an_open_chip() {
    for (id, load) in CHIPS {
        let said = console(Config::new(id, 4 << 20).unwrap(), &image(id, load));
        assert!(said.contains(SAID), "{id}: {said}");
    }
}

#[test]
fn the_rom_starts_a_signed_program_and_refuses_others() {
    for (id, load) in CHIPS {
        let image = image(id, load);
        let said = console(secured(id), &signed(&image, key()));
        assert!(said.contains(SAID), "{id}, signed: {said}");

        let said = console(secured(id), &image);
        let refused = said.contains("ecure boot") || said.contains("ignature");
        assert!(!said.contains(SAID) && refused, "{id}, unsigned: {said}");

        let mut changed = signed(&image, key());
        let at = changed.windows(SAID.len()).position(|part| part == SAID.as_bytes()).unwrap();
        changed[at] ^= 0x20;
        let said = console(secured(id), &changed);
        assert!(!said.contains("program runs"), "{id}, changed: {said}");

        let other = PrivateKey::generate(Scheme::Rsa3072, &mut noise(99)).unwrap();
        let said = console(secured(id), &signed(&image, &other));
        assert!(!said.contains(SAID), "{id}, another key: {said}");
    }
}

#[test]
fn the_cache_decrypts_with_the_efuses_key_and_a_wrong_one_gives_the_boot_loop() {
    let flash_key: Vec<u8> = (1..=32).collect();
    for (id, load) in CHIPS {
        let mut content = image(id, load);
        content.resize(content.len().next_multiple_of(4096), 0xff);
        FlashKey::xts(&flash_key).unwrap().apply(Direction::Encrypt, 0, &mut content).unwrap();
        // The key's bytes stand in the block the other way round.
        let burned = |change: u8| {
            let mut bytes: [u8; 32] = flash_key.clone().try_into().unwrap();
            bytes.reverse();
            bytes[0] ^= change;
            chip(id, bytes, &[("KEY_PURPOSE_0", XTS_128_PURPOSE), ("SPI_BOOT_CRYPT_CNT", 1)])
        };
        let said = console(burned(0), &content);
        assert!(said.contains(SAID), "{id}: {said}");
        let said = console(burned(1), &content);
        assert!(!said.contains(SAID) && said.contains("invalid header"), "{id}, wrong key: {said}");
    }
}
