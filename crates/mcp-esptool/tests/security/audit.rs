//! The audit's truth table: every chip in every state, judged through the tool on a simulated device.

use std::collections::BTreeMap;

use esp_model::chip::{self, Chip, FlashCipher};
use esp_model::efuse::{Burn, Request, bits};
use esp_sim::{Config, SimDevice};
use serde_json::{Value, json};

use super::Bench;

/// What a chip has, written down here a second time: secure boot (`boot`), flash encryption (`flash`), JTAG over USB
/// (`usb`), anti-rollback (`rollback`), secure download mode (`secure`), JTAG that a secret opens again (`soft`: three bits, `soft1`: one).
const CHIPS: [(&str, &str); 15] = [
    ("esp8266", ""),
    ("esp32", "boot flash rollback"),
    ("esp32s2", "boot flash rollback secure soft1"),
    ("esp32s3", "boot flash usb rollback secure soft"),
    ("esp32c2", "boot flash rollback secure"),
    ("esp32c3", "boot flash usb rollback secure soft"),
    ("esp32c5", "boot flash usb rollback secure soft"),
    ("esp32c6", "boot flash usb rollback secure soft"),
    ("esp32c61", "boot flash usb rollback secure"),
    ("esp32e22", "boot rollback secure soft"),
    ("esp32h2", "boot flash usb rollback secure soft"),
    ("esp32h21", "boot flash usb rollback secure soft"),
    ("esp32h4", "boot flash usb rollback secure soft"),
    ("esp32p4", "boot flash usb rollback secure soft"),
    ("esp32s31", "boot flash usb rollback secure soft"),
];

/// The rows in their order.
const ITEMS: [&str; 8] = [
    "secure_boot",
    "secure_boot_keys",
    "flash_encryption",
    "key_protection",
    "jtag",
    "usb_jtag",
    "download_mode",
    "anti_rollback",
];

/// What each row needs of the chip; without it the row is `not_supported`.
const NEEDS: [&str; 8] = ["boot", "boot", "flash", "boot", "", "usb", "", "rollback"];

