//! What the eFuses mean to a loader: the answer to GET_SECURITY_INFO, the flash encryption key.

use esp_model::chip::{ChipData, FlashCipher};
use esp_model::efuse::security::SecurityView;
use esp_model::secure::flash_encryption::FlashKey;

use crate::efuse::Efuse;
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
    // Of keys that the chip does not have the ROM sends a number of its own. Earlier chips have no fields, and send 0.
    let has_fields = efuse.table().field("KEY_PURPOSE_0").is_some();
    let purpose = |key: u8| {
        let name = format!("KEY_PURPOSE_{key}");
        let there = efuse.table().field(&name).is_some() || !has_fields;
        if there { efuse.number(&name) as u8 } else { machine.chip.rom.seventh_purpose }
    };
    out.extend((0..6).map(purpose));
    out.push(machine.chip.rom.seventh_purpose);
    out.extend_from_slice(&u32::from(machine.chip.chip_id.unwrap_or(0)).to_le_bytes());
    out.extend_from_slice(&machine.chip.rom.eco.to_le_bytes());
    out.truncate(machine.chip.rom.security_info_len);
    out
}

/// The bytes of the flash encryption key in the eFuses, as the hardware takes them; none at all where no block has that purpose.
pub fn flash_key_bytes(chip: &ChipData, efuse: &Efuse) -> Option<Vec<u8>> {
    let efuses = efuse.decoded();
    let mut keys = SecurityView { chip, efuses }.secret_keys();
    keys.retain(|key| key.for_flash);
    keys.sort_by(|one, other| one.purpose.cmp(&other.purpose));
    // One short key counts before the halves of a long one.
    let short = keys.iter().position(|key| !key.purpose.contains("_256_KEY_"));
    let used = short.map_or(&keys[..], |at| &keys[at..=at]);
    // The hardware takes a key's bytes in reverse order of its blocks.
    let bytes = |place: &str| {
        let field = efuses.table.field(place)?;
        let mut bytes = field.bytes(efuses.block(field.block));
        bytes.truncate(efuses.capacity(efuses.table.block(field.block)?));
        Some(bytes.into_iter().rev().collect::<Vec<_>>())
    };
    Some(used.iter().map(|key| bytes(&key.place)).collect::<Option<Vec<_>>>()?.concat())
}

/// The key that the chip encrypts flash with; blank eFuses are a key of zeros. None: the chip does not encrypt.
pub fn flash_key(machine: &Machine) -> Option<FlashKey> {
    let encryption = machine.chip.security.flash_encryption.as_ref()?;
    let key = flash_key_bytes(machine.chip, &machine.efuse)?;
    match encryption.cipher {
        FlashCipher::Esp32Aes => FlashKey::esp32(&key, machine.efuse.number("FLASH_CRYPT_CONFIG") as u8).ok(),
        FlashCipher::XtsAes if key.is_empty() => FlashKey::xts(&[0; 32]).ok(),
        FlashCipher::XtsAes => FlashKey::xts(&key).ok(),
    }
}
