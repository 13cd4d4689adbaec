//! Does the flash answer? If not, does it at another voltage?

use esp_link::LoaderError;
use esp_model::flash::status::{Protection, RegisterLock};
use esp_model::job::Job;
use esp_ops::error::ToolError;
use esp_ops::flash::part;
use esp_ops::session::device::Connected;

use super::{Ladder, Verdict};

/// The flash answers as the device is wired and strapped.
pub fn answers(connected: &mut Connected, job: &Job, ladder: &mut Ladder) -> Result<bool, ToolError> {
    let id = match connected.loader.flash_id(job) {
        Ok(id) => id,
        Err(error @ (LoaderError::Line(_) | LoaderError::Cancelled)) => return Err(error.into()),
        Err(error) => {
            ladder.fault("flash id", format!("the flash does not answer: {error}"));
            override_voltage(connected, job, ladder)?;
            return Ok(false);
        }
    };
    ladder.note("flash id", true, id.to_string());
    let registers = part::registers(connected, job, id)?;
    let values: Vec<String> = registers.values.iter().map(|(_, value)| format!("{value:#04x}")).collect();
    let locked = registers.status.lock == RegisterLock::Permanent;
    let protected = matches!(registers.status.protection, Protection::All | Protection::Part);
    let sound = registers.status.protection != Protection::Unknown && !(locked && protected);
    ladder.note("flash status", sound, values.join(" "));
    if locked && protected {
        ladder.verdict = Verdict::FlashDead;
        ladder.cause.get_or_insert_with(|| "the flash is write-protected and locked permanently".into());
        ladder.next("the flash is write-protected and its status registers are locked permanently: replace it");
        return Ok(false);
    }
    Ok(true)
}

/// Tries the supply voltages that a register can set. Nothing is burned: a reset takes it back.
fn override_voltage(connected: &mut Connected, job: &Job, ladder: &mut Ladder) -> Result<(), ToolError> {
    ladder.verdict = Verdict::FlashDead;
    let chip = connected.loader.chip();
    let Some(known) = &chip.flash.voltage_override else {
        ladder.next(format!("check the supply, and what is wired to the flash pins of {}", chip.name));
        return Ok(());
    };
    for (name, value) in &known.values {
        connected.loader.write_reg(job, known.register, *value, u32::MAX)?;
        match connected.loader.flash_id(job) {
            Ok(id) => {
                ladder.note(format!("flash voltage {name} (by register, nothing burned)"), true, id.to_string());
                ladder.verdict = Verdict::NeedsHands;
                ladder.next(format!(
                    "the flash answers with its supply set to {name} by register: at reset the strapping pin chooses a wrong voltage; \
                     free that pin, or have the voltage burned into eFuses with esp_efuse_burn"
                ));
                return Ok(());
            }
            Err(error @ (LoaderError::Line(_) | LoaderError::Cancelled)) => return Err(error.into()),
            Err(error) => {
                ladder.note(format!("flash voltage {name} (by register, nothing burned)"), false, error.to_string());
            }
        }
    }
    ladder.next(format!("check the supply, and what is wired to the flash pins of {}", chip.name));
    Ok(())
}
