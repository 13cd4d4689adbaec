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

fn supported_or(has: bool, state: State) -> State {
    if has { state } else { State::NotSupported }
}

#[test]
fn a_virgin_chip_is_open_in_every_respect() {
    for bench in chips() {
        let security = &bench.chip.security;
        bench.is(Item::SecureBoot, supported_or(!security.secure_boot.is_empty(), State::NotEnabled));
        bench.is(Item::SecureBootKeys, State::NotEnabled);
        bench.is(Item::FlashEncryption, supported_or(security.flash_encryption.is_some(), State::NotEnabled));
        bench.is(Item::KeyProtection, State::NotEnabled);
        bench.is(Item::Jtag, State::Open);
        bench.is(Item::UsbJtag, supported_or(bench.has("DIS_USB_JTAG"), State::Open));
        bench.is(Item::DownloadMode, State::Open);
        bench.is(Item::AntiRollback, supported_or(bench.has("SECURE_VERSION"), State::NotEnabled));
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
        development.is(Item::FlashEncryption, State::EnabledDevelopment);
        development.is(Item::KeyProtection, State::EnabledPermanently);
        let len = development.efuses.table.field(&encryption.count).unwrap().len();
        let loader = encryption.no_manual_encrypt.as_deref().unwrap();
        let all = (1u16 << len).wrapping_sub(1) as u8;
        let release = Bench::of(id).burned([key.clone(), set(&encryption.count, all), set(loader, 1)]);
        release.is(Item::FlashEncryption, State::EnabledPermanently);
        // Every bit is burned but the loader still encrypts what anybody sends it.
        Bench::of(id)
            .burned([key.clone(), set(&encryption.count, all)])
            .is(Item::FlashEncryption, State::EnabledDevelopment);
        // Turned on and off again.
        Bench::of(id).burned([key, set(&encryption.count, 3)]).is(Item::FlashEncryption, State::NotEnabled);
    }
}

#[test]
fn secure_boot_needs_a_usable_key_to_be_on() {
    for bench in chips() {
        let Some(boot) = bench.chip.security.secure_boot.last() else { continue };
        let digest = bench.digest();
        let chip = bench.chip;
        let on = bench.burned([digest.clone(), set(&boot.enable, 1)]);
        on.is(Item::SecureBoot, State::EnabledPermanently);
        on.is(Item::SecureBootKeys, State::EnabledPermanently);
        on.is(Item::KeyProtection, State::NotEnabled);
        Bench::of(chip).burned([set(&boot.enable, 1)]).is(Item::SecureBoot, State::Contradictory);
        if on.has("SECURE_BOOT_KEY_REVOKE0") {
            on.burned([set("SECURE_BOOT_KEY_REVOKE0", 1)]).is(Item::SecureBoot, State::Contradictory);
        }
    }
}

#[test]
fn jtag_is_soft_or_hard() {
    for bench in chips() {
        let chip = bench.chip;
        for name in crate::efuse::security::HARD_JTAG.into_iter().filter(|name| bench.has(name)) {
            Bench::of(chip).burned([set(name, 1)]).is(Item::Jtag, State::ClosedPermanently);
        }
        for name in crate::efuse::security::USB_JTAG.into_iter().filter(|name| bench.has(name)) {
            let usb = Bench::of(chip).burned([set(name, 1)]);
            usb.is(Item::UsbJtag, State::ClosedPermanently);
            usb.is(Item::Jtag, State::Open);
        }
        let Some(field) = bench.efuses.table.field("SOFT_DIS_JTAG") else { continue };
        let odd = Bench::of(chip).burned([set("SOFT_DIS_JTAG", 1)]);
        odd.is(Item::Jtag, State::ClosedUntilHmac);
        if field.len() > 1 {
            Bench::of(chip).burned([set("SOFT_DIS_JTAG", 3)]).is(Item::Jtag, State::Open);
            Bench::of(chip).burned([set("SOFT_DIS_JTAG", 7)]).is(Item::Jtag, State::ClosedUntilHmac);
        }
    }
}

