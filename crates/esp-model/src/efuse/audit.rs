//! Security of a chip: one row per aspect, with a severity that depends on what the chip is for, what an attacker can do,
//! and the remedy.

use super::lint::Profile;
use super::security::{Digest, FlashEncryptionMode, SecurityView};
use super::state::Efuses;
use crate::chip::{Chip, SecureBootScheme};

pub use remedy::{Action, Remedy};

/// One aspect of a chip's security.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What it is about.
    pub item: Item,
    /// Its state.
    pub state: State,
    /// How bad that is for the profile.
    pub level: Level,
    /// What it rests on: fields and their values.
    pub evidence: String,
    /// What an attacker can do in this state; `None` where the row is as it should be.
    pub attack: Option<&'static str>,
    /// The way to a better state; `None` where there is none, or nothing to do.
    pub remedy: Option<Remedy>,
}

/// Aspects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Item {
    /// Only signed code runs.
    SecureBoot,
    /// Digests of public keys.
    SecureBootKeys,
    /// Flash content is encrypted.
    FlashEncryption,
    /// Keys are hidden from software.
    KeyProtection,
    /// Debugging on pins.
    Jtag,
    /// Debugging over USB.
    UsbJtag,
    /// The ROM loader.
    DownloadMode,
    /// Old versions are refused.
    AntiRollback,
}

/// State of an aspect, in words that cannot be read two ways: an interface is open or closed, a protection is enabled
/// or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// The chip does not have it.
    NotSupported,
    /// Cannot be read.
    Unknown,
    /// Interface: anybody can use it.
    Open,
    /// Interface: closed until software gives the right HMAC.
    ClosedUntilHmac,
    /// Interface: closed; no eFuse opens it again.
    ClosedPermanently,
    /// Interface: takes the commands of secure download mode only.
    SecureDownloadOnly,
    /// Protection: not in force.
    NotEnabled,
    /// Protection: in force, but it can be undone or bypassed.
    EnabledDevelopment,
    /// Protection: in force; not known whether permanently.
    Enabled,
    /// Protection: in force and cannot be undone.
    EnabledPermanently,
    /// Keys: software can read a secret key.
    KeyExposed,
    /// The eFuses contradict each other: the chip does not work as they say.
    Contradictory,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Good,
    /// Nothing to do for this profile.
    Info,
    /// Should be better.
    Warning,
    /// Must be better.
    Critical,
}

/// Flags of GET_SECURITY_INFO, for chips whose eFuses cannot be read (ESP-IDF, `esp_rom_get_security_info`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecurityFlags {
    /// The flag word.
    pub flags: u32,
    /// SPI_BOOT_CRYPT_CNT.
    pub crypt_count: u8,
}

impl SecurityFlags {
    const SECURE_BOOT: u32 = 1;
    const SECURE_DOWNLOAD: u32 = 1 << 2;
    const SOFT_JTAG: u32 = 1 << 6;
    const HARD_JTAG: u32 = 1 << 7;

    fn has(self, bit: u32) -> bool {
        self.flags & bit != 0
    }

    /// The loader answers flash commands only.
    pub fn secure_download(self) -> bool {
        self.has(Self::SECURE_DOWNLOAD)
    }
}

/// Audits a chip. Without eFuses (secure download mode) the flags of the security info say what they can, and the
/// rest is unknown.
pub fn audit(
    chip: &Chip,
    revision: u16,
    efuses: Option<&Efuses>,
    flags: Option<SecurityFlags>,
    profile: Profile,
) -> Vec<Row> {
    let data = chip.at(revision);
    let view = efuses.map(|efuses| SecurityView { chip: data, efuses });
    let has_boot = !data.security.secure_boot.is_empty();
    let has_encryption = data.security.flash_encryption.is_some();
    let rows = match &view {
        Some(view) => from_efuses(view),
        None => from_flags(flags, has_boot, has_encryption),
    };
    let facts = remedy::Facts::of(data, efuses);
    let row = |(item, state, evidence)| {
        let level = level(item, state, profile);
        let (attack, remedy) = remedy::of(item, state, &facts);
        Row { item, state, level, evidence, attack, remedy }
    };
    rows.into_iter().map(row).collect()
}

type Found = (Item, State, String);

fn from_efuses(view: &SecurityView) -> Vec<Found> {
    let keys = view.digests();
    vec![
        secure_boot(view, &keys),
        secure_boot_keys(view, &keys),
        flash_encryption(view),
        key_protection(view),
        jtag(view),
        usb_jtag(view),
        download_mode(view),
        anti_rollback(view),
    ]
}

