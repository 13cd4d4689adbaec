//! Plans that end in a brick, by name: each must be refused, by the rule that knows why, on every chip that it fits.

use super::*;
use crate::mac::Mac;

/// A bench in the state before the plan, and the plan; None where the chip has nothing of the kind.
type Build = fn(Bench) -> Option<(Bench, Vec<Request>)>;

/// Name, rule, plan.
const BRICKS: &[(&str, u8, Build)] = &[
    ("secure boot without any digest", 1, |b| boot(b, |b| vec![b.boot()])),
    ("secure boot with a digest that can still be changed", 1, |b| boot(b, |b| vec![b.digest(false), b.boot()])),
    ("secure boot and nobody looked at the bootloader", 1, |mut b| {
        b.facts.bootloader = None;
        boot(b, |b| vec![b.digest(true), b.boot()])
    }),
    ("secure boot over an unsigned bootloader", 1, |mut b| {
        b.facts.bootloader = Some(vec![0xe9; 8192]);
        boot(b, |b| vec![b.digest(true), b.boot()])
    }),
    ("secure boot over blank flash", 1, |mut b| {
        b.facts.bootloader = Some(vec![0xff; 8192]);
        boot(b, |b| vec![b.digest(true), b.boot()])
    }),
    ("secure boot with another key's digest", 1, |b| {
        boot(b, |b| {
            let Request::Key { block, purpose, .. } = b.digest(true) else { return Vec::new() };
            vec![key(block, vec![0x5a; 32], &purpose, true), b.boot()]
        })
    }),
    ("secure boot with a signature that was damaged", 1, |mut b| {
        if let Some(at) = b.facts.bootloader.as_mut().and_then(|bytes| bytes.get_mut(3)) {
            *at ^= 1;
        }
        boot(b, |b| vec![b.digest(true), b.boot()])
    }),
    ("secure boot with its only key revoked in the same plan", 1, |b| {
        revocable(b, |b| vec![b.digest(true), set("SECURE_BOOT_KEY_REVOKE0", 1), b.boot()])
    }),
    ("secure boot after its only key was revoked", 1, |b| {
        let revoke = b.has("SECURE_BOOT_KEY_REVOKE0").then(|| set("SECURE_BOOT_KEY_REVOKE0", 1))?;
        boot(b.burned(&[revoke]), |b| vec![b.digest(true), b.boot()])
    }),
    ("the only key of a secured chip revoked", 1, |b| {
        let secured = [b.has("SECURE_BOOT_KEY_REVOKE0").then(|| b.digest(true))?, b.boot()];
        Some((b.burned(&secured), vec![set("SECURE_BOOT_KEY_REVOKE0", 1)]))
    }),
    ("secure boot of version 1 without its key", 1, |b| {
        let scheme = b.chip.security.secure_boot.iter().find(|boot| boot.scheme == SecureBootScheme::V1)?;
        let plan = vec![set(&scheme.enable, 1)];
        Some((b, plan))
    }),
    ("secure boot with the digest in a block of user data", 1, |b| {
        if b.has("BLOCK_USR_DATA") {
            boot(b, |b| vec![Request::Block { block: "BLOCK_USR_DATA".into(), data: vec![7; 32], offset: 0 }, b.boot()])
        } else {
            None
        }
    }),
    ("flash encryption without a key", 2, |b| encryption(b, |b| b.encrypt(1))),
    ("flash encryption for good without a key", 2, |b| encryption(b, |b| b.encrypt(b.full_count()))),
    ("flash encryption with a key that software can read", 2, |b| {
        encryption(b, |b| [vec![b.flash_key(false)], b.encrypt(1)].concat())
    }),
    ("flash encryption over plain content", 2, |mut b| {
        b.facts.flash = FlashContent::Plain;
        encryption(b, |b| [vec![b.flash_key(true)], b.encrypt(1)].concat())
    }),
    ("flash encryption over content that nobody knows", 2, |mut b| {
        b.facts.flash = FlashContent::Unknown;
        encryption(b, |b| [vec![b.flash_key(true)], b.encrypt(1)].concat())
    }),
    ("flash encryption with another device's key", 2, |mut b| {
        b.facts.key_is_unique = Some(false);
        encryption(b, |b| [vec![b.flash_key(true)], b.encrypt(1)].concat())
    }),
    ("flash encryption for good over plain content", 2, |mut b| {
        b.facts.flash = FlashContent::Plain;
        encryption(b, |b| [vec![b.flash_key(true)], b.encrypt(b.full_count())].concat())
    }),
    ("flash encryption with the first half of a long key", 2, |b| half(b, "XTS_AES_256_KEY_1")),
    ("flash encryption with the second half of a long key", 2, |b| half(b, "XTS_AES_256_KEY_2")),
    ("flash encryption with a key of another purpose", 2, |b| {
        let purpose = "HMAC_UP";
        b.efuses.table.key_purposes.iter().find(|one| one.name == purpose)?;
        encryption(b, |b| [vec![key(b.key_block(purpose, 0), vec![9; 32], purpose, true)], b.encrypt(1)].concat())
    }),
    ("secure boot before the flash key can be hidden", 3, |b| {
        b.chip.security.flash_encryption.as_ref()?;
        boot(b, |b| vec![b.flash_key(false), b.digest(true), b.boot()])
    }),
    ("secure boot first where encryption is still to come", 3, |mut b| {
        b.chip.security.flash_encryption.as_ref()?;
        b.facts.encryption_wanted = true;
        boot(b, |b| vec![b.digest(true), b.boot()])
    }),
    ("RD_DIS frozen before the flash key is hidden", 3, |b| {
        b.efuses.table.field("RD_DIS")?.write_protect?;
        encryption(b, |b| vec![b.flash_key(false), Request::WriteProtect { name: "RD_DIS".into() }])
    }),
    ("encryption turned off in production", 4, |mut b| {
        let count = b.chip.security.flash_encryption.as_ref()?.count.clone();
        let on = [vec![b.flash_key(true)], b.encrypt(1)].concat();
        b.facts.profile = Profile::Production;
        Some((b.burned(&on), vec![set(&count, 3)]))
    }),
    ("a digest hidden from the boot ROM", 5, |b| {
        b.chip.security.secure_boot.last()?;
        let digest = b.digest(true);
        let Request::Key { block, purpose, .. } = &digest else { return None };
        let field = b.efuses.table.key_purposes.iter().find(|one| one.name == *purpose)?.field.clone();
        let name = field.unwrap_or_else(|| block.clone());
        let secured = [digest, b.boot()];
        Some((b.burned(&secured), vec![Request::ReadProtect { name }]))
    }),
    ("a coded block burned a second time", 6, |b| {
        let block = coded(&b)?;
        let bits = |bit| Request::Bits { block: block.clone(), bits: vec![bit] };
        let plan = vec![bits(40)];
        Some((b.burned(&[bits(3)]), plan))
    }),
    ("other data over a burned key", 6, |b| {
        let block = coded(&b)?;
        let data = |byte| Request::Block { block: block.clone(), data: vec![byte; 32], offset: 0 };
        let plan = vec![data(0x22)];
        Some((b.burned(&[data(0x11)]), plan))
    }),
    ("a key over a burned key", 6, |b| {
        let block = coded(&b)?;
        let used = Request::Block { block: block.clone(), data: vec![0x11; 32], offset: 0 };
        let digest = b.chip.security.secure_boot.last().map(|_| b.digest_purpose())?;
        let plan = vec![key(block, vec![0x22; 32], &digest, true)];
        Some((b.burned(&[used]), plan))
    }),
    ("more data than the block holds", 6, |b| {
        let block = coded(&b)?;
        Some((b, vec![Request::Block { block, data: vec![1; 33], offset: 0 }]))
    }),
    ("download mode closed before an update was seen to work", 8, |b| unproven(b, "DIS_DOWNLOAD_MODE")),
    ("the UART's loader closed before an update was seen to work", 8, |b| unproven(b, "UART_DOWNLOAD_DIS")),
    ("secure download mode before an update was seen to work", 8, |b| unproven(b, "ENABLE_SECURITY_DOWNLOAD")),
    ("1.8 V for a flash that nobody knows", 9, |b| voltage(b, Voltage::V1_8, false)),
    ("3.3 V for a flash that nobody knows", 9, |b| voltage(b, Voltage::V3_3, false)),
    ("no supply for the flash", 9, |b| voltage(b, Voltage::Off, false)),
    ("a voltage that was never tried without burning", 9, |b| voltage(b, Voltage::V1_8, true)),
    ("the voltage's force bit alone", 9, |b| {
        let name = ["XPD_SDIO_FORCE", "VDD_SPI_FORCE"].into_iter().find(|name| b.has(name))?;
        Some((b, vec![set(name, 1)]))
    }),
    ("eFuses that read differently twice", 10, |mut b| {
        b.facts.reads_agree = false;
        Some((b, vec![harmless()]))
    }),
    ("a revision that is not in the tables", 10, |mut b| {
        b.facts.revision_known = false;
        Some((b, vec![harmless()]))
    }),
    ("a coding scheme that no tool supports", 10, |b| {
        b.efuses.table.field("CODING_SCHEME")?;
        Some((b, vec![set("CODING_SCHEME", 2)]))
    }),
    ("a supply that broke down in this session", 10, |mut b| {
        b.facts.brownout = true;
        Some((b, vec![harmless()]))
    }),
    ("a block with corrected errors", 10, |mut b| {
        b.efuses.errors.push(crate::efuse::BlockError { block: 1, count: 1, fail: false });
        Some((b, vec![harmless()]))
    }),
    ("a block with errors beyond correction", 10, |mut b| {
        b.efuses.errors.push(crate::efuse::BlockError { block: 2, count: 0, fail: true });
        Some((b, vec![harmless()]))
    }),
    ("USB units closed together on a chip whose ROM then locks up", 12, |b| {
        let group = b.chip.at(b.revision).security.never_together.first()?;
        let plan = group.iter().map(|name| set(name, 1)).collect();
        Some((b, plan))
    }),
    ("the second of two fields that lock the chip together", 12, |b| {
        let group = b.chip.at(b.revision).security.never_together.first()?;
        let plan: Vec<_> = group.iter().map(|name| set(name, 1)).collect();
        Some((b.burned(&plan[..1]), plan[1..].to_vec()))
    }),
    ("secure boot on silicon that is too old for it", 14, |mut b| {
        b.chip.security.secure_boot.last().filter(|boot| boot.min_revision > 0)?;
        let plan = vec![b.digest(true), b.boot()];
        b.revision = 0;
        b.efuses = Efuses::blank(b.chip.efuse_at(0));
        Some((b, plan))
    }),
    ("a long flash key in the block that the digest needs", 14, |b| {
        let shared = b.efuses.table.key_purposes.iter().any(|purpose| purpose.digest && purpose.field.is_some());
        shared.then_some(())?;
        let whole = key(b.key_block("XTS_AES_128_KEY", 0), (1..33).collect(), "XTS_AES_128_KEY", true);
        boot(b, |b| vec![whole, b.boot()])
    }),
    ("a group address as MAC", 6, |b| Some((b, vec![Request::CustomMac(Mac([3, 1, 2, 3, 4, 5]))]))),
    ("another device's MAC", 15, |mut b| {
        b.facts.mac_taken = true;
        Some((b, vec![Request::CustomMac(Mac([2, 1, 2, 3, 4, 5]))]))
    }),
    ("a MAC without its checksum", 15, |b| {
        if !b.has("CUSTOM_MAC_CRC") && !b.has("CUSTOM_MAC_USED") {
            return None;
        }
        let field = b.efuses.table.field("CUSTOM_MAC")?;
        let (first, block) = (field.bits[0].0, b.efuses.table.block(field.block)?.name.clone());
        Some((b, vec![Request::Bits { block, bits: vec![first + 1, first + 9] }]))
    }),
];