#[test]
fn download_mode_is_open_restricted_or_closed() {
    for bench in chips() {
        let chip = bench.chip;
        for name in crate::efuse::security::NO_DOWNLOAD.into_iter().filter(|name| bench.has(name)) {
            Bench::of(chip).burned([set(name, 1)]).is(Item::DownloadMode, State::ClosedPermanently);
        }
        if bench.has("ENABLE_SECURITY_DOWNLOAD") {
            Bench::of(chip)
                .burned([set("ENABLE_SECURITY_DOWNLOAD", 1)])
                .is(Item::DownloadMode, State::SecureDownloadOnly);
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
        open.is(Item::KeyProtection, State::KeyExposed);
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
        assert_eq!(state(Item::SecureBoot), supported_or(!security.secure_boot.is_empty(), State::EnabledPermanently));
        assert_eq!(state(Item::FlashEncryption), supported_or(security.flash_encryption.is_some(), State::Enabled));
        assert_eq!(
            (state(Item::DownloadMode), state(Item::Jtag)),
            (State::SecureDownloadOnly, State::ClosedPermanently)
        );
        assert_eq!((state(Item::KeyProtection), state(Item::AntiRollback)), (State::Unknown, State::Unknown));
        let open =
            audit(bench.chip, 0, None, Some(SecurityFlags { flags: 1 << 6, crypt_count: 1 }), Profile::Production);
        assert_eq!(open.iter().find(|row| row.item == Item::Jtag).unwrap().state, State::ClosedUntilHmac);
    }
}

/// Field case: a count of one bit without any key (ESP-IDF issue 10927).
#[test]
fn encryption_enabled_without_key_is_contradictory() {
    for bench in chips() {
        let Some(encryption) = &bench.chip.security.flash_encryption else { continue };
        let bench = bench.burned([set(&encryption.count, 1)]);
        bench.is(Item::FlashEncryption, State::Contradictory);
        let rows = bench.states(Profile::Development);
        let row = rows.iter().find(|row| row.item == Item::FlashEncryption).unwrap();
        assert_eq!(row.level, Level::Critical, "{}", bench.chip.id);
        assert!(row.evidence.contains("no flash encryption key"), "{}", row.evidence);
        let remedy = row.remedy.as_ref().unwrap();
        let even = Action::Burn { efuse: encryption.count.clone(), value: 3 };
        assert_eq!(remedy.action, even, "{}: {remedy:?}", bench.chip.id);
    }
}

/// Every row that is not as it should be says what it allows, and every remedy names fields that the chip has.
#[test]
fn bad_rows_name_attack_and_remedy() {
    for bench in chips() {
        let rows = bench.states(Profile::Production);
        let mut steps = Vec::new();
        for row in rows.iter().filter(|row| row.level >= Level::Warning && row.state != State::NotSupported) {
            assert!(row.attack.is_some(), "{} {:?}", bench.chip.id, row.item);
            let Some(remedy) = &row.remedy else { panic!("{} {:?} has no remedy", bench.chip.id, row.item) };
            assert!(remedy.step > 0 && remedy.irreversible, "{} {remedy:?}", bench.chip.id);
            if let Some(name) = remedy.action.efuse() {
                assert!(bench.has(name), "{} has no {name}", bench.chip.id);
            }
            steps.push((row.item, remedy.step));
        }
        let step = |item| steps.iter().find(|(one, _)| *one == item).map(|(_, step)| *step);
        if let (Some(encryption), Some(boot)) = (step(Item::FlashEncryption), step(Item::SecureBoot)) {
            assert!(encryption < boot, "{}: encryption comes before secure boot", bench.chip.id);
        }
        assert!(step(Item::DownloadMode).is_none_or(|last| steps.iter().all(|(_, step)| *step <= last)));
    }
}
