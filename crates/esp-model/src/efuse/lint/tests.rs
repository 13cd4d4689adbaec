//! Plans that would make a brick are refused, each by the rule that knows why; documented ways to a secure chip pass.

use std::sync::OnceLock;

use super::*;
use crate::chip::{self, FlashCipher, SecureBootScheme};
use crate::efuse::{Coding, Request, Voltage};
use crate::mac::Mac;
use crate::secure::block::key_digest;
use crate::secure::boot_v2::{Padding, sign};
use crate::secure::{PrivateKey, Scheme};

mod bricks;
mod workflows;

fn noise(seed: u64) -> impl FnMut(&mut [u8]) {
    let mut random = crate::testing::Random::new(seed);
    move |buffer| buffer.iter_mut().for_each(|byte| *byte = random.next() as u8)
}

/// A key, the digest of its public half, and a bootloader that it signed.
struct Signed {
    digest: [u8; 32],
    bootloader: Vec<u8>,
}

fn signed(scheme: SecureBootScheme) -> &'static Signed {
    static RSA: OnceLock<Signed> = OnceLock::new();
    static ECDSA: OnceLock<Signed> = OnceLock::new();
    let make = |scheme| {
        let key = PrivateKey::generate(scheme, &mut noise(5)).unwrap();
        let digest = key_digest(&key.public().unwrap());
        Signed { digest, bootloader: sign(b"bootloader", &[key], Padding::Sector, noise(6)).unwrap() }
    };
    match scheme {
        SecureBootScheme::V2Ecdsa => ECDSA.get_or_init(|| make(Scheme::EcdsaP256)),
        _ => RSA.get_or_init(|| make(Scheme::Rsa3072)),
    }
}

/// A chip on the bench with everything in order.
struct Bench {
    chip: &'static Chip,
    revision: u16,
    efuses: Efuses,
    facts: Facts,
}

impl Bench {
    fn of(chip: &'static Chip) -> Self {
        let revision = chip
            .factory
            .revision
            .max(chip.security.secure_boot.iter().map(|boot| boot.min_revision).max().unwrap_or(0));
        let facts = Facts {
            flash: FlashContent::Encrypted,
            key_is_unique: Some(true),
            ota_proven: true,
            reads_agree: true,
            revision_known: true,
            bootloader: chip.security.secure_boot.last().map(|boot| signed(boot.scheme).bootloader.clone()),
            ..Facts::default()
        };
        Self { chip, revision, efuses: Efuses::blank(chip.efuse_at(revision)), facts }
    }

    fn lint(&self, requests: &[Request]) -> Vec<Finding> {
        let mut burn = Burn::new(self.efuses.clone());
        for request in requests {
            if let Err(error) = burn.add(request) {
                return vec![Finding::new(6, Severity::Deny, format!("{request:?}: {error}"))];
            }
        }
        lint(self.chip, self.revision, &burn, &self.facts)
    }

    /// Already burned before the plan.
    fn burned(mut self, requests: &[Request]) -> Self {
        let mut burn = Burn::new(self.efuses);
        requests.iter().for_each(|request| burn.add(request).unwrap());
        self.efuses = burn.after().unwrap();
        self
    }

    #[track_caller]
    fn refused(&self, rule: u8, requests: &[Request]) {
        let found = self.lint(requests);
        let by_rule = found.iter().any(|finding| finding.rule == rule && finding.severity == Severity::Deny);
        assert!(by_rule, "{}: rule {rule} passed {requests:?}: {found:#?}", self.chip.id);
    }

    #[track_caller]
    fn passes(&self, requests: &[Request]) {
        let found = self.lint(requests);
        let denied: Vec<_> = found.iter().filter(|finding| finding.severity == Severity::Deny).collect();
        assert!(denied.is_empty(), "{}: {requests:?} refused: {denied:#?}", self.chip.id);
    }

    fn has(&self, name: &str) -> bool {
        self.efuses.table.field(name).is_some()
    }

    /// Number of key purpose `name`'s block, and a second one that is free for it.
    fn key_block(&self, purpose: &str, skip: usize) -> String {
        let purpose = self.efuses.table.key_purposes.iter().find(|one| one.name == purpose).unwrap();
        let fits = |block: &&crate::efuse::Block| {
            block.is_key && (purpose.blocks.is_empty() || purpose.blocks.contains(&block.id))
        };
        let blocks: Vec<_> = self.efuses.table.blocks.iter().filter(fits).collect();
        blocks[skip.min(blocks.len() - 1)].name.clone()
    }