fn secure_boot(view: &SecurityView, keys: &[Digest]) -> Found {
    let enabled: Vec<_> = view.secure_boot().collect();
    if view.chip.security.secure_boot.is_empty() {
        return (Item::SecureBoot, State::NotSupported, "the chip has no secure boot".into());
    }
    let names: Vec<_> = enabled.iter().map(|scheme| format!("{} = 1", scheme.enable)).collect();
    let v2 = enabled.iter().any(|scheme| scheme.scheme != SecureBootScheme::V1);
    let usable = keys.iter().any(|key| !key.is_blank() && key.readable && !key.revoked);
    let state = match (enabled.is_empty(), v2 && !usable) {
        (true, _) => State::NotEnabled,
        (false, true) => State::Contradictory,
        (false, false) => State::EnabledPermanently,
    };
    let off = view.chip.security.secure_boot.iter().map(|scheme| format!("{} = 0", scheme.enable));
    let evidence = if names.is_empty() { off.collect() } else { names };
    (Item::SecureBoot, state, dedup(evidence))
}

fn dedup(mut list: Vec<String>) -> String {
    list.dedup();
    list.join(", ")
}

fn secure_boot_keys(view: &SecurityView, keys: &[Digest]) -> Found {
    if view.chip.security.secure_boot.is_empty() {
        return (Item::SecureBootKeys, State::NotSupported, "the chip has no secure boot".into());
    }
    let burned: Vec<_> = keys.iter().filter(|key| !key.is_blank() || !key.readable).collect();
    let show = |key: &&Digest| {
        let marks = [(key.revoked, "revoked"), (!key.readable, "hidden"), (!key.frozen, "not write-protected")];
        let marks: Vec<_> = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark).collect();
        format!("digest {} in {}{}{}", key.index, key.place, if marks.is_empty() { "" } else { ": " }, marks.join(", "))
    };
    let evidence = burned.iter().map(show).collect::<Vec<_>>().join("; ");
    let on = view.secure_boot().any(|scheme| scheme.scheme != SecureBootScheme::V1);
    let state = match (on, burned.iter().any(|key| !key.frozen)) {
        _ if burned.is_empty() => State::NotEnabled,
        (true, true) => State::EnabledDevelopment,
        _ => State::EnabledPermanently,
    };
    (Item::SecureBootKeys, state, if evidence.is_empty() { "no digest is burned".into() } else { evidence })
}

fn flash_encryption(view: &SecurityView) -> Found {
    let (Some(encryption), Some((set, len))) = (view.encryption(), view.crypt_count()) else {
        return (Item::FlashEncryption, State::NotSupported, "the chip has no flash encryption".into());
    };
    let state = match view.flash_encryption() {
        FlashEncryptionMode::Off => State::NotEnabled,
        _ if !view.has_flash_key() => {
            let text = format!(
                "{}: {set} of {len} bits, so encryption is on, but no flash encryption key is burned: flash content that \
                 was encrypted with a key is not decrypted, and plain content does not start",
                encryption.count
            );
            return (Item::FlashEncryption, State::Contradictory, text);
        }
        FlashEncryptionMode::Development => State::EnabledDevelopment,
        FlashEncryptionMode::Release => State::EnabledPermanently,
    };
    (Item::FlashEncryption, state, format!("{}: {set} of {len} bits", encryption.count))
}

fn key_protection(view: &SecurityView) -> Found {
    if !view.efuses.table.blocks.iter().any(|block| block.is_key) {
        return (Item::KeyProtection, State::NotSupported, "the chip has no key blocks".into());
    }
    let open: Vec<_> = view.secret_keys().into_iter().filter(|key| !key.is_blank && !key.hidden).collect();
    let hidden = view.secret_keys().iter().any(|key| key.hidden);
    if open.is_empty() {
        let text = if hidden { "all keys are hidden" } else { "no secret key is burned" };
        return (Item::KeyProtection, if hidden { State::EnabledPermanently } else { State::NotEnabled }, text.into());
    }
    let places: Vec<_> = open.iter().map(|key| format!("{} ({})", key.place, key.purpose)).collect();
    (Item::KeyProtection, State::KeyExposed, format!("software can read the key in {}", places.join(", ")))
}

fn jtag(view: &SecurityView) -> Found {
    let soft = view.efuses.number(super::security::SOFT_JTAG);
    let shown = soft.map_or(String::new(), |bits| format!(", {} = {bits:#b}", super::security::SOFT_JTAG));
    let own = view.efuses.table.own_names(super::security::HARD_JTAG);
    let hard = own.first();
    if hard.is_none() && soft.is_none() {
        return (Item::Jtag, State::Open, "no eFuse of this chip disables it".into());
    }
    let state = match (view.jtag_hard(), view.jtag_soft()) {
        (true, _) => State::ClosedPermanently,
        (false, true) => State::ClosedUntilHmac,
        (false, false) => State::Open,
    };
    let evidence = hard.map_or(String::new(), |name| format!("{name} = {}", u8::from(view.jtag_hard())));
    (Item::Jtag, state, evidence + &shown)
}

