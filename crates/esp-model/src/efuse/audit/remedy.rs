//! What an attacker can do in each state, and the way to a better one.

use super::{Item, State};
use crate::chip::ChipData;
use crate::efuse::Efuses;
use crate::efuse::security::{FlashEncryptionMode, HARD_JTAG, NO_DOWNLOAD, SECURE_DOWNLOAD, SecurityView, USB_JTAG};

/// The way to a better state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remedy {
    /// What to do, in words.
    pub text: String,
    /// What to call.
    pub action: Action,
    /// It cannot be undone.
    pub irreversible: bool,
    /// Place in the order of all remedies, from 1: what needs a readable, writeable chip comes first.
    pub step: u8,
}

/// A remedy as a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Burn a field with a value.
    Burn {
        /// Field name.
        efuse: String,
        /// The value.
        value: u32,
    },
    /// Hide these blocks or fields from software.
    ReadProtect(Vec<String>),
    /// Freeze these blocks or fields.
    WriteProtect(Vec<String>),
    /// Encrypt the flash with a key, permanently.
    EnableEncryption,
    /// Make a chip that is encrypted for development final.
    FinishEncryption,
    /// Burn key digests and enable secure boot.
    EnableSecureBoot,
}

impl Action {
    /// Field that it burns, where it is a single one.
    pub fn efuse(&self) -> Option<&str> {
        match self {
            Self::Burn { efuse, .. } => Some(efuse),
            _ => None,
        }
    }
}

/// Steps in their order.
const ENCRYPTION: u8 = 1;
const HIDE_KEYS: u8 = 2;
const SECURE_BOOT: u8 = 3;
const FREEZE_DIGESTS: u8 = 4;
const ROLLBACK: u8 = 5;
const JTAG: u8 = 6;
const DOWNLOAD: u8 = 7;

/// What the remedies depend on.
pub(super) struct Facts {
    hard_jtag: Option<String>,
    usb_jtag: Option<String>,
    /// Field and value.
    download: Option<String>,
    /// Field and the next value with an even number of bits.
    even_count: Option<(String, u32)>,
    exposed: Vec<String>,
    unfrozen: Vec<String>,
}

impl Facts {
    pub(super) fn of(chip: &ChipData, efuses: Option<&Efuses>) -> Self {
        let table = efuses.map(|efuses| efuses.table);
        let known = |name: &&&str| table.is_some_and(|table| table.field(name).is_some());
        let first = |names: &[&str]| names.iter().find(known).map(|name| (*name).to_string());
        let view = efuses.map(|efuses| SecurityView { chip, efuses });
        let exposed = |view: &SecurityView| {
            let keys = view.secret_keys().into_iter().filter(|key| !key.is_blank && !key.hidden);
            keys.map(|key| key.place).collect()
        };
        let unfrozen = |view: &SecurityView| {
            let digests = view.digests().into_iter().filter(|one| !one.is_blank() && !one.frozen);
            digests.map(|one| one.place).collect()
        };
        Self {
            hard_jtag: first(&HARD_JTAG),
            usb_jtag: first(&USB_JTAG),
            download: first(&[SECURE_DOWNLOAD]).or_else(|| first(&NO_DOWNLOAD)),
            even_count: view.as_ref().and_then(even_count),
            exposed: view.as_ref().map(exposed).unwrap_or_default(),
            unfrozen: view.as_ref().map(unfrozen).unwrap_or_default(),
        }
    }
}

/// The flash encryption count with one more bit, where that turns encryption off and is still possible.
fn even_count(view: &SecurityView) -> Option<(String, u32)> {
    let name = &view.encryption()?.count;
    let field = view.efuses.table.field(name)?;
    let present = view.efuses.number(name)?;
    let next = present | (!present & present.wrapping_add(1));
    let possible = view.flash_encryption() != FlashEncryptionMode::Off
        && view.efuses.writeable(field.write_protect)
        && (field.len() >= 32 || next >> field.len() == 0);
    possible.then(|| (name.clone(), next))
}

fn remedy(step: u8, action: Action, text: impl Into<String>) -> Option<Remedy> {
    // All that an eFuse changes is permanent.
    Some(Remedy { text: text.into(), action, irreversible: true, step })
}

fn burn(step: u8, efuse: Option<&String>, text: &str) -> Option<Remedy> {
    let efuse = efuse?.clone();
    remedy(step, Action::Burn { efuse, value: 1 }, text)
}

/// What the state allows, and the way out of it. Nothing for a state that is as it should be.
pub(super) fn of(item: Item, state: State, facts: &Facts) -> (Option<&'static str>, Option<Remedy>) {
    match state {
        State::NotSupported => (unsupported(item), None),
        State::Unknown => (Some("cannot be told: the state cannot be read"), None),
        State::Open | State::ClosedUntilHmac | State::ClosedPermanently | State::SecureDownloadOnly => {
            interface(item, state, facts)
        }
        _ => protection(item, state, facts),
    }
}