    fn digest_purpose(&self) -> String {
        let boot = self.chip.security.secure_boot.last().unwrap();
        assert_ne!(boot.scheme, SecureBootScheme::V1);
        self.efuses.table.key_purposes.iter().find(|purpose| purpose.digest).unwrap().name.clone()
    }

    fn digest(&self, write_protect: bool) -> Request {
        let purpose = self.digest_purpose();
        let digest = signed(self.chip.security.secure_boot.last().unwrap().scheme).digest;
        let block = self.key_block(&purpose, 1);
        Request::Key { block, key: digest.to_vec(), purpose, read_protect: true, write_protect }
    }

    fn boot(&self) -> Request {
        set(&self.chip.security.secure_boot.last().unwrap().enable, 1)
    }

    /// Purpose and length of a flash key that leaves room for secure boot.
    fn flash_purpose(&self) -> (&'static str, usize) {
        let cipher = self.chip.security.flash_encryption.as_ref().unwrap().cipher;
        let derived = "XTS_AES_128_KEY_DERIVED_FROM_128_EFUSE_BITS";
        match cipher {
            FlashCipher::Esp32Aes => ("FLASH_ENCRYPTION", 32),
            _ if self.efuses.table.key_purposes.iter().any(|one| one.name == derived) => (derived, 16),
            _ => ("XTS_AES_128_KEY", 32),
        }
    }

    fn flash_key(&self, read_protect: bool) -> Request {
        let (purpose, len) = self.flash_purpose();
        let mut key = vec![0; len];
        noise(9)(&mut key);
        Request::Key {
            block: self.key_block(purpose, 0),
            key,
            purpose: purpose.into(),
            read_protect,
            write_protect: true,
        }
    }

    fn encrypt(&self, count: u8) -> Vec<Request> {
        let count = set(&self.chip.security.flash_encryption.as_ref().unwrap().count, count);
        let config = self.has("FLASH_CRYPT_CONFIG").then(|| set("FLASH_CRYPT_CONFIG", 0xf));
        config.into_iter().chain([count]).collect()
    }

    fn full_count(&self) -> u8 {
        let field = self.efuses.table.field(&self.chip.security.flash_encryption.as_ref().unwrap().count).unwrap();
        (1u16 << field.len()).wrapping_sub(1) as u8
    }
}

fn set(name: &str, value: u8) -> Request {
    Request::Field { name: name.into(), value: vec![value] }
}

/// Chips with eFuses that a tool can burn.
fn chips() -> impl Iterator<Item = &'static Chip> {
    chip::all().iter().filter(|chip| chip.efuse().controller.is_some())
}

fn with_boot() -> impl Iterator<Item = Bench> {
    chips().filter(|chip| !chip.security.secure_boot.is_empty()).map(Bench::of)
}

fn with_encryption() -> impl Iterator<Item = Bench> {
    chips().filter(|chip| chip.security.flash_encryption.is_some()).map(Bench::of)
}

#[test]
fn secure_boot_wants_a_digest_of_the_key_that_signed_the_bootloader() {
    for bench in with_boot() {
        bench.refused(1, &[bench.boot()]);
        bench.refused(1, &[bench.digest(false), bench.boot()]);
        bench.passes(&[bench.digest(true), bench.boot()]);
        let mut unread = Bench::of(bench.chip);
        unread.facts.bootloader = None;
        unread.refused(1, &[bench.digest(true), bench.boot()]);
        let mut unsigned = Bench::of(bench.chip);
        unsigned.facts.bootloader = Some(vec![0xff; 8192]);
        unsigned.refused(1, &[bench.digest(true), bench.boot()]);
        if bench.has("SECURE_BOOT_KEY_REVOKE0") {
            bench.refused(1, &[bench.digest(true), set("SECURE_BOOT_KEY_REVOKE0", 1), bench.boot()]);
        }
    }
}

#[test]
fn version_one_wants_a_key() {
    for bench in with_boot() {
        let Some(boot) = bench.chip.security.secure_boot.iter().find(|boot| boot.scheme == SecureBootScheme::V1) else {
            continue;
        };
        bench.refused(1, &[set(&boot.enable, 1)]);
        let key = Request::Key {
            block: "BLOCK2".into(),
            key: vec![7; 32],
            purpose: "SECURE_BOOT_V1".into(),
            read_protect: true,
            write_protect: true,
        };
        bench.passes(&[key, set(&boot.enable, 1)]);
    }
}

