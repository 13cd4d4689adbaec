//! Jobs of a bench that produces.

use std::fs;

use serde_json::json;

use super::session::{Session, has};

/// Job 3: boards with the same firmware and serial numbers of their own, without a recipe.
pub fn batch_gets_serials_from_a_pool() {
    let mut session = Session::new(11);
    let files = session.firmware("esp32c3");
    let pool =
        json!({"action": "add_pool", "pool": "acme", "kind": "serial", "prefix": "ACME-", "width": 4, "count": 10});
    has(&session.ok("esp_ledger", pool), &["ACME-0001 … ACME-0010"]);
    let values = json!([{"namespace": "factory", "key": "serial", "pool": "acme", "partition": "nvs"}]);
    let ports = json!(["sim://esp32c3-a", "sim://esp32c3-b", "sim://esp32c3-c"]);
    let batch = json!({"ports": ports, "files": files, "values": values, "report_file": "report.json"});
    has(&session.ok("esp_batch_program", batch.clone()), &["3 of 3 units passed"]);
    let mut serials = Vec::new();
    for name in ["a", "b", "c"] {
        let port = format!("sim://esp32c3-{name}");
        let text =
            session.ok("esp_nvs", json!({"port": port, "action": "get", "namespace": "factory", "key": "serial"}));
        serials.push(text.split("ACME-").nth(1).unwrap().get(..4).unwrap().to_owned());
    }
    serials.sort();
    assert_eq!(serials, ["0001", "0002", "0003"]);
    has(&session.ok("esp_batch_program", batch), &["3 of 3 units passed"]);
    has(&session.ok("esp_ledger", json!({"action": "status"})), &["7 FREE", "next ACME-0004"]);
}

/// The same job by a recipe that is made, checked, rehearsed and locked over MCP; one line is left to the operator.
pub fn recipe_is_made_checked_and_rehearsed() {
    let mut session = Session::new(11);
    has(&session.ok("esp_recipe", json!({})), &["[[nvs]]", "{serial}"]);
    session.ok("esp_recipe", json!({"action": "new", "file": "r/unit.toml", "chip": "esp32c3"}));
    let good = fs::read_to_string(session.path("r/unit.toml")).unwrap();
    session.write("r/bad.toml", good.replace("[chip]", "[chips]").replace("address", "adress").as_bytes());
    let found = session.ok("esp_recipe", json!({"action": "check", "file": "r/bad.toml"}));
    has(&found, &["no section `chips`", "section `chip` is missing", "unknown field `adress`"]);
    has(&session.ok("esp_recipe", json!({"action": "check", "file": "r/unit.toml"})), &["no errors"]);
    let rehearsal = json!({"action": "rehearse", "file": "r/unit.toml", "values": {"serial": "SN-7"}});
    has(&session.ok("esp_recipe", rehearsal), &["rehearsal passed", "SN-7", "esp_recipe action=lock"]);
    let lock = session.ok("esp_recipe", json!({"action": "lock", "file": "r/unit.toml"}));
    has(&lock, &["mcp-esptool recipe lock r/unit.toml", "confirm_token", "a person has to confirm"]);
    assert!(!fs::read_to_string(session.path("r/unit.toml")).unwrap().contains("[lock]"));
}

/// A recipe made from a build takes the build's own table, and its rehearsal measures everything.
pub fn recipe_from_a_build_uses_its_table() {
    let mut session = Session::new(3);
    let files = session.firmware("esp32c3");
    let list: serde_json::Map<_, _> = files
        .as_array()
        .unwrap()
        .iter()
        .map(|file| (format!("{:#x}", file["address"].as_u64().unwrap()), file["path"].clone()))
        .collect();
    let build = json!({"flash_files": list, "extra_esptool_args": {"chip": "esp32c3"}});
    session.write("flasher_args.json", build.to_string().as_bytes());
    session.ok("esp_recipe", json!({"action": "new", "file": "unit.toml", "project": "."}));
    has(&session.ok("esp_recipe", json!({"action": "check", "file": "unit.toml"})), &["no errors", "3 values in nvs"]);
    let rehearsed = session.ok("esp_recipe", json!({"action": "rehearse", "file": "unit.toml"}));
    has(&rehearsed, &["rehearsal passed", "pass serial in flash: TEST-00001"]);
    assert!(!rehearsed.contains("unknown"), "{rehearsed}");
}

