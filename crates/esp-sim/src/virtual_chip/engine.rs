//! What runs the chip's own code, as others see it.

use super::{Program, VirtualChip};
use crate::efuse::Efuse;
use crate::firmware::Firmware;
use crate::nor::Nor;

impl VirtualChip {
    /// The chip's own code runs now, not an imitation of it.
    pub fn runs_firmware(&self) -> bool {
        matches!(self.program, Program::Firmware(..))
    }

    /// What the firmware's engine met that it does not model; each is told once.
    pub fn firmware_notes(&mut self) -> Vec<String> {
        self.firmware.as_mut().map(|firmware| firmware.notes()).unwrap_or_default()
    }

    /// What runs the chip's own code, with its flash and eFuses, for a debugger; `None` while no code of the chip runs.
    pub fn engine(&mut self) -> Option<(&mut dyn Firmware, &mut Nor, &mut Efuse)> {
        let firmware = self.firmware.as_deref_mut().filter(|_| matches!(self.program, Program::Firmware(..)))?;
        Some((firmware, &mut self.machine.nor, &mut self.machine.efuse))
    }
}