fn harmless() -> Request {
    Request::CustomMac(Mac([2, 0, 0, 0, 0, 1]))
}

fn key(block: String, key: Vec<u8>, purpose: &str, read_protect: bool) -> Request {
    Request::Key { block, key, purpose: purpose.into(), read_protect, write_protect: true }
}

fn boot(bench: Bench, plan: impl FnOnce(&Bench) -> Vec<Request>) -> Option<(Bench, Vec<Request>)> {
    bench.chip.security.secure_boot.last()?;
    let plan = plan(&bench);
    Some((bench, plan))
}

fn revocable(bench: Bench, plan: impl FnOnce(&Bench) -> Vec<Request>) -> Option<(Bench, Vec<Request>)> {
    if bench.has("SECURE_BOOT_KEY_REVOKE0") { boot(bench, plan) } else { None }
}

fn encryption(bench: Bench, plan: impl FnOnce(&Bench) -> Vec<Request>) -> Option<(Bench, Vec<Request>)> {
    bench.chip.security.flash_encryption.as_ref()?;
    let plan = plan(&bench);
    Some((bench, plan))
}

fn half(bench: Bench, purpose: &str) -> Option<(Bench, Vec<Request>)> {
    bench.efuses.table.key_purposes.iter().find(|one| one.name == purpose)?;
    encryption(bench, |b| [vec![key(b.key_block(purpose, 0), vec![3; 32], purpose, true)], b.encrypt(1)].concat())
}