fn usb_jtag(view: &SecurityView) -> Found {
    let state = match (view.jtag_usb_hard(), view.jtag_soft()) {
        (None, _) => return (Item::UsbJtag, State::NotSupported, "the chip has no JTAG over USB".into()),
        (Some(true), _) => State::ClosedPermanently,
        (Some(false), true) => State::ClosedUntilHmac,
        (Some(false), false) => State::Open,
    };
    let known = view.efuses.table.own_names(super::security::USB_JTAG);
    let shown: Vec<_> = known.iter().map(|name| format!("{name} = {}", u8::from(view.efuses.is_set(name)))).collect();
    (Item::UsbJtag, state, shown.join(", "))
}

fn download_mode(view: &SecurityView) -> Found {
    let state = match (view.download_closed(), view.download_secure()) {
        (true, _) => State::ClosedPermanently,
        (false, true) => State::SecureDownloadOnly,
        (false, false) => State::Open,
    };
    let names = super::security::NO_DOWNLOAD.into_iter().chain([super::security::SECURE_DOWNLOAD]);
    let known = view.efuses.table.own_names(names);
    let shown: Vec<_> = known.iter().map(|name| format!("{name} = {}", u8::from(view.efuses.is_set(name)))).collect();
    let none = || "no eFuse of this chip closes it".to_string();
    (Item::DownloadMode, state, if shown.is_empty() { none() } else { shown.join(", ") })
}

fn anti_rollback(view: &SecurityView) -> Found {
    match view.efuses.number("SECURE_VERSION") {
        None => (Item::AntiRollback, State::NotSupported, "the chip has no SECURE_VERSION".into()),
        Some(0) => (Item::AntiRollback, State::NotEnabled, "SECURE_VERSION = 0".into()),
        Some(bits) => (
            Item::AntiRollback,
            State::EnabledPermanently,
            format!("SECURE_VERSION has {} bits set", bits.count_ones()),
        ),
    }
}

fn from_flags(flags: Option<SecurityFlags>, has_boot: bool, has_encryption: bool) -> Vec<Found> {
    let text = |what: &str| format!("{what}, by the security info; eFuses cannot be read");
    let unknown = |item| (item, State::Unknown, "eFuses cannot be read".to_string());
    let Some(flags) = flags else {
        let items = [Item::SecureBoot, Item::SecureBootKeys, Item::FlashEncryption, Item::KeyProtection];
        let more = [Item::Jtag, Item::UsbJtag, Item::DownloadMode, Item::AntiRollback];
        return items.into_iter().chain(more).map(unknown).collect();
    };
    let boot = match (has_boot, flags.has(SecurityFlags::SECURE_BOOT)) {
        (false, _) => State::NotSupported,
        (true, false) => State::NotEnabled,
        (true, true) => State::EnabledPermanently,
    };
    let odd = flags.crypt_count.count_ones() % 2 == 1;
    // Whether it can be turned off again is not in the flags.
    let encryption = match (has_encryption, odd) {
        (false, _) => State::NotSupported,
        (true, false) => State::NotEnabled,
        (true, true) => State::Enabled,
    };
    let encrypted = format!("SPI_BOOT_CRYPT_CNT = {:#b}", flags.crypt_count);
    let jtag = match (flags.has(SecurityFlags::HARD_JTAG), flags.has(SecurityFlags::SOFT_JTAG)) {
        (true, _) => State::ClosedPermanently,
        (false, true) => State::ClosedUntilHmac,
        (false, false) => State::Open,
    };
    let download = if flags.secure_download() { State::SecureDownloadOnly } else { State::Open };
    vec![
        (Item::SecureBoot, boot, text("secure boot flag")),
        unknown(Item::SecureBootKeys),
        (Item::FlashEncryption, encryption, text(&encrypted)),
        unknown(Item::KeyProtection),
        (Item::Jtag, jtag, text("JTAG flags")),
        unknown(Item::UsbJtag),
        (Item::DownloadMode, download, text("secure download flag")),
        unknown(Item::AntiRollback),
    ]
}

/// How bad a state is for a product or for a board on a desk.
fn level(item: Item, state: State, profile: Profile) -> Level {
    let production = profile == Profile::Production;
    match (item, state) {
        (_, State::Contradictory | State::KeyExposed) => Level::Critical,
        // A product on such a chip cannot be protected, whatever is burned.
        (Item::SecureBoot | Item::FlashEncryption, State::NotSupported) if production => Level::Warning,
        (_, State::NotSupported) => Level::Info,
        (_, State::Unknown) if production => Level::Warning,
        (_, State::Unknown) => Level::Info,
        (_, State::EnabledPermanently | State::ClosedPermanently | State::SecureDownloadOnly) => Level::Good,
        (Item::AntiRollback | Item::SecureBootKeys | Item::KeyProtection, State::NotEnabled) => Level::Info,
        (Item::SecureBoot | Item::FlashEncryption, State::NotEnabled) if production => Level::Critical,
        (Item::Jtag | Item::UsbJtag, State::Open) if production => Level::Critical,
        (Item::FlashEncryption, State::EnabledDevelopment) if production => Level::Critical,
        _ if production => Level::Warning,
        _ => Level::Info,
    }
}

mod remedy;
#[cfg(test)]
mod tests;
