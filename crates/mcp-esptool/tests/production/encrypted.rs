//! Units whose flash encryption is on: the chip encrypts while it may, the host where it has the key.

use esp_model::chip::Chip;
use esp_model::efuse::{Burn, Request, bits};
use esp_model::secure::flash_encryption::{Direction, FlashKey};
use esp_sim::{Config, SimDevice};

use super::*;

/// A chip with XTS encryption, whose key blocks have purposes.
fn chip() -> &'static Chip {
    let has = |chip: &&Chip| {
        let table = chip.efuse_at(chip.factory.revision);
        let purpose = table.key_purposes.iter().any(|one| one.name == "XTS_AES_128_KEY" && one.value.is_some());
        chip.chip_id.is_some() && purpose && table.blocks.iter().any(|block| block.purpose_field.is_some())
    };
    esp_model::chip::all().iter().find(has).unwrap()
}

fn key() -> Vec<u8> {
    (0..32u8).map(|byte| byte.wrapping_mul(73) ^ 0x1d).collect()
}

/// A board with a key and encryption on: still in development, or closed permanently.
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

fn app_at(bench: &Bench) -> usize {
    let recipe = esp_factory::recipe::Recipe::parse(&fs::read_to_string(bench.path("blink.toml")).unwrap()).unwrap();
    let image = recipe.images.iter().find(|image| image.file == "app.bin").unwrap();
    esp_factory::recipe::number(&image.address).unwrap() as usize
}

fn holds_everything(bench: &Bench, port: &str) {
    let loader = chip().at(fresh_revision()).flash.bootloader_offset as usize;
    for (file, at) in [("app.bin", app_at(bench)), ("bootloader.bin", loader)] {
        let plain = fs::read(bench.path(file)).unwrap();
        let whole = plain.len() / 16 * 16;
        assert!(decrypted(bench, port, at, whole) == plain[..whole], "{file} at {at:#x}");
    }
    // Factory data is no matter of flash encryption.
    assert!(bench.factory_value(port, "serial").is_some());
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
    let device = bench.ctx.ports.simulated().into_iter().find(|device| device.url() == port).unwrap();
    device.with(|chip, _| chip.flash().load(app_at(&bench) as u32 + 0x1000, &[0; 64]));
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
    let mac = Config::new(chip(), "closed").mac;
    let file = format!("keys/{mac}.bin");
    fs::create_dir(bench.path("keys")).unwrap();
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
