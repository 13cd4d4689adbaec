//! What the linter must know beyond the eFuses.

use esp_link::connect::Attempt;
use esp_model::efuse::lint::{Facts, FlashContent};
use esp_model::efuse::{Efuses, Request};
use esp_model::job::Job;
use esp_model::partition;
use esp_model::secure::SECTOR;
use esp_model::secure::block::SignatureBlock;
use esp_model::secure::flash_encryption::{Direction, FlashKey};
use serde_json::json;

use crate::Call;
use crate::efuse::marks::Mark;
use crate::efuse::pipeline::{self, Intent};
use crate::error::ToolError;
use crate::flash::keep;
use crate::session::device::{Connected, mac_text};

/// Longest bootloader that is looked for a signature, in sectors.
const BOOTLOADER_SECTORS: u32 = 32;
/// First byte of an image.
const IMAGE_MAGIC: u8 = 0xe9;

/// What can be found out about the device; what cannot, the policy may vouch for.
pub fn gather(
    call: &Call,
    job: &Job,
    connected: &mut Connected,
    first: &Efuses,
    requests: &[Request],
    intent: &Intent,
) -> Result<Facts, ToolError> {
    let vouched = |what: &str| call.policy.vouches(what);
    let second = pipeline::read(connected, job)?;
    let flash = match intent.flash {
        Some(known) => known,
        None => flash_content(job, connected),
    };
    // Virtual devices try out what a real one then gets.
    let marks = if connected.is_virtual() { Vec::new() } else { Mark::of(requests, first) };
    let mac = connected.identify(job)?.map(|identity| mac_text(&identity.mac)).unwrap_or_default();
    let (mut key_taken, mut mac_taken) = (false, false);
    for mark in &marks {
        let taken = call.audit.any(|event| mark.is_in(event) && event["mac"] != json!(mac))?;
        if mark.is_key() { key_taken |= taken } else { mac_taken |= taken }
    }
    let secure_boot = requests.iter().any(|request| matches!(request, Request::Field { name, .. } | Request::NextBit { name }
        if connected.loader.chip().security.secure_boot.iter().any(|boot| boot.enable == *name) || name.contains("REVOKE")));
    let bootloader = if secure_boot { bootloader(job, connected, intent.flash_key) } else { None };
    let apps = if secure_boot { apps(job, connected, intent.flash_key) } else { Vec::new() };
    Ok(Facts {
        profile: intent.profile.into(),
        bootloader,
        flash,
        // What no log knows may still be shared: only the opposite is certain.
        key_is_unique: key_taken.then_some(false),
        encryption_wanted: intent.encryption_wanted,
        ota_proven: vouched("ota_proven"),
        flash_voltage_known: vouched("flash_voltage"),
        voltage_override_ran: vouched("flash_voltage"),
        reads_agree: first.words == second.words,
        brownout: brownout(connected),
        revision_known: connected.loader.revision().is_some(),
        flash_wiring_known: vouched("flash_wiring"),
        images: intent.images.clone(),
        apps,
        mac_taken,
    })
}

/// The chip said, while it was connected to, that its supply had broken down.
fn brownout(connected: &Connected) -> bool {
    let said = |attempt: &Attempt| String::from_utf8_lossy(&attempt.seen).to_ascii_lowercase();
    let told = |text: String| text.contains("brownout detector") || text.contains("brown_out");
    connected.report.attempts.iter().map(said).any(told)
}

/// Whether the place of the bootloader holds a plain image. Anything else may be blank or encrypted: unknown.
fn flash_content(job: &Job, connected: &mut Connected) -> FlashContent {
    let offset = connected.loader.chip().flash.bootloader_offset;
    match connected.loader.read_flash_bytes(job, offset, 16) {
        Ok(bytes) if bytes.first() == Some(&IMAGE_MAGIC) => FlashContent::Plain,
        _ => FlashContent::Unknown,
    }
}

/// Digests of what is in the app partitions: a plan of secure boot holds for these only. Without a table that can be read
/// (an encrypted flash whose key is not given) none. The digests of ciphertext do as well: other plain text has another.
fn apps(job: &Job, connected: &mut Connected, key: Option<&FlashKey>) -> Vec<(u32, Vec<u8>)> {
    let found = match keep::table(connected, job, None) {
        Ok(Some(found)) => Some(found.table),
        _ => key.and_then(|key| encrypted_table(job, connected, key)),
    };
    let Some(table) = found else { return Vec::new() };
    let apps = table.partitions.iter().filter(|one| one.kind == partition::APP);
    let digest = |one: &partition::Partition| {
        let digest = connected.loader.flash_md5(job, one.offset, one.size).ok()?;
        Some((one.offset, digest.to_vec()))
    };
    apps.filter_map(digest).collect()
}

/// The table of an encrypted flash, at the usual place.
fn encrypted_table(job: &Job, connected: &mut Connected, key: &FlashKey) -> Option<partition::Table> {
    let at = partition::DEFAULT_TABLE_OFFSET;
    let mut bytes = connected.loader.read_flash_bytes(job, at, partition::TABLE_LENGTH as u32).ok()?;
    key.apply(Direction::Decrypt, at.into(), &mut bytes).ok()?;
    partition::Table::from_binary(&bytes, true).ok().filter(|table| !table.partitions.is_empty())
}

/// The bootloader in flash with its signature sector: everything up to the first sector that begins with a block.
fn bootloader(job: &Job, connected: &mut Connected, key: Option<&FlashKey>) -> Option<Vec<u8>> {
    let offset = connected.loader.chip().flash.bootloader_offset;
    let sector = SECTOR as u32;
    let mut image = Vec::new();
    for number in 0..BOOTLOADER_SECTORS {
        let address = offset + number * sector;
        let mut bytes = connected.loader.read_flash_bytes(job, address, sector).ok()?;
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
