//! What a plan says, what it is bound to, and which plans are refused.

use std::fs;

use esp_model::chip;
use serde_json::{Value, json};

use super::Bench;

/// Firmware that starts, as files with their addresses.
pub fn firmware(bench: &Bench, id: &str) -> Value {
    let parts = esp_ops::firmware::sample::make(chip::by_name(id).unwrap()).unwrap();
    let files = parts.iter().map(|part| json!({ "path": bench.file(part.name, &part.bytes), "address": part.address }));
    Value::Array(files.collect())
}

fn rules(error: &esp_ops::error::ToolError) -> Vec<u64> {
    let findings = error.evidence["findings"].as_array().unwrap();
    findings.iter().filter(|one| one["severity"] == "deny").map(|one| one["rule"].as_u64().unwrap()).collect()
}

#[test]
fn plan_names_meaning_bits_and_what_becomes_impossible() {
    let bench = Bench::new();
    let plan =
        bench.ok("esp_efuse_burn", json!({ "port": "sim://esp32s3", "efuse_name": "DIS_PAD_JTAG", "value": "1" }));
    let change = &plan["changes"][0];
    assert_eq!((&change["before_hex"], &change["after_hex"]), (&json!("0x00"), &json!("0x01")), "{change:#}");
    assert!(change["about"].as_str().unwrap().contains("JTAG"), "{change:#}");
    assert!(plan["becomes_impossible"].to_string().contains("debugging over JTAG on the pins"), "{plan:#}");
    let jtag = plan["findings"].as_array().unwrap().iter().filter(|one| one["text"].to_string().contains("debugging"));
    assert_eq!(jtag.count(), 1, "two names of one field are one finding: {plan:#}");
    assert!(plan["still_possible"].to_string().contains("flash"), "{plan:#}");
    // A protection mask is shown in hex, with what it protects.
    let plan = bench.ok(
        "esp_efuse_burn",
        json!({ "port": "sim://esp32s3", "burns": [{ "kind": "write_protect", "efuse": "RD_DIS" }] }),
    );
    let change = &plan["changes"][0];
    assert_eq!((&change["field"], &change["after"]), (&json!("WR_DIS"), &json!("0x00000001")), "{change:#}");
    assert!(change["protects"].to_string().contains("RD_DIS"), "{change:#}");
    assert!(plan["becomes_impossible"].to_string().contains("hiding any further key"), "{plan:#}");
}

/// Every single flag of every chip: what is burned can at least not be cleared.
#[test]
fn becomes_impossible_is_never_empty() {
    let bench = Bench::new();
    for id in ["esp32", "esp32s2", "esp32c3", "esp32p4"] {
        let fields = chip::by_name(id).unwrap().efuse().fields.iter();
        for field in fields.filter(|field| field.block == 0 && field.shown && field.len() == 1).take(12) {
            let burn = json!({ "port": format!("sim://{id}"), "efuse_name": field.name, "value": "1" });
            let lost = match bench.call("esp_efuse_burn", burn) {
                // Some are burned in the factory.
                Ok(reply) if reply.data["state"] == "nothing_to_do" => continue,
                Ok(reply) => reply.data["becomes_impossible"].clone(),
                Err(error) if error.code.as_str() == "burn_refused" => error.evidence["becomes_impossible"].clone(),
                Err(error) => panic!("{id} {}: {error}", field.name),
            };
            assert!(!lost.as_array().unwrap().is_empty(), "{id} {}", field.name);
        }
    }
}

/// Field case K19: FLASH_TYPE on a chip with quad flash never starts again.
#[test]
fn flash_wiring_is_refused_without_vouching() {
    let bench = Bench::new();
    let burn = json!({ "port": "sim://esp32s3", "efuse_name": "FLASH_TYPE", "value": "1" });
    let error = bench.refused("esp_efuse_burn", burn);
    assert!(error.code.as_str() == "burn_refused" && rules(&error).contains(&16), "{error}");
    assert!(error.to_string().contains("flash_wiring"), "{error}");
    let pins = json!({ "port": "sim://esp32", "efuse_name": "SPI_PAD_CONFIG_CLK", "value": "17" });
    assert!(rules(&bench.refused("esp_efuse_burn", pins)).contains(&16));
}

#[test]
fn hiding_an_empty_or_user_block_is_refused() {
    let bench = Bench::new();
    let hide = |port: &str| json!({ "port": port, "burns": [{ "kind": "read_protect", "efuse": "BLOCK_KEY2" }] });
    let error = bench.refused("esp_efuse_burn", hide("sim://esp32c3"));
    assert!(error.code.as_str() == "burn_refused" && rules(&error).contains(&17), "{error}");
    let texts = error.evidence["findings"].to_string();
    assert!(texts.contains("is empty") && texts.contains("must stay readable"), "{texts}");
}

#[test]
fn bricking_plan_is_refused_on_a_blank_chip() {
    let bench = Bench::new();
    for encrypts_at_boot in [false, true] {
        for mode in ["development", "release"] {
            let configure = json!({ "port": "sim://esp32c3", "mode": mode, "encrypts_at_boot": encrypts_at_boot });
            let error = bench.refused("esp_flash_encryption_configure", configure);
            assert_eq!(error.code.as_str(), "burn_refused", "{encrypts_at_boot} {mode}: {error}");
        }
    }
    // A bootloader alone, and nothing behind it.
    let (key, boot) = (bench.file("fe.key", &[7; 32]), bench.file("boot.bin", &[0xe9; 4096]));
    let enable = json!({ "port": "sim://esp32c3", "key_file": key, "files": [{ "path": boot, "address": 0 }] });
    let error = bench.refused("esp_encryption_enable", enable);
    assert!(error.code.as_str() == "burn_refused" && error.message.contains("would not start"), "{error}");
    assert!(error.evidence["becomes_impossible"].as_array().is_some_and(|lost| !lost.is_empty()), "{error}");
}

#[test]
fn image_swapped_after_the_plan_is_refused() {
    let bench = Bench::new();
    let files = firmware(&bench, "esp32c3");
    let key = bench.file("fe.key", &[7; 32]);
    let mut enable = json!({ "port": "sim://esp32c3", "key_file": key, "files": files });
    enable["confirm_token"] = bench.ok("esp_encryption_enable", enable.clone())["confirm_token"].clone();
    // The same firmware with one more sector behind the application: it would start as well.
    let app = files.as_array().unwrap().last().unwrap()["path"].as_str().unwrap().to_string();
    let path = bench.dir.path().join("project").join(&app);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, [whole.clone(), vec![0x55; 4096]].concat()).unwrap();
    let error = bench.refused("esp_encryption_enable", enable.clone());
    assert_eq!(error.code.as_str(), "not_confirmed", "{error}");
    assert_eq!(bench.field("sim://esp32c3", "SPI_BOOT_CRYPT_CNT")["raw_hex"], "00");
    fs::write(&path, whole).unwrap();
    assert_eq!(bench.ok("esp_encryption_enable", enable)["state"], "burned");
}

#[test]
fn reset_claims_no_start_that_nobody_saw() {
    let bench = Bench::new();
    let reply = bench.call("esp_reset_chip", json!({ "port": "sim://esp32c3" })).unwrap();
    assert!(reply.text.contains("reset sent; start not checked"), "{}", reply.text);
}