fn coded(bench: &Bench) -> Option<String> {
    let coded = |block: &&crate::efuse::Block| block.is_key && block.coding == Coding::ReedSolomon;
    bench.efuses.table.blocks.iter().find(coded).map(|block| block.name.clone())
}

fn unproven(mut bench: Bench, name: &str) -> Option<(Bench, Vec<Request>)> {
    bench.facts.ota_proven = false;
    bench.has(name).then(|| (bench, vec![set(name, 1)]))
}

fn voltage(mut bench: Bench, voltage: Voltage, known: bool) -> Option<(Bench, Vec<Request>)> {
    bench.facts.flash_voltage_known = known;
    let has = bench.has("XPD_SDIO_FORCE") || bench.has("VDD_SPI_FORCE");
    has.then(|| (bench, vec![Request::FlashVoltage(voltage)]))
}

#[test]
fn forty_ways_to_a_brick_are_closed() {
    assert!(BRICKS.len() >= 40, "{}", BRICKS.len());
    let mut wrong = Vec::new();
    for (name, rule, build) in BRICKS {
        let mut fits = 0;
        for chip in chips() {
            let Some((bench, plan)) = build(Bench::of(chip)) else { continue };
            fits += 1;
            let found = bench.lint(&plan);
            let reason = found.iter().find(|one| one.rule == *rule && one.severity == Severity::Deny);
            if reason.is_none_or(|one| one.text.is_empty()) {
                wrong.push(format!("{name}, {}: {found:?}", chip.id));
            }
        }
        if fits == 0 {
            wrong.push(format!("{name}: no chip"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
