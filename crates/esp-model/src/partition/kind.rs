//! Names of partition types and subtypes (ESP-IDF, `esp_partition.h` and `gen_esp32part.py` 1.5).

use std::collections::BTreeMap;

use super::Partition;
use crate::literal;

/// Partition type: an app image.
pub const APP: u8 = 0x00;
/// Partition type: data.
pub const DATA: u8 = 0x01;
/// Partition type: the second-stage bootloader.
pub const BOOTLOADER: u8 = 0x02;
/// Partition type: the partition table itself.
pub const PARTITION_TABLE: u8 = 0x03;

/// Subtype of an app: the factory app.
pub const APP_FACTORY: u8 = 0x00;
/// Subtype of an app: the first OTA slot; 15 more follow.
pub const APP_OTA_0: u8 = 0x10;
/// Subtype of an app: the last OTA slot.
pub const APP_OTA_15: u8 = 0x1f;
/// Subtype of an app: the factory test app.
pub const APP_TEST: u8 = 0x20;
/// Subtype of data: which OTA slot to boot.
pub const DATA_OTA: u8 = 0x00;
/// Subtype of data: calibration of the radio.
pub const DATA_PHY: u8 = 0x01;
/// Subtype of data: NVS.
pub const DATA_NVS: u8 = 0x02;
/// Subtype of data: core dump.
pub const DATA_COREDUMP: u8 = 0x03;
/// Subtype of data: keys of encrypted NVS.
pub const DATA_NVS_KEYS: u8 = 0x04;
/// Subtype of data: emulated eFuses.
pub const DATA_EFUSE: u8 = 0x05;
/// Subtype of data: none given.
pub const DATA_UNDEFINED: u8 = 0x06;
/// Subtype of data: FAT.
pub const DATA_FAT: u8 = 0x81;
/// Subtype of data: SPIFFS.
pub const DATA_SPIFFS: u8 = 0x82;
/// Subtype of data: LittleFS.
pub const DATA_LITTLEFS: u8 = 0x83;
/// Subtype of data: which TEE slot to boot.
pub const DATA_TEE_OTA: u8 = 0x90;
/// Subtype of a bootloader or table entry: the one in use.
pub const PRIMARY: u8 = 0x00;
/// Subtype of a bootloader: the one that the ROM falls back to.
pub const RECOVERY: u8 = 0x02;

/// Type names, in the order in which the reference tool lists them.
const TYPES: [(&str, u8); 4] =
    [("bootloader", BOOTLOADER), ("partition_table", PARTITION_TABLE), ("app", APP), ("data", DATA)];

const SUBTYPES: [(u8, &str, u8); 19] = [
    (BOOTLOADER, "primary", PRIMARY),
    (BOOTLOADER, "ota", 0x01),
    (BOOTLOADER, "recovery", RECOVERY),
    (PARTITION_TABLE, "primary", PRIMARY),
    (PARTITION_TABLE, "ota", 0x01),
    (APP, "factory", APP_FACTORY),
    (APP, "test", APP_TEST),
    (DATA, "ota", DATA_OTA),
    (DATA, "phy", DATA_PHY),
    (DATA, "nvs", DATA_NVS),
    (DATA, "coredump", DATA_COREDUMP),
    (DATA, "nvs_keys", DATA_NVS_KEYS),
    (DATA, "efuse", DATA_EFUSE),
    (DATA, "undefined", DATA_UNDEFINED),
    (DATA, "esphttpd", 0x80),
    (DATA, "fat", DATA_FAT),
    (DATA, "spiffs", DATA_SPIFFS),
    (DATA, "littlefs", DATA_LITTLEFS),
    (DATA, "tee_ota", DATA_TEE_OTA),
];

const OTA_SLOTS: u8 = 16;
const TEE_SLOTS: u8 = 2;
const APP_TEE_0: u8 = 0x30;

/// The number of a type name.
pub(super) fn type_number(name: &str) -> Option<u8> {
    TYPES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// The name of a type, where it has one.
pub fn type_name(number: u8) -> Option<&'static str> {
    TYPES.iter().find(|(_, known)| *known == number).map(|(name, _)| *name)
}

