//! How Espressif's QEMU emulates a chip: `qemu.toml` in the folders of the chips it knows.

use std::sync::OnceLock;

use serde::Deserialize;

use super::{Chip, FILES};

/// What to ask QEMU for. Facts of the emulator, not of the silicon: its straps are not those of the chip.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Emulation {
    /// Where the facts are from.
    pub source: String,
    /// The program's name.
    pub program: String,
    /// Its `-machine`.
    pub machine: String,
    /// Its `-m` in MB when no PSRAM size is asked for; none leaves the option out.
    pub memory_mb: Option<u32>,
    /// PSRAM sizes in MB that `-m` can be set to.
    pub psram_mb: Vec<u32>,
    /// PSRAM can be octal.
    #[serde(default)]
    pub octal_psram: bool,
    /// Strap value that leads into download mode.
    pub download_strap: u8,
    /// Strap value that leads to boot from flash.
    pub flash_strap: u8,
    /// Length of the eFuse file in bytes.
    pub efuse_len: usize,
    /// Bytes of a fresh eFuse file that are not 0: offset and value.
    pub efuse_bytes: Vec<(usize, u8)>,
    /// Driver that keeps the eFuses: the newest name first, those of older builds behind it.
    pub efuse_drivers: Vec<String>,
    /// Driver of the timer group watchdogs.
    pub watchdog_driver: String,
    /// Driver that has the strap.
    pub gpio_driver: String,
    /// The flasher stub runs in it. Espressif's documentation of QEMU uses `--no-stub` where it does not.
    #[serde(default = "yes")]
    pub runs_stub: bool,
    /// Highest rate in baud at which its ROM loses no bytes; none known without. QEMU passes bytes on at the UART's rate.
    pub rom_baud: Option<u32>,
}

fn yes() -> bool {
    true
}

impl Emulation {
    /// A fresh eFuse file.
    pub fn blank_efuses(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.efuse_len];
        for (at, value) in &self.efuse_bytes {
            if let Some(byte) = bytes.get_mut(*at) {
                *byte = *value;
            }
        }
        bytes
    }
}

impl Chip {
    /// How QEMU emulates this chip, if it does.
    ///
    /// # Panics
    /// Never on shipped data: a test reads every folder.
    pub fn emulation(&self) -> Option<&'static Emulation> {
        static ALL: OnceLock<Vec<Option<Emulation>>> = OnceLock::new();
        let all = ALL.get_or_init(|| {
            let read = |text: &str| toml::from_str(text).unwrap_or_else(|error| panic!("qemu.toml: {error}"));
            FILES.iter().map(|files| (!files.qemu.is_empty()).then(|| read(files.qemu))).collect()
        });
        all.get(self.files)?.as_ref()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_emulated_chip_is_described() {
        let emulated: Vec<_> = crate::chip::all().iter().filter_map(|chip| chip.emulation()).collect();
        assert!(emulated.len() >= 3);
        for emulation in emulated {
            assert_ne!(emulation.download_strap, emulation.flash_strap);
            assert!(!emulation.efuse_drivers.is_empty());
            let blank = emulation.blank_efuses();
            assert_eq!(blank.len(), emulation.efuse_len);
            assert_eq!(blank.iter().filter(|byte| **byte != 0).count(), emulation.efuse_bytes.len());
        }
    }
}
