//! The truth table: every chip in every state, and what the audit must say.

use super::*;
use crate::chip::{self, Chip};
use crate::efuse::{Burn, Request};

fn set(name: &str, value: u8) -> Request {
    Request::Field { name: name.into(), value: vec![value] }
}

struct Bench {
    chip: &'static Chip,
    revision: u16,
    efuses: Efuses,
}

impl Bench {
    fn of(chip: &'static Chip) -> Self {
        let revision = chip.factory.revision.max(300);
        Self { chip, revision, efuses: Efuses::blank(chip.efuse_at(revision)) }
    }

    fn has(&self, name: &str) -> bool {
        self.efuses.table.field(name).is_some()
    }

    fn burned(mut self, requests: impl IntoIterator<Item = Request>) -> Self {
        let mut burn = Burn::new(self.efuses);
        requests.into_iter().for_each(|request| burn.add(&request).unwrap());
        self.efuses = burn.after().unwrap();
        self
    }

    fn states(&self, profile: Profile) -> Vec<Row> {
        audit(self.chip, self.revision, Some(&self.efuses), None, profile)
    }

    #[track_caller]
    fn is(&self, item: Item, state: State) {
        let row = self.states(Profile::Production).into_iter().find(|row| row.item == item).unwrap();
        assert_eq!(row.state, state, "{} {item:?}: {}", self.chip.id, row.evidence);
    }

    fn flash_key(&self) -> Request {
        let derived = "XTS_AES_128_KEY_DERIVED_FROM_128_EFUSE_BITS";
        let known = |name: &&str| self.efuses.table.key_purposes.iter().any(|purpose| purpose.name == *name);
        let purpose = [derived, "FLASH_ENCRYPTION", "XTS_AES_128_KEY"].into_iter().find(known).unwrap();
        let block = self.efuses.table.blocks.iter().find(|block| block.is_key).unwrap().name.clone();
        let len = if purpose == derived { 16 } else { 32 };
        Request::Key { block, key: vec![5; len], purpose: purpose.into(), read_protect: true, write_protect: true }
    }

    fn digest(&self) -> Request {
        let purpose = self.efuses.table.key_purposes.iter().find(|purpose| purpose.digest).unwrap();
        let fits = |block: &&crate::efuse::Block| {
            block.is_key && (purpose.blocks.is_empty() || purpose.blocks.contains(&block.id))
        };
        let block = self.efuses.table.blocks.iter().filter(fits).take(2).last().unwrap().name.clone();
        Request::Key { block, key: vec![6; 32], purpose: purpose.name.clone(), read_protect: true, write_protect: true }
    }
}

fn chips() -> impl Iterator<Item = Bench> {
    chip::all().iter().filter(|chip| chip.efuse().controller.is_some()).map(Bench::of)
}

fn absent_or(has: bool, state: State) -> State {
    if has { state } else { State::Absent }
}

#[test]
fn a_virgin_chip_is_open_in_every_respect() {
    for bench in chips() {
        let security = &bench.chip.security;
        bench.is(Item::SecureBoot, absent_or(!security.secure_boot.is_empty(), State::Off));
        bench.is(Item::SecureBootKeys, State::Off);
        bench.is(Item::FlashEncryption, absent_or(security.flash_encryption.is_some(), State::Off));
        bench.is(Item::KeyProtection, State::Off);
        bench.is(Item::Jtag, State::Off);
        bench.is(Item::UsbJtag, absent_or(bench.has("DIS_USB_JTAG"), State::Off));
        bench.is(Item::DownloadMode, State::Off);
        bench.is(Item::AntiRollback, absent_or(bench.has("SECURE_VERSION"), State::Off));
        let worst = |profile| bench.states(profile).iter().map(|row| row.level).max();
        assert_eq!(worst(Profile::Production), Some(Level::Critical), "{}", bench.chip.id);
        assert_eq!(worst(Profile::Development), Some(Level::Info), "{}", bench.chip.id);
    }
}

#[test]
fn development_and_release_differ() {
    for bench in chips() {
        let Some(encryption) = &bench.chip.security.flash_encryption else { continue };
        let (id, key) = (bench.chip, bench.flash_key());
        let development = bench.burned([key.clone(), set(&encryption.count, 1)]);
        development.is(Item::FlashEncryption, State::Development);
        development.is(Item::KeyProtection, State::On);
        let len = development.efuses.table.field(&encryption.count).unwrap().len();
        let loader = encryption.no_manual_encrypt.as_deref().unwrap();
        let all = (1u16 << len).wrapping_sub(1) as u8;
        let release = Bench::of(id).burned([key.clone(), set(&encryption.count, all), set(loader, 1)]);
        release.is(Item::FlashEncryption, State::On);
        // Every bit is burned but the loader still encrypts what anybody sends it.
        Bench::of(id).burned([key.clone(), set(&encryption.count, all)]).is(Item::FlashEncryption, State::Development);
        // Turned on and off again.
        Bench::of(id).burned([key, set(&encryption.count, 3)]).is(Item::FlashEncryption, State::Off);
    }
}

