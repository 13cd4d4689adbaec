//! The answer to GET_SECURITY_INFO, put together from the eFuses.

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
