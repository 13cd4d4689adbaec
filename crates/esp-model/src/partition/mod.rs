//! Partition tables: CSV and binary, byte for byte as ESP-IDF's `gen_esp32part.py` writes them, and otadata.

mod binary;
mod cover;
mod csv;
mod error;
mod kind;
pub mod otadata;
mod preset;
mod verify;

pub use binary::{Recognised, recognise};
pub use cover::{Area, AreaKind, cover};
pub use error::{Place, Problem, TableError};
pub use kind::*;
pub use preset::{PRESETS, Preset, preset};
pub use verify::Warning;

/// Where the partition table lies unless the project says otherwise, in bytes from the start of flash.
pub const DEFAULT_TABLE_OFFSET: u32 = 0x8000;
/// Flash that the table occupies: one sector, in bytes.
pub const TABLE_SECTOR: u32 = 0x1000;
/// Length of the table's data in bytes; the rest of its sector is left for a signature.
pub const TABLE_LENGTH: usize = 0xc00;
/// Length of one entry in bytes.
pub const ENTRY_LENGTH: usize = 32;

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Label; at most 16 bytes of it are kept in the binary form.
    pub name: String,
    /// Type: [`APP`], [`DATA`], … or a project's own (0x40 to 0xfe).
    pub kind: u8,
    /// Subtype, by type.
    pub subtype: u8,
    /// First byte in flash.
    pub offset: u32,
    /// Length in bytes.
    pub size: u32,
    /// Encrypted when flash encryption is on.
    pub encrypted: bool,
    /// Must not be written.
    pub readonly: bool,
    /// Flag bits that have no meaning yet; they are not written out again.
    pub unknown_flags: u32,
    /// Where the entry was read.
    pub place: Place,
}

impl Partition {
    /// First byte after the partition; beyond 32 bits for a partition that wraps.
    pub fn end(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.size)
    }

    /// Flags as the CSV form names them.
    pub fn flags(&self) -> Vec<&'static str> {
        let named = [("encrypted", self.encrypted), ("readonly", self.readonly)];
        named.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect()
    }

    /// It is an entry for the bootloader or the table in use: below or at the table, outside the usual order.
    pub fn is_primary(&self) -> bool {
        matches!(self.kind, BOOTLOADER | PARTITION_TABLE) && self.subtype == PRIMARY
    }

    /// The OTA slot of an app partition: 0 for `ota_0`.
    pub fn ota_slot(&self) -> Option<u8> {
        let slot = self.kind == APP && (APP_OTA_0..=APP_OTA_15).contains(&self.subtype);
        slot.then(|| self.subtype - APP_OTA_0)
    }
}

/// A partition table, entries in the order in which they were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// The entries.
    pub partitions: Vec<Partition>,
}

/// Secure boot scheme that the table must suit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecureBoot {
    /// Apps in whole 64 KiB.
    V1,
    /// Apps in whole sectors.
    V2,
}

/// What decides how a table is read, checked and written. The default is what the reference tool does without options.
#[derive(Clone)]
pub struct Options<'a> {
    /// Where the table lies in flash, in bytes.
    pub table_offset: u32,
    /// Write and check the MD5 row.
    pub md5: bool,
    /// Secure boot scheme.
    pub secure: Option<SecureBoot>,
    /// Offset of the bootloader in use; needed by entries of type `bootloader`.
    pub primary_bootloader: Option<u32>,
    /// Offset of the recovery bootloader; needed by its entry.
    pub recovery_bootloader: Option<u32>,
    /// Size of flash in bytes; 0 = not checked.
    pub flash_size: u64,
    /// Known subtypes.
    pub subtypes: Subtypes,
    /// Check the entries; the reference tool can leave it out.
    pub verify: bool,
    /// Values of `$NAME` and `${NAME}` in the CSV.
    pub variables: &'a dyn Fn(&str) -> Option<String>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            table_offset: DEFAULT_TABLE_OFFSET,
            md5: true,
            secure: None,
            primary_bootloader: None,
            recovery_bootloader: None,
            flash_size: 0,
            subtypes: Subtypes::default(),
            verify: true,
            variables: &|_| None,
        }
    }
}

impl Options<'_> {
    /// First byte after the table's sector.
    pub(crate) fn first_free(&self) -> i128 {
        i128::from(self.table_offset) + i128::from(TABLE_SECTOR)
    }
}

impl Table {
    /// Reads a file that holds either form, as the reference tool does, and checks it.
    pub fn read(bytes: &[u8], options: &Options) -> Result<Self, TableError> {
        if let Some(primary) = options.primary_bootloader
            && primary >= options.table_offset
        {
            return Err(TableError::BootloaderAboveTable { bootloader: primary, table: options.table_offset });
        }
        let table = if Self::is_binary(bytes) {
            Self::from_binary(bytes, options.md5)?
        } else {
            let text = crate::literal::decode_marked(bytes).ok_or(TableError::Encoding)?;
            Self::from_csv(&text, options)?
        };
        table.check(options)?;
        Ok(table)
    }

    /// Checks the entries (unless that is turned off) and the size of flash.
    pub fn check(&self, options: &Options) -> Result<(), TableError> {
        if options.verify {
            self.verify(options)?;
        }
        if options.flash_size != 0 {
            self.verify_size(options.flash_size)?;
        }
        Ok(())
    }

    /// The partition of this name.
    pub fn find(&self, name: &str) -> Option<&Partition> {
        self.partitions.iter().find(|partition| partition.name == name)
    }

    /// The first partition of this type and subtype.
    pub fn find_kind(&self, kind: u8, subtype: u8) -> Option<&Partition> {
        self.partitions.iter().find(|partition| partition.kind == kind && partition.subtype == subtype)
    }

    /// OTA slots by number, as the bootloader indexes them.
    pub fn ota_slots(&self) -> Vec<&Partition> {
        let mut slots: Vec<_> = self.partitions.iter().filter(|partition| partition.ota_slot().is_some()).collect();
        slots.sort_by_key(|partition| partition.subtype);
        slots
    }

    /// First byte after the partition that starts last.
    pub fn end(&self) -> u64 {
        self.last().map_or(0, Partition::end)
    }

    pub(crate) fn last(&self) -> Option<&Partition> {
        // Of several at the same offset the first counts, as in the reference tool.
        self.partitions.iter().rev().max_by_key(|partition| partition.offset)
    }
}

#[cfg(test)]
mod tests;
