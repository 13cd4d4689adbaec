//! A chip is secured by Espressif's tools and read by ours, and secured by ours and read by theirs.

use std::fs;
use std::path::Path;

use esp_link::bootloaders::{StockBootloader, Wanted};
use esp_model::chip::{self, Chip};
use esp_model::image::FlashMode;
use esp_model::job::Job;
use esp_ops::config::{Config, Origin};
use esp_ops::firmware::sample;
use libtest_mimic::Trial;
use mcp_esptool::ctx::Ctx;
use mcp_esptool::tools;
use serde_json::{Value, json};

use crate::efuse::start;
use crate::reference::{Stop, batch, fail, same_bytes, scratch, trial};

mod encryption;

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("bringup: theirs secure, ours read", || theirs_first("esp32c3")),
        trial("bringup: ours secure, theirs read", || ours_first("esp32c3")),
    ];
    trials.extend(encryption::trials());
    trials
}

/// Our tools, with this folder as project and everything allowed that a person can allow.
fn context(dir: &Path) -> Result<Ctx, Stop> {
    fs::write(dir.join("policy.toml"), "burn_macs = [\"*\"]\nvouch = [\"ota_proven\"]\n")?;
    let mut config = Config::default();
    let settings = [("project_roots", ""), ("state_dir", "state"), ("policy_file", "policy.toml")];
    for (name, path) in settings {
        let path = dir.join(path).display().to_string();
        config.set(name, path, Origin::Flag).map_err(|error| Stop::Failed(error.to_string()))?;
    }
    Ctx::new(config).map_err(|error| Stop::Failed(error.to_string()))
}

fn call(ctx: &Ctx, tool: &str, input: Value) -> Result<Value, Stop> {
    let Some(entry) = tools::find(tool) else { return fail(format!("no tool {tool}")) };
    let reply = entry.call(ctx, &Job::new(), input).map_err(|error| Stop::Failed(format!("{tool}: {error}")))?;
    Ok(Value::Object(reply.data))
}

/// The plan, then the burn with its token.
fn confirmed(ctx: &Ctx, tool: &str, mut input: Value) -> Result<Value, Stop> {
    let plan = call(ctx, tool, input.clone())?;
    // A socket could lead to a real chip: a person approves, who knows the end of its MAC address.
    let (hash, mac) = (plan["plan"].as_str().unwrap_or_default(), plan["mac"].as_str().unwrap_or_default());
    let end = mac.get(mac.len().saturating_sub(5)..).unwrap_or_default();
    ctx.confirmations.approve(hash, end).map_err(|error| Stop::Failed(format!("{error}: {plan:#}")))?;
    input["confirm_token"] = plan["confirm_token"].clone();
    let done = call(ctx, tool, input)?;
    if done["state"] == "burned" { Ok(done) } else { fail(format!("{tool}: {plan:#}\n{done:#}")) }
}

/// Runs commands of one of Espressif's programs; every one must succeed.
fn theirs(program: &str, head: &[&str], commands: &[String]) -> Result<Vec<String>, Stop> {
    let words = |command: &String| {
        head.iter().copied().chain(command.split_whitespace()).map(str::to_string).collect::<Vec<_>>()
    };
    let answers = batch(program, &commands.iter().map(words).collect::<Vec<_>>())?;
    let failed = commands.iter().zip(&answers).find(|(_, answer)| !answer.ok);
    match failed {
        Some((command, answer)) => fail(format!("{program} {command}: {}", answer.text)),
        None => Ok(answers.into_iter().map(|answer| answer.text).collect()),
    }
}

fn bootloader(chip: &Chip) -> Result<&'static [u8], Stop> {
    let wanted = Wanted { mode: FlashMode::Dio, crystal_mhz: None, revision: None };
    StockBootloader::find(chip, wanted).map_or_else(|| fail("no bootloader"), |found| Ok(found.bytes))
}

/// The audit's row of this item says that.
fn has_state(audit: &Value, item: &str, state: &str) -> Result<(), Stop> {
    let row = audit["rows"].as_array().into_iter().flatten().find(|row| row["item"] == item);
    if row.is_some_and(|row| row["state"] == state) {
        return Ok(());
    }
    fail(format!("{item} is not {state}: {audit:#}"))
}