/// A state: its name, what of the chip it needs, what is burned, the rows, the worst level for a product and for a desk.
struct Case {
    name: &'static str,
    needs: &'static str,
    burn: fn(&Kit) -> Vec<Request>,
    rows: [&'static str; 8],
    worst: [&'static str; 2],
}

/// `-`: not judged by the eFuses of this state, but open as on a virgin chip.
const STATES: &[Case] = &[
    Case {
        name: "virgin",
        needs: "",
        burn: |_| Vec::new(),
        rows: ["not_enabled", "not_enabled", "not_enabled", "not_enabled", "open", "open", "open", "not_enabled"],
        worst: ["critical", "info"],
    },
    Case {
        name: "development",
        needs: "flash",
        burn: |kit| [vec![kit.flash_key(true)], kit.count(1)].concat(),
        rows: [
            "not_enabled",
            "not_enabled",
            "enabled_development",
            "enabled_permanently",
            "open",
            "open",
            "open",
            "not_enabled",
        ],
        worst: ["critical", "info"],
    },
    Case {
        name: "encrypted-without-key",
        needs: "flash",
        burn: |kit| kit.count(1),
        rows: ["not_enabled", "not_enabled", "contradictory", "not_enabled", "open", "open", "open", "not_enabled"],
        worst: ["critical", "critical"],
    },
    Case {
        name: "encrypted-off-again",
        needs: "flash",
        burn: |kit| [vec![kit.flash_key(true)], kit.count(3)].concat(),
        rows: [
            "not_enabled",
            "not_enabled",
            "not_enabled",
            "enabled_permanently",
            "open",
            "open",
            "open",
            "not_enabled",
        ],
        worst: ["critical", "info"],
    },
    Case {
        name: "count-full-loader-open",
        needs: "flash",
        burn: |kit| [vec![kit.flash_key(true)], kit.count(kit.full())].concat(),
        rows: [
            "not_enabled",
            "not_enabled",
            "enabled_development",
            "enabled_permanently",
            "open",
            "open",
            "open",
            "not_enabled",
        ],
        worst: ["critical", "info"],
    },
    Case {
        name: "key-readable",
        needs: "flash",
        burn: |kit| [vec![kit.flash_key(false)], kit.count(1)].concat(),
        rows: [
            "not_enabled",
            "not_enabled",
            "enabled_development",
            "key_exposed",
            "open",
            "open",
            "open",
            "not_enabled",
        ],
        worst: ["critical", "critical"],
    },
    Case {
        name: "signed",
        needs: "boot",
        burn: |kit| vec![kit.digest(), kit.boot()],
        rows: [
            "enabled_permanently",
            "enabled_permanently",
            "not_enabled",
            "not_enabled",
            "open",
            "open",
            "open",
            "not_enabled",
        ],
        worst: ["critical", "info"],
    },
    Case {
        name: "signed-without-key",
        needs: "boot",
        burn: |kit| vec![kit.boot()],
        rows: ["contradictory", "not_enabled", "not_enabled", "not_enabled", "open", "open", "open", "not_enabled"],
        worst: ["critical", "critical"],
    },
    Case {
        name: "release",
        needs: "flash",
        burn: Kit::release,
        rows: [
            "enabled_permanently",
            "enabled_permanently",
            "enabled_permanently",
            "enabled_permanently",
            "closed_permanently",
            "closed_permanently",
            "open",
            "enabled_permanently",
        ],
        worst: ["warning", "info"],
    },
    Case {
        name: "release-secure-download",
        needs: "flash secure",
        burn: |kit| [kit.release(), vec![set("ENABLE_SECURITY_DOWNLOAD", 1)]].concat(),
        rows: [
            "enabled_permanently",
            "unknown",
            "enabled",
            "unknown",
            "closed_permanently",
            "unknown",
            "secure_download_only",
            "unknown",
        ],
        worst: ["warning", "info"],
    },
    Case {
        name: "secure-download",
        needs: "secure",
        burn: |_| vec![set("ENABLE_SECURITY_DOWNLOAD", 1)],
        rows: [
            "not_enabled",
            "unknown",
            "not_enabled",
            "unknown",
            "open",
            "unknown",
            "secure_download_only",
            "unknown",
        ],
        worst: ["critical", "info"],
    },
    Case {
        name: "jtag-soft",
        needs: "soft",
        burn: |_| vec![set("SOFT_DIS_JTAG", 1)],
        rows: [
            "not_enabled",
            "not_enabled",
            "not_enabled",
            "not_enabled",
            "closed_until_hmac",
            "closed_until_hmac",
            "open",
            "not_enabled",
        ],
        worst: ["critical", "info"],
    },
    Case {
        name: "jtag-soft-one-bit",
        needs: "soft1",
        burn: |_| vec![set("SOFT_DIS_JTAG", 1)],
        rows: [
            "not_enabled",
            "not_enabled",
            "not_enabled",
            "not_enabled",
            "closed_until_hmac",
            "closed_until_hmac",
            "open",
            "not_enabled",
        ],
        worst: ["critical", "info"],
    },
    Case {
        name: "jtag-soft-opened",
        needs: "soft",
        burn: |_| vec![set("SOFT_DIS_JTAG", 3)],
        rows: ["not_enabled", "not_enabled", "not_enabled", "not_enabled", "open", "open", "open", "not_enabled"],
        worst: ["critical", "info"],
    },
    Case {
        name: "jtag-soft-full",
        needs: "soft",
        burn: |_| vec![set("SOFT_DIS_JTAG", 7)],
        rows: [
            "not_enabled",
            "not_enabled",
            "not_enabled",
            "not_enabled",
            "closed_until_hmac",
            "closed_until_hmac",
            "open",
            "not_enabled",
        ],
        worst: ["critical", "info"],
    },
    Case {
        name: "jtag-hard",
        needs: "boot",
        burn: |kit| vec![kit.hard_jtag()],
        rows: [
            "not_enabled",
            "not_enabled",
            "not_enabled",
            "not_enabled",
            "closed_permanently",
            "open",
            "open",
            "not_enabled",
        ],
        worst: ["critical", "info"],
    },
    Case {
        name: "jtag-usb",
        needs: "usb",
        burn: |_| vec![set("DIS_USB_JTAG", 1)],
        rows: [
            "not_enabled",
            "not_enabled",
            "not_enabled",
            "not_enabled",
            "open",
            "closed_permanently",
            "open",
            "not_enabled",
        ],
        worst: ["critical", "info"],
    },
];

fn set(name: &str, value: u8) -> Request {
    Request::Field { name: name.into(), value: vec![value] }
}

/// A chip and what can be burned on it.
struct Kit {
    chip: &'static Chip,
    has: &'static str,
}

impl Kit {
    fn has(&self, what: &str) -> bool {
        what.split_whitespace().all(|one| self.has.split_whitespace().any(|has| has == one))
    }

    fn esp32(&self) -> bool {
        self.chip.security.flash_encryption.as_ref().is_some_and(|one| one.cipher == FlashCipher::Esp32Aes)
    }

    /// The name that this chip has for it.
    fn named(&self, names: [&str; 3]) -> String {
        let known = |name: &&str| self.chip.efuse().field(name).is_some();
        names.into_iter().find(known).unwrap().into()
    }

    fn key(&self, block: &str, key: Vec<u8>, purpose: &str, read_protect: bool) -> Request {
        Request::Key { block: block.into(), key, purpose: purpose.into(), read_protect, write_protect: true }
    }

    fn flash_key(&self, hide: bool) -> Request {
        match (self.esp32(), self.has("soft") || self.has("soft1") || self.has("usb")) {
            (true, _) => self.key("BLOCK1", vec![5; 32], "FLASH_ENCRYPTION", hide),
            (_, true) => self.key("BLOCK_KEY0", vec![5; 32], "XTS_AES_128_KEY", hide),
            _ => self.key("BLOCK_KEY0", vec![5; 16], "XTS_AES_128_KEY_DERIVED_FROM_128_EFUSE_BITS", hide),
        }
    }

    fn digest(&self) -> Request {
        let several = self.chip.efuse().field("SECURE_BOOT_KEY_REVOKE0").is_some();
        match (self.esp32(), several) {
            (true, _) => self.key("BLOCK2", vec![6; 32], "SECURE_BOOT_V2_DIGEST", true),
            (_, true) => self.key("BLOCK_KEY3", vec![6; 32], "SECURE_BOOT_DIGEST0", true),
            _ => self.key("BLOCK_KEY0", vec![6; 32], "SECURE_BOOT_DIGEST", true),
        }
    }

    fn boot(&self) -> Request {
        set(&self.named(["ABS_DONE_1", "SECURE_BOOT_EN", ""]), 1)
    }

    fn hard_jtag(&self) -> Request {
        set(&self.named(["JTAG_DISABLE", "HARD_DIS_JTAG", "DIS_PAD_JTAG"]), 1)
    }

    fn full(&self) -> u8 {
        if self.esp32() { 0x7f } else { 7 }
    }

    fn count(&self, value: u8) -> Vec<Request> {
        vec![set(&self.named(["FLASH_CRYPT_CNT", "SPI_BOOT_CRYPT_CNT", ""]), value)]
    }

    fn release(&self) -> Vec<Request> {
        let mut list =
            vec![self.flash_key(true), self.digest(), self.boot(), self.hard_jtag(), set("SECURE_VERSION", 1)];
        list.extend(self.count(self.full()));
        list.push(set(&self.named(["DISABLE_DL_ENCRYPT", "DIS_DOWNLOAD_MANUAL_ENCRYPT", ""]), 1));
        if self.has("usb") {
            list.push(set("DIS_USB_JTAG", 1));
        }
        list
    }

    /// A device of this chip in this state.
    fn device(&self, bench: &Bench, name: &str, requests: &[Request]) -> String {
        let port = format!("sim://{}-{name}", self.chip.id);
        let device = SimDevice::new(&Config::new(self.chip, name).unpaced(), port.clone());
        device.with(|chip, _| {
            let mut burn = Burn::new(chip.efuse().decoded().clone());
            requests.iter().for_each(|request| burn.add(request).unwrap());
            // The hardware keeps what software cannot read.
            let burned = burn.before().with(burn.pending());
            let blocks = burned.table.blocks.iter();
            let image: Vec<u8> = blocks.flat_map(|block| bits::to_bytes(burned.block(block.id))).collect();
            chip.efuse().load(&image);
        });
        bench.ctx.ports.add_simulated(device);
        port
    }
}

fn rows(audit: &Value) -> BTreeMap<String, String> {
    let rows = audit["rows"].as_array().unwrap().iter();
    rows.map(|row| (row["item"].as_str().unwrap().into(), row["state"].as_str().unwrap().into())).collect()
}

#[test]
fn every_chip_in_every_state_is_judged_right() {
    assert_eq!(CHIPS.len(), chip::all().len());
    let bench = Bench::new();
    let (mut wrong, mut judged) = (Vec::new(), 0);
    for (id, has) in CHIPS {
        let kit = Kit { chip: chip::by_name(id).unwrap(), has };
        for case in STATES.iter().filter(|case| kit.has(case.needs)) {
            let port = kit.device(&bench, case.name, &(case.burn)(&kit));
            for (profile, worst) in ["production", "development"].into_iter().zip(case.worst) {
                let audit = bench.ok("esp_security_audit", json!({ "port": port, "profile": profile }));
                let found = rows(&audit);
                for ((item, state), needs) in ITEMS.into_iter().zip(case.rows).zip(NEEDS) {
                    let by_flags = case.name.ends_with("secure-download") && state == "unknown";
                    let wanted = if kit.has(needs) || by_flags { state } else { "not_supported" };
                    judged += 1;
                    if found[item] != wanted {
                        wrong.push(format!("{id} {} {item}: {} instead of {wanted}", case.name, found[item]));
                    }
                }
                if audit["worst"] != worst {
                    wrong.push(format!("{id} {} {profile}: {} instead of {worst}", case.name, audit["worst"]));
                }
                for row in audit["rows"].as_array().unwrap() {
                    if row["evidence"].as_str().is_none_or(str::is_empty) {
                        wrong.push(format!("{id} {} {}: no evidence", case.name, row["item"]));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {judged} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(judged > 1500, "{judged} rows judged");
}

/// One state has one level wherever it is shown, remedies are calls that exist, and the schema lists every state.
#[test]
fn info_and_audit_agree_and_remedies_are_callable() {
    let bench = Bench::new();
    let port = "sim://esp32c3-remedy";
    let audit = bench.ok("esp_security_audit", json!({ "port": port }));
    let info = bench.ok("esp_security_info", json!({ "port": port }));
    let schema = mcp_esptool::tools::find("esp_security_audit").unwrap().output_schema();
    let known = serde_json::to_value(schema).unwrap()["properties"]["rows"]["items"]["properties"]["state"].to_string();
    for (row, aspect) in audit["rows"].as_array().unwrap().iter().zip(info["aspects"].as_array().unwrap()) {
        assert_eq!((&row["item"], &row["state"], &row["level"]), (&aspect["item"], &aspect["state"], &aspect["level"]));
        assert!(known.contains(row["state"].as_str().unwrap()), "{row} is not in {known}");
        if row["level"] == "critical" {
            let (attack, remedy) = (row["attack"].as_str().unwrap(), &row["remedy"]);
            assert!(!attack.is_empty() && remedy["irreversible"] == true, "{row:#}");
            let tool = mcp_esptool::tools::find(remedy["tool"].as_str().unwrap()).unwrap();
            let input = serde_json::to_value(tool.input_schema()).unwrap();
            for name in remedy["parameters"].as_object().unwrap().keys() {
                assert!(input["properties"].get(name).is_some(), "{} has no {name}", remedy["tool"]);
            }
        }
    }
    let jtag = audit["rows"].as_array().unwrap().iter().find(|row| row["item"] == "jtag").unwrap();
    assert_eq!((&jtag["state"], &jtag["remedy"]["parameters"]["efuse_name"]), (&json!("open"), &json!("DIS_PAD_JTAG")));
    let evidence = jtag["evidence"].as_str().unwrap();
    assert!(!evidence.contains("HARD_DIS_JTAG"), "an alias is listed: {evidence}");
}

/// Where no loader answers there is nothing to judge, and the tool says why instead of guessing.
#[test]
fn a_closed_device_is_not_judged() {
    let bench = Bench::new();
    for (id, has) in CHIPS.into_iter().filter(|(_, has)| has.contains("boot")) {
        let kit = Kit { chip: chip::by_name(id).unwrap(), has };
        let close = set(&kit.named(["UART_DOWNLOAD_DIS", "DIS_DOWNLOAD_MODE", ""]), 1);
        let port = kit.device(&bench, "closed", &[close]);
        let error = bench.refused("esp_security_audit", json!({ "port": port }));
        assert!(!error.to_string().is_empty() && error.code.as_str() != "internal", "{id}: {error}");
    }
}
