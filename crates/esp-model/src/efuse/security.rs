//! What the eFuses say about security: one reading of the bits for the linter, the audit and the tools.

use super::bits;
use super::state::Efuses;
use super::{Block, Field, KeyPurpose};
use crate::boot;
use crate::chip::{ChipData, FlashEncryption, SecureBoot, SecureBootScheme};

/// A place for the digest of a public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// Number of the digest: what its revocation bit counts.
    pub index: u8,
    /// Block name, or the field in it.
    pub place: String,
    /// The bytes as they stand in the eFuses; all 0 when blank or hidden.
    pub bytes: Vec<u8>,
    /// Software and the boot ROM can read it.
    pub readable: bool,
    /// WR_DIS freezes it.
    pub frozen: bool,
    /// Its revocation bit is set.
    pub revoked: bool,
}

impl Digest {
    /// Nothing is burned here, or it cannot be seen.
    pub fn is_blank(&self) -> bool {
        self.bytes.iter().all(|byte| *byte == 0)
    }

    /// It is the digest of this key: SHA-256, or as much of it as the place holds.
    pub fn fits(&self, key_digest: &[u8; 32]) -> bool {
        !self.is_blank() && key_digest.starts_with(&self.bytes)
    }
}

/// A key that hardware uses and software must not see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretKey {
    /// Block name, or the field in it.
    pub place: String,
    /// Purpose by name.
    pub purpose: String,
    /// It reads as 0: blank, or hidden.
    pub is_blank: bool,
    /// RD_DIS hides it.
    pub hidden: bool,
    /// It serves flash encryption.
    pub for_flash: bool,
}

/// Flash encryption by eFuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlashEncryptionMode {
    /// Never, or an even number of bits.
    Off,
    /// On, but plain data can still be sent and the count allows turning it off.
    Development,
    /// On for good, and the loader does not encrypt.
    Release,
}

/// Purposes that flash encryption uses.
const FLASH_PURPOSES: [&str; 5] = [
    "XTS_AES_128_KEY",
    "XTS_AES_256_KEY_1",
    "XTS_AES_256_KEY_2",
    "XTS_AES_128_KEY_DERIVED_FROM_128_EFUSE_BITS",
    "FLASH_ENCRYPTION",
];

/// Fields that end JTAG for good, by name on the various chips.
pub const HARD_JTAG: [&str; 3] = ["JTAG_DISABLE", "HARD_DIS_JTAG", "DIS_PAD_JTAG"];
/// Fields that end JTAG over USB for good.
pub const USB_JTAG: [&str; 2] = ["DIS_USB_JTAG", "DIS_USB_SERIAL_JTAG"];
/// Field whose odd number of bits ends JTAG until the right HMAC is given.
pub const SOFT_JTAG: &str = "SOFT_DIS_JTAG";
/// Fields that end download mode.
pub const NO_DOWNLOAD: [&str; 2] = ["UART_DOWNLOAD_DIS", "DIS_DOWNLOAD_MODE"];
/// Field that restricts download mode.
pub const SECURE_DOWNLOAD: &str = "ENABLE_SECURITY_DOWNLOAD";
/// Fields that end download over USB.
pub const NO_USB_DOWNLOAD: [&str; 3] =
    ["DIS_USB_SERIAL_JTAG_DOWNLOAD_MODE", "DIS_USB_OTG_DOWNLOAD_MODE", "DIS_USB_DOWNLOAD_MODE"];
/// Fields that choose the flash's voltage.
pub const VOLTAGE: [&str; 6] =
    ["XPD_SDIO_FORCE", "XPD_SDIO_REG", "XPD_SDIO_TIEH", "VDD_SPI_FORCE", "VDD_SPI_XPD", "VDD_SPI_TIEH"];

/// Fields that say how the flash is wired and supplied, beyond [`VOLTAGE`]; `*` stands for any end.
pub const WIRING: [&str; 11] = [
    "FLASH_TYPE",
    "FLASH_PAGE_SIZE",
    "FLASH_ECC_EN",
    "FLASH_ECC_MODE",
    "FLASH_LDO_*",
    "PIN_POWER_SELECTION",
    "PXA0_TIEH_SEL_*",
    "SPI_LDO_*",
    "SPI_PAD_CONFIG_*",
    "VDD_SPI_AS_GPIO",
    "VDD_SPI_LDO_ADJUST",
];

/// A chip's security as its eFuses say it.
#[derive(Debug, Clone, Copy)]
pub struct SecurityView<'a> {
    /// The chip's data for its revision.
    pub chip: &'a ChipData,
    /// Its eFuses.
    pub efuses: &'a Efuses,
}

