//! What a virtual chip is made as.

use esp_model::chip::Chip;
use esp_model::mac::Mac;

use crate::circuit::Wiring;
use crate::faults::Faults;
use crate::firmware::MakeFirmware;
use crate::timing::FlashTiming;

/// How to build a [`crate::VirtualChip`].
#[derive(Debug, Clone)]
pub struct Config {
    /// The chip.
    pub chip: &'static Chip,
    /// Flash size in bytes, a power of two.
    pub flash_size: u32,
    /// JEDEC id; `None` makes one up that names the size (Winbond W25Q…).
    pub flash_id: Option<[u8; 3]>,
    /// A second part, which answers on whatever other pins it is looked for, in bytes; `None`: there is none.
    pub external_flash_size: Option<u32>,
    /// Base MAC address.
    pub mac: Mac,
    /// Chip revision as major × 100 + minor; `None` takes the usual one of the chip's data.
    pub revision: Option<u16>,
    /// Crystal in MHz; `None` takes the usual one.
    pub crystal_mhz: Option<u32>,
    /// eFuse content: the blocks' words in order, little endian (the file Espressif's QEMU keeps).
    pub efuse: Option<Vec<u8>>,
    /// Something holds the boot pin low: every restart leads into download mode.
    pub boot_pin_low: bool,
    /// How DTR and RTS reach the chip.
    pub wiring: Wiring,
    /// Bytes take as long as the line rate says.
    pub pacing: bool,
    /// How long flash operations take.
    pub flash_timing: FlashTiming,
    /// What is wrong with it.
    pub faults: Faults,
    /// Seed of all that is random.
    pub seed: u64,
    /// Runs what lies in flash when it can be started; without it a start is told by the headers.
    pub firmware: Option<MakeFirmware>,
    /// Download mode is the ROM's own, when there is an engine that runs it.
    pub loader_by_rom: bool,
    /// Firmware that waits for the calibration of the radio, which is not there, is let through.
    pub radio_finishes: bool,
}

impl Config {
    /// A healthy chip with 4 MB of flash, usual timing and a MAC address made from `name`.
    pub fn new(chip: &'static Chip, name: &str) -> Self {
        Self {
            chip,
            flash_size: 4 << 20,
            flash_id: None,
            external_flash_size: None,
            mac: mac_for(chip.id, name),
            revision: None,
            crystal_mhz: None,
            efuse: None,
            boot_pin_low: false,
            wiring: Wiring::default(),
            pacing: true,
            flash_timing: FlashTiming::typical(),
            faults: Faults::default(),
            seed: 1,
            firmware: None,
            loader_by_rom: false,
            radio_finishes: false,
        }
    }

    /// The same without any cost in time.
    pub fn unpaced(mut self) -> Self {
        self.pacing = false;
        self.flash_timing = FlashTiming::NONE;
        self
    }

    /// The JEDEC id in force.
    pub(crate) fn jedec_id(&self) -> [u8; 3] {
        self.flash_id.unwrap_or_else(|| jedec_id(self.flash_size))
    }
}

/// An id that names the size.
pub(crate) fn jedec_id(size: u32) -> [u8; 3] {
    [0xef, 0x40, size.max(1).ilog2() as u8]
}

/// A locally administered address, so that no virtual device is ever taken for a real one.
fn mac_for(chip: &str, name: &str) -> Mac {
    let hash = fnv(chip.bytes().chain([b'-']).chain(name.bytes())).to_le_bytes();
    Mac([0x02, 0xe5, hash[0], hash[1], hash[2], hash[3]])
}

/// FNV-1a, 64 bit.
fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
