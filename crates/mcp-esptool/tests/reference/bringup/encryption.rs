//! Flash encryption, alone and before secure boot: ours secure, theirs read, and the device still boots; then theirs.

use std::fs;
use std::path::Path;

use esp_model::chip::{self, Chip, FlashCipher};
use esp_ops::firmware::sample;
use libtest_mimic::Trial;
use mcp_esptool::ctx::Ctx;
use serde_json::{Value, json};

use super::{call, confirmed, context, has_state, theirs};
use crate::efuse::{Sim, start_with};
use crate::reference::{Stop, fail, same_bytes, scratch, trial};

/// The ESP32's own scheme, XTS-AES-128 and XTS-AES-256.
const CHIPS: [(&str, usize); 3] = [("esp32", 32), ("esp32c3", 32), ("esp32s3", 64)];

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (id, key) in CHIPS {
        let bench = move |mode| Bench::new(id, key, mode);
        trials.push(trial(format!("bringup: ours encrypt {id} for development"), move || bench("development")?.ours()));
        trials.push(trial(format!("bringup: ours encrypt {id} for good and sign"), move || bench("release")?.ours()));
        trials
            .push(trial(format!("bringup: theirs encrypt {id} for good and sign"), move || bench("theirs")?.theirs()));
    }
    trials
}

/// A simulated chip with its files and what will be in its flash.
struct Bench {
    chip: &'static Chip,
    dir: std::path::PathBuf,
    sim: Sim,
    mode: &'static str,
    key_len: usize,
    files: Vec<(u32, String)>,
}

impl Bench {
    fn new(id: &'static str, key_len: usize, mode: &'static str) -> Result<Self, Stop> {
        let dir = scratch(&format!("bringup-{id}-{mode}"));
        let Some(chip) = chip::by_name(id) else { return fail("no chip") };
        let mut files = Vec::new();
        for part in sample::make(chip).map_err(Stop::Failed)? {
            // What is encrypted is written in whole units.
            let mut bytes = part.bytes;
            bytes.resize(bytes.len().next_multiple_of(32), 0xff);
            fs::write(dir.join(part.name), bytes)?;
            files.push((part.address, part.name.to_string()));
        }
        let flash = dir.join("flash.bin").display().to_string();
        let sim = start_with(id, &dir.join("efuse.bin"), &["--flash", &flash, "--reset-on-disconnect"])?;
        Ok(Self { chip, dir, sim, mode, key_len, files })
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn is_esp32_scheme(&self) -> bool {
        let encryption = self.chip.security.flash_encryption.as_ref();
        encryption.is_some_and(|encryption| encryption.cipher == FlashCipher::Esp32Aes)
    }

    /// espsecure's options for this chip's scheme.
    fn scheme(&self) -> &'static str {
        if self.is_esp32_scheme() { "--flash-crypt-conf 0xf" } else { "--aes-xts" }
    }

    /// Signs bootloader and application with a key of espsecure's making.
    fn sign(&mut self) -> Result<(), Stop> {
        let key = self.path("sb.pem");
        let mut made = vec![format!("generate-signing-key --version 2 --scheme rsa3072 {key}")];
        for (_, name) in self.files.iter_mut().filter(|(_, name)| !name.contains("table")) {
            let signed = format!("signed-{name}");
            let (from, to) = (self.dir.join(&*name), self.dir.join(&signed));
            made.push(format!("sign-data --version 2 --keyfile {key} --output {} {}", to.display(), from.display()));
            *name = signed;
        }
        theirs("espsecure", &[], &made).map(drop)
    }

    fn ours(mut self) -> Result<(), Stop> {
        let release = self.mode == "release";
        if release {
            self.sign()?;
        }
        let key: Vec<u8> = (0..self.key_len as u8).map(|byte| byte.wrapping_mul(29) ^ 0x5c).collect();
        fs::write(self.dir.join("fe.key"), key)?;
        let ctx = context(&self.dir)?;
        let files: Vec<_> =
            self.files.iter().map(|(address, path)| json!({ "path": path, "address": address })).collect();
        let enable = json!({ "port": self.sim.port, "key_file": "fe.key", "files": files, "mode": self.mode });
        let done = confirmed(&ctx, "esp_encryption_enable", enable)?;
        if !done["boot_check"].to_string().contains("starts") {
            return fail(format!("{done:#}"));
        }
        if release {
            // The order that the documentation wants: encryption first. Without its key nobody knows who signed.
            let boot = json!({ "port": self.sim.port, "key_file": "sb.pem", "profile": "production" });
            if call(&ctx, "esp_secure_boot_enable", boot.clone()).is_ok() {
                return fail("secure boot was planned over a flash that could not be read");
            }
            let mut boot = boot;
            boot["flash_key_file"] = json!("fe.key");
            let done = confirmed(&ctx, "esp_secure_boot_enable", boot)?;
            if !done["boot_check"].to_string().contains("starts") {
                return fail(format!("{done:#}"));
            }
        }
        self.audited(&ctx, release)?;
        ctx.close();
        drop(ctx);
        self.read_by_theirs(release)?;
        self.boots()
    }