impl<'a> SecurityView<'a> {
    /// Secure boot schemes that are enabled.
    pub fn secure_boot(&self) -> impl Iterator<Item = &'a SecureBoot> {
        let efuses = self.efuses;
        self.chip.security.secure_boot.iter().filter(move |scheme| efuses.is_set(&scheme.enable))
    }

    /// All places that hold, or can hold, the digest of a secure boot key.
    pub fn digests(&self) -> Vec<Digest> {
        let mut digests = Vec::new();
        let v1 = self.secure_boot().any(|scheme| scheme.scheme == SecureBootScheme::V1);
        for (block, purpose) in self.keys().filter(|(_, purpose)| purpose.digest) {
            // The symmetric key of version 1 takes the digest's place.
            if v1 && self.is_ambiguous(block, purpose) {
                continue;
            }
            let Some(field) = self.place(block, purpose) else { continue };
            // The number at the purpose's end is that of the digest.
            let index = purpose.name.bytes().last().filter(u8::is_ascii_digit).map_or(0, |digit| digit - b'0');
            digests.push(Digest {
                index,
                place: field.name.clone(),
                bytes: field.bytes(self.efuses.block(block.id)),
                readable: self.efuses.readable(&field.read_protect),
                frozen: !self.efuses.writeable(field.write_protect.or(block.write_protect)),
                revoked: self.efuses.is_set(&format!("SECURE_BOOT_KEY_REVOKE{index}")),
            });
        }
        digests
    }

    /// The device as the boot chain sees it, with its flash as it lies there.
    pub fn boot_device(&self, revision: u16) -> boot::Device {
        let encrypted = self.flash_encryption() != FlashEncryptionMode::Off;
        let version = self.efuses.number("SECURE_VERSION");
        boot::Device {
            revision: Some(revision),
            block_revision: self.block_revision(),
            ignores_block_limit: self.efuses.number("DISABLE_BLK_VERSION_MAJOR") == Some(1),
            encrypted: Some(encrypted),
            ciphertext: encrypted,
            secure_boot: Some(boot::SecureBootState { enabled: self.trust() }),
            secure_version: version.map(u32::count_ones),
        }
    }

    /// Revision of the eFuse blocks, major × 100 + minor, as ESP-IDF's `efuse_hal_blk_version` has it: a chip without the
    /// fields has 0. `None`: this chip's images name none.
    pub fn block_revision(&self) -> Option<u16> {
        self.chip.chip_id?;
        let number = |name: &str| self.efuses.number(name).and_then(|number| u16::try_from(number).ok()).unwrap_or(0);
        Some(number("BLK_VERSION_MAJOR") * 100 + number("BLK_VERSION_MINOR"))
    }

    /// Whose signatures count; `None` without secure boot.
    fn trust(&self) -> Option<boot::Trust> {
        let scheme = self.secure_boot().last()?.scheme;
        let usable = |digest: &Digest| digest.readable && !digest.revoked && !digest.is_blank();
        let digests = self.digests().into_iter().filter(usable).map(|digest| digest.bytes);
        Some(boot::Trust { scheme, digests: digests.collect() })
    }

    /// Keys in use that software must not see.
    pub fn secret_keys(&self) -> Vec<SecretKey> {
        let v1 = self.secure_boot().any(|scheme| scheme.scheme == SecureBootScheme::V1);
        // A block without a purpose that could as well hold a digest holds a secret when it is hidden or used as one.
        let secret = self.keys().filter(move |(block, purpose)| {
            let used = v1 || !self.efuses.readable(&block.read_protect);
            purpose.read_protect && (used || !self.is_ambiguous(block, purpose))
        });
        let key = |(block, purpose): (&'a Block, &'a KeyPurpose)| {
            let field = self.place(block, purpose)?;
            Some(SecretKey {
                place: field.name.clone(),
                purpose: purpose.name.clone(),
                is_blank: field.bytes(self.efuses.block(block.id)).iter().all(|byte| *byte == 0),
                hidden: !self.efuses.readable(&field.read_protect),
                for_flash: FLASH_PURPOSES.contains(&purpose.name.as_str()),
            })
        };
        secret.filter_map(key).collect()
    }

    /// A flash encryption key is burned: visible, or hidden by RD_DIS.
    pub fn has_flash_key(&self) -> bool {
        self.secret_keys().iter().any(|key| key.for_flash && (!key.is_blank || key.hidden))
    }

    /// The place of a flash encryption key that software cannot see.
    pub fn hidden_flash_key(&self) -> Option<String> {
        self.secret_keys().into_iter().find(|key| key.for_flash && key.hidden).map(|key| key.place)
    }

    /// Key blocks with the purposes that they serve: as their purpose field says, or as the chip fixes it.
    fn keys(&self) -> impl Iterator<Item = (&'a Block, &'a KeyPurpose)> {
        let (table, efuses) = (self.efuses.table, self.efuses);
        let of_block = move |block: &'a Block| {
            let has = efuses.purpose(block);
            table.key_purposes.iter().filter(move |purpose| match &has {
                Some(has) => *has == purpose.name,
                None => purpose.serves(block.id) && efuses.shares_fit(purpose),
            })
        };
        let keys = table.blocks.iter().filter(|block| block.is_key);
        keys.flat_map(move |block| of_block(block).map(move |purpose| (block, purpose)))
    }

    /// Nothing in the eFuses tells whether the block holds a secret key or a digest.
    fn is_ambiguous(&self, block: &Block, purpose: &KeyPurpose) -> bool {
        let rival = |other: &KeyPurpose| {
            other.value.is_none() && other.digest != purpose.digest && other.blocks.contains(&block.id)
        };
        purpose.value.is_none() && self.efuses.table.key_purposes.iter().any(rival)
    }

    fn place(&self, block: &Block, purpose: &KeyPurpose) -> Option<&'static Field> {
        let name = purpose.field.as_deref().unwrap_or(&block.name);
        self.efuses.table.field(name).filter(|field| field.block == block.id)
    }

    /// The chip's flash encryption, where it has any.
    pub fn encryption(&self) -> Option<&'a FlashEncryption> {
        self.chip.security.flash_encryption.as_ref()
    }

    /// Set bits of the flash encryption count, and its size.
    pub fn crypt_count(&self) -> Option<(u32, u16)> {
        let field = self.efuses.table.field(&self.encryption()?.count)?;
        Some((field.number(self.efuses.block(field.block)).count_ones(), field.len()))
    }

    /// Whether and how flash encryption is on.
    pub fn flash_encryption(&self) -> FlashEncryptionMode {
        let (Some(encryption), Some((set, len))) = (self.encryption(), self.crypt_count()) else {
            return FlashEncryptionMode::Off;
        };
        if set % 2 == 0 {
            return FlashEncryptionMode::Off;
        }
        let frozen =
            self.efuses.table.field(&encryption.count).is_some_and(|field| !self.efuses.writeable(field.write_protect));
        let loader_closed = encryption.no_manual_encrypt.as_deref().is_some_and(|name| self.efuses.is_set(name));
        let permanent = set == u32::from(len) || frozen;
        match permanent && (loader_closed || self.download_closed()) {
            true => FlashEncryptionMode::Release,
            false => FlashEncryptionMode::Development,
        }
    }

    /// Download mode is disabled.
    pub fn download_closed(&self) -> bool {
        NO_DOWNLOAD.iter().any(|name| self.efuses.is_set(name))
    }

    /// Download mode takes flash writes only.
    pub fn download_secure(&self) -> bool {
        self.efuses.is_set(SECURE_DOWNLOAD)
    }

    /// JTAG on pins is disabled for good.
    pub fn jtag_hard(&self) -> bool {
        HARD_JTAG.iter().any(|name| self.efuses.is_set(name))
    }

    /// JTAG is disabled until the right HMAC is given: an odd number of bits.
    pub fn jtag_soft(&self) -> bool {
        self.efuses.number(SOFT_JTAG).is_some_and(|bits| bits.count_ones() % 2 == 1)
    }

    /// JTAG over USB is disabled for good; `None` where the chip has none.
    pub fn jtag_usb_hard(&self) -> Option<bool> {
        let known = USB_JTAG.iter().any(|name| self.efuses.table.field(name).is_some());
        known.then(|| USB_JTAG.iter().any(|name| self.efuses.is_set(name)))
    }
}

