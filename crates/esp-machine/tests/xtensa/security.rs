//! Flash encryption and secure boot, done by the chips' own ROMs.

use esp_machine::{Config, Machine};
use esp_model::efuse::bits::to_words;
use esp_model::secure::flash_encryption::{Direction, FULL_TWEAK, FlashKey};
use esp_sim::efuse::Efuse;
use libtest_mimic::Trial;

use super::apps::{BLINK_ESP32_FILES, BLINK_S2, BLINK_S3};
use super::{Files, MILLISECOND, corpus, run, sent, trial};

/// Purpose of a key block: a key of XTS-AES-128.
const XTS_128: u8 = 4;

pub fn trials() -> Vec<Trial> {
    let encrypted = |id: &'static str, files: Files| {
        let name = format!("encrypted_flash_of_{id}_boots_with_its_key_and_not_with_another");
        trial(&name, files, move || boots_encrypted(id, files))
    };
    vec![encrypted("esp32", BLINK_ESP32_FILES), encrypted("esp32s2", BLINK_S2), encrypted("esp32s3", BLINK_S3)]
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
