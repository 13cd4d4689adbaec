//! What the eFuses mean to a loader: the answer to GET_SECURITY_INFO, the flash encryption key.

use esp_model::chip::FlashCipher;
use esp_model::efuse::{Block, bits};
use esp_model::secure::flash_encryption::FlashKey;

use crate::machine::Machine;

/// Flag bits, in order from bit 0, and the eFuse fields that set them (the first that the chip has).
const FLAGS: [&[&str]; 11] = [
    &["SECURE_BOOT_EN"],
    &["SECURE_BOOT_AGGRESSIVE_REVOKE"],
    &["ENABLE_SECURITY_DOWNLOAD"],
    &["SECURE_BOOT_KEY_REVOKE0"],
    &["SECURE_BOOT_KEY_REVOKE1"],
    &["SECURE_BOOT_KEY_REVOKE2"],
    &["SOFT_DIS_JTAG"],
    &["DIS_PAD_JTAG", "HARD_DIS_JTAG"],
    &["DIS_USB", "DIS_USB_JTAG"],
    &["DIS_DOWNLOAD_DCACHE"],
    &["DIS_DOWNLOAD_ICACHE"],
];

/// Flags, SPI_BOOT_CRYPT_CNT, seven key purposes, chip id, eco version; cut to what the chip's ROM sends.
pub fn info(machine: &Machine) -> Vec<u8> {
    let efuse = &machine.efuse;
    let set = |names: &[&str]| names.iter().any(|name| efuse.number(name) != 0);
    let flags = FLAGS.iter().enumerate().fold(0u32, |flags, (bit, names)| flags | u32::from(set(names)) << bit);
    let mut out = flags.to_le_bytes().to_vec();
    out.push(efuse.number("SPI_BOOT_CRYPT_CNT") as u8);
    let purpose = |key: u8| efuse.number(&format!("KEY_PURPOSE_{key}")) as u8;
    out.extend((0..7).map(|key| if key < 6 { purpose(key) } else { 0 }));
    out.extend_from_slice(&u32::from(machine.chip.chip_id.unwrap_or(0)).to_le_bytes());
    out.extend_from_slice(&0u32.to_le_bytes());
    out.truncate(machine.chip.rom.security_info_len);
    out
}

/// Purposes of the blocks that hold the flash encryption key, shortest key first.
const XTS_PURPOSES: [&[&str]; 2] = [&["XTS_AES_128_KEY"], &["XTS_AES_256_KEY_1", "XTS_AES_256_KEY_2"]];
/// The ESP32's block for it.
const ESP32_BLOCK: u8 = 1;

/// The key that the chip encrypts flash with; blank eFuses are a key of zeros. None: the chip does not encrypt.
pub fn flash_key(machine: &Machine) -> Option<FlashKey> {
    let encryption = machine.chip.security.flash_encryption.as_ref()?;
    let table = machine.efuse.table();
    // The hardware takes a key's bytes in reverse order of its blocks.
    let bytes = |block: &Block| bits::to_bytes(machine.efuse.decoded().block(block.id)).into_iter().rev();
    if encryption.cipher == FlashCipher::Esp32Aes {
        let key: Vec<u8> = bytes(table.block(ESP32_BLOCK)?).collect();
        return FlashKey::esp32(&key, machine.efuse.number("FLASH_CRYPT_CONFIG") as u8).ok();
    }
    let holds = |block: &&Block, purpose: &str| {
        let wanted = table.key_purposes.iter().find(|known| known.name == purpose).and_then(|known| known.value);
        let field = block.purpose_field.as_deref();
        wanted.is_some() && field.map(|field| machine.efuse.number(field)) == wanted.map(u32::from)
    };
    let find = |purpose: &&str| table.blocks.iter().find(|block| holds(block, purpose));
    let found = XTS_PURPOSES.iter().find_map(|purposes| purposes.iter().map(find).collect::<Option<Vec<_>>>());
    let key = found.map_or_else(|| vec![0; 32], |blocks| blocks.into_iter().flat_map(bytes).collect());
    FlashKey::xts(&key).ok()
}
