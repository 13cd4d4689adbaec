//! Flash encryption as the cache sees it.

use esp_model::secure::flash_encryption::{Direction, FlashKey};

/// The eFuse key as the hardware holds it.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    key: Vec<u8>,
    /// The first chip's cipher, with which parts of the key the address changes; `None` for XTS.
    tweak: Option<u8>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({} bytes)", self.key.len())
    }
}

impl Keys {
    /// 32 or 64 bytes, or 16 from which the hardware derives 32; a key of another length is none.
    pub fn new(key: Vec<u8>) -> Option<Self> {
        FlashKey::xts(&key).is_ok().then_some(Self { key, tweak: None })
    }

    /// The first chip's key, 24 or 32 bytes, and its FLASH_CRYPT_CONFIG.
    pub fn tweaked(key: Vec<u8>, config: u8) -> Option<Self> {
        FlashKey::esp32(&key, config).is_ok().then_some(Self { key, tweak: Some(config) })
    }

    /// Decrypts a page; `address` is where it stands in flash.
    pub fn decrypt(&self, bytes: &mut [u8], address: u32) {
        self.run(Direction::Decrypt, bytes, address);
    }

    /// Encrypts what is written to that place.
    pub fn encrypt(&self, bytes: &mut [u8], address: u32) {
        self.run(Direction::Encrypt, bytes, address);
    }

    fn run(&self, direction: Direction, bytes: &mut [u8], address: u32) {
        // Lengths and addresses come in whole units; anything else stays as it is.
        let key = match self.tweak {
            Some(config) => FlashKey::esp32(&self.key, config),
            None => FlashKey::xts(&self.key),
        };
        if let Ok(key) = key {
            let _ = key.apply(direction, address.into(), bytes);
        }
    }
}
