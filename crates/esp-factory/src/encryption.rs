//! Units with flash encryption on: which part of their content it concerns, and who encrypts that.

use std::sync::Arc;

use crate::recipe::Values;
use esp_ledger::Unit;
use esp_link::flash::SECTOR;
use esp_model::job::Job;
use esp_model::partition::{self, Partition, Table};
use esp_model::secure::flash_encryption::{Direction, FULL_TWEAK, FlashKey};
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use super::content::{Content, filled};
use super::desk::Desk;
use crate::Station;
use crate::prepared::{Placed, Prepared, below};
use esp_ops::efuse::keys;
use esp_ops::error::{Code, FlashState, ToolError};
use esp_ops::session::device::Connected;

/// Bytes that the cipher takes at once.
const UNIT: usize = 16;
/// First byte of every image.
const IMAGE_MAGIC: u8 = 0xe9;

/// What the chip has encrypted by itself, as the record keeps it: its ciphertext cannot be made again outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Flash address.
    pub address: u32,
    /// Bytes in whole sectors.
    pub size: u32,
    /// MD5 of the plain bytes.
    pub plain_md5: String,
    /// MD5 of the flash right after the write.
    pub flash_md5: String,
}

impl Sealed {
    /// What `placed` will be; the flash's digest is asked for.
    pub fn ask(connected: &mut Connected, job: &Job, placed: &Placed) -> Result<Self, ToolError> {
        let size = (placed.bytes.len() as u32).next_multiple_of(SECTOR);
        let digest = connected.loader.flash_md5(job, placed.address, size)?;
        Ok(Self {
            address: placed.address,
            size,
            plain_md5: hex(&Md5::digest(placed.bytes.as_ref())),
            flash_md5: hex(&digest),
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    esp_model::hex::encode(bytes)
}

/// What the chip had sealed when the unit's last run ended.
pub fn sealed_before(desk: &Desk, unit: &Unit) -> Result<Vec<Sealed>, ToolError> {
    let record = desk.with(|ledger| ledger.last_event(unit, "record"))?;
    let body: Option<serde_json::Value> = record.and_then(|event| serde_json::from_str(&event.body).ok());
    Ok(body.and_then(|body| serde_json::from_value(body["sealed"].clone()).ok()).unwrap_or_default())
}

/// Makes content fit for a unit with flash encryption on: encrypted here where the recipe names the unit's key, marked
/// for the chip to encrypt where its loader still may, refused with the reason otherwise.
pub fn protect(
    station: &Station,
    job: &Job,
    connected: &mut Connected,
    prepared: &Prepared,
    values: &Values,
    table: Option<&Table>,
    content: &mut Content,
) -> Result<(), ToolError> {
    if !connected.is_encrypted(job)? {
        return Ok(());
    }
    let none =
        || ToolError::new(Code::NoPartitionTable, "flash encryption is on, and what it concerns stands in the table");
    let ranges = concerned(table.ok_or_else(none)?);
    let placed = std::mem::take(&mut content.placed);
    let (hit, plain): (Vec<_>, Vec<_>) =
        placed.iter().flat_map(|placed| split(placed, &ranges)).partition(|(is_concerned, _)| *is_concerned);
    let hit: Vec<Placed> = hit.into_iter().map(|(_, placed)| placed).collect();
    content.placed = plain.into_iter().map(|(_, placed)| placed).collect();
    if hit.is_empty() {
        return Ok(());
    }
    if let Some(key) = host_key(station, job, connected, prepared, values)? {
        let sealed = hit.iter().map(|placed| encrypted(&key, placed)).collect::<Result<Vec<_>, _>>()?;
        if let Some(cert) = &mut content.cert
            && let Some(own) = sealed.iter().find(|placed| placed.address == cert.address)
        {
            *cert = own.clone();
        }
        content.placed.extend(sealed);
        content.placed.sort_by_key(|placed| placed.address);
        return Ok(());
    }
    chip_may_encrypt(connected, job)?;
    if let Some(odd) = hit.iter().find(|placed| !placed.address.is_multiple_of(SECTOR)) {
        let text =
            format!("`{}` at {:#x} does not begin at a sector: the chip cannot encrypt it", odd.name, odd.address);
        return Err(ToolError::new(Code::NotAligned, text).touched(FlashState::Unchanged));
    }
    // What the chip seals cannot be read back.
    content.cert = content.cert.take().filter(|cert| hit.iter().all(|placed| placed.address != cert.address));
    content.by_chip = hit;
    Ok(())
}

/// Address ranges that the hardware decrypts when the chip runs: all before the first partition (bootloader and table),
/// apps, OTA data, NVS keys, and what is marked so. Source: ESP-IDF, "Flash Encryption", "Encrypted Partition Flag".
fn concerned(table: &Table) -> Vec<(u64, u64)> {
    let first = table.partitions.iter().map(|partition| partition.offset).min().unwrap_or(u32::MAX);
    let is_concerned = |partition: &&Partition| {
        let always = matches!(
            (partition.kind, partition.subtype),
            (partition::DATA, partition::DATA_OTA | partition::DATA_NVS_KEYS)
        );
        partition.encrypted
            || always
            || matches!(partition.kind, partition::APP | partition::BOOTLOADER | partition::PARTITION_TABLE)
    };
    let own =
        table.partitions.iter().filter(is_concerned).map(|partition| (u64::from(partition.offset), partition.end()));
    let mut ranges: Vec<(u64, u64)> = std::iter::once((0, u64::from(first))).chain(own).collect();
    ranges.sort_unstable();
    ranges
}

/// Cuts bytes where encryption begins or ends.
fn split(placed: &Placed, ranges: &[(u64, u64)]) -> Vec<(bool, Placed)> {
    let (start, end) = (u64::from(placed.address), u64::from(placed.address) + placed.bytes.len() as u64);
    let inside = |at: u64| ranges.iter().any(|(from, to)| (*from..*to).contains(&at));
    let mut cuts: Vec<u64> =
        ranges.iter().flat_map(|(from, to)| [*from, *to]).filter(|cut| (start + 1..end).contains(cut)).collect();
    cuts.extend([start, end]);
    cuts.sort_unstable();
    cuts.dedup();
    let pieces = cuts.windows(2).filter_map(|pair| {
        let [from, to] = *pair else { return None };
        let bytes = placed.bytes.get((from - start) as usize..(to - start) as usize)?;
        let whole = bytes.len() == placed.bytes.len();
        let bytes = if whole { placed.bytes.clone() } else { Arc::new(bytes.to_vec()) };
        Some((inside(from), Placed { name: placed.name.clone(), address: from as u32, bytes }))
    });
    pieces.collect()
}

/// The key from the recipe's file, if the unit can be said to have it.
fn host_key(
    station: &Station,
    job: &Job,
    connected: &mut Connected,
    prepared: &Prepared,
    values: &Values,
) -> Result<Option<FlashKey>, ToolError> {
    let Some(encryption) = &prepared.recipe.encryption else { return Ok(None) };
    let file = below(&prepared.folder, &filled(prepared, &encryption.key_file, values)?);
    let config = connected.efuse_number("FLASH_CRYPT_CONFIG", job)?.map_or(FULL_TWEAK, |config| config as u8);
    let key = keys::flash(&station.call, connected.loader.chip(), &file, config)?;
    let revision = connected.loader.revision().unwrap_or(0);
    let address = connected.loader.chip().at(revision).flash.bootloader_offset;
    let mut head = connected.loader.read_flash_bytes(job, address, 32)?;
    let is_blank = head.iter().all(|byte| *byte == 0xff);
    let is_plain = head.first() == Some(&IMAGE_MAGIC);
    key.apply(Direction::Decrypt, address.into(), &mut head)
        .map_err(|error| ToolError::new(Code::BadKey, error.to_string()))?;
    if is_blank || is_plain || head.first() == Some(&IMAGE_MAGIC) {
        return Ok(Some(key));
    }
    let text = format!("`{}` does not decrypt the bootloader on this unit", encryption.key_file);
    Err(ToolError::new(Code::BadKey, text).touched(FlashState::Unchanged))
}

fn encrypted(key: &FlashKey, placed: &Placed) -> Result<Placed, ToolError> {
    // Filled up with what a blank flash has, the same each time: a second run writes nothing.
    let mut bytes = placed.bytes.as_ref().clone();
    bytes.resize(bytes.len().next_multiple_of(UNIT), 0xff);
    let failed = |error: esp_model::secure::SecureError| {
        ToolError::new(Code::NotAligned, format!("`{}` at {:#x}: {error}", placed.name, placed.address))
    };
    key.apply(Direction::Encrypt, placed.address.into(), &mut bytes).map_err(failed)?;
    Ok(Placed { name: placed.name.clone(), address: placed.address, bytes: Arc::new(bytes) })
}

fn chip_may_encrypt(connected: &mut Connected, job: &Job) -> Result<(), ToolError> {
    let refused = |why: String| {
        let text =
            format!("flash encryption is on, the recipe names no key of the unit ([encryption] key_file), and {why}");
        ToolError::new(Code::EncryptionActive, text).touched(FlashState::Unchanged)
    };
    let revision = connected.loader.revision().unwrap_or(0);
    let encryption = connected.loader.chip().at(revision).security.flash_encryption.as_ref();
    if let Some(field) = encryption.and_then(|encryption| encryption.no_manual_encrypt.as_deref())
        && connected.efuse_number(field, job)? != Some(0)
    {
        return Err(refused(format!("{field} is burned: the loader may not encrypt any more")));
    }
    if connected.loader.can_encrypt() {
        return Ok(());
    }
    Err(refused("this loader cannot have the chip encrypt (it takes the stub)".into()))
}
