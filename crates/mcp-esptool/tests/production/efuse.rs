//! eFuses of a recipe, and what is left of them after a crash at any point.

use esp_model::chip::Chip;
use esp_model::efuse::bits;
use esp_sim::{Config, SimDevice};
use serde_json::json;

use super::*;

/// A chip with purposes for its keys, one of which needs two blocks.
fn chip() -> &'static Chip {
    let has = |chip: &&Chip| {
        let purposes = &chip.efuse_at(chip.factory.revision).key_purposes;
        purposes.iter().any(|one| one.name == "HMAC_UP") && purposes.iter().any(|one| one.split.len() == 2)
    };
    esp_model::chip::all().iter().find(has).unwrap()
}

/// A recipe that burns a hidden key, a long hidden key, the next bit of a count and a frozen digest.
fn bench() -> Bench {
    let bench = Bench::with_recipe_for(chip().id);
    for (name, len) in [("hmac.bin", 32u8), ("long.bin", 64), ("digest.bin", 32)] {
        let key: Vec<u8> = (0..len).map(|byte| byte.wrapping_mul(37) ^ name.len() as u8 ^ 0x5a).collect();
        fs::write(bench.path(name), key).unwrap();
    }
    let key = |block: u8, file: &str, purpose: &str| {
        format!(
            "[[efuse.burn]]\nkind = \"key\"\nblock = \"BLOCK_KEY{block}\"\nkey_file = \"{file}\"\npurpose = \"{purpose}\"\n"
        )
    };
    let long = &chip().efuse_at(chip().factory.revision).key_purposes;
    let long = long.iter().find(|one| one.split.len() == 2).unwrap();
    let plan =
        key(0, "hmac.bin", "HMAC_UP") + &key(1, "long.bin", &long.name) + &key(4, "digest.bin", "SECURE_BOOT_DIGEST0");
    let count = "[[efuse.burn]]\nkind = \"field\"\nefuse = \"SECURE_VERSION\"\n";
    bench.edit("blink.toml", "[label]", &format!("[efuse]\nprofile = \"development\"\n{plan}{count}\n[label]"));
    bench
}

/// The board as it is, on a healthy line.
fn again(bench: &Bench, url: &str, name: &str) -> SimDevice {
    let old = bench.ctx.ports.simulated().into_iter().find(|device| device.url() == url).unwrap();
    let mut config = Config::new(chip(), name).unpaced();
    let flash = old.with(|chip, _| chip.flash().read(0, 4 << 20).unwrap());
    config.efuse = Some(efuses(&old));
    let healthy = SimDevice::new(&config, url.to_owned());
    healthy.with(|chip, _| chip.flash().load(0, &flash));
    bench.ctx.devices.sessions.forget(url);
    bench.ctx.ports.add_simulated(healthy.clone());
    healthy
}

/// All blocks as they are, hidden or not.
fn efuses(device: &SimDevice) -> Vec<u8> {
    device.with(|chip, _| {
        let all = chip.efuse().decoded();
        all.table.blocks.iter().flat_map(|block| bits::to_bytes(all.block(block.id))).collect()
    })
}

#[test]
fn a_crash_between_any_two_bits_is_finished_from_what_the_device_holds() {
    let bench = bench();
    let produce =
        |url: &str| bench.try_call("esp_factory_program", json!({"port": url, "config": "blink.toml", "retries": 0}));
    let board = |name: &str, hang_after: Option<u64>| {
        let url = format!("sim://{}-{name}", chip().id);
        let mut config = Config::new(chip(), name).unpaced();
        config.faults.hang_after = hang_after;
        let device = SimDevice::new(&config, url.clone());
        bench.ctx.ports.add_simulated(device.clone());
        (url, device)
    };
    // How many commands it takes, and what the eFuses then are.
    let (url, whole) = board("whole", None);
    let out = produce(&url).unwrap();
    assert_eq!(out["verdict"], "pass", "{out:?}");
    let (wanted, commands) = (efuses(&whole), whole.with(|chip, _| chip.commands()));
    // The crash after the burn and before its record leaves the same as a second run finds.
    let second = produce(&url).unwrap();
    let step = |out: &Map<String, Value>| {
        out["steps"].as_array().unwrap().iter().find(|step| step["name"] == "eFuses").cloned().unwrap()
    };
    assert_eq!((&second["verdict"], &step(&second)["value"]), (&json!("pass"), &json!("burned already")), "{second:?}");
    let note = step(&second)["note"].as_str().unwrap_or_default().to_owned();
    assert!(note.matches("BLOCK").count() == 3 && note.contains("cannot be compared"), "{note}");
    assert_eq!(efuses(&whole), wanted, "a second run burned something");
    let mut halves = 0;
    let spread = (commands / 10..commands).step_by((commands / 24).max(1) as usize);
    for (number, stop) in spread.enumerate() {
        let name = format!("crash-{number}");
        let (url, device) = board(&name, Some(stop));
        let broken = produce(&url);
        let burned = efuses(&device);
        halves += u32::from(burned != efuses(&SimDevice::new(&Config::new(chip(), &name).unpaced(), url.clone())));
        let healthy = again(&bench, &url, &name);
        let done = produce(&url).unwrap();
        assert_eq!(done["verdict"], "pass", "{stop} of {commands}: {broken:?} {done:?}");
        assert_eq!(without_mac(&efuses(&healthy)), without_mac(&wanted), "{stop} of {commands}");
    }
    assert!(halves > 5, "no crash fell into the burn");
    let accepted = bench.call("esp_quality_control", json!({"port": url, "config": "blink.toml"}));
    assert_eq!(accepted["verdict"], "pass", "{accepted:?}");
}

/// Everything but the block with the factory's address.
fn without_mac(all: &[u8]) -> Vec<u8> {
    let table = chip().efuse_at(chip().factory.revision);
    let mac = table.field("MAC").unwrap().block;
    let mut at = 0;
    let mut kept = Vec::new();
    for block in &table.blocks {
        let next = at + usize::from(block.words) * 4;
        if block.id != mac {
            kept.extend_from_slice(&all[at..next]);
        }
        at = next;
    }
    kept
}

#[test]
fn a_hidden_key_that_nobody_promised_is_no_key_of_ours() {
    let bench = bench();
    let url = format!("sim://{}-strange", chip().id);
    let key = json!({"kind": "key", "block": "BLOCK_KEY0", "key_file": "digest.bin", "purpose": "HMAC_UP"});
    let plan = bench.call("esp_efuse_burn", json!({"port": url, "burns": [key]}));
    bench.call("esp_efuse_burn", json!({"port": url, "burns": [key], "confirm_token": plan["confirm_token"]}));
    let refused = bench.try_call("esp_factory_program", json!({"port": url, "config": "blink.toml"})).unwrap_err();
    assert!(refused.contains("burn_impossible") && refused.contains("read-protected"), "{refused}");
}
