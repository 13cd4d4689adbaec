//! The binary form: 32 bytes an entry, an MD5 row, 0xFF to the end.

use md5::{Digest, Md5};

use super::{ENTRY_LENGTH, Partition, Place, Problem, TABLE_LENGTH, Table, TableError};

/// First two bytes of an entry (0x50AA in memory order).
const MAGIC: [u8; 2] = [0xaa, 0x50];
/// First two bytes of the MD5 row; 14 bytes 0xFF and the digest follow.
const MD5_MAGIC: [u8; 2] = [0xeb, 0xeb];
/// Where the digest lies in its row.
const MD5_AT: usize = 16;

impl Table {
    /// The bytes begin like a binary table.
    pub fn is_binary(bytes: &[u8]) -> bool {
        bytes.starts_with(&MAGIC)
    }

    /// Reads the binary form up to its end marker. Entries are not checked any further.
    ///
    /// With `md5`, rows that hold a digest are checked; without, they are refused.
    pub fn from_binary(bytes: &[u8], md5: bool) -> Result<Self, TableError> {
        let mut partitions = Vec::new();
        let mut hash = Md5::new();
        for (index, row) in bytes.chunks(ENTRY_LENGTH).enumerate() {
            let row: &[u8; ENTRY_LENGTH] = row.try_into().map_err(|_| TableError::Truncated(index))?;
            if row == &[0xff; ENTRY_LENGTH] {
                return Ok(Self { partitions });
            }
            if md5 && row.starts_with(&MD5_MAGIC) {
                check_digest(index, row, &hash)?;
                continue;
            }
            hash.update(row);
            partitions.push(read_entry(row, Place::Entry(index))?);
        }
        Err(TableError::NoEnd)
    }

    /// Writes the binary form: [`TABLE_LENGTH`] bytes.
    pub fn to_binary(&self, md5: bool) -> Result<Vec<u8>, TableError> {
        let rows = self.partitions.len() + usize::from(md5);
        if rows * ENTRY_LENGTH >= TABLE_LENGTH {
            return Err(TableError::TooMany(self.partitions.len()));
        }
        let mut out = Vec::with_capacity(TABLE_LENGTH);
        for partition in &self.partitions {
            out.extend_from_slice(&write_entry(partition));
        }
        if md5 {
            let digest = Md5::digest(&out);
            out.extend_from_slice(&MD5_MAGIC);
            out.resize(out.len() + MD5_AT - MD5_MAGIC.len(), 0xff);
            out.extend_from_slice(&digest);
        }
        out.resize(TABLE_LENGTH, 0xff);
        Ok(out)
    }
}

fn check_digest(entry: usize, row: &[u8; ENTRY_LENGTH], hash: &Md5) -> Result<(), TableError> {
    let computed = hash.clone().finalize();
    let found = &row[MD5_AT..];
    if computed[..] == *found {
        return Ok(());
    }
    let hex = |bytes: &[u8]| crate::hex::encode(bytes);
    Err(TableError::Md5 { entry, computed: hex(&computed), found: hex(found) })
}

fn read_entry(row: &[u8; ENTRY_LENGTH], place: Place) -> Result<Partition, TableError> {
    let word = |at: usize| u32::from_le_bytes([row[at], row[at + 1], row[at + 2], row[at + 3]]);
    let label = row[12..28].split(|byte| *byte == 0).next().unwrap_or_default();
    let shown = String::from_utf8_lossy(label);
    let name = std::str::from_utf8(label).map_err(|_| Problem::Name.at(place, &shown))?;
    if !row.starts_with(&MAGIC) {
        return Err(Problem::Magic(u16::from_le_bytes([row[0], row[1]])).at(place, name));
    }
    let flags = word(28);
    Ok(Partition {
        name: name.to_owned(),
        kind: row[2],
        subtype: row[3],
        offset: word(4),
        size: word(8),
        encrypted: flags & 1 != 0,
        readonly: flags & 2 != 0,
        unknown_flags: flags & !3,
        place,
    })
}

fn write_entry(partition: &Partition) -> [u8; ENTRY_LENGTH] {
    let mut row = [0; ENTRY_LENGTH];
    row[..2].copy_from_slice(&MAGIC);
    row[2] = partition.kind;
    row[3] = partition.subtype;
    row[4..8].copy_from_slice(&partition.offset.to_le_bytes());
    row[8..12].copy_from_slice(&partition.size.to_le_bytes());
    for (to, from) in row[12..28].iter_mut().zip(partition.name.bytes()) {
        *to = from;
    }
    row[28] = u8::from(partition.encrypted) | u8::from(partition.readonly) << 1;
    row
}

/// What a table's sector looks like, without judging its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recognised {
    /// A table; the length of its signature (secure boot version 1) in bytes is 0 when it has none.
    Table {
        /// Bytes of signature behind the table.
        signature: usize,
    },
    /// Nothing but 0xFF.
    Blank,
    /// Bytes without structure, as flash encryption leaves them.
    Encrypted,
    /// Something else.
    Other,
}

/// Length of a version 1 signature: version word and ECDSA P-256 signature.
const SIGNATURE_V1: usize = 68;

/// Looks at the bytes of a table's sector (at least [`TABLE_LENGTH`] of them for a sure answer).
pub fn recognise(sector: &[u8]) -> Recognised {
    if Table::is_binary(sector) {
        let behind = sector.get(TABLE_LENGTH..TABLE_LENGTH + SIGNATURE_V1);
        // Version word 0, then a signature: not 0xFF and not zero throughout.
        let signed = behind
            .is_some_and(|bytes| bytes.starts_with(&[0; 4]) && bytes[4..].iter().any(|byte| !matches!(byte, 0 | 0xff)));
        return Recognised::Table { signature: if signed { SIGNATURE_V1 } else { 0 } };
    }
    if sector.iter().all(|byte| *byte == 0xff) {
        return Recognised::Blank;
    }
    if looks_random(sector) { Recognised::Encrypted } else { Recognised::Other }
}

/// Near eight bits of entropy a byte: ciphertext. Needs a few hundred bytes to say so.
fn looks_random(bytes: &[u8]) -> bool {
    if bytes.len() < 512 {
        return false;
    }
    // A table ends in 0xFF; encrypted in blocks with address tweaks, no two 16-byte blocks are the same.
    let mut counts = [0u32; 256];
    bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let length = bytes.len() as f64;
    let entropy: f64 = counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| {
            let share = f64::from(*count) / length;
            -share * share.log2()
        })
        .sum();
    entropy > if bytes.len() < 2048 { 7.0 } else { 7.6 }
}
