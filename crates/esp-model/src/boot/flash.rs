//! Where the bytes come from.

/// Flash, as the chip sees it: decrypted where the chip decrypts.
pub trait FlashRead {
    /// Fills `buf` from `address` on; false when that is beyond the end or cannot be read.
    fn read(&self, address: u32, buf: &mut [u8]) -> bool;
}

impl FlashRead for [u8] {
    fn read(&self, address: u32, buf: &mut [u8]) -> bool {
        let start = address as usize;
        match start.checked_add(buf.len()).and_then(|end| self.get(start..end)) {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                true
            }
            None => false,
        }
    }
}

impl FlashRead for Vec<u8> {
    fn read(&self, address: u32, buf: &mut [u8]) -> bool {
        self.as_slice().read(address, buf)
    }
}