fn theirs_first(id: &'static str) -> Result<(), Stop> {
    let dir = scratch(&format!("bringup-theirs-{id}"));
    let Some(chip) = chip::by_name(id) else { return fail("no chip") };
    let (at, path) = (chip.flash.bootloader_offset, |name: &str| dir.join(name).display().to_string());
    fs::write(dir.join("boot.bin"), bootloader(chip)?)?;
    let made = [
        format!("generate-signing-key --version 2 --scheme rsa3072 {}", path("sb.pem")),
        format!("digest-sbv2-public-key --keyfile {} -o {}", path("sb.pem"), path("digest.bin")),
        format!("generate-flash-encryption-key {}", path("fe.key")),
        format!(
            "sign-data --version 2 --keyfile {} --output {} {}",
            path("sb.pem"),
            path("signed.bin"),
            path("boot.bin")
        ),
        format!(
            "encrypt-flash-data --aes-xts --keyfile {} --address {at:#x} --output {} {}",
            path("fe.key"),
            path("sent.bin"),
            path("signed.bin")
        ),
    ];
    theirs("espsecure", &[], &made)?;
    let sim = start(id, &dir.join("efuse.bin"))?;
    let head = ["--chip", id, "--port", &sim.port, "--before", "no-reset"];
    let stay = [&head[..], &["--after", "no-reset", "--no-stub"]].concat();
    theirs("esptool", &stay, &[format!("write-flash {at:#x} {}", path("sent.bin"))])?;
    let burn = format!(
        "--do-not-confirm burn-key BLOCK_KEY0 {} XTS_AES_128_KEY burn-key BLOCK_KEY1 {} SECURE_BOOT_DIGEST0 burn-efuse \
         SPI_BOOT_CRYPT_CNT 7 DIS_DOWNLOAD_MANUAL_ENCRYPT 1 DIS_PAD_JTAG 1 DIS_USB_JTAG 1 SECURE_BOOT_EN 1",
        path("fe.key"),
        path("digest.bin")
    );
    theirs("espefuse", &head, &[burn])?;

    let ctx = context(&dir)?;
    let audit = call(&ctx, "esp_security_audit", json!({ "port": sim.port }))?;
    for item in ["secure_boot", "secure_boot_keys", "flash_encryption", "key_protection"] {
        has_state(&audit, item, "enabled_permanently")?;
    }
    for item in ["jtag", "usb_jtag"] {
        has_state(&audit, item, "closed_permanently")?;
    }
    let purpose = call(&ctx, "esp_efuse_read", json!({ "port": sim.port, "efuse_name": "KEY_PURPOSE_1" }))?;
    if !purpose.to_string().contains("SECURE_BOOT_DIGEST0") {
        return fail(format!("{purpose:#}"));
    }
    let sent = fs::read(dir.join("sent.bin"))?;
    let read = json!({ "port": sim.port, "address": at, "size": sent.len(), "output_file": "back.bin" });
    call(&ctx, "esp_flash_read", read)?;
    same_bytes("the encrypted bootloader", &fs::read(dir.join("back.bin"))?, &sent)?;
    let verify = json!({ "action": "verify", "key_files": ["sb.pem"], "input_file": "signed.bin" });
    call(&ctx, "esp_secure_sign", verify).map(drop)
}

fn ours_first(id: &'static str) -> Result<(), Stop> {
    let dir = scratch(&format!("bringup-ours-{id}"));
    let Some(chip) = chip::by_name(id) else { return fail("no chip") };
    let ctx = context(&dir)?;
    call(&ctx, "esp_secure_sign", json!({ "action": "generate_key", "scheme": "rsa3072", "output_file": "sb.pem" }))?;
    let sim = start(id, &dir.join("efuse.bin"))?;
    let mut files = Vec::new();
    for part in sample::make(chip).map_err(Stop::Failed)? {
        let is_bootloader = part.address == chip.flash.bootloader_offset;
        fs::write(dir.join(part.name), if is_bootloader { bootloader(chip)? } else { &part.bytes })?;
        let mut file = part.name.to_owned();
        if !file.contains("table") {
            file = if is_bootloader { "signed.bin".into() } else { format!("signed-{file}") };
            let sign =
                json!({ "action": "sign", "key_files": ["sb.pem"], "input_file": part.name, "output_file": file });
            call(&ctx, "esp_secure_sign", sign)?;
        }
        files.push(json!({ "path": file, "address": part.address }));
    }
    call(&ctx, "esp_flash_firmware", json!({ "port": sim.port, "files": files }))?;
    confirmed(&ctx, "esp_secure_boot_enable", json!({ "port": sim.port, "key_file": "sb.pem" }))?;
    // The line is for one client at a time.
    ctx.close();
    drop(ctx);

    let path = |name: &str| dir.join(name).display().to_string();
    let verify = format!("verify-signature --version 2 --keyfile {} {}", path("sb.pem"), path("signed.bin"));
    theirs(
        "espsecure",
        &[],
        &[verify, format!("digest-sbv2-public-key --keyfile {} -o {}", path("sb.pem"), path("d.bin"))],
    )?;
    let head = ["--chip", id, "--port", &sim.port, "--before", "no-reset"];
    let summary = theirs("espefuse", &head, &["summary --format json".into(), "check-error".into()])?.swap_remove(0);
    let (Some(first), Some(last)) = (summary.find("\n{"), summary.rfind('}')) else { return fail(summary) };
    let fields: Value = serde_json::from_str(&summary[first..=last])?;
    let digest: String = fs::read(dir.join("d.bin"))?.iter().map(|byte| format!("{byte:02x}")).collect();
    let holds = fields.as_object().into_iter().flatten().any(|(name, field)| {
        name.starts_with("BLOCK_KEY") && field["value"].as_str().is_some_and(|value| value.replace(' ', "") == digest)
    });
    if fields["SECURE_BOOT_EN"]["value"] != true || !holds {
        return fail(format!("espefuse reads {} and no digest {digest}", fields["SECURE_BOOT_EN"]));
    }
    Ok(())
}