    fn audited(&self, ctx: &Ctx, release: bool) -> Result<(), Stop> {
        let audit = call(ctx, "esp_security_audit", json!({ "port": self.sim.port }))?;
        let (boot, encryption) = if release {
            ("enabled_permanently", "enabled_permanently")
        } else {
            ("not_enabled", "enabled_development")
        };
        has_state(&audit, "secure_boot", boot)?;
        has_state(&audit, "flash_encryption", encryption)?;
        has_state(&audit, "key_protection", "enabled_permanently")
    }

    /// espefuse sees the bits, esptool reads what espsecure decrypts to the images.
    fn read_by_theirs(&self, release: bool) -> Result<(), Stop> {
        let head = ["--chip", self.chip.id, "--port", &self.sim.port, "--before", "no-reset"];
        let summary =
            theirs("espefuse", &head, &["summary --format json".into(), "check-error".into()])?.swap_remove(0);
        let (Some(first), Some(last)) = (summary.find("\n{"), summary.rfind('}')) else { return fail(summary) };
        let fields: Value = serde_json::from_str(&summary[first..=last])?;
        let Some(encryption) = &self.chip.security.flash_encryption else { return fail("no flash encryption") };
        let raw = fields[&encryption.count]["raw_value"].as_str().unwrap_or_default().trim_start_matches("0x");
        let bits = u32::from_str_radix(raw, 16).unwrap_or(0).count_ones();
        let wanted = match (release, fields[&encryption.count]["bit_len"].as_u64()) {
            (true, Some(all)) => all as u32,
            _ => 1,
        };
        let loader = encryption.no_manual_encrypt.as_deref().unwrap_or_default();
        let hidden = fields.as_object().into_iter().flatten().filter(|(_, field)| field["readable"] == false).count();
        if bits != wanted || (fields[loader]["value"] == true) != release || hidden < self.key_len / 32 {
            return fail(format!("{bits} bits of {}, {loader} {}, {hidden} hidden", encryption.count, fields[loader]));
        }
        let boot = self.chip.security.secure_boot.last().map_or("", |boot| boot.enable.as_str());
        if (fields[boot]["value"] == true) != release {
            return fail(format!("{boot}: {}", fields[boot]));
        }
        let stay = [&head[..], &["--after", "no-reset"]].concat();
        for (number, (address, name)) in self.files.iter().enumerate() {
            let plain = fs::read(self.dir.join(name))?;
            let (read, back) = (self.path(&format!("read{number}")), self.path(&format!("plain{number}")));
            theirs("esptool", &stay, &[format!("read-flash {address:#x} {} {read}", plain.len())])?;
            let decrypt = format!(
                "decrypt-flash-data {} --keyfile {} --address {address:#x} --output {back} {read}",
                self.scheme(),
                self.path("fe.key")
            );
            theirs("espsecure", &[], &[decrypt])?;
            if fs::read(&read)? == plain {
                return fail(format!("{name} is plain in the flash"));
            }
            same_bytes(name, &fs::read(&back)?, &plain)?;
        }
        Ok(())
    }

    /// The same flash and eFuses in a chip that starts without the boot pin: the application is loaded. With one byte of
    /// the bootloader's ciphertext changed it is not.
    fn boots(self) -> Result<(), Stop> {
        let Self { chip, dir, sim, .. } = self;
        drop(sim);
        let (mut flash, efuse) = (fs::read(dir.join("flash.bin"))?, fs::read(dir.join("efuse.bin"))?);
        let verdict = |flash: &[u8]| started(chip, &dir, flash, &efuse);
        let good = verdict(&flash)?;
        if good["verdict"] != "app_loaded" {
            return fail(format!("{good:#}"));
        }
        flash[chip.flash.bootloader_offset as usize + 0x40] ^= 1;
        let bad = verdict(&flash)?;
        if bad["verdict"] == "app_loaded" { fail(format!("a damaged bootloader started: {bad:#}")) } else { Ok(()) }
    }