#[test]
fn flash_encryption_wants_a_hidden_key_and_encrypted_flash() {
    for bench in with_encryption() {
        bench.refused(2, &bench.encrypt(1));
        bench.refused(2, &[vec![bench.flash_key(false)], bench.encrypt(1)].concat());
        let good = [vec![bench.flash_key(true)], bench.encrypt(1)].concat();
        bench.passes(&good);
        for (flash, unique) in [(FlashContent::Plain, Some(true)), (FlashContent::Unknown, None)] {
            let mut bench = Bench::of(bench.chip);
            (bench.facts.flash, bench.facts.key_is_unique) = (flash, unique);
            bench.refused(2, &good);
        }
        let mut twin = Bench::of(bench.chip);
        twin.facts.key_is_unique = Some(false);
        twin.refused(2, &good);
        let mut first_boot = Bench::of(bench.chip);
        first_boot.facts.flash = FlashContent::EncryptsAtBoot;
        first_boot.passes(&bench.encrypt(1));
    }
}

#[test]
fn a_long_key_needs_both_halves() {
    for bench in with_encryption() {
        let half = "XTS_AES_256_KEY_1";
        if !bench.efuses.table.key_purposes.iter().any(|purpose| purpose.name == half) {
            continue;
        }
        let key = |purpose: &str, len| Request::Key {
            block: bench.key_block(half, 0),
            key: vec![3; len],
            purpose: purpose.into(),
            read_protect: true,
            write_protect: true,
        };
        bench.refused(2, &[vec![key(half, 32)], bench.encrypt(1)].concat());
        bench.passes(&[vec![key("XTS_AES_256_KEY", 64)], bench.encrypt(1)].concat());
    }
}

#[test]
fn keys_are_hidden_before_secure_boot_freezes_the_hiding() {
    for bench in with_boot() {
        let protects = bench.efuses.table.field("RD_DIS").unwrap().write_protect.is_some();
        if bench.chip.security.flash_encryption.is_none() {
            continue;
        }
        bench.refused(3, &[bench.flash_key(false), bench.digest(true), bench.boot()]);
        let mut wanted = Bench::of(bench.chip);
        wanted.facts.encryption_wanted = true;
        wanted.refused(3, &[bench.digest(true), bench.boot()]);
        let everything =
            [vec![bench.flash_key(true), bench.digest(true)], bench.encrypt(bench.full_count()), vec![bench.boot()]];
        wanted.passes(&everything.concat());
        if protects {
            bench.refused(3, &[bench.flash_key(false), Request::WriteProtect { name: "RD_DIS".into() }]);
        }
    }
}

#[test]
fn an_even_count_turns_encryption_off() {
    for bench in with_encryption() {
        let on = [vec![bench.flash_key(true)], bench.encrypt(1)].concat();
        let mut bench = Bench::of(bench.chip).burned(&on);
        let off = [set(&bench.chip.security.flash_encryption.as_ref().unwrap().count, 3)];
        bench.passes(&off);
        bench.facts.profile = Profile::Production;
        bench.refused(4, &off);
    }
}

#[test]
fn digests_stay_readable() {
    for bench in with_boot() {
        let field = bench.lint(&[]);
        assert!(field.is_empty(), "{field:?}");
        let digest = bench.digest(true);
        let Request::Key { block, .. } = &digest else { unreachable!() };
        let burned = Bench::of(bench.chip).burned(&[digest.clone(), bench.boot()]);
        let purpose = burned.efuses.table.key_purposes.iter().find(|purpose| purpose.digest).unwrap();
        let name = purpose.field.clone().unwrap_or_else(|| block.clone());
        burned.refused(5, &[Request::ReadProtect { name }]);
    }
}

#[test]
fn a_coded_block_is_burned_once() {
    for bench in chips().map(Bench::of) {
        let Some(block) =
            bench.efuses.table.blocks.iter().find(|block| block.is_key && block.coding == Coding::ReedSolomon)
        else {
            continue;
        };
        let bits = |bit| Request::Bits { block: block.name.clone(), bits: vec![bit] };
        let half = Bench::of(bench.chip).burned(&[bits(3)]);
        half.refused(6, &[bits(4)]);
        half.passes(&[bits(3)]);
    }
}

