//! Checksums that chips and ESP-IDF use.

/// The ROM's CRC-32 (little-endian) of `bytes` with a start value of 0xFFFFFFFF: otadata, NVS and NVS keys.
///
/// It is the common CRC-32 continued from 0xFFFFFFFF, so its register starts at zero.
pub fn rom_crc32(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(u32::MAX);
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    #[test]
    fn first_ota_sequence() {
        // otadata that selects ota_0, as ESP-IDF's otatool writes it.
        assert_eq!(super::rom_crc32(&1u32.to_le_bytes()), 0x4743_989a);
    }
}
