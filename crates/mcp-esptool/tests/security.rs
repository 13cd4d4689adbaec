//! The security tools on simulated devices: plan, confirmation, burn, read-back; secrets stay where they are.
#![allow(clippy::unwrap_used)]

use std::fs;

use esp_model::chip;
use esp_model::job::Job;
use esp_ops::config::{Config, Origin};
use esp_ops::error::ToolError;
use mcp_esptool::ctx::Ctx;
use mcp_esptool::tool::Reply;
use mcp_esptool::tools;
use serde_json::{Value, json};
use tempfile::TempDir;

#[path = "security/audit.rs"]
mod audit;
#[path = "security/encrypted.rs"]
mod encrypted;
#[path = "security/plans.rs"]
mod plans;

struct Bench {
    dir: TempDir,
    ctx: Ctx,
    /// All that a caller ever saw.
    seen: std::cell::RefCell<String>,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ctx = open(&dir);
        Self { dir, ctx, seen: std::cell::RefCell::default() }
    }

    fn call(&self, tool: &str, input: Value) -> Result<Reply, ToolError> {
        let result = tools::find(tool).unwrap().call(&self.ctx, &Job::new(), input);
        let text = match &result {
            Ok(reply) => format!("{}\n{}\n", reply.text, Value::Object(reply.data.clone())),
            Err(error) => format!("{error}\n{error:?}\n"),
        };
        self.seen.borrow_mut().push_str(&text);
        result
    }

    #[track_caller]
    fn ok(&self, tool: &str, input: Value) -> Value {
        Value::Object(self.call(tool, input).unwrap_or_else(|error| panic!("{tool}: {error}")).data)
    }

    #[track_caller]
    fn refused(&self, tool: &str, input: Value) -> ToolError {
        self.call(tool, input).err().unwrap()
    }

    /// First call, then second call with its token.
    #[track_caller]
    fn confirmed(&self, tool: &str, mut input: Value) -> Value {
        let plan = self.ok(tool, input.clone());
        assert_eq!((plan["state"].as_str(), &plan["rehearsed"]), (Some("planned"), &json!(true)), "{plan:#}");
        input["confirm_token"] = plan["confirm_token"].clone();
        self.ok(tool, input)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.dir.path().join("project").join(name), bytes).unwrap();
        name.into()
    }

    fn field(&self, port: &str, name: &str) -> Value {
        self.ok("esp_efuse_read", json!({ "port": port, "efuse_name": name }))["fields"][0].clone()
    }
}

fn open(dir: &TempDir) -> Ctx {
    let project = dir.path().join("project");
    fs::create_dir_all(&project).unwrap();
    let mut config = Config::default();
    config.set("project_roots", project.display().to_string(), Origin::Flag).unwrap();
    config.set("state_dir", dir.path().join("state").display().to_string(), Origin::Flag).unwrap();
    Ctx::new(config).unwrap()
}

#[test]
fn every_chip_burns_a_field_once_it_is_confirmed() {
    let bench = Bench::new();
    for chip in chip::all().iter().filter(|chip| chip.efuse().controller.is_some()) {
        let port = format!("sim://{}", chip.id);
        let known = |name: &&str| chip.efuse().field(name).is_some_and(|field| field.shown);
        let name = ["DIS_DIRECT_BOOT", "DIS_DOWNLOAD_ICACHE", "CONSOLE_DEBUG_DISABLE"].into_iter().find(known).unwrap();
        let burn = json!({ "port": port, "efuse_name": name, "value": "1" });
        let burned = bench.confirmed("esp_efuse_burn", burn.clone());
        assert_eq!(burned["state"], "burned", "{}: {burned:#}", chip.id);
        assert_eq!(bench.field(&port, name)["value"], "true", "{}", chip.id);
        assert_eq!(bench.ok("esp_efuse_burn", burn)["state"], "nothing_to_do");
        let mac = bench.ok("esp_mac_address_read", json!({ "port": port }));
        assert!(mac["check"].as_str().unwrap().contains("OK"), "{}: {mac}", chip.id);
        let audit = bench.ok("esp_security_audit", json!({ "port": port }));
        assert_eq!(audit["worst"], "critical", "{audit:#}");
        bench.ok("esp_security_info", json!({ "port": port }));
    }
    let audit = bench.ctx.audit.verify().unwrap();
    assert!(audit.lines > 20 && audit.broken.is_none() && !audit.torn, "{audit:?}");
}

