//! What DTR and RTS do to the chip.

use std::time::Duration;

/// How the host's modem lines reach the chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wiring {
    /// A USB-UART bridge with the usual two transistors: RTS alone pulls EN low, DTR alone pulls the boot pin low,
    /// both together do nothing.
    #[default]
    Bridge,
    /// The chip's USB-Serial/JTAG unit: DTR alone sets the download flag, no line clears it, RTS alone resets.
    UsbSerialJtag,
    /// The chip's USB-OTG unit with the ROM's CDC-ACM device: RTS resets.
    UsbOtg,
}

/// What the lines ask of the chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// EN is low: the chip is held in reset.
    Hold,
    /// EN rises; the chip starts after this time and reads its straps then.
    Release(Duration),
    /// The chip resets at once.
    Reset,
}

/// EN's capacitor: it charges in about this time after RTS lets go.
const EN_RISE: Duration = Duration::from_millis(1);
/// With both lines asserted the host is on its way from "reset" to "boot pin low", one line after the other. Over a
/// network each step takes tens of milliseconds; EN is taken to rise only when the next step has come, or after this.
const EN_RISE_IN_TRANSIT: Duration = Duration::from_millis(800);

/// The present state of the lines.
#[derive(Debug, Clone)]
pub struct Circuit {
    wiring: Wiring,
    dtr: bool,
    rts: bool,
    /// The USB unit's download flag.
    download_flag: bool,
    /// How long EN takes to rise.
    rise: Duration,
}

impl Circuit {
    pub fn new(wiring: Wiring) -> Self {
        Self { wiring, dtr: false, rts: false, download_flag: false, rise: EN_RISE }
    }

    /// The same with much capacitance on EN.
    pub fn with_rise(self, rise: Duration) -> Self {
        Self { rise, ..self }
    }

    pub fn wiring(&self) -> Wiring {
        self.wiring
    }

    /// The boot pin is low, or the USB unit asks for download mode.
    pub fn wants_download(&self) -> bool {
        match self.wiring {
            Wiring::Bridge => self.dtr && !self.rts,
            Wiring::UsbSerialJtag | Wiring::UsbOtg => self.download_flag,
        }
    }

    /// Takes new line levels; `held` says whether the chip is in reset or about to leave it.
    pub fn set(&mut self, dtr: bool, rts: bool, held: bool) -> Effect {
        let before = (self.dtr, self.rts);
        (self.dtr, self.rts) = (dtr, rts);
        match self.wiring {
            Wiring::Bridge => match (dtr, rts) {
                (false, true) => Effect::Hold,
                (true, true) if held => Effect::Release(EN_RISE_IN_TRANSIT.max(self.rise)),
                _ if held => Effect::Release(self.rise),
                _ => Effect::None,
            },
            Wiring::UsbSerialJtag | Wiring::UsbOtg => {
                match (dtr, rts) {
                    (false, false) => self.download_flag = false,
                    (true, false) => self.download_flag = true,
                    (false, true) if before != (false, true) => return Effect::Reset,
                    _ => {}
                }
                Effect::None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_after_line_and_both_at_once_lead_to_download_mode() {
        for path in [&[(false, true), (true, true), (true, false)][..], &[(false, true), (true, false)]] {
            let mut circuit = Circuit::new(Wiring::Bridge);
            let mut last = Effect::None;
            for &(dtr, rts) in path {
                last = circuit.set(dtr, rts, last != Effect::None);
            }
            assert_eq!(last, Effect::Release(EN_RISE));
            assert!(circuit.wants_download());
        }
    }

    #[test]
    fn usb_unit_resets_into_download_mode_by_its_flag() {
        let mut circuit = Circuit::new(Wiring::UsbSerialJtag);
        assert_eq!(circuit.set(true, false, false), Effect::None);
        assert_eq!(circuit.set(true, true, false), Effect::None);
        assert_eq!(circuit.set(false, true, false), Effect::Reset);
        assert!(circuit.wants_download());
        circuit.set(false, false, false);
        circuit.set(false, true, false);
        assert!(!circuit.wants_download());
    }
}
