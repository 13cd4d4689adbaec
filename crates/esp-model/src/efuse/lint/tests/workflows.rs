//! What ESP-IDF's documentation tells people to burn ("Secure Boot V2", "Flash Encryption", "Security Features Enablement
//! Workflows", "NVS Encryption", "Digital Signature", "HMAC", "JTAG Debugging", "eFuse Manager", MAC addresses), step by step
//! on every chip that has it: none of it is refused.

use super::*;
use crate::mac::Mac;

/// A bench and the plans that follow each other; None where the chip has nothing of the kind.
type Build = fn(Bench) -> Option<(Bench, Vec<Vec<Request>>)>;

const WORKFLOWS: &[(&str, Build)] = &[
    ("secure boot version 2 with one key", |b| one(b, |b| Some(vec![has_boot(b)?.digest(true), b.boot()]))),
    ("secure boot version 2 for a product: no empty place, no debugging", |b| {
        one(b, |b| {
            let boot = [has_boot(b)?.digest(true), b.boot()];
            Some(boot.into_iter().chain(revoke_unused(b)).chain(jtag(b)).collect())
        })
    }),
    ("secure boot version 2 with three keys", |b| {
        one(b, |b| {
            let spare = |name| digest_for(b, name);
            let three = [spare("SECURE_BOOT_DIGEST0")?, spare("SECURE_BOOT_DIGEST1")?, spare("SECURE_BOOT_DIGEST2")?];
            Some(three.into_iter().chain([b.boot()]).collect())
        })
    }),
    ("secure boot with digest and bit in plans of their own", |b| {
        has_boot(&b)?;
        let plans = vec![vec![b.digest(true)], vec![b.boot()]];
        Some((b, plans))
    }),
    ("a leaked key is revoked while another one has signed", |b| {
        let (first, second) = (digest_for(&b, "SECURE_BOOT_DIGEST0")?, digest_for(&b, "SECURE_BOOT_DIGEST1")?);
        let plans = vec![vec![first, second, b.boot()], vec![set("SECURE_BOOT_KEY_REVOKE0", 1)]];
        Some((b, plans))
    }),
    ("aggressive revocation", |b| {
        b.efuses.table.field("SECURE_BOOT_AGGRESSIVE_REVOKE")?;
        one(b, |b| Some(vec![has_boot(b)?.digest(true), set("SECURE_BOOT_AGGRESSIVE_REVOKE", 1), b.boot()]))
    }),
    ("secure boot version 1", |b| {
        let scheme = b.chip.security.secure_boot.iter().find(|boot| boot.scheme == SecureBootScheme::V1)?;
        let plan = vec![key(&b, "SECURE_BOOT_V1", 32)?, set(&scheme.enable, 1)];
        Some((b, vec![plan]))
    }),
    ("flash encryption for development, the chip makes its key", |mut b| {
        b.facts.flash = FlashContent::EncryptsAtBoot;
        one(b, |b| has_encryption(b).map(|b| b.encrypt(1)))
    }),
    ("flash encryption for development with a key of the host", |b| {
        one(b, |b| Some([vec![has_encryption(b)?.flash_key(true)], b.encrypt(1)].concat()))
    }),
    ("flash encryption for good, images encrypted by the host", |b| {
        one(b, |b| Some([vec![has_encryption(b)?.flash_key(true)], release(b)].concat()))
    }),
    ("a development chip is made final", |b| {
        has_encryption(&b)?;
        let plans = vec![[vec![b.flash_key(true)], b.encrypt(1)].concat(), release(&b)];
        Some((b, plans))
    }),
    ("the count frozen instead of full", |b| {
        let count = b.chip.security.flash_encryption.as_ref()?.count.clone();
        one(b, |b| {
            let freeze = Request::WriteProtect { name: count };
            Some([vec![b.flash_key(true)], b.encrypt(1), vec![freeze]].concat())
        })
    }),
    ("encryption turned off and on again on a desk", |b| {
        let count = b.chip.security.flash_encryption.as_ref()?.count.clone();
        let on = [vec![b.flash_key(true)], b.encrypt(1)].concat();
        let plans = vec![on, vec![set(&count, 3)], vec![set(&count, 7)]];
        Some((b, plans))
    }),
    ("XTS-AES-256 in two blocks", |b| {
        one(b, |b| Some([vec![key(has_encryption(b)?, "XTS_AES_256_KEY", 64)?], b.encrypt(1)].concat()))
    }),
    ("the whole key block for XTS-AES-128 on a chip with one", |b| {
        let shared = b.efuses.table.key_purposes.iter().any(|purpose| purpose.digest && purpose.field.is_some());
        shared.then_some(())?;
        one(b, |b| Some([vec![key(b, "XTS_AES_128_KEY", 32)?], b.encrypt(1)].concat()))
    }),
    ("a 3/4 coded key", |mut b| {
        b.efuses.table.field("CODING_SCHEME")?;
        b = b.burned(&[set("CODING_SCHEME", 1)]);
        one(b, |b| Some([vec![key(b, "FLASH_ENCRYPTION", 24)?], b.encrypt(1)].concat()))
    }),
    ("encryption, then secure boot, in one plan for a product", |mut b| {
        b.facts.encryption_wanted = true;
        b.facts.profile = Profile::Production;
        one(b, |b| {
            has_boot(has_encryption(b)?)?;
            let keys = vec![b.flash_key(true), b.digest(true)];
            Some([keys, release(b), revoke_unused(b), jtag(b), vec![b.boot()]].concat())
        })
    }),
    ("encryption, then secure boot, in plans of their own", |mut b| {
        b.facts.encryption_wanted = true;
        // Where both share one coded block they are burned together or not at all.
        has_boot(has_encryption(&b)?).filter(|b| b.has("SECURE_BOOT_KEY_REVOKE0") || b.has("ABS_DONE_1"))?;
        let first = [vec![b.flash_key(true)], release(&b)].concat();
        let second = [vec![b.digest(true)], revoke_unused(&b), vec![b.boot()]].concat();
        Some((b, vec![first, second]))
    }),
    ("encryption and secure boot of version 1", |b| {
        let scheme = b.chip.security.secure_boot.iter().find(|boot| boot.scheme == SecureBootScheme::V1)?;
        let boot = vec![key(&b, "SECURE_BOOT_V1", 32)?, set(&scheme.enable, 1)];
        let plans = vec![[vec![b.flash_key(true)], b.encrypt(1)].concat(), boot];
        Some((b, plans))
    }),
    ("NVS keys behind HMAC", |b| one(b, |b| Some(vec![key(b, "HMAC_UP", 32)?]))),
    ("NVS keys behind HMAC on an encrypted chip that boots securely", |b| {
        has_boot(has_encryption(&b)?)?;
        let hmac = vec![keyed(&b, "HMAC_UP", 32, 4)?];
        let secure = [vec![b.flash_key(true), b.digest(true)], release(&b), vec![b.boot()]].concat();
        Some((b, vec![[hmac, secure].concat()]))
    }),
    ("a key for the digital signature peripheral", |b| {
        one(b, |b| Some(vec![key(b, "HMAC_DOWN_DIGITAL_SIGNATURE", 32)?]))
    }),
    ("debugging that a secret opens again", |b| {
        b.efuses.table.field("SOFT_DIS_JTAG")?;
        one(b, |b| {
            let all = (1u8 << b.efuses.table.field("SOFT_DIS_JTAG")?.len()) - 1;
            Some(vec![key(b, "HMAC_DOWN_JTAG", 32)?, set("SOFT_DIS_JTAG", all)])
        })
    }),
    ("one secret for both downstream uses", |b| one(b, |b| Some(vec![key(b, "HMAC_DOWN_ALL", 32)?]))),
    ("an ECDSA key for the chip to sign with", |b| one(b, |b| Some(vec![key(b, "ECDSA_KEY", 32)?]))),
    ("an ECDSA P-256 key", |b| one(b, |b| Some(vec![key(b, "ECDSA_KEY_P256", 32)?]))),
    ("an ECDSA P-192 key", |b| one(b, |b| Some(vec![key(b, "ECDSA_KEY_P192", 32)?]))),
    ("an ECDSA P-384 key in two blocks", |b| one(b, |b| Some(vec![key(b, "ECDSA_KEY_P384", 64)?]))),
    ("the key manager's first key", |b| one(b, |b| Some(vec![key(b, "KM_INIT_KEY", 32)?]))),
    ("keys for encrypted PSRAM", |b| one(b, |b| Some(vec![key(b, "XTS_AES_128_PSRAM_KEY", 32)?]))),
    ("no debugging for good", |b| one(b, |b| Some(jtag(b)).filter(|list| !list.is_empty()))),
    ("a custom MAC address", |b| one(b, |_| Some(vec![Request::CustomMac(Mac([0x02, 1, 2, 3, 4, 5]))]))),
    ("user data, frozen", |b| {
        let block = b.efuses.table.blocks.iter().find(|block| block.name == "BLOCK_USR_DATA")?.name.clone();
        one(b, |b| {
            let len = usize::from(b.efuses.table.field(&block)?.len() / 8);
            let data = Request::Block { block: block.clone(), data: vec![0xa5; len], offset: 0 };
            Some(vec![data, Request::WriteProtect { name: block }])
        })
    }),
    ("the anti-rollback version, three times", |b| {
        b.efuses.table.field("SECURE_VERSION")?;
        let next = || vec![Request::NextBit { name: "SECURE_VERSION".into() }];
        Some((b, vec![next(), next(), next()]))
    }),
    ("no loader once an update was seen to work", |b| closed(b, &["UART_DOWNLOAD_DIS", "DIS_DOWNLOAD_MODE"])),
    ("secure download mode once an update was seen to work", |b| closed(b, &["ENABLE_SECURITY_DOWNLOAD"])),
    ("the flash's voltage once it was tried", |mut b| {
        (b.facts.flash_voltage_known, b.facts.voltage_override_ran) = (true, true);
        one(b, |b| {
            b.efuses.table.field("XPD_SDIO_FORCE").or(b.efuses.table.field("VDD_SPI_FORCE"))?;
            Some(vec![Request::FlashVoltage(Voltage::V3_3)])
        })
    }),
    ("a quiet ROM", |b| one(b, |b| known(b, &["UART_PRINT_CONTROL", "CONSOLE_DEBUG_DISABLE", "DIS_USB_PRINT"]))),
    ("no direct boot, no forced download", |b| one(b, |b| known(b, &["DIS_DIRECT_BOOT", "DIS_FORCE_DOWNLOAD"]))),
];