#[test]
fn a_token_holds_for_one_plan_on_one_device_once() {
    let bench = Bench::new();
    let burn = |port: &str, name: &str, token: &Value| {
        let mut input = json!({ "port": port, "efuse_name": name, "value": "1" });
        if !token.is_null() {
            input["confirm_token"] = token.clone();
        }
        input
    };
    let (a, b) = ("sim://esp32c3-a", "sim://esp32c3-b");
    let token = bench.ok("esp_efuse_burn", burn(a, "DIS_DIRECT_BOOT", &Value::Null))["confirm_token"].clone();
    for (port, name) in [(b, "DIS_DIRECT_BOOT"), (a, "DIS_TWAI")] {
        assert_eq!(bench.refused("esp_efuse_burn", burn(port, name, &token)).code.as_str(), "not_confirmed");
    }
    // A plan whose time is over.
    let late = bench.ok("esp_efuse_burn", burn(b, "DIS_TWAI", &Value::Null));
    let file = bench.dir.path().join(format!("state/plans/{}.json", late["plan"].as_str().unwrap()));
    let mut offer: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    offer["expires"] = json!(1);
    fs::write(&file, offer.to_string()).unwrap();
    let expired = bench.refused("esp_efuse_burn", burn(b, "DIS_TWAI", &late["confirm_token"]));
    assert!(expired.code.as_str() == "not_confirmed" && expired.message.contains("expired"), "{expired}");
    // Something else was burned meanwhile: the plan no longer holds.
    bench.confirmed("esp_efuse_burn", burn(a, "DIS_TWAI", &Value::Null));
    assert_eq!(bench.refused("esp_efuse_burn", burn(a, "DIS_DIRECT_BOOT", &token)).code.as_str(), "not_confirmed");
    // Another process, after a restart, can use what the first one offered; then nobody can.
    let token = bench.ok("esp_efuse_burn", burn(b, "DIS_DIRECT_BOOT", &Value::Null));
    let plan = token["plan"].as_str().unwrap().to_string();
    let again = open(&bench.dir);
    let mac = token["mac"].as_str().unwrap();
    again.confirmations.redeem(token["confirm_token"].as_str().unwrap(), mac, &plan).unwrap();
    assert_eq!(
        bench.refused("esp_efuse_burn", burn(b, "DIS_DIRECT_BOOT", &token["confirm_token"])).code.as_str(),
        "not_confirmed"
    );
}

#[test]
fn bricking_plans_get_no_token() {
    let bench = Bench::new();
    let port = "sim://esp32c3";
    for (name, rule) in [("SECURE_BOOT_EN", 1), ("SPI_BOOT_CRYPT_CNT", 2), ("DIS_DOWNLOAD_MODE", 8)] {
        let error = bench.refused("esp_efuse_burn", json!({ "port": port, "efuse_name": name, "value": "1" }));
        assert_eq!(error.code.as_str(), "burn_refused");
        let rules: Vec<_> =
            error.evidence["findings"].as_array().unwrap().iter().map(|one| one["rule"].clone()).collect();
        assert!(rules.contains(&json!(rule)), "{name}: {rules:?}");
        assert_eq!(bench.field(port, name)["raw_hex"], "00");
    }
    let unknown = bench.refused("esp_efuse_burn", json!({ "port": port, "efuse_name": "SECURE_BOT_EN" }));
    assert!(unknown.code.as_str() == "unknown_efuse" && unknown.next_step.contains("SECURE_BOOT_EN"));
}

#[test]
fn secure_boot_is_enabled_with_a_signed_bootloader_only() {
    let bench = Bench::new();
    let port = "sim://esp32c2";
    let image = bench.file("boot.bin", &[0xe9; 5000]);
    let key = json!({ "action": "generate_key", "scheme": "ecdsa256", "output_file": "sb.pem" });
    bench.ok("esp_secure_sign", key.clone());
    assert_eq!(bench.refused("esp_secure_sign", key).code.as_str(), "file_unwritable");
    let enable = json!({ "port": port, "key_file": "sb.pem" });
    assert_eq!(bench.refused("esp_secure_boot_enable", enable.clone()).code.as_str(), "burn_refused");
    let sign = json!({ "action": "sign", "key_files": ["sb.pem"], "input_file": image, "output_file": "signed.bin" });
    assert_eq!(bench.ok("esp_secure_sign", sign)["signatures"][0]["valid"], true);
    bench.ok("esp_secure_sign", json!({ "action": "verify", "key_files": ["sb.pem"], "input_file": "signed.bin" }));
    // A signed bootloader alone does not start: nothing is burned. Signed firmware does.
    let signed = fs::read(bench.dir.path().join("project/signed.bin")).unwrap();
    write_flash(&bench, port, 0, &signed);
    let blank = bench.refused("esp_secure_boot_enable", enable.clone());
    assert!(blank.code.as_str() == "burn_refused" && blank.message.contains("would not start"), "{blank}");
    bootable(
        &bench,
        port,
        |name, bytes| if name.contains("table") { bytes.to_vec() } else { sign_with_sb(&bench, bytes) },
    );
    let enabled = bench.confirmed("esp_secure_boot_enable", enable);
    assert_eq!(enabled["state"], "burned", "{enabled:#}");
    let audit = bench.ok("esp_security_audit", json!({ "port": port }));
    assert!(
        audit["rows"]
            .as_array()
            .unwrap()
            .iter()
            .any(|row| row["item"] == "secure_boot" && row["state"] == "enabled_permanently")
    );
}