/// What resources hold is there for clients that only call tools.
pub fn documents_are_read_by_a_tool() {
    let mut session = Session::new(5);
    has(&session.ok("esp_docs", json!({})), &["esp://docs/production", "esp://docs/recipe-schema"]);
    has(&session.ok("esp_docs", json!({"name": "esp_flash_erase"})), &["`table_offset`", "## Examples"]);
    has(&session.ok("esp_docs", json!({"search": "recipe pool"})), &["esp://docs/"]);
    has(&session.ok("esp_recipe", json!({"action": "schema"})), &["\"min_revision\"", "\"region_md5\""]);
    has(&session.refused("esp_docs", json!({"name": "esp_flash_frimware"})), &["esp_docs name=esp_flash_firmware"]);
}

/// A pool made by mistake is no dead end: its values can be given, or taken out again.
pub fn pool_made_by_mistake_is_no_dead_end() {
    let mut session = Session::new(6);
    let files = session.firmware("esp32c3");
    session.aside("esp_flash_firmware", json!({"port": "sim://esp32c3-demo", "files": files}));
    for (pool, prefix) in [("good", "G-"), ("typo", "T-")] {
        let add = json!({"action": "add_pool", "pool": pool, "kind": "serial", "prefix": prefix, "count": 5});
        session.ok("esp_ledger", add);
    }
    let write = json!({"port": "sim://esp32c3-demo", "mfg_data": {"serial": "G-00002"}, "partition": "nvs"});
    session.ok("esp_manufacturing_data_write", write);
    has(
        &session.ok("esp_ledger", json!({"action": "remove_pool", "pool": "typo"})),
        &["5 unused values", "the pool is gone"],
    );
    has(&session.ok("esp_ledger", json!({"action": "status"})), &["pool good", "next G-00001"]);
}

/// Templates take `{}`; what cannot be is said before a device is touched, with the call that helps.
pub fn mistakes_in_values_are_told_before_a_device_is_touched() {
    let mut session = Session::new(6);
    let files = session.firmware("esp32c3");
    let batch =
        |ports: serde_json::Value, value: serde_json::Value| json!({"ports": ports, "files": files, "values": [value]});
    let ports = json!(["sim://esp32c3-a", "sim://esp32c3-b"]);
    let of_pool = json!({"namespace": "factory", "key": "serial", "pool": "acme"});
    has(
        &session.refused("esp_batch_program", batch(ports.clone(), of_pool)),
        &["no pool acme", "esp_ledger action=add_pool pool=acme", "device: not touched"],
    );
    let odd = json!({"namespace": "factory", "key": "serial", "list": ["7", "8"], "template": "SN-{serial"});
    has(&session.refused("esp_batch_program", batch(ports.clone(), odd)), &["a brace", "{base_mac}"]);
    let good =
        json!({"namespace": "factory", "key": "serial", "list": ["7", "8"], "template": "SN-{}", "partition": "nvs"});
    has(&session.ok("esp_batch_program", batch(ports, good)), &["2 of 2 units passed"]);
    has(&session.ok("esp_nvs", json!({"port": "sim://esp32c3-a"})), &["SN-"]);
    let wrong = json!(["sim://esp32c3-a", "sim://esp32-c"]);
    let text = session.ok("esp_batch_program", json!({"ports": wrong, "files": files}));
    has(
        &text,
        &[
            "1 of 2 units passed",
            "chip_mismatch: the firmware is for ESP32-C3, the chip is ESP32",
            "next (chip_mismatch): ",
        ],
    );
}
