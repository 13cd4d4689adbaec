//! Devices whose flash is encrypted: what can be said of their boot, and secure boot on top.

use std::fs;

use esp_model::chip;
use serde_json::{Value, json};

use super::{Bench, bootable, sign_with_sb, write_flash};

const PORT: &str = "sim://esp32c3-enc";

/// Signed firmware, encrypted with `fe.key`.
fn encrypted_device(bench: &Bench) -> Vec<Value> {
    bench.file("fe.key", &[7; 32]);
    bench.ok("esp_secure_sign", json!({ "action": "generate_key", "scheme": "rsa3072", "output_file": "sb.pem" }));
    let parts = esp_ops::firmware::sample::make(chip::by_name("esp32c3").unwrap()).unwrap();
    let files = parts.iter().map(|part| {
        let is_table = part.name.contains("table");
        let bytes = if is_table { part.bytes.clone() } else { sign_with_sb(bench, &part.bytes) };
        json!({ "path": bench.file(&format!("signed-{}", part.name), &bytes), "address": part.address })
    });
    let files: Vec<Value> = files.collect();
    let done = bench.confirmed("esp_encryption_enable", json!({ "port": PORT, "key_file": "fe.key", "files": files }));
    assert_eq!(done["state"], "burned", "{done:#}");
    files
}

#[test]
fn boot_check_of_an_encrypted_device_takes_its_key_or_says_what_is_missing() {
    let bench = Bench::new();
    encrypted_device(&bench);
    let without = bench.ok("esp_boot_check", json!({ "port": PORT }));
    assert_eq!(without["outcome"], "unknown", "{without:#}");
    assert!(without["next"].as_str().is_some_and(|next| next.contains("flash_key_file")), "{without:#}");
    let with = bench.ok("esp_boot_check", json!({ "port": PORT, "flash_key_file": "fe.key" }));
    assert_eq!((&with["outcome"], &with["partition"]), (&json!("starts"), &json!("factory")), "{with:#}");
    bench.file("other.key", &[8; 32]);
    let wrong = bench.refused("esp_boot_check", json!({ "port": PORT, "flash_key_file": "other.key" }));
    assert_eq!(wrong.code.as_str(), "bad_key", "{wrong}");
    // A copy of the flash as a file.
    bench.ok("esp_flash_read", json!({ "port": PORT, "address": 0, "size": "2MB", "output_file": "flash.bin" }));
    let image = json!({ "image": "flash.bin", "chip_type": "esp32c3", "flash_key_file": "fe.key" });
    assert_eq!(bench.ok("esp_boot_check", image)["outcome"], "starts");
    let plain = bench.refused("esp_boot_check", json!({ "port": "sim://esp32c3-plain", "flash_key_file": "fe.key" }));
    assert_eq!(plain.code.as_str(), "encryption_inactive", "{plain}");
}

#[test]
fn plain_bootloader_on_an_encrypting_chip_is_known_not_to_start() {
    let bench = Bench::new();
    encrypted_device(&bench);
    let parts = esp_ops::firmware::sample::make(chip::by_name("esp32c3").unwrap()).unwrap();
    for (bytes, says) in [(parts[0].bytes.clone(), "the bootloader is plain"), (vec![0xff; 0x1000], "blank flash")] {
        write_flash(&bench, PORT, parts[0].address, &bytes);
        for input in [json!({ "port": PORT }), json!({ "port": PORT, "flash_key_file": "fe.key" })] {
            let found = bench.ok("esp_boot_check", input);
            assert_eq!((&found["outcome"], &found["stage"]), (&json!("stops"), &json!("rom")), "{found:#}");
        }
        let found = bench.ok("esp_boot_check", json!({ "port": PORT }));
        assert!(found["steps"].to_string().contains(says), "{found:#}");
    }
}

/// The plan holds for the apps too, which only the key shows.
#[test]
fn secure_boot_plan_on_an_encrypted_device_covers_its_apps() {
    let bench = Bench::new();
    let files = encrypted_device(&bench);
    let enable = json!({ "port": PORT, "key_file": "sb.pem", "flash_key_file": "fe.key" });
    let mut confirm = enable.clone();
    let planned = bench.ok("esp_secure_boot_enable", enable.clone());
    assert_eq!(planned["boot_check"], "starts factory", "{planned:#}");
    confirm["confirm_token"] = planned["confirm_token"].clone();
    // The same app with another signature, encrypted as the device wants it: it would start as well.
    let app = files.last().unwrap();
    let signed = fs::read(bench.dir.path().join("project").join(app["path"].as_str().unwrap())).unwrap();
    let plain = &signed[..signed.len() - 4096];
    bench.file("again.bin", &sign_with_sb(&bench, plain));
    let made = json!({ "chip": "esp32c3", "key_file": "fe.key", "output_dir": "enc",
        "files": [{ "path": "again.bin", "address": app["address"] }] });
    bench.ok("esp_flash_encrypt", made);
    let ciphertext = fs::read(bench.dir.path().join("project/enc/again.bin.enc")).unwrap();
    write_flash(&bench, PORT, app["address"].as_u64().unwrap() as u32, &ciphertext);
    let error = bench.refused("esp_secure_boot_enable", confirm);
    assert!(error.code.as_str() == "not_confirmed" && error.message.contains("changed since"), "{error}");
    assert_eq!(bench.field(PORT, "SECURE_BOOT_EN")["raw_hex"], "00");
    let enabled = bench.confirmed("esp_secure_boot_enable", enable);
    assert_eq!((&enabled["state"], &enabled["boot_check"]), (&json!("burned"), &json!("starts factory")));
}

/// Rule 18: what the plan of secure boot says of the bootloader and of RD_DIS.
#[test]
fn secure_boot_plan_says_whether_the_bootloader_verifies_and_what_rd_dis_stays() {
    let port = "sim://esp32c3";
    let findings = |freeze: bool| {
        let bench = Bench::new();
        bench.ok("esp_secure_sign", json!({ "action": "generate_key", "scheme": "rsa3072", "output_file": "sb.pem" }));
        let sign = |name: &str, bytes: &[u8]| {
            if name.contains("table") { bytes.to_vec() } else { sign_with_sb(&bench, bytes) }
        };
        bootable(&bench, port, sign);
        if freeze {
            let burns = json!([{ "kind": "write_protect", "efuse": "RD_DIS" }]);
            bench.confirmed("esp_efuse_burn", json!({ "port": port, "burns": burns }));
        }
        let plan = bench.ok("esp_secure_boot_enable", json!({ "port": port, "key_file": "sb.pem" }));
        let all = plan["findings"].as_array().unwrap().clone();
        let of_rule = all.into_iter().filter(|one| one["rule"] == 18);
        of_rule.map(|one| format!("{}: {}", one["severity"], one["text"])).collect::<Vec<_>>().join("\n")
    };
    let open = findings(false);
    assert!(open.contains("\"warn\": \"RD_DIS stays writeable"), "{open}");
    assert!(open.contains("cannot be told: it contains no messages"), "{open}");
    let frozen = findings(true);
    assert!(frozen.contains("\"info\": \"RD_DIS is write-protected"), "{frozen}");
}
