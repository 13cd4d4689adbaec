//! Reset sequences on DTR and RTS, as data.

use std::io;
use std::time::Duration;

use esp_model::port::{ESPRESSIF_VID, Port, PortInfo};

/// One step of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Set DTR (pulls the boot pin low).
    Dtr(bool),
    /// Set RTS (pulls EN low).
    Rts(bool),
    /// Set both in one call.
    Both(bool, bool),
    /// Wait, in milliseconds.
    Wait(u64),
}

/// A reset sequence with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// `classic`, `tight`, `usb-serial-jtag`, `custom` …
    pub name: String,
    steps: Vec<Step>,
}

/// A custom sequence that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("reset sequence: {0}")]
pub struct BadSequence(String);

impl Sequence {
    /// The two-transistor circuit, one line after the other. `hold_ms` is how long the boot pin stays low after EN rose.
    pub fn classic(hold_ms: u64) -> Self {
        use Step::{Dtr, Rts, Wait};
        Self::new("classic", &[Dtr(false), Rts(true), Wait(100), Dtr(true), Rts(false), Wait(hold_ms), Dtr(false)])
    }

    /// The same with both lines set at once, so that no spike in between starts the app.
    pub fn tight(hold_ms: u64) -> Self {
        use Step::{Both, Dtr, Wait};
        let steps = [
            Both(false, false),
            Both(true, true),
            Both(false, true),
            Wait(100),
            Both(true, false),
            Wait(hold_ms),
            Both(false, false),
            Dtr(false),
        ];
        Self::new("tight", &steps)
    }

    /// The chip's own USB-Serial/JTAG unit: goes through (1,1) rather than (0,0).
    pub fn usb_serial_jtag() -> Self {
        use Step::{Dtr, Rts, Wait};
        let steps = [
            Rts(false),
            Dtr(false),
            Wait(100),
            Dtr(true),
            Rts(false),
            Wait(100),
            Rts(true),
            Dtr(false),
            Rts(true),
            Wait(100),
            Dtr(false),
            Rts(false),
        ];
        Self::new("usb-serial-jtag", &steps)
    }

    /// A pulse on EN with the boot pin high: starts the app. Built-in USB needs longer, it leaves the bus.
    pub fn hard_reset(built_in_usb: bool) -> Self {
        use Step::{Dtr, Rts, Wait};
        match built_in_usb {
            true => Self::new("hard-reset", &[Dtr(false), Rts(true), Wait(200), Rts(false), Wait(200)]),
            false => Self::new("hard-reset", &[Dtr(false), Rts(true), Wait(100), Rts(false)]),
        }
    }

    /// The pulse that starts the app through this line; `None` for a line without modem lines.
    pub fn start(info: &PortInfo) -> Option<Self> {
        let built_in_usb = info.usb.is_some_and(|(vendor, _)| vendor == ESPRESSIF_VID);
        info.modem_lines.then(|| Self::hard_reset(built_in_usb))
    }

    /// The sequence that leads into the loader through this line; `None` for a line without modem lines.
    pub fn into_loader(info: &PortInfo) -> Option<Self> {
        let sequence = if info.is_usb_serial_jtag() { Self::usb_serial_jtag() } else { Self::classic(50) };
        info.modem_lines.then_some(sequence)
    }

    /// Reads the field's notation: `D0|R1|W0.1` (DTR, RTS, both as `U1,0`, wait in seconds).
    pub fn custom(text: &str) -> Result<Self, BadSequence> {
        let steps = text.split('|').map(|step| parse_step(step.trim())).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { name: "custom".into(), steps })
    }

    fn new(name: &str, steps: &[Step]) -> Self {
        Self { name: name.into(), steps: steps.to_vec() }
    }

    /// Plays the sequence.
    pub fn run(&self, port: &mut dyn Port) -> io::Result<()> {
        let (mut dtr, mut rts) = (false, false);
        for step in &self.steps {
            match *step {
                Step::Dtr(level) => dtr = level,
                Step::Rts(level) => rts = level,
                Step::Both(d, r) => (dtr, rts) = (d, r),
                Step::Wait(ms) => {
                    port.sleep(Duration::from_millis(ms));
                    continue;
                }
            }
            port.set_lines(dtr, rts)?;
        }
        Ok(())
    }
}

fn parse_step(step: &str) -> Result<Step, BadSequence> {
    let bad = || BadSequence(format!("\"{step}\" is none of D0, D1, R0, R1, U0,1, W0.1"));
    let (kind, value) = step.split_at_checked(1).ok_or_else(bad)?;
    let level = |text: &str| match text {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(bad()),
    };
    match kind {
        "D" => Ok(Step::Dtr(level(value)?)),
        "R" => Ok(Step::Rts(level(value)?)),
        "U" => value.split_once(',').ok_or_else(bad).and_then(|(d, r)| Ok(Step::Both(level(d)?, level(r)?))),
        "W" => {
            let seconds: f64 = value.parse().map_err(|_| bad())?;
            if (0.0..=60.0).contains(&seconds) { Ok(Step::Wait((seconds * 1000.0) as u64)) } else { Err(bad()) }
        }
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn custom_sequences_are_read_or_refused() {
        let read = Sequence::custom("D0|R1|W0.1|U1,0|W0.05|D0").unwrap();
        assert_eq!(read.steps.len(), 6);
        assert_eq!(read.steps[3], Step::Both(true, false));
        for bad in ["", "D2", "X1", "W-1", "W1e9", "U1", "D0||R1"] {
            assert!(Sequence::custom(bad).is_err(), "{bad}");
        }
    }
}
