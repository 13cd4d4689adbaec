//! The rules that a table must keep.

use std::collections::HashMap;

use super::kind::{self, APP, DATA};
use super::{Options, Partition, Place, Problem, SecureBoot, Table, TableError};

/// Sector size: offsets of anything but apps, and sizes of apps.
const SECTOR: u32 = 0x1000;
/// Apps are mapped in pages of this size.
const APP_ALIGNMENT: u32 = 0x1_0000;
/// Least size of NVS that can be written, in bytes.
const NVS_LEAST: u32 = 0x3000;
/// Size of otadata: two sectors.
const OTADATA_SIZE: u32 = 0x2000;

/// Alignment of a partition's offset in bytes.
pub(super) fn offset_alignment(kind: u8) -> u32 {
    if kind == APP { APP_ALIGNMENT } else { SECTOR }
}

/// Something that looks like a mistake, but is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// The name is a type name, but the type is another.
    #[error("{0} ({1:?}): the name is a partition type, but not the type of this partition")]
    NameIsType(Place, String),
    /// The name is a subtype name, but the subtype is another.
    #[error("{0} ({1:?}): the name is a partition subtype, but not the subtype of this partition")]
    NameIsSubtype(Place, String),
    /// The binary form keeps 16 bytes of a name.
    #[error("{0} ({1:?}): only 16 bytes of the name are kept")]
    LongName(Place, String),
    /// NVS has an encryption of its own: its driver refuses such a partition.
    #[error(
        "{0} ({1:?}): an NVS partition must not be marked encrypted; NVS encryption has keys of its own (a partition nvs_keys, which is marked)"
    )]
    EncryptedNvs(Place, String),
    /// Signs that a text editor or a web page put in: programs look the partition up by its name.
    #[error("{0} ({1:?}): the name has signs that are not ASCII, such as quotes of a text program")]
    OddName(Place, String),
    /// The bootloader counts slots: one that is missing is one that it cannot start.
    #[error(
        "{0} ({1:?}): the slots before it are not all there (ota_{2} is missing): the bootloader expects ota_0, ota_1 … without a gap"
    )]
    SlotGap(Place, String, u8),
    /// Which slot starts is kept in otadata.
    #[error(
        "{0} ({1:?}): OTA slots, but no otadata partition (type data, subtype ota): an update over the air cannot be selected"
    )]
    NoOtadata(Place, String),
    /// Flag bits without a meaning.
    #[error("{0} ({1:?}): unknown flags {2:#010x}")]
    UnknownFlags(Place, String, u32),
}

impl Table {
    /// Checks every entry and how they fit together. All failures name the row.
    pub fn verify(&self, options: &Options) -> Result<(), TableError> {
        for partition in &self.partitions {
            check_one(partition, options).map_err(|problem| problem.at(partition.place, &partition.name))?;
        }
        self.check_names()?;
        self.check_overlaps(options)?;
        self.check_otadata(options, "ota", "otadata")?;
        self.check_otadata(options, "tee_ota", "TEE otadata")
    }

    /// The table ends within flash of `flash_size` bytes.
    pub fn verify_size(&self, flash_size: u64) -> Result<(), TableError> {
        match self.last() {
            Some(last) if last.end() > flash_size => {
                Err(TableError::FlashSize { place: last.place, name: last.name.clone(), end: last.end(), flash_size })
            }
            _ => Ok(()),
        }
    }

    fn check_names(&self) -> Result<(), TableError> {
        let mut seen: HashMap<&str, Place> = HashMap::new();
        for partition in &self.partitions {
            if let Some(first) = seen.insert(&partition.name, partition.place) {
                return Err(Problem::DuplicateName(first).at(partition.place, &partition.name));
            }
        }
        Ok(())
    }

