//! Straps, boot messages, resets and USB units.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::schema::Bits;

/// Straps and boot messages.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// The pin that chooses download mode when low.
    pub pin: String,
    /// What else must hold for download mode: `GPIO8 high`.
    pub also: Option<String>,
    /// Latched strap value after a normal boot, as the ROM prints it.
    pub flash_strap: u32,
    /// Latched strap value in download mode.
    pub download_strap: u32,
    /// Strap bit of the boot pin.
    pub pin_bit: u8,
    /// Pins behind the strap bits, lowest bit first; an empty name is unknown.
    #[serde(default)]
    pub strap_pins: Vec<String>,
    /// GPIO_STRAP register, where there is one.
    pub strap_register: Option<u32>,
    /// What the ROM prints before its boot line, lines parted by CR LF: `ESP-ROM:esp32c6-20220919`, `Build:Sep 19 2022`.
    pub banner: String,
    /// The ROM's boot line with `{reset}`, `{reset_name}`, `{strap}` and `{mode}` to be filled in.
    pub line: String,
    /// The name the ROM prints for a flash boot: `SPI_FAST_FLASH_BOOT`.
    pub flash_mode_name: String,
    /// The name the ROM prints for download mode: `DOWNLOAD(USB/UART0)`.
    pub download_mode_name: String,
    /// The line after the boot line in download mode, where the ROM prints one.
    pub waiting: Option<String>,
    /// The same in secure download mode.
    pub waiting_secure: Option<String>,
    /// What begins a line of the boot messages that only this chip's ROM prints.
    pub own_line: Option<String>,
    /// Register with the latched reset cause.
    pub reset_cause: Option<Bits>,
    /// Names the ROM prints for reset causes, by number (decimal).
    #[serde(default)]
    pub reset_names: BTreeMap<String, String>,
    /// Numbers of the resets that a tool brings about.
    #[serde(default)]
    pub resets: ResetNumbers,
}

/// Numbers of the resets that a tool brings about.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResetNumbers {
    /// Power up, or the EN pin.
    pub power_on: u8,
    /// RTC or low-power watchdog.
    pub watchdog: u8,
    /// RTS through the USB-Serial/JTAG unit.
    pub usb: Option<u8>,
}

impl Default for ResetNumbers {
    fn default() -> Self {
        Self { power_on: 1, watchdog: 16, usb: None }
    }
}

impl Boot {
    /// The name the ROM prints for a reset cause.
    pub fn reset_name(&self, number: u32) -> Option<&str> {
        self.reset_names.get(&number.to_string()).map(String::as_str)
    }

    /// The second strap of download mode, where the first one asked for it and this one was at the wrong level.
    pub fn wrong_strap(&self, strap: u32) -> Option<String> {
        if strap & (1 << self.pin_bit) != 0 {
            return None;
        }
        let wrong = |also: &str| {
            let (pin, wanted) = also.split_once(' ')?;
            let bit = self.strap_pins.iter().position(|name| name == pin)?;
            let level = u8::from(strap >> bit & 1 == 1);
            let right = u8::from(wanted.starts_with("high"));
            (level != right).then(|| format!("{pin} was {level} and must be {wanted}"))
        };
        self.also.as_deref()?.split(" and ").find_map(wrong)
    }

    /// The ROM's boot line for a reset cause and a latched strap value, without line end.
    pub fn line_for(&self, reset: u32, strap: u32) -> String {
        let download = strap & (1 << self.pin_bit) == 0;
        let mode = if download { &self.download_mode_name } else { &self.flash_mode_name };
        let hex = |number: u32| format!("{number:x}");
        self.line
            .replace("{reset}", &hex(reset))
            .replace("{reset_name}", self.reset_name(reset).unwrap_or("N/A"))
            .replace("{strap}", &hex(strap))
            .replace("{mode}", mode)
    }
}

/// Resets beyond DTR and RTS.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reset {
    /// RTC or low-power watchdog, for chips that can be reset by it.
    pub watchdog: Option<Watchdog>,
    /// Super watchdog.
    pub super_watchdog: Option<SuperWatchdog>,
    /// A watchdog reset starts the app (false: it freezes or does nothing useful).
    #[serde(default)]
    pub by_watchdog: bool,
    /// Register that forces download mode over USB.
    pub force_download: Option<Bits>,
    /// The force-download bit survives a hard reset and must be cleared before it.
    #[serde(default)]
    pub clear_force_download: bool,
}

/// Registers of the RTC watchdog.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watchdog {
    /// WDTCONFIG0.
    pub config0: u32,
    /// WDTCONFIG1: time-out of stage 0.
    pub config1: u32,
    /// WDTWPROTECT.
    pub protect: u32,
    /// Value that unlocks it.
    pub key: u32,
    /// WDTCONFIG0 for a reset of the whole system at the end of stage 0.
    #[serde(default = "watchdog_enable")]
    pub enable: u32,
}

/// WDT_EN, action 5 for stage 0, WDT_CHIP_RESET_EN with a width of 2.
fn watchdog_enable() -> u32 {
    (1 << 31) | (5 << 28) | (1 << 8) | 2
}

/// Registers of the super watchdog.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuperWatchdog {
    /// SWD_CONF.
    pub config: u32,
    /// Mask of SWD_AUTO_FEED_EN in it.
    pub auto_feed: u32,
    /// SWD_WPROTECT.
    pub protect: u32,
    /// Value that unlocks it.
    pub key: u32,
}

/// USB units of the chip.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usb {
    /// USB-Serial/JTAG unit.
    pub serial_jtag: Option<UsbUnit>,
    /// USB-OTG, which the ROM uses as a CDC device.
    pub otg: Option<UsbUnit>,
}

/// A USB unit that the ROM loader talks through. Espressif's vendor id is 0x303A.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsbUnit {
    /// USB product id.
    pub pid: u16,
    /// What `uart.buf_no` holds when the ROM talks through it, where it is known.
    pub buf_no: Option<u32>,
    /// Bytes in a memory block through this unit, at most; `rom.ram_block` where it says nothing.
    pub ram_block: Option<u32>,
}
