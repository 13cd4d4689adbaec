//! Flash encryption's key, as the eFuses give it to the cache and to the block that encrypts what is written.

use esp_model::chip::FlashCipher;
use esp_sim::efuse::Efuse;

use crate::chip::Board;
use crate::xts::Keys;

/// The key by which the cache decrypts, when encryption is on; `None` when it is off or there is none.
pub fn flash_keys(board: &Board, efuse: &Efuse) -> Option<Keys> {
    let encryption = esp_model::chip::by_name(board.id)?.security.flash_encryption.as_ref()?;
    let on = !efuse.number(&encryption.count).count_ones().is_multiple_of(2);
    if on { keys(board, efuse) } else { None }
}

/// The key by which data are encrypted on their way to flash: encryption may be off, and blank eFuses are a key of zeros.
pub fn write_keys(board: &Board, efuse: &Efuse) -> Option<Keys> {
    keys(board, efuse).or_else(|| Keys::new(vec![0; 32]))
}

fn keys(board: &Board, efuse: &Efuse) -> Option<Keys> {
    let chip = esp_model::chip::by_name(board.id)?;
    let bytes = esp_sim::flash_key_bytes(chip, efuse)?;
    match chip.security.flash_encryption.as_ref()?.cipher {
        FlashCipher::Esp32Aes => Keys::tweaked(bytes, efuse.number("FLASH_CRYPT_CONFIG") as u8),
        FlashCipher::XtsAes => Keys::new(bytes),
    }
}
