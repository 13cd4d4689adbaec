//! A program on a virtual device that waits for the radio: the device notes it, and results of listening say it.

use esp_debug::symbols::Program;
use esp_link::port::PortUrl;

use crate::boot::capture::{Names, named_address};
use crate::boot::findings::Known;
use crate::call::Call;
use crate::error::ToolError;

/// The finding's stable name; the device's note begins with it.
pub const CODE: &str = "radio_not_emulated";
const REMEDY: &str = "start the device with esp_qemu_start radio=finish to let it go on without a network, run it on a board, or build the \
                      program without Wi-Fi, Bluetooth and 802.15.4: virtual devices have no radio";
const REMEDY_LET_THROUGH: &str = "take what follows as a program without a network; test what needs one on a board";

/// What the device has noted so far.
pub struct Watch {
    port: PortUrl,
    known: usize,
}

impl Watch {
    /// Begins to look at the port of this URL; `None` when no virtual device is behind it.
    pub fn begin(call: &Call, url: &str) -> Option<Self> {
        let port: PortUrl = url.parse().ok()?;
        let known = notes(call, &port)?.len();
        // A simulated device of this process tells each note once.
        let known = if matches!(port, PortUrl::Sim { .. }) { 0 } else { known };
        Some(Self { port, known })
    }

    /// What the program waits for since then, or since ever, with the place in words where the ELF file is at hand.
    pub fn finding(
        &self,
        call: &Call,
        names: &mut Names<'_>,
        app: Option<&str>,
        ever: bool,
    ) -> Result<Option<Known>, ToolError> {
        let notes = notes(call, &self.port).unwrap_or_default();
        let from = if ever { 0 } else { self.known };
        let Some(wait) = notes.iter().skip(from).rev().find_map(|note| parse(note)) else { return Ok(None) };
        let program = names.file(app)?.and_then(|elf| Program::parse(&elf.bytes).ok());
        let program = program.filter(|program| app.is_none_or(|app| program.is_app(app)));
        let place = named_address(program.as_ref(), wait.pc);
        let (end, remedy) = match wait.let_through {
            true => (
                "by the setting radio=finish its calibration was let through, and it finds no network",
                REMEDY_LET_THROUGH,
            ),
            false => ("it waits forever", REMEDY),
        };
        let cause = format!("the program at {place} polls {} of the radio, which is not there; {end}", wait.register);
        Ok(Some(Known::new(CODE, cause, remedy)))
    }
}

fn notes(call: &Call, port: &PortUrl) -> Option<Vec<String>> {
    match port {
        PortUrl::Sim { .. } => {
            let url = port.to_string();
            let device = call.ports.simulated().into_iter().find(|device| device.url() == url)?;
            Some(device.with(|chip, _| chip.firmware_notes()))
        }
        PortUrl::Qemu(id) => Some(call.virtuals.manager.status(id).ok()?.about.notes),
        _ => None,
    }
}

/// Where the program is, the register that it polls, and whether it was let through.
#[derive(Debug, PartialEq, Eq)]
struct Wait<'a> {
    pc: u32,
    register: &'a str,
    let_through: bool,
}

fn parse(note: &str) -> Option<Wait<'_>> {
    let rest = note.strip_prefix(CODE)?.strip_prefix(": the program at 0x")?;
    let pc = u32::from_str_radix(rest.get(..8)?, 16).ok()?;
    let (_, rest) = rest.split_once(" polls ")?;
    let (register, rest) = rest.split_once(" of the radio")?;
    Some(Wait { pc, register, let_through: rest.contains("was let through") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn note_of_the_device_is_read() {
        let note = "radio_not_emulated: the program at 0x42001234 (poll) polls FE.STATE (0x600a0418) of the radio, which is not there";
        let wait = Wait { pc: 0x4200_1234, register: "FE.STATE (0x600a0418)", let_through: false };
        assert_eq!(parse(note), Some(wait));
        let note = format!("{note}; it was let through, as radio=finish wants; there is no network");
        assert!(parse(&note).unwrap().let_through);
        assert_eq!(parse("UART0.CLK (0x60000000) was read at 0x42001234; it keeps what is written"), None);
    }
}
