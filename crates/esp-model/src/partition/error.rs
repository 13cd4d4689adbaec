//! Why a partition table is refused.

use std::fmt;

/// Where an entry was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Place {
    /// Line of a CSV file, counted from 1.
    Line(usize),
    /// Number of the entry in a binary table, counted from 0.
    Entry(usize),
    /// Made in memory.
    #[default]
    Memory,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Entry(entry) => write!(f, "entry {entry}"),
            Self::Memory => f.write_str("row"),
        }
    }
}

/// A table is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// One row is at fault.
    #[error("{place} ({name:?}): {problem}")]
    Row {
        /// The row.
        place: Place,
        /// Its name.
        name: String,
        /// What is wrong with it.
        problem: Problem,
    },
    /// The file is neither a binary table nor text.
    #[error("the file is neither a binary partition table nor text")]
    Encoding,
    /// Not whole entries.
    #[error("the table ends within entry {0}")]
    Truncated(usize),
    /// No end marker.
    #[error("the table has no end marker")]
    NoEnd,
    /// The MD5 row is wrong.
    #[error("the MD5 row at entry {entry} does not match: computed {computed}, found {found}")]
    Md5 {
        /// Number of the row.
        entry: usize,
        /// Of the entries before it.
        computed: String,
        /// In the row.
        found: String,
    },
    /// Too many entries.
    #[error("{0} entries do not fit into the table's 0xc00 bytes")]
    TooMany(usize),
    /// The table needs more flash than there is.
    #[error("{place} ({name:?}): the table ends at {end:#x}, beyond the flash size {flash_size:#x}")]
    FlashSize {
        /// The last partition's row.
        place: Place,
        /// The last partition's name.
        name: String,
        /// First byte after it.
        end: u64,
        /// Size of flash in bytes.
        flash_size: u64,
    },
    /// The bootloader's offset is not below the table.
    #[error("the primary bootloader's offset {bootloader:#x} is not below the table at {table:#x}")]
    BootloaderAboveTable {
        /// Offset of the bootloader.
        bootloader: u32,
        /// Offset of the table.
        table: u32,
    },
}

/// What is wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A field must not be empty.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// Neither a number nor a known name.
    #[error("{field} {value:?} is neither a number nor one of: {known}")]
    Unknown {
        /// Column.
        field: &'static str,
        /// What stands there.
        value: String,
        /// Names that are known.
        known: String,
    },
    /// Not a number.
    #[error("{field} {value:?} is not a number")]
    NotANumber {
        /// Column.
        field: &'static str,
        /// What stands there.
        value: String,
    },
    /// The number does not fit the binary form.
    #[error("{field} {value} is out of range")]
    Range {
        /// Column.
        field: &'static str,
        /// The number.
        value: i128,
    },
    /// Unknown word in the flags column.
    #[error("unknown flag {0:?}")]
    Flag(String),
    /// `$NAME` without a value.
    #[error("unknown variable {0:?}")]
    Variable(String),
    /// The bootloader's offset was not given.
    #[error("the offset of the {0} bootloader is not given")]
    NoBootloaderOffset(&'static str),
    /// It starts before the previous one ends.
    #[error("offset {offset:#x} is below {end:#x}, where {previous} ends")]
    Order {
        /// Offset of this one.
        offset: i128,
        /// First free byte.
        end: i128,
        /// What lies there.
        previous: String,
    },
    /// Two partitions share flash.
    #[error("{offset:#x} lies within {other:?} at {start:#x}..{end:#x}")]
    Overlap {
        /// Offset of this one.
        offset: u32,
        /// Name of the other.
        other: String,
        /// Start of the other.
        start: u32,
        /// End of the other.
        end: u64,
    },
    /// It lies in front of the first free byte after the table.
    #[error("offset {offset:#x} is below {limit:#x}, the end of the partition table")]
    BelowTable {
        /// Offset of this one.
        offset: u32,
        /// First free byte.
        limit: u64,
    },
    /// Offset or size is not aligned.
    #[error("{field} {value:#x} is not aligned to {align:#x}")]
    Alignment {
        /// Column.
        field: &'static str,
        /// The number.
        value: u32,
        /// Needed alignment in bytes.
        align: u32,
    },
    /// otadata and core dumps are written by the device.
    #[error("a partition of this subtype is always written and cannot be read-only")]
    AlwaysWritten,
    /// NVS that can be written needs three sectors.
    #[error("an NVS partition of {0:#x} bytes must be read-only (0x3000 bytes are the least for read and write)")]
    SmallNvs(u32),
    /// Two partitions of one name.
    #[error("the name is already used at {0}")]
    DuplicateName(Place),
    /// Only one otadata partition is allowed.
    #[error("a second {0} partition; only one is allowed")]
    SecondOtadata(&'static str),
    /// otadata has exactly two sectors.
    #[error("a {kind} partition must have 0x2000 bytes, not {size:#x}")]
    OtadataSize {
        /// otadata or TEE otadata.
        kind: &'static str,
        /// Its size.
        size: u32,
    },
    /// The entry does not begin with the magic number.
    #[error("no partition entry: it begins with {0:#06x}, not 0x50aa")]
    Magic(u16),
    /// The name is not UTF-8.
    #[error("the name is not valid UTF-8")]
    Name,
}

impl Problem {
    /// The problem with its row.
    pub(super) fn at(self, place: Place, name: &str) -> TableError {
        TableError::Row { place, name: name.to_owned(), problem: self }
    }
}
