//! Flash encryption and secure boot, done by the chips' own ROMs.

use esp_machine::{Config, Machine};
use esp_model::efuse::bits::to_words;
use esp_model::secure::block::key_digest;
use esp_model::secure::flash_encryption::{Direction, FULL_TWEAK, FlashKey};
use esp_model::secure::{PrivateKey, Scheme, boot_v1};
use esp_sim::efuse::Efuse;
use libtest_mimic::Trial;

use super::apps::{BLINK_ESP32_FILES, BLINK_S2, BLINK_S3};
use super::bootable::{self, key, noise, signed};
use super::{Files, MILLISECOND, corpus, run, sent, trial};

/// Purpose of a key block: a key of XTS-AES-128.
const XTS_128: u8 = 4;

pub fn trials() -> Vec<Trial> {
    let encrypted = |id: &'static str, files: Files| {
        let name = format!("encrypted_flash_of_{id}_boots_with_its_key_and_not_with_another");
        trial(&name, files, move || boots_encrypted(id, files))
    };
    let signed = |chip: &'static Bootable| {
        trial(&format!("the_rom_of_{}_starts_a_signed_program_and_refuses_others", chip.id), &[], move || {
            starts_signed(chip);
        })
    };
    let mut trials =
        vec![encrypted("esp32", BLINK_ESP32_FILES), encrypted("esp32s2", BLINK_S2), encrypted("esp32s3", BLINK_S3)];
    trials.extend(BOOTABLE.iter().map(signed));
    let real = |chip: &'static Bootable, files: Files, started: &'static str| {
        let name = format!("the_rom_of_{}_starts_a_signed_bootloader_of_esp_idf_and_no_other", chip.id);
        trial(&name, files, move || starts_signed_bootloader(chip, files, started))
    };
    let [esp32, esp32s2, esp32s3] = &BOOTABLE;
    // With its signature the ESP32's reaches into the partition table: it starts, and finds none.
    trials.push(real(esp32, BOOTLOADER_ESP32, "2nd stage bootloader"));
    trials.push(real(esp32s2, BLINK_S2, "Turning the LED"));
    trials.push(real(esp32s3, BLINK_S3, "Turning the LED"));
    trials.push(trial("the_rom_of_esp32_starts_a_bootloader_with_its_digest_and_no_other", &[], starts_with_digest));
    trials
}

/// A chip, where its code and its data may lie, and its bootloader's place in flash.
struct Bootable {
    id: &'static str,
    code: u32,
    data: u32,
    place: u32,
}

static BOOTABLE: [Bootable; 3] = [
    Bootable { id: "esp32", code: 0x4008_0000, data: 0x3ffb_0000, place: 0x1000 },
    Bootable { id: "esp32s2", code: 0x4002_c000, data: 0x3ffc_8000, place: 0x1000 },
    Bootable { id: "esp32s3", code: 0x4037_c000, data: 0x3fc9_8000, place: 0 },
];

const SAID: &str = "the program runs";
const DIGEST_PURPOSE: u8 = 9;

/// A program that lets the ROM print a line, then stays where it is.
fn program(chip: &Bootable) -> Vec<u8> {
    let machine = Machine::new(Config::new(chip.id, 4 << 20).unwrap()).unwrap();
    let print = machine.rom().functions.iter().find(|(_, name)| *name == "ets_printf").map(|(at, _)| *at).unwrap();
    let mut code: Vec<u8> = [print, chip.data].into_iter().flat_map(u32::to_le_bytes).collect();
    // entry a1, 32; l32r a8, print; l32r a10, text; callx8 a8; j .
    code.extend([0x36, 0x41, 0x00, 0x81, 0xfd, 0xff, 0xa1, 0xfd, 0xff, 0xe0, 0x08, 0x00, 0x06, 0xff, 0xff, 0]);
    let mut text = format!("{SAID}\r\n\0").into_bytes();
    text.resize(text.len().next_multiple_of(4), 0);
    bootable::image(chip.id, chip.code + 8, &[(chip.data, text), (chip.code, code)])
}

/// What the chip says with this at its bootloader's place.
fn said(chip: &Bootable, mut config: Config, image: &[u8]) -> String {
    config.flash.load(chip.place, image);
    console(config, 250).0
}

/// Secure boot v2 is on, for our key.
fn secured(id: &str) -> Config {
    let digest = key_digest(&key().public().unwrap());
    if id == "esp32" {
        return chip(id, "BLOCK2", &digest, &[("ABS_DONE_1", 1)]);
    }
    chip(id, "BLOCK_KEY0", &digest, &[("KEY_PURPOSE_0", DIGEST_PURPOSE), ("SECURE_BOOT_EN", 1)])
}

fn starts_signed(chip: &Bootable) {
    let (id, image) = (chip.id, program(chip));
    let open = said(chip, Config::new(id, 4 << 20).unwrap(), &image);
    assert!(open.contains(SAID), "{id}, open: {open}");
    let right = said(chip, secured(id), &signed(&image, key()));
    assert!(right.contains(SAID), "{id}, signed: {right}");

    let unsigned = said(chip, secured(id), &image);
    let refused = ["ecure boot", "ecure Boot", "ignature"].iter().any(|word| unsigned.contains(word));
    assert!(!unsigned.contains(SAID) && refused, "{id}, unsigned: {unsigned}");

    let mut changed = signed(&image, key());
    let at = changed.windows(SAID.len()).position(|part| part == SAID.as_bytes()).unwrap();
    changed[at] ^= 0x20;
    let changed = said(chip, secured(id), &changed);
    assert!(!changed.contains("he program runs"), "{id}, changed: {changed}");

    let other = PrivateKey::generate(Scheme::Rsa3072, &mut noise(99)).unwrap();
    let other = said(chip, secured(id), &signed(&image, &other));
    assert!(!other.contains(SAID), "{id}, another key: {other}");
}

