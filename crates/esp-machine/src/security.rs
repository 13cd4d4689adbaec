//! Flash encryption's key, as the eFuses give it to the cache.

use esp_model::chip::FlashCipher;
use esp_sim::efuse::Efuse;

use crate::chip::Board;
use crate::xts::Keys;

/// The key when encryption is on; `None` when it is off or there is none.
pub fn flash_keys(board: &Board, efuse: &Efuse) -> Option<Keys> {
    let chip = esp_model::chip::by_name(board.id)?;
    let encryption = chip.security.flash_encryption.as_ref()?;
    if efuse.number(&encryption.count).count_ones().is_multiple_of(2) {
        return None;
    }
    let blocks = chip.efuse();
    if encryption.cipher != FlashCipher::XtsAes {
        let purpose = blocks.key_purposes.iter().find(|purpose| purpose.name == "FLASH_ENCRYPTION")?;
        let mut bytes = esp_model::efuse::bits::to_bytes(efuse.decoded().block(*purpose.blocks.first()?));
        if purpose.reversed {
            bytes.reverse();
        }
        return Keys::tweaked(bytes, efuse.number("FLASH_CRYPT_CONFIG") as u8);
    }
    let key = |wanted: &str| {
        let purpose = blocks.key_purposes.iter().find(|purpose| purpose.name == wanted)?;
        let number = blocks.fields.iter().find_map(|field| {
            let number = field.name.strip_prefix("KEY_PURPOSE_")?;
            (efuse.number(&field.name) == u32::from(purpose.value?)).then_some(number)
        })?;
        let block = blocks.blocks.iter().find(|block| block.name == format!("BLOCK_KEY{number}"))?;
        let mut bytes = esp_model::efuse::bits::to_bytes(efuse.decoded().block(block.id));
        if purpose.reversed {
            bytes.reverse();
        }
        Some(bytes)
    };
    let halves = || {
        let mut first = key("XTS_AES_256_KEY_1")?;
        first.extend(key("XTS_AES_256_KEY_2")?);
        Some(first)
    };
    Keys::new(key("XTS_AES_128_KEY").or_else(halves)?)
}