fn one(bench: Bench, plan: impl FnOnce(&Bench) -> Option<Vec<Request>>) -> Option<(Bench, Vec<Vec<Request>>)> {
    let plan = plan(&bench)?;
    Some((bench, vec![plan]))
}

fn has_boot(bench: &Bench) -> Option<&Bench> {
    bench.chip.security.secure_boot.last().map(|_| bench)
}

fn has_encryption(bench: &Bench) -> Option<&Bench> {
    bench.chip.security.flash_encryption.as_ref().map(|_| bench)
}

/// A key of this purpose in the first block that can hold it.
fn key(bench: &Bench, purpose: &str, len: usize) -> Option<Request> {
    keyed(bench, purpose, len, 0)
}

fn keyed(bench: &Bench, purpose: &str, len: usize, skip: usize) -> Option<Request> {
    let known = bench.efuses.table.purpose(purpose)?;
    // A long key is placed by its first half.
    let block = bench.key_block(known.split.first().map_or(purpose, String::as_str), skip);
    let key = (0..len as u8).map(|byte| byte.wrapping_mul(7) | 1).collect();
    Some(Request::Key { block, key, purpose: purpose.into(), read_protect: true, write_protect: true })
}

/// The signing key's digest for one of several places.
fn digest_for(bench: &Bench, purpose: &str) -> Option<Request> {
    bench.efuses.table.purpose(purpose).filter(|_| has_boot(bench).is_some())?;
    let number = usize::from(purpose.bytes().last()? - b'0');
    let Request::Key { key, .. } = bench.digest(true) else { return None };
    let block = bench.key_block(purpose, 2 + number);
    Some(Request::Key { block, key, purpose: purpose.into(), read_protect: true, write_protect: true })
}