/// All type names.
pub fn type_names() -> impl Iterator<Item = &'static str> {
    TYPES.iter().map(|(name, _)| *name)
}

/// Subtype names by type: the known ones and a project's own.
#[derive(Debug, Clone)]
pub struct Subtypes {
    names: Vec<(u8, String, i128)>,
}

/// A project's own subtype is not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubtypeError {
    /// Not `type, name, number`.
    #[error("custom subtype {0:?} is not `type, name, hexadecimal number`")]
    Form(String),
    /// The type is none of the four.
    #[error("custom subtype {0:?} names an unknown type")]
    Type(String),
    /// The number is taken.
    #[error("custom subtype {0:?} uses a number that is already taken")]
    Taken(String),
}

impl Default for Subtypes {
    fn default() -> Self {
        let mut names: Vec<_> =
            SUBTYPES.iter().map(|(kind, name, number)| (*kind, (*name).to_owned(), i128::from(*number))).collect();
        names.extend((0..OTA_SLOTS).map(|slot| (APP, format!("ota_{slot}"), i128::from(APP_OTA_0 + slot))));
        names.extend((0..TEE_SLOTS).map(|slot| (APP, format!("tee_{slot}"), i128::from(APP_TEE_0 + slot))));
        Self { names }
    }
}

impl Subtypes {
    /// Adds a project's own subtypes, each `type, name, number` with the number in hexadecimal digits.
    ///
    /// A known name gets the new number. The number is not limited to a byte here: using it is what fails.
    pub fn add<'a>(&mut self, rows: impl IntoIterator<Item = &'a str>) -> Result<(), SubtypeError> {
        for row in rows {
            let fields: Vec<&str> = row.split(',').map(literal::trim).collect();
            let [kind_name, name, number, ..] = fields[..] else { return Err(SubtypeError::Form(row.into())) };
            let number = literal::integer(number, 16).ok_or_else(|| SubtypeError::Form(row.into()))?;
            let kind = type_number(kind_name).ok_or_else(|| SubtypeError::Type(row.into()))?;
            if self.of(kind).any(|(_, taken)| taken == number) {
                return Err(SubtypeError::Taken(row.into()));
            }
            match self.names.iter_mut().find(|(k, n, _)| *k == kind && n == name) {
                Some(known) => known.2 = number,
                None => self.names.push((kind, name.to_owned(), number)),
            }
        }
        Ok(())
    }

    fn of(&self, kind: u8) -> impl Iterator<Item = (&str, i128)> {
        self.names.iter().filter(move |(k, ..)| *k == kind).map(|(_, name, number)| (name.as_str(), *number))
    }

    /// The number of a subtype name.
    pub(super) fn number(&self, kind: u8, name: &str) -> Option<i128> {
        self.of(kind).find(|(known, _)| *known == name).map(|(_, number)| number)
    }

    /// The subtype is the one of this name; a project can give a known name another number.
    pub(super) fn is(&self, kind: u8, subtype: u8, name: &str) -> bool {
        self.number(kind, name) == Some(i128::from(subtype))
    }

    /// It is an entry for the bootloader or the table in use.
    pub(super) fn is_primary(&self, partition: &Partition) -> bool {
        matches!(partition.kind, BOOTLOADER | PARTITION_TABLE) && self.is(partition.kind, partition.subtype, "primary")
    }

    /// The name of a subtype, where it has one.
    pub fn name(&self, kind: u8, number: u8) -> Option<&str> {
        self.of(kind).find(|(_, known)| *known == i128::from(number)).map(|(name, _)| name)
    }

    /// All names of one type.
    pub fn names(&self, kind: u8) -> Vec<&str> {
        self.of(kind).map(|(name, _)| name).collect()
    }

    /// The name is a subtype of any type.
    pub(super) fn is_name(&self, name: &str) -> bool {
        self.names.iter().any(|(_, known, _)| known == name)
    }

    /// The subtypes of one type by number.
    pub fn by_number(&self, kind: u8) -> BTreeMap<i128, &str> {
        self.of(kind).map(|(name, number)| (number, name)).collect()
    }
}