impl KeyPurpose {
    /// A block without a purpose field can hold such a key.
    fn serves(&self, block: u8) -> bool {
        // Named blocks, or a part of a block, or the whole of it on chips with one key block.
        (self.blocks.contains(&block) || self.blocks.is_empty()) && (self.digest || self.read_protect)
    }
}

impl Efuses {
    /// On a chip whose purposes share a block, the fields that a purpose sets tell which one is meant.
    fn shares_fit(&self, purpose: &KeyPurpose) -> bool {
        let wanted = purpose.sets.iter().all(|(name, value)| self.number(name).is_none_or(|has| has == *value));
        let others = self.table.key_purposes.iter().filter(|other| other.read_protect && other.name != purpose.name);
        // Without such a field of its own, a purpose is meant only while nobody else's is set.
        let taken = purpose.field.is_some()
            && others.flat_map(|other| &other.sets).any(|(name, value)| self.number(name) == Some(*value));
        wanted && !taken
    }

    /// The eFuses with these bits added and nothing hidden: what the chip itself would see.
    pub fn with(&self, words: &bits::Words) -> Self {
        let mut united = self.clone();
        for (id, block) in &mut united.words {
            bits::combine(block, words.get(id).map_or(&[], Vec::as_slice), |a, b| a | b);
        }
        united
    }
}