#[test]
fn the_last_stage_comes_last() {
    for bench in with_boot() {
        let mut burn = Burn::new(bench.efuses.clone());
        [bench.digest(true), bench.boot()].iter().for_each(|request| burn.add(request).unwrap());
        let mut steps = burn.steps().unwrap();
        assert_eq!(order(&steps), None);
        assert!(steps.len() >= 2 && steps.last().unwrap().stage == Stage::Last);
        steps.rotate_right(1);
        assert_eq!(order(&steps).map(|finding| finding.rule), Some(7));
    }
}

#[test]
fn download_mode_is_closed_only_when_updates_were_seen_to_work() {
    for bench in chips().map(Bench::of) {
        let closing = ["UART_DOWNLOAD_DIS", "DIS_DOWNLOAD_MODE", "ENABLE_SECURITY_DOWNLOAD"];
        for name in closing.into_iter().filter(|name| bench.has(name)) {
            bench.passes(&[set(name, 1)]);
            let mut unproven = Bench::of(bench.chip);
            unproven.facts.ota_proven = false;
            unproven.refused(8, &[set(name, 1)]);
        }
    }
}

#[test]
fn the_flash_voltage_must_be_known_and_tried() {
    for mut bench in chips().map(Bench::of) {
        if !bench.has("XPD_SDIO_FORCE") && !bench.has("VDD_SPI_FORCE") {
            continue;
        }
        for voltage in [Voltage::V1_8, Voltage::V3_3, Voltage::Off] {
            bench.refused(9, &[Request::FlashVoltage(voltage)]);
        }
        bench.facts.flash_voltage_known = true;
        bench.refused(9, &[Request::FlashVoltage(Voltage::V3_3)]);
        bench.facts.voltage_override_ran = true;
        bench.passes(&[Request::FlashVoltage(Voltage::V3_3)]);
    }
}

#[test]
fn a_chip_in_doubt_is_left_alone() {
    type Doubt = fn(&mut Bench);
    let doubts: [Doubt; 5] = [
        |bench| bench.facts.reads_agree = false,
        |bench| bench.facts.revision_known = false,
        |bench| bench.facts.brownout = true,
        |bench| bench.efuses.errors.push(crate::efuse::BlockError { block: 1, count: 1, fail: false }),
        |bench| bench.efuses.errors.push(crate::efuse::BlockError { block: 2, count: 0, fail: true }),
    ];
    for bench in chips().map(Bench::of) {
        let harmless = [Request::WriteProtect { name: "WR_DIS".into() }, Request::CustomMac(Mac([2, 0, 0, 0, 0, 1]))];
        let harmless = if bench.efuses.table.field("WR_DIS").unwrap().write_protect.is_some() {
            &harmless[..]
        } else {
            &harmless[1..]
        };
        bench.passes(harmless);
        for doubt in doubts {
            let mut doubtful = Bench::of(bench.chip);
            doubt(&mut doubtful);
            doubtful.refused(10, harmless);
        }
    }
}

#[test]
fn frozen_neighbours_are_named() {
    for bench in with_encryption() {
        let count = &bench.chip.security.flash_encryption.as_ref().unwrap().count;
        let bit = bench.efuses.table.field(count).unwrap().write_protect;
        let found = bench.lint(&[Request::WriteProtect { name: count.clone() }]);
        let text = &found.iter().find(|finding| finding.rule == 11).unwrap().text;
        let neighbours = bench.efuses.table.fields.iter().filter(|field| field.write_protect == bit && field.shown);
        neighbours.for_each(|field| assert!(text.contains(&field.name), "{}: {text}", bench.chip.id));
    }
}

#[test]
fn fields_that_lock_the_chip_together() {
    let mut groups = 0;
    for bench in chips().map(Bench::of) {
        for group in &bench.chip.at(bench.revision).security.never_together {
            let all: Vec<_> = group.iter().map(|name| set(name, 1)).collect();
            bench.refused(12, &all);
            bench.passes(&all[..1]);
            Bench::of(bench.chip).burned(&all[..1]).refused(12, &all[1..]);
            groups += 1;
        }
        if bench.has("SOFT_DIS_JTAG") {
            let text = |value| {
                bench.lint(&[set("SOFT_DIS_JTAG", value)]).iter().map(|one| one.text.clone()).collect::<String>()
            };
            assert!(text(1).contains("until the right HMAC"));
        }
    }
    assert!(groups > 0);
}

