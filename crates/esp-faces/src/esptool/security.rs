//! What the chip's eFuses say about security, as far as commands refuse by it.

use esp_model::chip::SecureBootScheme;
use esp_model::efuse::security::{FlashEncryptionMode, SecurityView};

use super::session::{Session, failed};
use crate::fault::Fault;

/// The state that commands ask about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Security {
    /// Secure boot is on.
    pub secure_boot: bool,
    /// Its first version is on: the bootloader must not be replaced.
    pub secure_boot_v1: bool,
    /// Flash encryption is on.
    pub encrypted: bool,
    /// The loader no longer encrypts what it writes.
    pub manual_encryption_closed: bool,
    /// A flash encryption key is burned.
    pub has_key: bool,
}

/// Bits of the eFuse that closes encryption by the loader.
const CLOSED: [&str; 2] = ["DIS_DOWNLOAD_MANUAL_ENCRYPT", "DISABLE_DL_ENCRYPT"];

/// Reads it. In secure download mode only the flags of the security info can be asked for.
pub fn read(session: &mut Session) -> Result<Security, Fault> {
    if session.is_first_family() {
        return Ok(Security::default());
    }
    if session.is_locked() {
        let info = session.loader.security_info(&session.job).map_err(failed)?;
        let encrypted = info.flash_crypt_count.count_ones() % 2 == 1;
        return Ok(Security { secure_boot: info.is_secure_boot(), encrypted, ..Security::default() });
    }
    let efuses = session.loader.read_efuses(&session.job).map_err(failed)?;
    let view = SecurityView { chip: session.loader.chip(), efuses: &efuses };
    Ok(Security {
        secure_boot: view.secure_boot().next().is_some(),
        secure_boot_v1: view.secure_boot().any(|boot| boot.scheme == SecureBootScheme::V1),
        encrypted: view.flash_encryption() != FlashEncryptionMode::Off,
        manual_encryption_closed: CLOSED.iter().any(|name| efuses.is_set(name)),
        has_key: view.has_flash_key(),
    })
}

/// Erasing would leave a chip with active security without what it needs to boot.
pub fn refuse_to_erase(session: &mut Session, force: bool) -> Result<(), Fault> {
    if force || session.is_locked() {
        return Ok(());
    }
    let security = read(session)?;
    if security.encrypted || security.secure_boot {
        return Err(Fault::fatal(
            "Active security features detected, erasing flash is disabled as a safety measure. Use the force argument \
             to override, please use with caution, otherwise it may brick your device!",
        ));
    }
    Ok(())
}
