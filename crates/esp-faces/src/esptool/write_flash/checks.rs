//! What must hold before the first byte is written.

use esp_model::image::parse::parse_for;
use esp_model::image::{Extended, detect};

use super::Job;
use crate::command::Call;
use crate::esptool::security::Security;
use crate::esptool::session::{Session, failed};
use crate::fault::Fault;

/// End of the region that secure boot V1 and the bootloader take.
const BOOTLOADER_END: u32 = 0x8000;

/// Refuses what would leave the chip unable to start.
pub fn before(call: &Call<'_>, session: &Session, security: Security, jobs: &[Job]) -> Result<(), Fault> {
    let forced = call.has("force");
    if !forced && security.secure_boot_v1 && jobs.iter().any(|job| job.piece.part.address < BOOTLOADER_END) {
        return Err(Fault::fatal(
            "Secure Boot V1 detected, writing to flash regions < 0x8000 is disabled to protect the bootloader. Use the \
             force argument to override, please use with caution, otherwise it may brick your device!",
        ));
    }
    if !forced && !session.is_locked() {
        jobs.iter().try_for_each(|job| compatible(call, session, job))?;
    }
    if jobs.iter().any(|job| job.encrypt) {
        return encrypted(call, session, security, jobs);
    }
    if forced {
        return Ok(());
    }
    if session.is_locked() && security.encrypted {
        return Err(Fault::fatal(
            "Detected flash encryption and secure download mode enabled.\nFlashing plaintext binary may brick your \
             device! Use the force argument to override the warning.",
        ));
    }
    if security.encrypted && security.manual_encryption_closed {
        return Err(Fault::fatal(
            "Detected flash encryption enabled and download manual encrypt disabled.\nData must be encrypted \
             appropriately before flashing.\nFlashing plaintext data may brick your device! Use the force argument to \
             override the warning.",
        ));
    }
    Ok(())
}

fn encrypted(call: &Call<'_>, session: &Session, security: Security, jobs: &[Job]) -> Result<(), Fault> {
    let chip = &session.loader.chip().name;
    if session.is_first_family() {
        return Err(Fault::Fatal(format!("{chip} does not support encrypted flashing. ")));
    }
    if !session.loader.can_encrypt() {
        return Err(Fault::Fatal(format!(
            "{chip} ROM bootloader does not support encrypted writes. Encrypted writing is only supported by the \
             flasher stub. Do not use --no-stub when writing encrypted data."
        )));
    }
    if security.manual_encryption_closed {
        return Err(Fault::fatal(
            "This chip has encrypt functionality in UART download mode disabled. This is the Flash Encryption \
             configuration for Production mode instead of Development mode.",
        ));
    }
    let mut possible = true;
    if !session.is_locked() && !security.has_key {
        call.terminal.say("Flash encryption key is not programmed.");
        possible = false;
    }
    for job in jobs.iter().filter(|job| job.encrypt && !job.piece.part.address.is_multiple_of(16)) {
        let (path, address) = (&job.piece.path, job.piece.part.address);
        call.terminal
            .warn(format_args!("'{path}' (address {address:#x}) is not 16 byte aligned, can't flash encrypted."));
        possible = false;
    }
    if possible || call.has("ignore-flash-enc-efuse") {
        return Ok(());
    }
    Err(Fault::fatal(
        "Can't perform encrypted flash write, consult Flash Encryption documentation for more information.",
    ))
}

/// An image for another chip or revision: refused as a bootloader, else only said.
fn compatible(call: &Call<'_>, session: &Session, job: &Job) -> Result<(), Fault> {
    let chip = session.loader.chip();
    let data = &job.piece.part.data;
    let Some(extended) = parse_for(chip, data).ok().and_then(|image| image.extended) else { return Ok(()) };
    let reason = match detect(data) {
        Ok(found) if found.id != chip.id => Some(format!("'{}' is not an {} image", job.piece.path, chip.name)),
        _ => wrong_revision(&extended, session.loader.revision().unwrap_or(0), &job.piece.path),
    };
    let Some(reason) = reason else { return Ok(()) };
    if job.piece.part.address == chip.flash.bootloader_offset {
        return Err(Fault::Fatal(format!("{reason}. Use --force to flash anyway.")));
    }
    call.terminal.note(reason);
    Ok(())
}

/// Why the image does not run on this revision.
fn wrong_revision(image: &Extended, revision: u16, path: &str) -> Option<String> {
    let shown = |number: u16| format!("v{}.{}", number / 100, number % 100);
    let (low, high) = (image.min_rev_full, image.max_rev_full);
    // Images from before ESP-IDF 5.0 name no full revision.
    if high == 0 || high == u16::MAX && low == 0 {
        return None;
    }
    if (low..=high).contains(&revision) {
        return None;
    }
    let needs = match (low, high) {
        (low, u16::MAX) => format!("{} or higher", shown(low)),
        (0, high) => format!("{} or lower", shown(high)),
        (low, high) => format!("in range {} - {}", shown(low), shown(high)),
    };
    Some(format!("'{path}' requires chip revision {needs} (this chip is revision {})", shown(revision)))
}

/// Every file ends inside the flash.
pub fn fits(session: &mut Session, jobs: &[Job]) -> Result<(), Fault> {
    if session.is_locked() {
        return Ok(());
    }
    let flash = session.loader.attach_flash(&session.job, None).map_err(failed)?;
    let beyond = |job: &&Job| job.piece.part.end() > u64::from(flash);
    match jobs.iter().find(beyond) {
        None => Ok(()),
        Some(job) => {
            let (path, length, address) = (&job.piece.path, job.piece.part.data.len(), job.piece.part.address);
            Err(Fault::Fatal(format!(
                "File '{path}' (length {length}) at offset {address:#010x} will not fit in {flash} bytes of flash. \
                 Change the flash_size argument or flashing address."
            )))
        }
    }
}