/// Signed with `sb.pem`.
fn sign_with_sb(bench: &Bench, bytes: &[u8]) -> Vec<u8> {
    bench.file("plain.bin", bytes);
    let sign =
        json!({ "action": "sign", "key_files": ["sb.pem"], "input_file": "plain.bin", "output_file": "made.bin" });
    bench.ok("esp_secure_sign", sign);
    fs::read(bench.dir.path().join("project/made.bin")).unwrap()
}

/// Puts bytes into the simulated flash as a factory would.
fn write_flash(bench: &Bench, port: &str, address: u32, bytes: &[u8]) {
    bench.ok("esp_security_info", json!({ "port": port }));
    let device = bench.ctx.ports.simulated().into_iter().find(|device| device.url() == port).unwrap();
    device.with(|chip, _| chip.flash().load(address, bytes));
}

#[test]
fn flash_encryption_hides_its_key_and_nothing_leaks() {
    let bench = Bench::new();
    let port = "sim://esp32s3";
    let key: Vec<u8> = (0..32).map(|byte| byte * 7 + 3).collect();
    let key_file = bench.file("fe.key", &key);
    let files = plans::firmware(&bench, "esp32s3");
    let image = bench.file("boot.bin", &fs::read(bench.dir.path().join("project/bootloader.bin")).unwrap());
    let length = fs::read(bench.dir.path().join("project/boot.bin")).unwrap().len();
    let enable = json!({ "port": port, "key_file": key_file, "files": files, "mode": "release" });
    let no_boot = json!({ "port": port, "key_file": key_file, "files": [{ "path": image, "address": "0x10000" }] });
    assert_eq!(bench.refused("esp_encryption_enable", no_boot).code.as_str(), "wrong_bootloader_offset");
    let done = bench.confirmed("esp_encryption_enable", enable);
    assert_eq!(done["state"], "burned", "{done:#}");
    assert!(done["written_bytes"].as_u64().unwrap() >= length as u64, "{done:#}");
    let key_field = bench.field(port, "BLOCK_KEY0");
    assert_eq!((&key_field["value"], &key_field["readable"]), (&json!("hidden"), &json!(false)));
    let audit = bench.ok("esp_security_audit", json!({ "port": port }));
    let state = |item: &str| {
        let rows = audit["rows"].as_array().unwrap();
        rows.iter().find(|row| row["item"] == item).unwrap()["state"].clone()
    };
    assert_eq!(
        (state("flash_encryption"), state("key_protection")),
        (json!("enabled_permanently"), json!("enabled_permanently"))
    );
    // What is in flash is what the file tool makes of the image.
    let made = json!({ "chip": "esp32s3", "key_file": "fe.key", "files": [{ "path": "boot.bin", "address": 0 }], "output_dir": "enc" });
    bench.ok("esp_flash_encrypt", made);
    let encrypted = fs::read(bench.dir.path().join("project/enc/boot.bin.enc")).unwrap();
    let device = bench.ctx.ports.simulated().into_iter().find(|device| device.url() == port).unwrap();
    let flash = device.with(|chip, _| chip.flash().read(0, length)).unwrap();
    assert_eq!(flash, encrypted[..length]);
    // A second device: the key in an open block, a wrong key, and what errors say of it.
    let open = json!({ "port": "sim://esp32s3-2", "burns": [
        { "kind": "key", "block": "BLOCK_KEY1", "key_file": "fe.key", "purpose": "HMAC_UP", "read_protect": false }] });
    bench.confirmed("esp_efuse_burn", open);
    bench.ok("esp_efuse_read", json!({ "port": "sim://esp32s3-2" }));
    // A plan that nobody confirms leaves its file behind; a key given as a value, and one that is no hex at all.
    let offered = json!({ "port": "sim://esp32s3-2", "burns": [
        { "kind": "key", "block": "BLOCK_KEY2", "key_file": "fe.key", "purpose": "HMAC_UP" }] });
    bench.ok("esp_efuse_burn", offered);
    let text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    for value in [text.clone(), text[..62].to_string(), text.clone() + "zz", format!("0x{text}")] {
        let given = json!({ "port": "sim://esp32s3-3", "efuse_name": "BLOCK_KEY3", "value": value });
        let _ = bench.call("esp_efuse_burn", given);
    }
    bench.file("short.key", &key[..31]);
    let short = json!({ "port": port, "burns": [
        { "kind": "key", "block": "BLOCK_KEY2", "key_file": "short.key", "purpose": "HMAC_UP" }] });
    assert_eq!(bench.refused("esp_efuse_burn", short).code.as_str(), "burn_impossible");
    bench
        .call(
            "esp_flash_encrypt",
            json!({ "chip": "esp32s3", "key_file": "short.key", "files": [{ "path": "boot.bin", "address": 0 }] }),
        )
        .unwrap_err();
    // Everything that the program keeps: the audit log, offered plans, and whatever else.
    let mut kept = String::new();
    texts(&bench.dir.path().join("state"), &mut kept);
    assert!(kept.contains("\"planned\"") && kept.contains("token_hash"), "{kept}");
    let seen = bench.seen.borrow().to_ascii_lowercase() + &kept.to_ascii_lowercase();
    for separator in ["", " ", ":", ", "] {
        let spell = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(separator);
        let decimal = key[..6].iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
        let reversed: Vec<u8> = key.iter().rev().copied().collect();
        for part in [spell(&key[..6]), spell(&reversed[..6]), spell(&key[12..18]), decimal] {
            assert!(!seen.contains(&part), "the key is in what a caller sees: {part}");
        }
    }
}