fn revoke_unused(bench: &Bench) -> Vec<Request> {
    let names = ["SECURE_BOOT_KEY_REVOKE1", "SECURE_BOOT_KEY_REVOKE2"];
    names.into_iter().filter(|name| bench.has(name)).map(|name| set(name, 1)).collect()
}

fn jtag(bench: &Bench) -> Vec<Request> {
    let names = ["JTAG_DISABLE", "HARD_DIS_JTAG", "DIS_PAD_JTAG", "DIS_USB_JTAG"];
    names.into_iter().filter(|name| bench.has(name)).map(|name| set(name, 1)).collect()
}

/// All bits of the count, and the loader's ways round encryption closed.
fn release(bench: &Bench) -> Vec<Request> {
    let names = [
        "DIS_DOWNLOAD_MANUAL_ENCRYPT",
        "DIS_DOWNLOAD_ICACHE",
        "DIS_DOWNLOAD_DCACHE",
        "DIS_DIRECT_BOOT",
        "DISABLE_DL_ENCRYPT",
        "DISABLE_DL_DECRYPT",
        "DISABLE_DL_CACHE",
    ];
    let close = names.into_iter().filter(|name| bench.has(name)).map(|name| set(name, 1));
    bench.encrypt(bench.full_count()).into_iter().chain(close).collect()
}

fn closed(bench: Bench, names: &[&str]) -> Option<(Bench, Vec<Vec<Request>>)> {
    one(bench, |bench| known(bench, names))
}

fn known(bench: &Bench, names: &[&str]) -> Option<Vec<Request>> {
    let list: Vec<_> = names.iter().filter(|name| bench.has(name)).map(|name| set(name, 1)).collect();
    (!list.is_empty()).then_some(list)
}

#[test]
fn documented_workflows_are_not_refused() {
    let mut wrong = Vec::new();
    for (name, build) in WORKFLOWS {
        let mut fits = 0;
        for chip in chips() {
            let Some((mut bench, plans)) = build(Bench::of(chip)) else { continue };
            fits += 1;
            for (number, plan) in plans.iter().enumerate() {
                let found = bench.lint(plan);
                if let Some(denied) = found.iter().find(|one| one.severity == Severity::Deny) {
                    wrong.push(format!("{name}, plan {number}, {}: {denied:?}", chip.id));
                    break;
                }
                bench = bench.burned(plan);
            }
        }
        if fits == 0 {
            wrong.push(format!("{name}: no chip"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
