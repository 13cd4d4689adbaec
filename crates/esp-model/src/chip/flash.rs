//! Flash: offsets, sizes, frequencies, power.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Flash: offsets, sizes, frequencies.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flash {
    /// Where the ROM looks for the bootloader.
    pub bootloader_offset: u32,
    /// Alignment of encrypted writes in bytes; 0 when the chip cannot encrypt flash.
    pub encrypted_align: u32,
    /// Addresses beyond 16 MB can be reached by the loader.
    #[serde(default)]
    pub beyond_16mb: bool,
    /// Size codes of the image header (upper nibble of byte 3): `"4MB" = 0x20`.
    pub sizes: BTreeMap<String, u8>,
    /// Frequency codes of the image header (lower nibble): `"40m" = 0`.
    pub frequencies: BTreeMap<String, u8>,
    /// The frequency used when none is asked for.
    pub default_frequency: String,
    /// What must be done before the flash answers, by revision; the first entry that fits counts.
    #[serde(default)]
    pub power_on: Vec<PowerOn>,
    /// Register that overrides the flash voltage without burning an eFuse (ESP32).
    pub voltage_override: Option<VoltageOverride>,
}

/// What must be done before the flash answers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerOn {
    /// Chip revisions (major × 100 + minor) that need it.
    pub revisions: Vec<u16>,
    /// eFuse fields and the values that must hold.
    #[serde(default)]
    pub when: BTreeMap<String, Vec<u32>>,
    /// The steps in order.
    pub steps: Vec<PowerStep>,
}

/// One change of a register: read, clear bits, set bits, write, wait.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerStep {
    /// Register address.
    pub register: u32,
    /// The step applies only when all these bits are set.
    #[serde(default)]
    pub only_if: u32,
    /// Written as it is, without reading.
    pub write: Option<u32>,
    /// Bits to clear.
    #[serde(default)]
    pub clear: u32,
    /// Bits to set.
    #[serde(default)]
    pub set: u32,
    /// Microseconds to wait afterwards.
    #[serde(default)]
    pub wait_us: u32,
}

/// Register that overrides the flash voltage, with the words for each choice.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VoltageOverride {
    /// Register address.
    pub register: u32,
    /// Word by choice: `1.8V`, `1.9V`, `OFF`.
    pub values: BTreeMap<String, u32>,
}