    fn check_overlaps(&self, options: &Options) -> Result<(), TableError> {
        let mut sorted: Vec<&Partition> = self.partitions.iter().collect();
        sorted.sort_by_key(|partition| partition.offset);
        let limit = u64::from(options.table_offset) + u64::from(super::TABLE_SECTOR);
        let mut last: Option<&Partition> = None;
        for partition in sorted {
            let offset = partition.offset;
            if u64::from(offset) < limit && !options.subtypes.is_primary(partition) {
                return Err(Problem::BelowTable { offset, limit }.at(partition.place, &partition.name));
            }
            if let Some(other) = last
                && u64::from(offset) < other.end()
            {
                let problem =
                    Problem::Overlap { offset, other: other.name.clone(), start: other.offset, end: other.end() };
                return Err(problem.at(partition.place, &partition.name));
            }
            last = Some(partition);
        }
        Ok(())
    }

    fn check_otadata(&self, options: &Options, subtype: &str, kind: &'static str) -> Result<(), TableError> {
        let meant = |p: &&Partition| p.kind == DATA && options.subtypes.is(DATA, p.subtype, subtype);
        let mut found = self.partitions.iter().filter(meant);
        let Some(first) = found.next() else { return Ok(()) };
        if let Some(second) = found.next() {
            return Err(Problem::SecondOtadata(kind).at(second.place, &second.name));
        }
        if first.size != OTADATA_SIZE {
            return Err(Problem::OtadataSize { kind, size: first.size }.at(first.place, &first.name));
        }
        Ok(())
    }

    fn has_slot(&self, slot: u8) -> bool {
        self.partitions.iter().any(|partition| partition.ota_slot() == Some(slot))
    }

    /// What looks like a mistake.
    pub fn warnings(&self, options: &Options) -> Vec<Warning> {
        let mut out = Vec::new();
        for partition in &self.partitions {
            let (place, name) = (partition.place, partition.name.clone());
            if kind::type_number(&name).is_some_and(|number| number != partition.kind) {
                out.push(Warning::NameIsType(place, name.clone()));
            }
            let meant = options.subtypes.number(partition.kind, &name);
            if options.subtypes.is_name(&name) && meant != Some(i128::from(partition.subtype)) {
                out.push(Warning::NameIsSubtype(place, name.clone()));
            }
            if partition.encrypted && partition.kind == DATA && options.subtypes.is(DATA, partition.subtype, "nvs") {
                out.push(Warning::EncryptedNvs(place, name.clone()));
            }
            if name.len() > 16 {
                out.push(Warning::LongName(place, name.clone()));
            }
            if !name.is_ascii() {
                out.push(Warning::OddName(place, name.clone()));
            }
            if let Some(missing) = partition.ota_slot().and_then(|slot| (0..slot).find(|slot| !self.has_slot(*slot))) {
                out.push(Warning::SlotGap(place, name.clone(), missing));
            }
            let is_second_slot = partition.ota_slot().is_some_and(|slot| slot == 1);
            if is_second_slot && self.find_kind(DATA, kind::DATA_OTA).is_none() {
                out.push(Warning::NoOtadata(place, name.clone()));
            }
            if partition.unknown_flags != 0 {
                out.push(Warning::UnknownFlags(place, name, partition.unknown_flags));
            }
        }
        out
    }
}

fn check_one(partition: &Partition, options: &Options) -> Result<(), Problem> {
    aligned("offset", partition.offset, offset_alignment(partition.kind))?;
    if partition.kind == APP {
        // A version 1 signature lies at the very end of a 64 KiB block.
        let align = if options.secure == Some(SecureBoot::V1) { APP_ALIGNMENT } else { SECTOR };
        aligned("size", partition.size, align)?;
    }
    if partition.kind == DATA {
        let is = |name| options.subtypes.is(DATA, partition.subtype, name);
        if partition.readonly && (is("ota") || is("coredump")) {
            return Err(Problem::AlwaysWritten);
        }
        if is("nvs") && partition.size < NVS_LEAST && !partition.readonly {
            return Err(Problem::SmallNvs(partition.size));
        }
    }
    Ok(())
}

fn aligned(field: &'static str, value: u32, align: u32) -> Result<(), Problem> {
    if value.is_multiple_of(align) { Ok(()) } else { Err(Problem::Alignment { field, value, align }) }
}
