//! What the rules for burning eFuses must know of a device beyond its eFuses, as far as the device itself tells it.

use esp_model::chip::Chip;
use esp_model::efuse::lint::{Facts, FlashContent};
use esp_model::efuse::{Efuses, Request};
use esp_model::job::Job;
use esp_model::partition::{self, Table};
use esp_model::secure::SECTOR;
use esp_model::secure::block::SignatureBlock;
use esp_model::secure::flash_encryption::{Direction, FlashKey};

use crate::connect::Attempt;
use crate::error::LoaderError;
use crate::loader::Loader;

/// Longest bootloader that is looked for a signature, in sectors.
const BOOTLOADER_SECTORS: u32 = 32;
/// First byte of an image.
const IMAGE_MAGIC: u8 = 0xe9;

/// What is known before the device is looked at.
#[derive(Default)]
pub struct Known<'a> {
    /// What is to be burned.
    pub requests: &'a [Request],
    /// What is in flash, where the caller has seen to it.
    pub flash: Option<FlashContent>,
    /// The key that the flash is encrypted with.
    pub key: Option<&'a FlashKey>,
    /// The device's partition table; without it, the one at the usual place counts.
    pub table: Option<Table>,
    /// How the connection came about: the device's own messages.
    pub attempts: &'a [Attempt],
}

/// The burn enables secure boot or revokes one of its keys: what is in flash must then be signed.
pub fn touches_secure_boot(chip: &Chip, requests: &[Request]) -> bool {
    let is_one =
        |name: &str| chip.security.secure_boot.iter().any(|boot| boot.enable == name) || name.contains("REVOKE");
    requests.iter().any(|request| match request {
        Request::Field { name, .. } | Request::NextBit { name } => is_one(name),
        _ => false,
    })
}

impl Loader {
    /// Reads the eFuses once more, and of the flash what the rules ask for. What cannot be read is unknown.
    pub fn burn_facts(&mut self, job: &Job, first: &Efuses, known: &Known<'_>) -> Result<Facts, LoaderError> {
        let second = self.read_efuses(job)?;
        let flash = match known.flash {
            Some(flash) => flash,
            None => self.flash_content(job),
        };
        let secure_boot = touches_secure_boot(self.chip(), known.requests);
        let (bootloader, apps) = match secure_boot {
            true => (self.signed_bootloader(job, known.key), self.app_digests(job, known)),
            false => (None, Vec::new()),
        };
        Ok(Facts {
            bootloader,
            apps,
            flash,
            reads_agree: first.words == second.words,
            brownout: brownout(known.attempts),
            revision_known: self.revision().is_some(),
            ..Facts::default()
        })
    }

    /// Whether the place of the bootloader holds a plain image. Anything else may be blank or encrypted: unknown.
    fn flash_content(&mut self, job: &Job) -> FlashContent {
        let offset = self.chip().flash.bootloader_offset;
        match self.read_flash_bytes(job, offset, 16) {
            Ok(bytes) if bytes.first() == Some(&IMAGE_MAGIC) => FlashContent::Plain,
            _ => FlashContent::Unknown,
        }
    }

    /// Digests of what is in the app partitions: a plan of secure boot holds for these only. Without a table that can be
    /// read none. The digests of ciphertext do as well: other plain text has another.
    fn app_digests(&mut self, job: &Job, known: &Known<'_>) -> Vec<(u32, Vec<u8>)> {
        let found = known.table.clone().or_else(|| self.usual_table(job, known.key));
        let Some(table) = found else { return Vec::new() };
        let apps = table.partitions.iter().filter(|one| one.kind == partition::APP);
        let mut digest = |one: &partition::Partition| {
            let digest = self.flash_md5(job, one.offset, one.size).ok()?;
            Some((one.offset, digest.to_vec()))
        };
        apps.filter_map(&mut digest).collect()
    }

    /// The table at the usual place, plain or encrypted.
    fn usual_table(&mut self, job: &Job, key: Option<&FlashKey>) -> Option<Table> {
        let at = partition::DEFAULT_TABLE_OFFSET;
        let mut bytes = self.read_flash_bytes(job, at, partition::TABLE_LENGTH as u32).ok()?;
        let read = |bytes: &[u8]| Table::from_binary(bytes, true).ok().filter(|table| !table.partitions.is_empty());
        read(&bytes).or_else(|| {
            key?.apply(Direction::Decrypt, at.into(), &mut bytes).ok()?;
            read(&bytes)
        })
    }

    /// The bootloader in flash with its signature sector: everything up to the first sector that begins with a block.
    fn signed_bootloader(&mut self, job: &Job, key: Option<&FlashKey>) -> Option<Vec<u8>> {
        let offset = self.chip().flash.bootloader_offset;
        let sector = SECTOR as u32;
        let mut image = Vec::new();
        for number in 0..BOOTLOADER_SECTORS {
            let address = offset + number * sector;
            let mut bytes = self.read_flash_bytes(job, address, sector).ok()?;
            if let Some(key) = key {
                key.apply(Direction::Decrypt, address.into(), &mut bytes).ok()?;
            }
            let signed = number > 0 && SignatureBlock::parse(&bytes).is_some();
            image.extend(bytes);
            if signed {
                return Some(image);
            }
        }
        // No signature: what is there is handed on, and the linter says what is missing.
        image.truncate(SECTOR * 8);
        Some(image)
    }
}

/// The chip said, while it was connected to, that its supply had broken down.
fn brownout(attempts: &[Attempt]) -> bool {
    let said = |attempt: &Attempt| String::from_utf8_lossy(&attempt.seen).to_ascii_lowercase();
    let told = |text: String| text.contains("brownout detector") || text.contains("brown_out");
    attempts.iter().map(said).any(told)
}