    fn theirs(mut self) -> Result<(), Stop> {
        self.sign()?;
        let at = self.chip.flash.bootloader_offset;
        let mut made = vec![
            format!("digest-sbv2-public-key --keyfile {} -o {}", self.path("sb.pem"), self.path("digest.bin")),
            format!("generate-flash-encryption-key --keylen {} {}", self.key_len * 8, self.path("fe.key")),
        ];
        let mut write = String::from("write-flash --no-compress");
        for (number, (address, name)) in self.files.iter().enumerate() {
            let sent = self.path(&format!("sent{number}"));
            made.push(format!(
                "encrypt-flash-data {} --keyfile {} --address {address:#x} --output {sent} {}",
                self.scheme(),
                self.path("fe.key"),
                self.path(name)
            ));
            write += &format!(" {address:#x} {sent}");
        }
        theirs("espsecure", &[], &made)?;
        let head = ["--chip", self.chip.id, "--port", &self.sim.port, "--before", "no-reset"];
        theirs("esptool", &[&head[..], &["--after", "no-reset"]].concat(), &[write])?;
        let (key, pem, digest) = (self.path("fe.key"), self.path("sb.pem"), self.path("digest.bin"));
        let burn = if self.is_esp32_scheme() {
            format!(
                "burn-key flash_encryption {key} burn-key-digest {pem} burn-efuse FLASH_CRYPT_CNT 0x7f FLASH_CRYPT_CONFIG \
                 0xf DISABLE_DL_ENCRYPT 1 DISABLE_DL_DECRYPT 1 DISABLE_DL_CACHE 1 JTAG_DISABLE 1 ABS_DONE_1 1"
            )
        } else {
            let purpose = if self.key_len == 64 { "XTS_AES_256_KEY" } else { "XTS_AES_128_KEY" };
            format!(
                "burn-key BLOCK_KEY0 {key} {purpose} burn-key BLOCK_KEY4 {digest} SECURE_BOOT_DIGEST0 burn-efuse \
                 SPI_BOOT_CRYPT_CNT 7 DIS_DOWNLOAD_MANUAL_ENCRYPT 1 DIS_PAD_JTAG 1 SECURE_BOOT_EN 1"
            )
        };
        theirs("espefuse", &head, &[format!("--do-not-confirm {burn}")])?;
        let ctx = context(&self.dir)?;
        self.audited(&ctx, true)?;
        let audit = call(&ctx, "esp_security_audit", json!({ "port": self.sim.port }))?;
        has_state(&audit, "jtag", "closed_permanently")?;
        let back = json!({ "port": self.sim.port, "address": at, "size": 4096, "output_file": "back.bin" });
        call(&ctx, "esp_flash_read", back)?;
        let decrypt = json!({ "action": "decrypt", "chip": self.chip.id, "key_file": "fe.key", "output_dir": "plain",
            "files": [{ "path": "back.bin", "address": at }] });
        call(&ctx, "esp_flash_encrypt", decrypt)?;
        let plain = fs::read(self.dir.join(&self.files[0].1))?;
        same_bytes("the bootloader", &fs::read(self.dir.join("plain/back.bin.plain"))?, &plain[..4096])?;
        ctx.close();
        drop(ctx);
        self.boots()
    }
}

/// What a chip with this content says when it starts. The boot is imitated: the images hold no code.
fn started(chip: &Chip, dir: &Path, flash: &[u8], efuse: &[u8]) -> Result<Value, Stop> {
    let port = format!("sim://{}-demo", chip.id);
    let ctx = context(dir)?;
    call(&ctx, "esp_security_info", json!({ "port": port }))?;
    let device = ctx.ports.simulated().into_iter().find(|device| device.url() == port);
    let Some(device) = device else { return fail("no simulated device") };
    device.with(|chip, _| {
        chip.flash().load(0, flash);
        chip.efuse().load(efuse);
    });
    let run = call(&ctx, "esp_run_firmware", json!({ "port": port, "capture_s": 3.0 }))?;
    Ok(run["console"].clone())
}