#[test]
fn secure_boot_needs_a_usable_key_to_be_on() {
    for bench in chips() {
        let Some(boot) = bench.chip.security.secure_boot.last() else { continue };
        let digest = bench.digest();
        let chip = bench.chip;
        let on = bench.burned([digest.clone(), set(&boot.enable, 1)]);
        on.is(Item::SecureBoot, State::On);
        on.is(Item::SecureBootKeys, State::On);
        on.is(Item::KeyProtection, State::Off);
        Bench::of(chip).burned([set(&boot.enable, 1)]).is(Item::SecureBoot, State::Broken);
        if on.has("SECURE_BOOT_KEY_REVOKE0") {
            on.burned([set("SECURE_BOOT_KEY_REVOKE0", 1)]).is(Item::SecureBoot, State::Broken);
        }
    }
}

#[test]
fn jtag_is_soft_or_hard() {
    for bench in chips() {
        let chip = bench.chip;
        for name in crate::efuse::security::HARD_JTAG.into_iter().filter(|name| bench.has(name)) {
            Bench::of(chip).burned([set(name, 1)]).is(Item::Jtag, State::On);
        }
        for name in crate::efuse::security::USB_JTAG.into_iter().filter(|name| bench.has(name)) {
            let usb = Bench::of(chip).burned([set(name, 1)]);
            usb.is(Item::UsbJtag, State::On);
            usb.is(Item::Jtag, State::Off);
        }
        let Some(field) = bench.efuses.table.field("SOFT_DIS_JTAG") else { continue };
        let odd = Bench::of(chip).burned([set("SOFT_DIS_JTAG", 1)]);
        odd.is(Item::Jtag, State::SoftDisabled);
        if field.len() > 1 {
            Bench::of(chip).burned([set("SOFT_DIS_JTAG", 3)]).is(Item::Jtag, State::Off);
            Bench::of(chip).burned([set("SOFT_DIS_JTAG", 7)]).is(Item::Jtag, State::SoftDisabled);
        }
    }
}

#[test]
fn download_mode_is_open_restricted_or_closed() {
    for bench in chips() {
        let chip = bench.chip;
        for name in crate::efuse::security::NO_DOWNLOAD.into_iter().filter(|name| bench.has(name)) {
            Bench::of(chip).burned([set(name, 1)]).is(Item::DownloadMode, State::On);
        }
        if bench.has("ENABLE_SECURITY_DOWNLOAD") {
            Bench::of(chip).burned([set("ENABLE_SECURITY_DOWNLOAD", 1)]).is(Item::DownloadMode, State::Restricted);
        }
    }
}

#[test]
fn a_readable_key_is_critical() {
    for bench in chips() {
        if bench.chip.security.flash_encryption.is_none() {
            continue;
        }
        let Request::Key { block, key, purpose, .. } = bench.flash_key() else { unreachable!() };
        let open = Request::Key { block, key, purpose, read_protect: false, write_protect: true };
        let open = bench.burned([open]);
        open.is(Item::KeyProtection, State::Broken);
        let row = open.states(Profile::Development).into_iter().find(|row| row.item == Item::KeyProtection).unwrap();
        assert_eq!(row.level, Level::Critical);
        assert!(!row.evidence.contains("05"), "the key is in {}", row.evidence);
    }
}

#[test]
fn what_cannot_be_read_is_unknown() {
    for bench in chips() {
        let none = audit(bench.chip, bench.revision, None, None, Profile::Production);
        assert!(none.iter().all(|row| row.state == State::Unknown && row.level == Level::Warning));
        let flags = SecurityFlags { flags: 1 | 1 << 2 | 1 << 7, crypt_count: 7 };
        let rows = audit(bench.chip, bench.revision, None, Some(flags), Profile::Production);
        let state = |item| rows.iter().find(|row| row.item == item).unwrap().state;
        let security = &bench.chip.security;
        assert_eq!(state(Item::SecureBoot), absent_or(!security.secure_boot.is_empty(), State::On));
        assert_eq!(state(Item::FlashEncryption), absent_or(security.flash_encryption.is_some(), State::Enabled));
        assert_eq!((state(Item::DownloadMode), state(Item::Jtag)), (State::Restricted, State::On));
        assert_eq!((state(Item::KeyProtection), state(Item::AntiRollback)), (State::Unknown, State::Unknown));
        let open =
            audit(bench.chip, 0, None, Some(SecurityFlags { flags: 1 << 6, crypt_count: 1 }), Profile::Production);
        assert_eq!(open.iter().find(|row| row.item == Item::Jtag).unwrap().state, State::SoftDisabled);
    }
}