const BOOTLOADER_ESP32: Files = &[(0x1000, "image/espflash/esp32-bootloader.bin")];

/// A bootloader of ESP-IDF, signed by us, and what it starts.
fn starts_signed_bootloader(chip: &Bootable, files: Files, started: &str) {
    let load = |config: &mut Config, bootloader: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        // What lies behind the signature first: it may reach into it.
        for (offset, file) in files.iter().rev() {
            let bytes = std::fs::read(corpus(file)).unwrap();
            let bytes = if *offset == chip.place { bootloader(bytes) } else { bytes };
            config.flash.load(*offset, &bytes);
        }
    };
    let with = |bootloader: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        let mut config = secured(chip.id);
        load(&mut config, bootloader);
        console(config, 500).0
    };
    let right = with(&|bytes| signed(&bytes, key()));
    assert!(right.contains(started), "{}, signed: {right}", chip.id);
    let unsigned = with(&|bytes| bytes);
    assert!(!unsigned.contains("2nd stage"), "{}, unsigned: {unsigned}", chip.id);
    let changed = with(&|bytes| {
        let mut bytes = signed(&bytes, key());
        bytes[0x2000] ^= 1;
        bytes
    });
    assert!(!changed.contains("2nd stage"), "{}, changed: {changed}", chip.id);
}

/// Secure boot v1: the ROM compares with the digest that its engine makes with the eFuses' key.
fn starts_with_digest() {
    let (board, burned) = (&BOOTABLE[0], std::array::from_fn(|index| (index * 11 + 5) as u8));
    let image = program(board);
    let digested = boot_v1::digest_bootloader(&image, &burned, &[0x3c; 128]).unwrap();
    let with = |key: &[u8; 32], flash: &[u8]| {
        let mut stored = *key;
        stored.reverse();
        let mut config = chip("esp32", "BLOCK2", &stored, &[("ABS_DONE_0", 1)]);
        config.flash.load(0, flash);
        console(config, 250).0
    };
    let right = with(&burned, &digested);
    assert!(right.contains(SAID), "{right}");
    let mut changed = digested.clone();
    let at = changed.windows(SAID.len()).position(|part| part == SAID.as_bytes()).unwrap();
    // Two bytes, so that the image's checksum stays right.
    changed[at..at + 2].iter_mut().for_each(|byte| *byte ^= 0x20);
    let refused = with(&burned, &changed);
    assert!(!refused.contains("he program runs") && refused.contains("Secure boot check fail"), "{refused}");
    let mut other = burned;
    other[9] ^= 1;
    let refused = with(&other, &digested);
    assert!(!refused.contains(SAID) && refused.contains("Secure boot check fail"), "{refused}");
}

/// A chip with this content of a key block, and these fields.
fn chip(id: &str, block: &str, key: &[u8; 32], fields: &[(&str, u8)]) -> Config {
    let mut config = Config::new(id, 4 << 20).unwrap();
    let mut words = config.efuse.decoded().words.clone();
    let block = config.efuse.table().blocks.iter().find(|known| known.name == block).unwrap().id;
    words.insert(block, to_words(key));
    config.efuse = Efuse::new(config.efuse.table(), words);
    for (name, value) in fields {
        config.efuse.set(name, &[*value]);
    }
    config
}

/// What the chip says in so many milliseconds, and how often it was reset.
fn console(config: Config, milliseconds: u64) -> (String, u32) {
    let mut machine = Machine::new(config).unwrap();
    let said = sent(&run(&mut machine, milliseconds * MILLISECOND));
    (String::from_utf8_lossy(&said).into_owned(), machine.resets)
}

/// The hardware takes the key's bytes in reverse order.
fn with_key(id: &str, key: &[u8; 32]) -> Config {
    let mut stored = *key;
    stored.reverse();
    if id == "esp32" {
        return chip(id, "BLOCK1", &stored, &[("FLASH_CRYPT_CNT", 1), ("FLASH_CRYPT_CONFIG", FULL_TWEAK)]);
    }
    chip(id, "BLOCK_KEY0", &stored, &[("KEY_PURPOSE_0", XTS_128), ("SPI_BOOT_CRYPT_CNT", 1)])
}

fn boots_encrypted(id: &str, files: Files) {
    let key: [u8; 32] = std::array::from_fn(|index| (index * 7 + 3) as u8);
    let cipher = if id == "esp32" { FlashKey::esp32(&key, FULL_TWEAK) } else { FlashKey::xts(&key) }.unwrap();
    let load = |config: &mut Config| {
        for (offset, file) in files {
            let mut bytes = std::fs::read(corpus(file)).unwrap();
            bytes.resize(bytes.len().next_multiple_of(32), 0xff);
            cipher.apply(Direction::Encrypt, (*offset).into(), &mut bytes).unwrap();
            config.flash.load(*offset, &bytes);
        }
    };
    let mut right = with_key(id, &key);
    load(&mut right);
    let (said, resets) = console(right, 200);
    assert!(said.contains("Turning the LED") && resets == 0, "{id}: {said}");

    let mut wrong = key;
    wrong[5] ^= 1;
    let mut config = with_key(id, &wrong);
    load(&mut config);
    let (said, _) = console(config, 200);
    // What the ROM makes of noise.
    assert!(said.contains("invalid header: 0x") && !said.contains("2nd stage"), "{id}: {said}");
}