fn unsupported(item: Item) -> Option<&'static str> {
    match item {
        Item::SecureBoot => Some("run firmware of their own: this chip checks no signature"),
        Item::FlashEncryption => Some("read and change the flash content with any programmer"),
        _ => None,
    }
}

fn interface(item: Item, state: State, facts: &Facts) -> (Option<&'static str>, Option<Remedy>) {
    let (efuse, permanently) = match item {
        Item::UsbJtag => (facts.usb_jtag.as_ref(), "close JTAG over USB permanently"),
        _ => (facts.hard_jtag.as_ref(), "close JTAG on the pins permanently"),
    };
    match (item, state) {
        (Item::DownloadMode, State::Open) => (
            Some("connect a loader, read and write the flash, and run code from RAM"),
            burn(
                DOWNLOAD,
                facts.download.as_ref(),
                "restrict or close download mode, after an update over the air was seen to start on this chip",
            ),
        ),
        (Item::DownloadMode, State::SecureDownloadOnly) => {
            (Some("overwrite and erase the flash, but not read it"), None)
        }
        (_, State::Open) => (
            Some("halt the processor, read and change memory and registers, and run their own code"),
            burn(JTAG, efuse, permanently),
        ),
        (_, State::ClosedUntilHmac) => {
            (Some("open JTAG with the HMAC secret, once that is known"), burn(JTAG, efuse, permanently))
        }
        _ => (None, None),
    }
}

fn protection(item: Item, state: State, facts: &Facts) -> (Option<&'static str>, Option<Remedy>) {
    match (item, state) {
        (Item::SecureBoot, State::NotEnabled) => (
            Some("replace bootloader and application with their own"),
            remedy(
                SECURE_BOOT,
                Action::EnableSecureBoot,
                "sign bootloader and application, flash them, then enable secure boot; flash encryption comes first",
            ),
        ),
        (Item::SecureBoot, State::Contradictory) => {
            (Some("nothing: secure boot is on and no usable key digest is burned, so the ROM starts nothing"), None)
        }
        (Item::SecureBootKeys, State::NotEnabled) => {
            (None, remedy(SECURE_BOOT, Action::EnableSecureBoot, "digests are burned together with secure boot"))
        }
        (Item::SecureBootKeys, State::EnabledDevelopment) => (
            Some("spoil a key digest by adding bits, so that the chip does not start any more"),
            remedy(FREEZE_DIGESTS, Action::WriteProtect(facts.unfrozen.clone()), "write-protect the digests"),
        ),
        (Item::FlashEncryption, State::NotEnabled) => (
            Some("read firmware and stored secrets out of the flash, and change them"),
            remedy(
                ENCRYPTION,
                Action::EnableEncryption,
                "make a key (esp_flash_encrypt action=generate_key), then write the images encrypted and enable encryption",
            ),
        ),
        (Item::FlashEncryption, State::EnabledDevelopment) => (
            Some("write plain data through the loader, which encrypts it, or turn encryption off again"),
            remedy(ENCRYPTION, Action::FinishEncryption, "make flash encryption permanent"),
        ),
        (Item::FlashEncryption, State::Enabled) => {
            (Some("cannot be told: whether it is permanent cannot be read"), None)
        }
        (Item::FlashEncryption, State::Contradictory) => (
            Some("nothing is protected by a key: the chip reads the flash through encryption without one"),
            no_key(facts),
        ),
        (Item::KeyProtection, State::KeyExposed) => (
            Some("read the key by software or the loader, and use it on another computer"),
            remedy(
                HIDE_KEYS,
                Action::ReadProtect(facts.exposed.clone()),
                "read-protect the keys, before secure boot or RD_DIS is frozen; take a new key if this one may be known",
            ),
        ),
        (Item::AntiRollback, State::NotEnabled) => (
            Some("install an older, signed version with known faults"),
            remedy(
                ROLLBACK,
                Action::Burn { efuse: "SECURE_VERSION".into(), value: 1 },
                "only for firmware built with anti-rollback: raise the secure version with it",
            ),
        ),
        _ => (None, None),
    }
}

/// Encryption is on and no key exists.
fn no_key(facts: &Facts) -> Option<Remedy> {
    let (efuse, value) = facts.even_count.clone()?;
    let text = "burn one more bit, so that the count is even and encryption is off; or burn the key that the flash was \
                encrypted with (esp_efuse_burn, kind=key)";
    remedy(ENCRYPTION, Action::Burn { efuse, value }, text)
}