#[test]
fn the_last_way_in_is_warned_of() {
    for bench in chips().map(Bench::of) {
        let name = if bench.has("DIS_DOWNLOAD_MODE") { "DIS_DOWNLOAD_MODE" } else { "UART_DOWNLOAD_DIS" };
        assert!(bench.lint(&[set(name, 1)]).iter().any(|finding| finding.rule == 13), "{}", bench.chip.id);
    }
}

#[test]
fn shared_blocks_and_early_revisions() {
    for bench in with_boot() {
        let boot = bench.chip.security.secure_boot.last().unwrap();
        if boot.min_revision > 0 {
            let mut early = Bench::of(bench.chip);
            early.revision = 0;
            early.efuses = Efuses::blank(bench.chip.efuse_at(0));
            early.refused(14, &[bench.digest(true), bench.boot()]);
        }
        let table = bench.efuses.table;
        let shared = table.key_purposes.iter().any(|purpose| purpose.digest && purpose.field.is_some());
        if shared {
            let whole = Request::Key {
                block: bench.key_block("XTS_AES_128_KEY", 0),
                key: (1..33).collect(),
                purpose: "XTS_AES_128_KEY".into(),
                read_protect: true,
                write_protect: true,
            };
            bench.passes(&[vec![whole.clone()], bench.encrypt(1)].concat());
            bench.refused(14, &[whole, bench.boot()]);
        }
    }
}

#[test]
fn a_custom_mac_is_well_formed_and_nobody_elses() {
    for bench in chips().map(Bench::of) {
        let good = [Request::CustomMac(Mac([0x02, 1, 2, 3, 4, 5]))];
        bench.passes(&good);
        bench.refused(6, &[Request::CustomMac(Mac([0x03, 1, 2, 3, 4, 5]))]);
        let mut taken = Bench::of(bench.chip);
        taken.facts.mac_taken = true;
        taken.refused(15, &good);
        let field = bench.efuses.table.field("CUSTOM_MAC").unwrap();
        let block = bench.efuses.table.block(field.block).unwrap().name.clone();
        let first = field.bits[0].0;
        // The address burned bit by bit: a group address, and without what belongs to it.
        bench.refused(15, &[Request::Bits { block: block.clone(), bits: vec![first] }]);
        if bench.has("CUSTOM_MAC_CRC") || bench.has("CUSTOM_MAC_USED") {
            bench.refused(15, &[Request::Bits { block, bits: vec![first + 1, first + 9] }]);
        }
    }
}

#[test]
fn ordinary_work_passes() {
    for bench in chips().map(Bench::of) {
        for name in
            ["JTAG_DISABLE", "HARD_DIS_JTAG", "DIS_PAD_JTAG", "SOFT_DIS_JTAG", "DIS_USB_JTAG", "DIS_DIRECT_BOOT"]
        {
            if bench.has(name) {
                bench.passes(&[set(name, 1)]);
            }
        }
        if bench.has("SECURE_VERSION") {
            bench.passes(&[Request::NextBit { name: "SECURE_VERSION".into() }]);
        }
        if bench.has("BLOCK_USR_DATA") {
            bench.passes(&[Request::Block { block: "BLOCK_USR_DATA".into(), data: vec![1; 32], offset: 0 }]);
        }
        if bench.efuses.table.key_purposes.iter().any(|purpose| purpose.name == "HMAC_UP") {
            let block = bench.key_block("HMAC_UP", 2);
            let key = Request::Key {
                block,
                key: vec![9; 32],
                purpose: "HMAC_UP".into(),
                read_protect: true,
                write_protect: true,
            };
            bench.passes(&[key]);
        }
    }
}

#[test]
fn revoking_the_only_key_of_a_secured_chip_is_refused() {
    for bench in with_boot() {
        if !bench.has("SECURE_BOOT_KEY_REVOKE0") {
            continue;
        }
        let secured = Bench::of(bench.chip).burned(&[bench.digest(true), bench.boot()]);
        secured.refused(1, &[set("SECURE_BOOT_KEY_REVOKE0", 1)]);
        let other = Request::Key {
            block: bench.key_block("SECURE_BOOT_DIGEST1", 3),
            key: bench_digest(&bench),
            purpose: "SECURE_BOOT_DIGEST1".into(),
            read_protect: true,
            write_protect: true,
        };
        secured.passes(&[other, set("SECURE_BOOT_KEY_REVOKE0", 1)]);
    }
}

fn bench_digest(bench: &Bench) -> Vec<u8> {
    signed(bench.chip.security.secure_boot.last().unwrap().scheme).digest.to_vec()
}
