//! Writes that the chip encrypts with its own key.

use std::fs;

use esp_model::chip;
use esp_model::secure::flash_encryption::{Direction, FlashKey};
use esp_sim::SimDevice;
use serde_json::json;

use crate::bench::{Bench, flash, noise};

/// A key as it stands in the eFuse block, and as files hold it: the other way round.
fn key() -> ([u8; 32], Vec<u8>) {
    let key: [u8; 32] = std::array::from_fn(|index| index as u8 * 7 + 1);
    (key, key.iter().rev().copied().collect())
}

fn device(bench: &Bench, name: &str, closed: bool) -> (SimDevice, String) {
    let chip = chip::by_name("esp32c3").unwrap();
    let (device, port) = bench.device_of(chip, name, |_| ());
    device.with(|sim, now| {
        sim.efuse().set("SPI_BOOT_CRYPT_CNT", &[1]);
        sim.efuse().set("KEY_PURPOSE_0", &[4]);
        sim.efuse().set("BLOCK_KEY0", &key().0);
        if closed {
            sim.efuse().set("DIS_DOWNLOAD_MANUAL_ENCRYPT", &[1]);
        }
        sim.power_cycle(now);
    });
    (device, port)
}

#[test]
fn the_chip_encrypts_what_it_writes() {
    let bench = Bench::new();
    let (sim, port) = device(&bench, "encrypts", false);
    let mut bytes = noise(0x9000, 3);
    bytes[0x2000..0x4000].fill(0xff);
    fs::write(bench.path("data.bin"), &bytes).unwrap();
    let files = json!([{"path": "data.bin", "address": 0x2_0000}]);
    let out = bench.call("esp_flash_firmware", json!({"port": port, "files": files, "encrypt": true}));
    assert_eq!((&out["verified"], &out["written_bytes"]), (&json!(false), &json!(0x9000)));
    let found = flash(&sim, 0x2_0000, 0x9000);
    assert!(found != bytes);
    let mut plain = found;
    FlashKey::xts(&key().1).unwrap().apply(Direction::Decrypt, 0x2_0000, &mut plain).unwrap();
    assert!(plain == bytes, "what the chip's cache would read");
}

#[test]
fn it_is_refused_where_the_chip_cannot_or_may_not() {
    let bench = Bench::new();
    fs::write(bench.path("data.bin"), noise(0x1000, 4)).unwrap();
    let call = |port: &str, address: u32| {
        let files = json!([{"path": "data.bin", "address": address}]);
        bench.fail("esp_flash_firmware", json!({"port": port, "files": files, "encrypt": true})).code.as_str()
    };
    let (sim, port) = device(&bench, "closed", true);
    assert_eq!(call(&port, 0x2_0000), "encryption_active");
    assert_eq!(flash(&sim, 0x2_0000, 16), [0xff; 16]);
    let (_, port) = bench.device("open", |_| ());
    assert_eq!(call(&port, 0x2_0000), "encryption_inactive");
    let (_, port) = device(&bench, "unaligned", false);
    assert_eq!(call(&port, 0x2_0010), "address_out_of_range");
}
