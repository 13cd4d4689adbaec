//! What `chip.toml` can say.

use serde::Deserialize;

use super::boot::{Boot, Reset, Usb};
use super::flash::Flash;
use super::identity::{Factory, Identity};
use super::image::Image;
use super::loader::{Crystal, Rom, Spi, Stub, Uart};
use super::security::Security;

/// The content of `chips/ID/chip.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChipData {
    /// Espressif's spelling: `ESP32-C6`.
    pub name: String,
    /// Where the facts come from (ESP-IDF headers with commit, technical reference manual).
    pub source: String,
    /// `esp_chip_id_t`: in image headers and in the security info. The ESP8266 has none.
    pub chip_id: Option<u16>,
    /// Instruction set.
    pub arch: Arch,
    /// How the chip is recognised.
    pub detect: Detect,
    /// The ROM loader.
    pub rom: Rom,
    /// The stub that fits, by chip revision. None: ROM only.
    #[serde(default)]
    pub stub: Vec<Stub>,
    /// The download UART.
    pub uart: Uart,
    /// Crystal frequencies.
    pub crystal: Crystal,
    /// SPI controller that reaches the flash.
    pub spi: Spi,
    /// A second range of addresses that reaches the peripherals' registers.
    pub mirror: Option<Mirror>,
    /// Straps and boot messages.
    pub boot: Boot,
    /// Resets beyond DTR and RTS.
    #[serde(default)]
    pub reset: Reset,
    /// USB units of the chip.
    #[serde(default)]
    pub usb: Usb,
    /// Flash: offsets, sizes, frequencies.
    pub flash: Flash,
    /// Image format.
    pub image: Image,
    /// Memory regions, as image segments and dumps see them.
    pub memory: Vec<Region>,
    /// Secure boot and flash encryption.
    #[serde(default)]
    pub security: Security,
    /// Revision, package, features, MAC addresses.
    pub identity: Identity,
    /// What a new chip's eFuses and registers hold, for simulated ones.
    pub factory: Factory,
    /// What differs on other revisions of the silicon; see [`super::Chip::at`].
    #[serde(default)]
    pub revisions: Vec<RevisionChange>,
}

/// What differs on some revisions of the silicon.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevisionChange {
    /// First revision that differs, as major × 100 + minor.
    #[serde(default)]
    pub min_revision: u16,
    /// Last revision that differs.
    #[serde(default = "any_revision")]
    pub max_revision: u16,
    /// Keys of `chip.toml` and their other values.
    pub change: toml::Table,
}

/// Instruction set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arch {
    /// Tensilica Xtensa.
    Xtensa,
    /// RISC-V, 32 bit.
    Riscv,
}

/// How the chip is recognised.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detect {
    /// Known values of the word at [`Detect::MAGIC_REGISTER`]: the first ROM instruction, or whatever the chip answers.
    #[serde(default)]
    pub magic: Vec<u32>,
    /// The chip is recognised by that word, because its security info is refused or names no chip.
    #[serde(default)]
    pub by_magic: bool,
}

/// Addresses from `from` on reach what lies at `to`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// First address of the second range.
    pub from: u32,
    /// Where its registers really are.
    pub to: u32,
    /// Bytes.
    pub len: u32,
}

impl Mirror {
    /// The register's own address.
    pub fn resolve(self, address: u32) -> u32 {
        match address.checked_sub(self.from) {
            Some(offset) if offset < self.len => self.to.wrapping_add(offset),
            _ => address,
        }
    }
}

impl Detect {
    /// The ROM word whose content differs from chip to chip.
    pub const MAGIC_REGISTER: u32 = 0x4000_1000;
}

pub(super) fn yes() -> bool {
    true
}

pub(super) fn any_revision() -> u16 {
    u16::MAX
}

/// Bits of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bits {
    /// Register address.
    pub register: u32,
    /// Lowest bit.
    pub bit: u8,
    /// Number of bits.
    pub len: u8,
}

impl Bits {
    /// The bits' value in a register's content.
    pub fn of(self, word: u32) -> u32 {
        (word >> self.bit) & self.low_mask()
    }

    /// A value at the place of these bits; what does not fit is cut off.
    pub fn placed(self, value: u32) -> u32 {
        (value & self.low_mask()) << self.bit
    }

    /// The bits' mask in the register.
    pub fn mask(self) -> u32 {
        self.placed(u32::MAX)
    }

    fn low_mask(self) -> u32 {
        u32::MAX >> (32 - u32::from(self.len.clamp(1, 32)))
    }
}

/// A memory region.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// The manual's name: `DRAM`, `IROM`, `RTC_IRAM`, `BYTE_ACCESSIBLE` …
    pub name: String,
    /// First address.
    pub start: u32,
    /// One past the last address.
    pub end: u32,
}

impl ChipData {
    /// The stub for a chip of this revision (major × 100 + minor).
    pub fn stub_for(&self, revision: u16) -> Option<&Stub> {
        self.stub.iter().find(|stub| (stub.min_revision..=stub.max_revision).contains(&revision))
    }

    /// Rate in baud of the ROM's boot messages with this crystal in MHz: 74880 where the ROM takes 40 for granted and
    /// 26 is fitted.
    pub fn boot_rate(&self, mhz: u32) -> u32 {
        let assumed = self.crystal.rom_assumes.unwrap_or(mhz).max(1);
        (u64::from(self.uart.boot_baud) * u64::from(mhz) / u64::from(assumed)) as u32
    }

    /// The first memory region that holds `address`.
    pub fn region(&self, address: u32) -> Option<&Region> {
        self.memory.iter().find(|region| (region.start..region.end).contains(&address))
    }

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// The first thing found wrong, in words.
    pub fn validate(&self) -> Result<(), String> {
        let flash = &self.flash;
        let ranges = self.memory.iter().map(|region| (region.start, region.end));
        let mapped = [self.image.irom, self.image.drom].map(|[start, end]| (start, end));
        let backwards = ranges.chain(mapped).find(|(start, end)| start > end);
        let page = self.image.mmu_page_sizes.iter().find(|size| !size.is_power_of_two());
        let size_code = flash.sizes.iter().find(|(_, code)| **code & 0x0f != 0);
        let frequency_code = flash.frequencies.iter().find(|(_, code)| **code > 0x0f);
        let stub = self.stub.iter().find(|stub| stub.name.is_empty() || stub.min_revision > stub.max_revision);
        let crystal = self.crystal.mhz.iter().find(|mhz| !(10..=64).contains(*mhz));
        if let Some((start, end)) = backwards {
            return Err(format!("the range {start:#x} to {end:#x} is backwards"));
        }
        if let Some(size) = page {
            return Err(format!("an MMU page of {size} bytes"));
        }
        if let Some((name, code)) = size_code.or(frequency_code) {
            return Err(format!("the flash code {code:#x} of {name} is not of its nibble"));
        }
        if let Some(stub) = stub {
            return Err(format!("no revision fits the stub {}", stub.name));
        }
        if self.crystal.mhz.is_empty() || crystal.is_some() {
            return Err(format!("crystal frequencies {:?}", self.crystal.mhz));
        }
        if !flash.frequencies.contains_key(&flash.default_frequency) {
            return Err("the default flash frequency has no code".into());
        }
        if !matches!(flash.encrypted_align, 0 | 16 | 32) || !flash.bootloader_offset.is_multiple_of(0x1000) {
            return Err("flash offset or alignment".into());
        }
        if !self.uart.clkdiv.is_multiple_of(4) || !matches!(self.rom.status_len, 2 | 4) {
            return Err("register address or status length".into());
        }
        Ok(())
    }
}
