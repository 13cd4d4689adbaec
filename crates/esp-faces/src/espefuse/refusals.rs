//! Why something is not burned, in the texts that scripts look for.

use esp_model::efuse::BurnError;

use crate::fault::Fault;

/// A refusal as a fatal error.
pub fn refused(error: BurnError) -> Fault {
    Fault::Fatal(match &error {
        BurnError::GroupMac => "Custom MAC must be a unicast MAC!".into(),
        // The only limit that there is on the blocks of a purpose.
        BurnError::PurposeNotHere { .. } => format!("{error} due to a hardware bug (please see TRM for more details)"),
        BurnError::CannotClear(_) => format!("New value contains some bits that cannot be cleared ({error})"),
        BurnError::ReedSolomonUsed(name) => {
            format!("Burn into {name} is forbidden (RS coding scheme does not allow this).")
        }
        BurnError::ThreeQuartersUsed(name) => {
            format!("Burn into {name} is forbidden (3/4 coding scheme does not allow this).")
        }
        BurnError::NoSuchBit { block, bit } => format!("{block} has bit_number in [0..], not {bit}"),
        BurnError::FlashPin(30 | 31) => "IO pins 30 & 31 cannot be set for SPI flash. 0-29, 32 & 33 only.".into(),
        BurnError::FlashPin(pin) => format!("IO pin {pin} cannot be set for SPI flash. 0-29, 32 & 33 only."),
        BurnError::VoltageTaken(name) if name.ends_with("TIEH") => {
            format!("Can't set regulator to 1.8V is {name} eFuse is already burned")
        }
        BurnError::VoltageTaken(name) => format!("Can't set flash regulator to OFF as {name} eFuse is already burned"),
        BurnError::Twice(name) => format!("Found repeated {name} in the list."),
        BurnError::WriteProtected(name) => {
            format!("{name} cannot be changed: it is write-protected.")
        }
        BurnError::NoProtection { .. } => format!("{error}"),
        error => error.to_string(),
    })
}
