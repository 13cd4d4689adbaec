//! Units whose flash encryption is on: the chip encrypts while it may, the host where it has the key.

use esp_model::chip::Chip;
use esp_model::efuse::{Burn, Request, bits};
use esp_model::secure::flash_encryption::{Direction, FlashKey};
use esp_sim::{Config, SimDevice};

use super::*;

/// A chip with XTS encryption and a key block for it.
fn chip() -> &'static Chip {
    let has = |chip: &&Chip| {
        let purposes = &chip.efuse_at(chip.factory.revision).key_purposes;
        chip.chip_id.is_some() && purposes.iter().any(|one| one.name == "XTS_AES_128_KEY" && one.value.is_some())
    };
    esp_model::chip::all().iter().find(has).unwrap()
}

fn key() -> Vec<u8> {
    (0..32u8).map(|byte| byte.wrapping_mul(73) ^ 0x1d).collect()
}

/// A board with a key and encryption on: still in development, or closed for ever.
fn board(bench: &Bench, name: &str, is_closed: bool) -> String {
    let url = format!("sim://{}-{name}", chip().id);
    let mut config = Config::new(chip(), name).unpaced();
    let fresh = SimDevice::new(&config, url.clone()).with(|chip, _| chip.efuse().decoded().clone());
    let (known, mut burn) = (chip().at(fresh_revision()), Burn::new(fresh));
    let encryption = known.security.flash_encryption.as_ref().unwrap();
    let field = |name: &str, value: u8| Request::Field { name: name.into(), value: vec![value] };
    let (block, purpose) = ("BLOCK_KEY0".to_owned(), "XTS_AES_128_KEY".to_owned());
    burn.add(&Request::Key { block, key: key(), purpose, read_protect: false, write_protect: true }).unwrap();
    burn.add(&field(&encryption.count, if is_closed { 7 } else { 1 })).unwrap();
    if is_closed {
        burn.add(&field(encryption.no_manual_encrypt.as_ref().unwrap(), 1)).unwrap();
    }
    let after = burn.after().unwrap();
    config.efuse = Some(after.table.blocks.iter().flat_map(|block| bits::to_bytes(after.block(block.id))).collect());
    bench.ctx.ports.add_simulated(SimDevice::new(&config, url.clone()));
    url
}

fn fresh_revision() -> u16 {
    chip().factory.revision
}

/// What the running chip would see.
fn decrypted(bench: &Bench, port: &str, at: usize, size: usize) -> Vec<u8> {
    let mut bytes = bench.flash(port)[at..at + size].to_vec();
    FlashKey::xts(&key()).unwrap().apply(Direction::Decrypt, at as u64, &mut bytes).unwrap();
    bytes
}

fn holds_everything(bench: &Bench, port: &str) {
    let app = fs::read(bench.path("app.bin")).unwrap();
    let boot = fs::read(bench.path("bootloader.bin")).unwrap();
    let place = chip().at(fresh_revision()).flash.bootloader_offset as usize;
    let recipe = fs::read_to_string(bench.path("blink.toml")).unwrap();
    assert!(recipe.contains("0x20000") || recipe.contains("0x10000"), "{recipe}");
    let app_at = if recipe.contains("address = \"0x20000\"") { 0x2_0000 } else { 0x1_0000 };
    let whole = |bytes: &[u8]| bytes.len() / 16 * 16;
    assert_eq!(decrypted(bench, port, app_at, whole(&app)), app[..whole(&app)]);
    assert_eq!(decrypted(bench, port, place, whole(&boot)), boot[..whole(&boot)]);
    // Factory data is no matter of flash encryption.
    assert_eq!(bench.factory_value(port, "serial").is_some(), true);
}

#[test]
fn the_chip_encrypts_in_development_and_is_not_asked_twice() {
    let bench = Bench::with_recipe_for(chip().id);
    let port = board(&bench, "development", false);
    let input = json!({"port": port, "config": "blink.toml"});
    let first = bench.call("esp_factory_program", input.clone());
    holds_everything(&bench, &port);
    // Nobody can compare what the chip sealed, and no test starts it: that is no pass.
    assert_eq!(first["verdict"], "unknown", "{first:?}");
    assert!(first["written_bytes"].as_u64().unwrap() > 0x8000);
    let second = bench.call("esp_factory_program", input.clone());
    assert_eq!(second["written_bytes"], 0, "{second:?}");
    assert_eq!(second["identities"], first["identities"]);
    let looked = bench.call("esp_quality_control", input.clone());
    let region = |out: &Map<String, Value>| {
        let steps = out["steps"].as_array().unwrap();
        steps.iter().find(|step| step["name"] == "region app.bin").unwrap()["verdict"].clone()
    };
    assert_eq!(region(&looked), "pass", "{looked:?}");
    bench.call("esp_flash_erase", json!({"port": port, "region": "0x30000+0x1000", "force": true}));
    let _ = bench.call("esp_flash_erase", json!({"port": port, "region": "0x11000+0x1000", "force": true}));
    assert_eq!(region(&bench.call("esp_quality_control", input.clone())), "fail");
    let mended = bench.call("esp_factory_program", input);
    assert!(mended["written_bytes"].as_u64().unwrap() > 0);
    holds_everything(&bench, &port);
}

#[test]
fn a_closed_unit_takes_what_was_encrypted_with_its_key() {
    let bench = Bench::with_recipe_for(chip().id);
    let port = board(&bench, "closed", true);
    let input = json!({"port": port, "config": "blink.toml"});
    let before = bench.flash(&port);
    let refused = bench.try_call("esp_factory_program", input.clone()).unwrap_err();
    let encryption = chip().at(fresh_revision()).security.flash_encryption.as_ref().unwrap();
    let field = encryption.no_manual_encrypt.as_ref().unwrap();
    assert!(refused.contains("encryption_active") && refused.contains(field.as_str()), "{refused}");
    assert!(bench.flash(&port) == before, "something was written");
    let mac = bench.call("esp_mac_address_read", json!({"port": port}));
    fs::create_dir(bench.path("keys")).unwrap();
    let unit = bench.call("esp_ledger", json!({"action": "status"}))["data"].to_string();
    let name = json!(mac).to_string().to_lowercase();
    let base = (0..name.len() - 17).map(|at| name.get(at..at + 17).unwrap_or_default());
    let base = base
        .into_iter()
        .find(|text| text.bytes().filter(|byte| *byte == b':').count() == 5 && text.as_bytes()[2] == b':');
    let file = format!("keys/{}.bin", base.unwrap_or_else(|| panic!("{name} {unit}")));
    fs::write(bench.path(&file), key()).unwrap();
    bench.edit("blink.toml", "[label]", "[encryption]\nkey_file = \"keys/{base_mac}.bin\"\n\n[label]");
    let first = bench.call("esp_factory_program", input.clone());
    assert_eq!(first["verdict"], "pass", "{first:?}");
    holds_everything(&bench, &port);
    let second = bench.call("esp_factory_program", input.clone());
    assert_eq!((&second["verdict"], &second["written_bytes"]), (&json!("pass"), &json!(0)), "{second:?}");
    assert_eq!(bench.call("esp_quality_control", input.clone())["verdict"], "pass");
    // The key of another unit is noticed before anything is written with it.
    fs::write(bench.path(&file), [7; 32]).unwrap();
    let refused = bench.try_call("esp_factory_program", input).unwrap_err();
    assert!(refused.contains("bad_key") && refused.contains("does not decrypt"), "{refused}");
    holds_everything(&bench, &port);
}
