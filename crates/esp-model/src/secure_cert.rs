//! The `esp_secure_cert` partition: certificates and keys of a unit, as a list of type-length-value entries.
//!
//! Layout: `esp_secure_cert_mgr`, `docs/format.md` and `esp_secure_cert_tlv_private.h` (Apache-2.0), and what its
//! generator 2.6 writes: CA certificate, device certificate, private key, then an entry with the SHA-256 of them all.

use sha2::{Digest, Sha256};

use crate::crc::rom_crc32;

/// Usual size of the partition in bytes.
pub const SIZE: usize = 0x2000;
/// Type of the partition in the partition table.
pub const PARTITION_TYPE: u8 = 0x3f;
/// Begins every entry.
const MAGIC: u32 = 0xba5e_ba11;
/// Magic, flags, three reserved bytes, type, subtype, length.
const HEADER: usize = 12;
/// CRC-32 of header, data and padding.
const FOOTER: usize = 4;
/// Data is filled up to a multiple of this, for encrypted writes.
const ALIGNMENT: usize = 16;

/// What an entry is (`esp_secure_cert_tlv_type_t`).
pub mod kind {
    /// Certificate of the authority.
    pub const CA_CERT: u8 = 0;
    /// Certificate of the unit.
    pub const DEVICE_CERT: u8 = 1;
    /// Private key of the unit.
    pub const PRIVATE_KEY: u8 = 2;
    /// SHA-256 over all entries before it.
    pub const INTEGRITY: u8 = 9;
}

/// One entry.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is, see [`kind`].
    pub kind: u8,
    /// Number among entries of its kind.
    pub subtype: u8,
    /// How the data is protected; 0: not at all.
    pub flags: u8,
    /// The data.
    pub data: Vec<u8>,
}

/// Never shows the data: it may be a key.
impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "entry {}/{}, {} bytes", self.kind, self.subtype, self.data.len())
    }
}

/// A partition that cannot be made or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertError {
    /// The entries need more room.
    #[error("the entries need {needed} bytes, the partition has {size}")]
    Full {
        /// Bytes needed.
        needed: usize,
        /// Bytes there.
        size: usize,
    },
    /// An entry's data is longer than its length field can say.
    #[error("an entry has {0} bytes; at most 65535 are possible")]
    Long(usize),
    /// There is no entry at all.
    #[error("the partition holds no entries")]
    Empty,
    /// An entry is cut off.
    #[error("the entry at {0:#x} is cut off")]
    Cut(usize),
    /// A checksum is wrong.
    #[error("the entry at {0:#x} has a wrong checksum")]
    Crc(usize),
    /// The digest over all entries is wrong.
    #[error("the SHA-256 over the entries is wrong")]
    Integrity,
}

impl Entry {
    /// A certificate or key from a file's bytes: text in PEM gets the final zero that mbedTLS wants.
    pub fn from_file(kind: u8, bytes: &[u8]) -> Self {
        let mut data = bytes.to_vec();
        if bytes.starts_with(b"-----BEGIN") {
            data.push(0);
        }
        Self { kind, subtype: 0, flags: 0, data }
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), CertError> {
        let length = u16::try_from(self.data.len()).map_err(|_| CertError::Long(self.data.len()))?;
        let start = out.len();
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out.extend_from_slice(&[self.flags, 0, 0, 0, self.kind, self.subtype]);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&self.data);
        out.resize(start + HEADER + self.data.len().next_multiple_of(ALIGNMENT), 0);
        let crc = rom_crc32(out.get(start..).unwrap_or_default());
        out.extend_from_slice(&crc.to_le_bytes());
        Ok(())
    }
}

/// The partition's bytes: the entries in this order, their digest, 0xff behind.
pub fn build(entries: &[Entry], size: usize) -> Result<Vec<u8>, CertError> {
    let mut out = Vec::new();
    entries.iter().try_for_each(|entry| entry.encode(&mut out))?;
    let digest = Sha256::digest(&out).to_vec();
    Entry { kind: kind::INTEGRITY, subtype: 0, flags: 0, data: digest }.encode(&mut out)?;
    if out.len() > size {
        return Err(CertError::Full { needed: out.len(), size });
    }
    out.resize(size, 0xff);
    Ok(out)
}

/// The entries of a partition, checked; without the digest's own. Older partitions have no digest.
pub fn read(bytes: &[u8]) -> Result<Vec<Entry>, CertError> {
    let (mut entries, mut at) = (Vec::new(), 0);
    while let Some(header) = bytes.get(at..at + HEADER).and_then(|header| <&[u8; HEADER]>::try_from(header).ok()) {
        if !header.starts_with(&MAGIC.to_le_bytes()) {
            break;
        }
        let [.., flags, _, _, _, kind, subtype, low, high] = *header;
        let length = usize::from(u16::from_le_bytes([low, high]));
        let end = at + HEADER + length.next_multiple_of(ALIGNMENT);
        let covered = bytes.get(at..end).ok_or(CertError::Cut(at))?;
        let footer = bytes.get(end..end + FOOTER).ok_or(CertError::Cut(at))?;
        if footer != rom_crc32(covered).to_le_bytes() {
            return Err(CertError::Crc(at));
        }
        let data = covered.get(HEADER..HEADER + length).unwrap_or_default().to_vec();
        if kind == kind::INTEGRITY {
            let digest = Sha256::digest(bytes.get(..at).unwrap_or_default());
            return if data == digest.as_slice() { Ok(entries) } else { Err(CertError::Integrity) };
        }
        entries.push(Entry { kind, subtype, flags, data });
        at = end + FOOTER;
    }
    if entries.is_empty() { Err(CertError::Empty) } else { Ok(entries) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::mutate;

    fn entries() -> Vec<Entry> {
        vec![
            Entry::from_file(kind::DEVICE_CERT, b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"),
            Entry::from_file(kind::PRIVATE_KEY, &[7; 32]),
        ]
    }

    #[test]
    fn what_is_built_is_read() {
        let image = build(&entries(), SIZE).unwrap();
        assert_eq!(image.len(), SIZE);
        assert_eq!(read(&image).unwrap(), entries());
        assert_eq!(read(&image).unwrap()[0].data.last(), Some(&0));
        let mut damaged = image.clone();
        damaged[20] ^= 1;
        assert_eq!(read(&damaged), Err(CertError::Crc(0)));
        assert_eq!(read(&[0xff; 64]), Err(CertError::Empty));
        assert!(matches!(build(&entries(), 64), Err(CertError::Full { .. })));
        assert_eq!(build(&[Entry::from_file(0, &[0; 70_000])], 1 << 20), Err(CertError::Long(70_000)));
        assert!(!format!("{:?}", entries()[1]).contains('['));
    }

    #[test]
    fn an_entry_taken_out_is_noticed() {
        let image = build(&entries(), SIZE).unwrap();
        let first = HEADER + entries()[0].data.len().next_multiple_of(ALIGNMENT) + FOOTER;
        assert_eq!(read(&image[first..]), Err(CertError::Integrity));
    }

    #[test]
    fn mutated_partitions_do_no_harm() {
        let image = build(&entries(), 0x200).unwrap();
        mutate(&[image], 20_000, |bytes| {
            let _ = read(bytes);
        });
    }
}
