//! What to do when the boot chain stops somewhere.

use esp_model::boot::{BootReport, Outcome, Stage};
use esp_model::chip::Chip;

/// The next step of somebody whose device stops at this stage; none where it starts.
pub fn after_stop(report: &BootReport, chip: &Chip) -> Option<String> {
    let Outcome::Stops(stage) = report.outcome else { return None };
    let (id, place) = (chip.id, chip.flash.bootloader_offset);
    if report.ciphertext && stage == Stage::Rom {
        return Some(
            "esp_security_audit tells whether a flash encryption key is burned and how encryption could be ended; with \
             the key, write the images encrypted (esp_flash_encrypt port=… key_file=… files=[…])"
                .into(),
        );
    }
    Some(match stage {
        Stage::Rom | Stage::Bootloader => format!(
            "esp_flash_firmware project=FOLDER writes a whole build; for the bootloader alone take the build's, or \
             esp_bootloader_build chip_type={id}, then esp_flash_firmware files=[{{\"path\": \"bootloader-{id}.bin\", \
             \"address\": \"{place:#x}\"}}] flash_size=detect"
        ),
        Stage::PartitionTable => "esp_flash_firmware project=FOLDER writes a whole build; for the table alone: \
             esp_partition_create, then esp_partition_flash"
            .into(),
        Stage::Otadata => {
            "esp_ota_flash_prepare action=status shows what is selected, action=switch selects a slot".into()
        }
        Stage::App => {
            "write the app again (esp_flash_firmware files=[{\"path\": APP, \"address\": PARTITION}]), or start \
             another slot (esp_ota_flash_prepare action=switch)"
                .into()
        }
        Stage::AntiRollback => "write an app whose secure_version is not below the one in the eFuses".into(),
        Stage::BootloaderSignature | Stage::AppSignature => {
            "sign it with the key that this chip trusts (esp_secure_sign action=sign) and write it again; \
             esp_security_info shows the digests in force"
                .into()
        }
    })
}

/// Said after a write that leaves a device which does not start.
pub fn not_yet(report: &BootReport, chip: &Chip) -> Option<String> {
    let next = after_stop(report, chip)?;
    let cause = report.failure().map_or("", |step| step.text.as_str());
    Some(format!("the device does not boot yet: {cause}; next: {next}"))
}