/// The text of all files below a folder.
fn texts(dir: &std::path::Path, into: &mut String) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        match entry.path() {
            path if path.is_dir() => texts(&path, into),
            path => into.push_str(&String::from_utf8_lossy(&fs::read(path).unwrap())),
        }
    }
}

#[test]
fn signing_keys_do_not_leak() {
    let bench = Bench::new();
    bench.ok("esp_secure_sign", json!({ "action": "generate_key", "scheme": "ecdsa256", "output_file": "k.pem" }));
    let pem = fs::read_to_string(bench.dir.path().join("project/k.pem")).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(bench.dir.path().join("project/k.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    bench.file("broken.pem", pem.replace("EC PRIVATE", "EK PRIVATE").as_bytes());
    let sign = json!({ "action": "sign", "key_files": ["broken.pem"], "input_file": "k.pem", "output_file": "x.bin" });
    assert_eq!(bench.refused("esp_secure_sign", sign).code.as_str(), "bad_key");
    let seen = bench.seen.borrow();
    assert!(pem.lines().filter(|line| !line.starts_with('-')).all(|line| !seen.contains(line)));
}

/// Fills a simulated chip with firmware that starts.
fn bootable(bench: &Bench, port: &str, sign: impl Fn(&str, &[u8]) -> Vec<u8>) {
    let chip = chip::by_name(port.trim_start_matches("sim://")).unwrap();
    for part in esp_ops::firmware::sample::make(chip).unwrap() {
        write_flash(bench, port, part.address, &sign(part.name, &part.bytes));
    }
    let booted = bench.ok("esp_boot_check", json!({ "port": port }));
    assert_eq!(booted["outcome"], "starts", "{booted:#}");
}

/// What an agent writes first: a list of fields without a kind.
#[test]
fn an_item_without_a_kind_is_a_field() {
    let bench = Bench::new();
    let burns = json!([{ "efuse": "DIS_PAD_JTAG", "value": "1" }, { "kind": "write_protect", "efuse": "DIS_ICACHE" }]);
    let plan = bench.ok("esp_efuse_burn", json!({ "port": "sim://esp32c3", "burns": burns }));
    let changed = |name: &str| plan["changes"].as_array().unwrap().iter().any(|change| change["field"] == name);
    assert!(changed("DIS_PAD_JTAG") && changed("WR_DIS"), "{plan:#}");
    let unclear = json!({ "port": "sim://esp32c3", "burns": [{ "block": "BLOCK_KEY1" }] });
    assert_eq!(bench.refused("esp_efuse_burn", unclear).code.as_str(), "unknown_parameter");
}

/// The bootloader is signed, so that every rule of the linter passes; the app behind it is not.
#[test]
fn a_device_that_would_not_start_any_more_is_spared() {
    let bench = Bench::new();
    let port = "sim://esp32c3";
    bench.ok("esp_secure_sign", json!({ "action": "generate_key", "scheme": "rsa3072", "output_file": "sb.pem" }));
    let signed = |bytes: &[u8]| {
        bench.file("plain.bin", bytes);
        let sign = json!({ "action": "sign", "key_files": ["sb.pem"], "input_file": "plain.bin", "output_file": "signed.bin" });
        bench.ok("esp_secure_sign", sign);
        fs::read(bench.dir.path().join("project/signed.bin")).unwrap()
    };
    bootable(&bench, port, |name, bytes| if name == "bootloader.bin" { signed(bytes) } else { bytes.to_vec() });
    let enable = json!({ "port": port, "key_file": "sb.pem" });
    let error = bench.refused("esp_secure_boot_enable", enable.clone());
    assert!(error.code.as_str() == "burn_refused" && error.message.contains("stops at app_signature"), "{error}");
    assert_eq!(bench.field(port, "SECURE_BOOT_EN")["raw_hex"], "00");

    bootable(&bench, port, |name, bytes| if name.contains("table") { bytes.to_vec() } else { signed(bytes) });
    // Another app than the one that was there when the plan was made, signed by the same key: the plan is void.
    let chip = chip::by_name(port.trim_start_matches("sim://")).unwrap();
    let parts = esp_ops::firmware::sample::make(chip).unwrap();
    let app = parts.iter().find(|part| part.name != "bootloader.bin" && !part.name.contains("table")).unwrap();
    let mut confirm = enable.clone();
    confirm["confirm_token"] = bench.ok("esp_secure_boot_enable", enable.clone())["confirm_token"].clone();
    write_flash(&bench, port, app.address, &signed(&app.bytes));
    let error = bench.refused("esp_secure_boot_enable", confirm);
    assert!(error.code.as_str() == "not_confirmed" && error.message.contains("changed since"), "{error}");
    assert_eq!(bench.field(port, "SECURE_BOOT_EN")["raw_hex"], "00");

    let enabled = bench.confirmed("esp_secure_boot_enable", enable);
    assert_eq!((&enabled["state"], &enabled["boot_check"]), (&json!("burned"), &json!("starts factory")));
    let booted = bench.ok("esp_boot_check", json!({ "port": port }));
    assert_eq!(booted["outcome"], "starts", "{booted:#}");
    let trusted =
        booted["steps"].as_array().unwrap().iter().filter(|step| step["text"].to_string().contains("trusted"));
    assert_eq!(trusted.count(), 2, "{booted:#}");
}

#[test]
fn version_one_of_secure_boot_burns_a_key_and_writes_the_digest() {
    let bench = Bench::new();
    let port = "sim://esp32";
    bench.file("v1.bin", &[0x5a; 32]);
    bootable(&bench, port, |_, bytes| bytes.to_vec());
    let enabled = bench.confirmed("esp_secure_boot_enable", json!({ "port": port, "key_file": "v1.bin" }));
    assert_eq!((&enabled["state"], &enabled["scheme"]), (&json!("burned"), &json!("v1")), "{enabled:#}");
    assert_eq!(bench.field(port, "ABS_DONE_0")["value"], "true");
    let device = bench.ctx.ports.simulated().into_iter().find(|device| device.url() == port).unwrap();
    let flash = device.with(|chip, _| chip.flash().read(0, 0x8000).unwrap());
    let image = esp_ops::firmware::sample::make(chip::by_name("esp32").unwrap()).unwrap().remove(0).bytes;
    let start = flash[..esp_model::secure::boot_v1::IV].try_into().unwrap();
    let wanted = esp_model::secure::boot_v1::digest_bootloader(&image, &[0x5a; 32], start).unwrap();
    assert_eq!(&flash[..wanted.len()], wanted);
    assert_eq!(&flash[0x1000..0x1000 + image.len()], image, "the bootloader is where it was");
    // Other chips have no version 1.
    let error = bench.refused("esp_secure_boot_enable", json!({ "port": "sim://esp32s3", "key_file": "v1.bin" }));
    assert_eq!(error.code.as_str(), "not_supported_by_chip");
}
