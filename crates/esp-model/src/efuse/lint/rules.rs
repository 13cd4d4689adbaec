//! The rules, in order of their numbers.

use super::super::security::{
    FlashEncryptionMode, HARD_JTAG, NO_DOWNLOAD, NO_USB_DOWNLOAD, SECURE_DOWNLOAD, SOFT_JTAG, USB_JTAG, VOLTAGE,
};
use super::super::state::ActiveCoding;
use super::{Case, Finding, FlashContent, Profile, Severity};
use crate::chip::{SecureBoot, SecureBootScheme};
use crate::mac::Mac;
use crate::secure::{Scheme, boot_v2};

use Severity::{Deny, Info, Warn};

impl Case<'_> {
    pub(super) fn run(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        self.secure_boot(&mut found);
        self.flash_encryption(&mut found);
        self.key_order(&mut found);
        self.crypt_count(&mut found);
        self.digest_blocks(&mut found);
        self.lost_fields(&mut found);
        self.download_mode(&mut found);
        self.voltage(&mut found);
        self.doubts(&mut found);
        self.neighbours(&mut found);
        self.jtag(&mut found);
        self.way_in(&mut found);
        self.shared_blocks(&mut found);
        self.custom_mac(&mut found);
        self.wiring(&mut found);
        self.hidden_blocks(&mut found);
        self.bootloader_verifies(&mut found);
        found
    }

    fn enabled_now(&self) -> impl Iterator<Item = &SecureBoot> {
        self.after.secure_boot().filter(|scheme| self.turns_on(&scheme.enable))
    }

    /// Rule 1: secure boot needs a digest that the ROM can read, frozen, not revoked, of a key that signed the
    /// bootloader that is in flash.
    fn secure_boot(&self, found: &mut Vec<Finding>) {
        let mut deny = |text: String| found.push(Finding::new(1, Deny, text));
        // A chip that already boots securely is checked again when a key is revoked.
        let revokes = (0..3).any(|index| self.turns_on(&format!("SECURE_BOOT_KEY_REVOKE{index}")));
        let secured = self.after.secure_boot().filter(|_| revokes);
        let Some(scheme) = self.enabled_now().chain(secured).next() else { return };
        if scheme.scheme == SecureBootScheme::V1 {
            let key = self.united.secret_keys().into_iter().find(|key| key.purpose == "SECURE_BOOT_V1");
            match key {
                Some(key) if !key.is_blank || key.hidden => {}
                _ => deny(format!("{} without a key in BLOCK2: the chip would not boot", scheme.enable)),
            }
            if self.facts.bootloader.is_none() {
                deny("the bootloader in flash was not looked at".into());
            }
            return;
        }
        let digests = self.united.digests();
        let usable = digests.iter().filter(|digest| !digest.is_blank() && digest.readable && !digest.revoked);
        let usable: Vec<_> = usable.collect();
        if usable.is_empty() {
            return deny(format!(
                "{} without a readable, unrevoked key digest: the chip would not boot",
                scheme.enable
            ));
        }
        for digest in usable.iter().filter(|digest| !digest.frozen) {
            deny(format!("{} is not write-protected: anybody could spoil the digest", digest.place));
        }
        let Some(bootloader) = &self.facts.bootloader else {
            return deny("the bootloader in flash was not looked at".into());
        };
        let blocks = boot_v2::check(bootloader).unwrap_or_default();
        let signed = |digest: &&&_| {
            let digest: &super::super::security::Digest = digest;
            let right = |scheme: Scheme| self.after.secure_boot().any(|boot| takes(boot.scheme, scheme));
            let fits = |block: &boot_v2::Checked| digest.fits(&block.block.key_digest()) && right(block.block.scheme());
            blocks.iter().any(|block| block.is_valid() && fits(block))
        };
        if !usable.iter().any(|digest| signed(&digest)) {
            deny("the bootloader in flash is not signed by a key whose digest is burned".into());
        }
    }

    /// Rule 2: flash encryption needs its key, hidden, unique, and flash content that fits.
    fn flash_encryption(&self, found: &mut Vec<Finding>) {
        let was_on = self.before.flash_encryption() != FlashEncryptionMode::Off;
        if was_on || self.after.flash_encryption() == FlashEncryptionMode::Off {
            return;
        }
        let mut deny = |text: String| found.push(Finding::new(2, Deny, text));
        let keys: Vec<_> = self.united.secret_keys().into_iter().filter(|key| key.for_flash).collect();
        let present: Vec<_> = keys.iter().filter(|key| !key.is_blank || key.hidden).collect();
        let half = |end: &str| present.iter().any(|key| key.purpose.ends_with(end));
        if present.is_empty() {
            // A chip that encrypts at its first start makes its own key.
            if self.facts.flash != FlashContent::EncryptsAtBoot {
                deny("flash encryption without a key: the chip would not boot".into());
            }
        } else if half("256_KEY_1") != half("256_KEY_2") {
            deny("only one half of a 512-bit key is there".into());
        }
        for key in present.iter().filter(|key| !key.hidden) {
            deny(format!("the key in {} stays readable", key.place));
        }
        match self.facts.flash {
            FlashContent::Unknown => deny("nobody looked whether the flash content is encrypted".into()),
            FlashContent::Plain => deny("the flash holds plain data: the chip would not boot".into()),
            FlashContent::Encrypted | FlashContent::EncryptsAtBoot => {}
        }
        if self.facts.key_is_unique == Some(false) {
            deny("another chip has the same flash encryption key".into());
        }
        if self.united.efuses.number("FLASH_CRYPT_CONFIG").is_some_and(|config| config != 0xf) {
            deny("FLASH_CRYPT_CONFIG is not 0xf: equal blocks would be encrypted alike".into());
        }
    }

    /// Rule 3: secure boot freezes RD_DIS, so keys that must be hidden come first.
    fn key_order(&self, found: &mut Vec<Finding>) {
        let read_disable = self.after.efuses.table.field("RD_DIS").and_then(|field| field.write_protect);
        let freezes = read_disable.is_some_and(|bit| self.new_bits("WR_DIS") & (1 << bit) != 0);
        let boots = self.enabled_now().any(|scheme| scheme.scheme != SecureBootScheme::V1);
        if !freezes && !boots {
            return;
        }
        for key in self.united.secret_keys().iter().filter(|key| !key.is_blank && !key.hidden) {
            let text = format!("the key in {} must be hidden before RD_DIS is frozen", key.place);
            found.push(Finding::new(3, Deny, text));
        }
        let encrypted = self.after.flash_encryption() != FlashEncryptionMode::Off;
        if !encrypted && self.after.encryption().is_some() {
            let severity = if self.facts.encryption_wanted { Deny } else { Warn };
            let stays = if freezes || !self.after.efuses.writeable(read_disable) {
                "RD_DIS is write-protected after this plan, so that no flash encryption key can be hidden any more"
            } else {
                "RD_DIS stays writeable after this plan; ESP-IDF write-protects it on a chip with secure boot, and then no \
                 flash encryption key can be hidden any more"
            };
            found.push(Finding::new(3, severity, format!("{stays}: enable flash encryption first")));
        }
    }

    /// Rule 4: an even number of bits turns flash encryption off; the last bit makes it final.
    fn crypt_count(&self, found: &mut Vec<Finding>) {
        let (Some((old, _)), Some((new, len))) = (self.before.crypt_count(), self.after.crypt_count()) else { return };
        if old == new {
            return;
        }
        if new.is_multiple_of(2) {
            let severity = if self.facts.profile == Profile::Production { Deny } else { Warn };
            found.push(Finding::new(4, severity, "an even number of bits turns flash encryption off"));
        } else if new == u32::from(len) {
            found.push(Finding::new(4, Info, "no bit remains: flash encryption stays on permanently"));
        } else if u32::from(len) - new < 2 {
            found.push(Finding::new(4, Warn, "flash encryption cannot be turned off and on again"));
        }
    }

    /// Rule 5: a hidden digest cannot be verified.
    fn digest_blocks(&self, found: &mut Vec<Finding>) {
        let hidden_before: Vec<_> = self.before.digests().into_iter().filter(|one| !one.readable).collect();
        let signing = self.after.secure_boot().any(|scheme| scheme.scheme != SecureBootScheme::V1);
        for digest in self.united.digests().iter().filter(|digest| !digest.readable) {
            let was_hidden = hidden_before.iter().any(|one| one.place == digest.place);
            // A block that holds no digest, or may hold a key of another kind, is nobody's loss.
            let holds_one = !digest.is_blank() && self.holds_digest(&digest.place);
            if !was_hidden && (holds_one || signing) {
                let text = format!("{} holds a secure boot digest: hidden, the chip would not boot", digest.place);
                found.push(Finding::new(5, Deny, text));
            }
        }
    }

    /// The block's purpose field says so, or the chip lets the place serve nothing else.
    fn holds_digest(&self, place: &str) -> bool {
        let Some(field) = self.united.efuses.table.field(place) else { return false };
        let block = self.united.efuses.table.block(field.block);
        let named = block.is_some_and(|block| block.purpose_field.is_some());
        named || self.after.secure_boot().next().is_some() || place != block.map_or("", |block| &block.name)
    }

    /// Rule 6: a block with an error code is burned once; what is not burned with it is lost.
    fn lost_fields(&self, found: &mut Vec<Finding>) {
        for block in self.before.efuses.table.blocks.iter() {
            let old = self.before.efuses.block(block.id);
            let touched = old != self.united.efuses.block(block.id);
            if !touched || self.before.efuses.coding(block) != ActiveCoding::ReedSolomon {
                continue;
            }
            let fields = self.before.efuses.table.fields.iter().filter(|field| field.block == block.id && field.shown);
            let blank = |field: &&_| {
                let field: &super::super::Field = field;
                field.bytes(self.united.efuses.block(block.id)).iter().all(|byte| *byte == 0)
            };
            let lost: Vec<_> = fields.filter(blank).map(|field| field.name.as_str()).collect();
            if !lost.is_empty() {
                let text = format!("{} can be burned once: {} can never be set", block.name, lost.join(", "));
                found.push(Finding::new(6, Info, text));
            }
        }
    }

    /// Rule 8: without download mode an update over the air is the only way in, so it must have been seen to work.
    fn download_mode(&self, found: &mut Vec<Finding>) {
        for name in NO_DOWNLOAD.into_iter().chain([SECURE_DOWNLOAD]).filter(|name| self.turns_on(name)) {
            if !self.facts.ota_proven {
                let text = format!(
                    "{name} without proof that an update over the air boots on this chip; a person who saw one vouches for \
                     it in the policy file: vouch = [\"ota_proven\"]"
                );
                found.push(Finding::new(8, Deny, text));
            }
        }
    }

    /// Rule 9: a wrong flash voltage destroys the flash or keeps the chip from booting.
    fn voltage(&self, found: &mut Vec<Finding>) {
        let changed: Vec<_> = VOLTAGE.into_iter().filter(|name| self.changes(name)).collect();
        if changed.is_empty() || (self.facts.flash_voltage_known && self.facts.voltage_override_ran) {
            return;
        }
        let text = format!(
            "{}: the flash part's voltage is not known or was not tried by register; a person who did both vouches for it \
                 in the policy file: vouch = [\"flash_voltage\"]",
            changed.join(", ")
        );
        found.push(Finding::new(9, Deny, text));
    }

    /// Rule 10: nothing is burned on a chip that is in doubt.
    fn doubts(&self, found: &mut Vec<Finding>) {
        let mut deny = |text: String| found.push(Finding::new(10, Deny, text));
        let efuses = self.before.efuses;
        for error in efuses.errors.iter().filter(|error| error.fail || error.count != 0) {
            deny(format!("block {} reports {} errors, fail {}", error.block, error.count, error.fail));
        }
        let unsupported = |efuses: &super::super::Efuses| {
            efuses.table.blocks.iter().any(|block| efuses.coding(block) == ActiveCoding::Repeat)
        };
        if unsupported(efuses) || unsupported(self.after.efuses) {
            deny("the coding scheme is not supported".into());
        }
        if !self.facts.reads_agree {
            deny("two reads of the eFuses were not compared, or differ".into());
        }
        if !self.facts.revision_known {
            deny(format!("chip revision {} is not known", self.revision));
        }
        if self.facts.brownout {
            deny("the supply broke down in this session: a burn could stop half way".into());
        }
    }

    /// Rule 11: every bit of WR_DIS freezes all that share it.
    fn neighbours(&self, found: &mut Vec<Finding>) {
        let new = self.new_bits("WR_DIS");
        for bit in (0..32u8).filter(|bit| new & (1 << bit) != 0) {
            let table = self.after.efuses.table;
            let shares = table.fields.iter().filter(|field| field.write_protect == Some(bit) && field.shown);
            let blank = |field: &&super::super::Field| {
                field.bytes(self.united.efuses.block(field.block)).iter().all(|byte| *byte == 0)
            };
            let (unset, set): (Vec<_>, Vec<_>) = shares.partition(blank);
            let names = |fields: &[&super::super::Field]| {
                fields.iter().map(|field| field.name.as_str()).collect::<Vec<_>>().join(", ")
            };
            if unset.len() + set.len() > 0 {
                let still =
                    if unset.is_empty() { String::new() } else { format!("; permanently 0: {}", names(&unset)) };
                let set = if set.is_empty() { "nothing that is set".into() } else { names(&set) };
                found.push(Finding::new(11, Info, format!("WR_DIS bit {bit} freezes {set}{still}")));
            }
        }
    }

    /// Rule 12: fields that must not be set together, and the difference between soft and permanent.
    fn jtag(&self, found: &mut Vec<Finding>) {
        for pair in &self.after.chip.security.never_together {
            let together = pair.iter().all(|name| self.after.efuses.is_set(name));
            if together && pair.iter().any(|name| self.turns_on(name)) {
                found.push(Finding::new(12, Deny, format!("{} together lock the chip", pair.join(" and "))));
            }
        }
        if self.changes(SOFT_JTAG) {
            let state = if self.after.jtag_soft() { "disabled until the right HMAC is given" } else { "enabled" };
            found.push(Finding::new(12, Info, format!("{SOFT_JTAG}: JTAG is {state}")));
        }
        let names = self.after.efuses.table.own_names(HARD_JTAG.into_iter().chain(USB_JTAG));
        for name in names.into_iter().filter(|name| self.turns_on(name)) {
            found.push(Finding::new(12, Warn, format!("{name} disables debugging permanently")));
        }
    }

    /// Rule 13: at least one way into the chip should stay.
    fn way_in(&self, found: &mut Vec<Finding>) {
        let closes = NO_DOWNLOAD.into_iter().chain(NO_USB_DOWNLOAD).any(|name| self.turns_on(name));
        if closes && self.after.download_closed() {
            found.push(Finding::new(13, Warn, "no download mode stays open, neither by UART nor by USB"));
        }
    }

    /// Rule 14: blocks that two purposes share, and schemes that a revision does not have.
    fn shared_blocks(&self, found: &mut Vec<Finding>) {
        for scheme in self.enabled_now().filter(|scheme| self.revision < scheme.min_revision) {
            let text = format!("{} has no effect or harms before revision {}", scheme.enable, scheme.min_revision);
            found.push(Finding::new(14, Deny, text));
        }
        let table = self.after.efuses.table;
        let halves =
            table.key_purposes.iter().filter(|purpose| purpose.digest).filter_map(|purpose| purpose.field.as_ref());
        for name in halves {
            let Some(field) = table.field(name) else { continue };
            let whole = table.key_purposes.iter().filter(|purpose| purpose.read_protect && purpose.field.is_none());
            let taken = whole
                .flat_map(|purpose| &purpose.sets)
                .any(|(name, value)| self.after.efuses.number(name) == Some(*value));
            let block_changes = self.before.efuses.block(field.block) != self.united.efuses.block(field.block);
            if !taken {
                continue;
            }
            if self.after.secure_boot().next().is_some() && (self.enabled_now().next().is_some() || block_changes) {
                found.push(Finding::new(
                    14,
                    Deny,
                    format!("a 256-bit flash key leaves no room for a digest in {name}"),
                ));
            } else if block_changes {
                let text = format!("a 256-bit flash key takes {name}: secure boot will never be possible");
                found.push(Finding::new(14, Warn, text));
            }
        }
    }

    /// Nothing else in the field's block changes.
    fn only_changes(&self, field: &super::super::Field) -> bool {
        let mask = self.united.efuses.bits_of(field);
        let (old, new) = (self.before.efuses.block(field.block), self.united.efuses.block(field.block));
        old.iter().zip(new).zip(mask).all(|((old, new), mask)| (old ^ new) & !mask == 0)
    }

    /// Rule 15: a MAC address of one's own must be well-formed and nobody else's.
    fn custom_mac(&self, found: &mut Vec<Finding>) {
        let Some(field) = self.united.efuses.table.field("CUSTOM_MAC") else { return };
        let mac = field.bytes(self.united.efuses.block(field.block));
        if mac == field.bytes(self.before.efuses.block(field.block)) {
            return;
        }
        // Where nothing marks an address as such, the bits may as well be the user's data.
        let marked = ["MAC_VERSION", "CUSTOM_MAC_USED"].iter().any(|name| self.united.efuses.is_set(name));
        let alone = self.only_changes(field);
        let severity = if marked || alone { Deny } else { Warn };
        let mut deny = |text: &str| found.push(Finding::new(15, severity, text));
        let Ok(mac) = <[u8; 6]>::try_from(mac) else { return };
        if Mac(mac).is_group() {
            deny("the custom MAC address is a group address");
        }
        if mac == [0; 6] || mac == [0xff; 6] {
            deny("the custom MAC address is blank");
        }
        if self.facts.mac_taken {
            deny("the custom MAC address belongs to another device");
        }
        let efuses = self.united.efuses;
        if efuses.number("CUSTOM_MAC_CRC").is_some_and(|crc| crc != u32::from(Mac(mac).crc8())) {
            deny("CUSTOM_MAC_CRC does not fit the custom MAC address");
        }
        if efuses.number("MAC_VERSION").is_some_and(|version| version != 1) {
            deny("MAC_VERSION must be 1 for a custom MAC address");
        }
        if efuses.number("CUSTOM_MAC_USED") == Some(0) {
            deny("CUSTOM_MAC_USED must be set for a custom MAC address");
        }
        if mac[0] & 2 == 0 && severity == Deny {
            found.push(Finding::new(15, Info, "the custom MAC address is universally administered: it must be bought"));
        }
    }
}

/// The boot ROM's scheme takes signatures of this kind.
fn takes(boot: SecureBootScheme, signature: Scheme) -> bool {
    match boot {
        SecureBootScheme::V1 => false,
        SecureBootScheme::V2Rsa => signature == Scheme::Rsa3072,
        SecureBootScheme::V2Ecdsa => signature != Scheme::Rsa3072,
    }
}
