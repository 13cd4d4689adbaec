//! The ROM loader and what it talks through: stubs, UART, crystal, SPI controller.

use serde::Deserialize;

use super::schema::{Bits, any_revision, yes};

/// What the ROM loader does.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rom {
    /// Status bytes at the end of its replies: 2 (ESP8266) or 4.
    pub status_len: usize,
    /// Bytes of the security info without status: 0 (refused), 12 or 20.
    pub security_info_len: usize,
    /// What the security info has for keys that the chip lacks (no chip has a seventh): the number behind the last purpose.
    #[serde(default)]
    pub seventh_purpose: u8,
    /// Which revision of the ROM's code the security info names.
    #[serde(default)]
    pub eco: u32,
    /// FLASH_BEGIN carries the fifth word `encrypted`.
    pub begin_has_encrypted: bool,
    /// It knows SPI_ATTACH, SPI_SET_PARAMS, compressed writes, MD5, CHANGE_BAUDRATE, READ_FLASH_SLOW.
    pub extended: bool,
    /// It can change the line rate while in secure download mode.
    #[serde(default = "yes")]
    pub baud_in_secure_mode: bool,
    /// How much FLASH_BEGIN erases for a given size.
    #[serde(default)]
    pub erase_size: EraseSize,
    /// How the rate in CHANGE_BAUDRATE must be scaled.
    #[serde(default)]
    pub baud_scale: BaudScale,
    /// Bytes in a memory block, at most.
    #[serde(default = "ram_block")]
    pub ram_block: u32,
    /// Bytes in a flash block, at most.
    #[serde(default = "flash_block")]
    pub flash_block: u32,
    /// The flash answers on the SPI registers before SPI_ATTACH.
    #[serde(default)]
    pub flash_attached: bool,
    /// In secure download mode what is forbidden counts as unknown, and any ROM refuses what it does not know in the name of the last
    /// command that it did know: eight times over behind SYNC. (esptool tells an ESP32-S2 in this mode by nothing else: `command`
    /// and `connect` in its `loader.py`.)
    #[serde(default)]
    pub refuses_as_another: bool,
    /// With secure boot on, MEM_END starts no program. READ_FLASH_SLOW calls through the pointer at this address, which may be made
    /// to point at the program (ESP32-S3: `rom_spiflash_legacy_funcs.read`; as esptool 5.6.0 does; symptom: espressif/esp-idf#10788).
    pub secure_boot_pointer: Option<u32>,
    /// Address of `ets_printf`, which programs loaded into RAM print with (ESP-IDF, `esp_rom/CHIP/ld/CHIP.rom.ld`).
    pub printf: Option<u32>,
}

fn ram_block() -> u32 {
    0x1800
}

fn flash_block() -> u32 {
    0x400
}

/// How the ROM's FLASH_BEGIN takes its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EraseSize {
    /// As given.
    #[default]
    Plain,
    /// The ESP8266 ROM erases head sectors twice (SPIEraseArea): the size must be made smaller.
    Esp8266Rom,
}

/// Why a rate asked for is not the rate sent in CHANGE_BAUDRATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaudScale {
    /// It is.
    #[default]
    None,
    /// The ROM measured the crystal against a drifting clock (ESP32): use its own result.
    RomCalibration,
    /// The ROM assumes another crystal than is fitted (C2, C5 with 26 or 48 MHz).
    RomCrystal,
}

/// A stub that fits this chip.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stub {
    /// File name without ending, as in the stub collections: `esp32p4rc1`.
    pub name: String,
    /// The name in the collections that come with esptool, where it differs.
    pub json_name: Option<String>,
    /// The built-in one speaks at 115200 baud when it starts, whatever rate the ROM was told: it boosts the clock and sets
    /// the UART's divider anew (esp-flasher-stub 1.1.0, `esp_main`).
    #[serde(default)]
    pub resets_baud: bool,
    /// First chip revision it fits, as major × 100 + minor.
    #[serde(default)]
    pub min_revision: u16,
    /// Last chip revision it fits.
    #[serde(default = "any_revision")]
    pub max_revision: u16,
}

/// The download UART's registers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uart {
    /// Clock divider register (UART_CLKDIV_REG).
    pub clkdiv: u32,
    /// Its integer part.
    pub clkdiv_mask: u32,
    /// A register that may be written without effect (UART_DATE_REG).
    pub date: u32,
    /// RAM word in which the ROM keeps the number of the unit it talks through, where it is known.
    pub buf_no: Option<u32>,
    /// Pins of the download UART, for advice on wiring.
    pub pins: Option<UartPins>,
    /// Rate of the ROM's boot messages in baud, on the crystal that the ROM takes for granted; see
    /// `boot_rate` of the chip.
    #[serde(default = "boot_baud")]
    pub boot_baud: u32,
}

fn boot_baud() -> u32 {
    115_200
}

/// Pins of the download UART.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UartPins {
    /// The chip's transmitter.
    pub tx: u8,
    /// The chip's receiver.
    pub rx: u8,
}

/// Crystal frequencies.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crystal {
    /// Possible frequencies in MHz, the usual one first. One entry: fixed.
    pub mhz: Vec<u32>,
    /// How it is found when there are several.
    #[serde(default)]
    pub found_by: CrystalFoundBy,
    /// The UART's source clock is the crystal divided by this (2 on the ESP8266's 52 MHz UART clock).
    #[serde(default = "one")]
    pub uart_divider: u32,
    /// Frequency in MHz that the ROM takes for granted when it computes a line rate, where it may be wrong.
    pub rom_assumes: Option<u32>,
    /// Register with the frequency in MHz that the ROM takes for granted.
    pub register: Option<Bits>,
    /// The ROM's calibration count against its internal clock (ESP32).
    pub calibration: Option<Calibration>,
}

/// How a ROM measures its crystal: `count × 15625 × clock / 40` Hz, with the count from a register and the internal
/// clock's frequency from an eFuse field.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// The count of crystal periods (TIMG_RTCCALICFG1).
    pub count: Bits,
    /// eFuse field with the internal clock's frequency.
    pub clock: String,
}

impl Calibration {
    /// The crystal frequency in Hz that the ROM believes in.
    pub fn hertz(&self, count: u32, clock: u32) -> u64 {
        u64::from(count) * 15_625 * u64::from(clock) / 40
    }
}

fn one() -> u32 {
    1
}

/// How the crystal frequency is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CrystalFoundBy {
    /// There is only one.
    #[default]
    Fixed,
    /// From the UART divider after auto-baud.
    UartDivider,
}

/// Registers of the SPI controller that reaches the flash. Offsets are from `base`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spi {
    /// SPI_CMD register.
    pub base: u32,
    /// SPI_USER.
    pub usr: u32,
    /// SPI_USER1.
    pub usr1: u32,
    /// SPI_USER2.
    pub usr2: u32,
    /// SPI_MOSI_DLEN; without it the lengths are in SPI_USER1 (ESP8266).
    pub mosi_dlen: Option<u32>,
    /// SPI_MISO_DLEN.
    pub miso_dlen: Option<u32>,
    /// SPI_W0.
    pub w0: u32,
    /// The address register sends from its most significant bit, whatever the length.
    #[serde(default)]
    pub addr_msb: bool,
    /// The command that starts a user transaction stands in SPI_CMD at this bit.
    #[serde(default = "usr_bit")]
    pub cmd_usr_bit: u8,
    /// Pin numbers that the flash can be moved to, as inclusive ranges. Empty: it cannot be moved.
    #[serde(default)]
    pub custom_pins: Vec<[u8; 2]>,
    /// The highest number for the HD pin, where it is more restricted than the others.
    pub custom_hd_max: Option<u8>,
    /// Pins that also serve USB: usable, but the USB connection is lost.
    #[serde(default)]
    pub usb_pins: Vec<u8>,
    /// eFuses that name the pins of a flash inside of the package, which the ROM has to be told when it attaches it: six bits
    /// each, the first one lowest. Empty: it looks for itself.
    #[serde(default)]
    pub pin_efuses: Vec<String>,
}

impl Spi {
    /// What SPI_ATTACH is told, with the value of each eFuse; 0: the usual pins.
    pub fn attach_word(&self, number: impl Fn(&str) -> u32) -> u32 {
        self.pin_efuses.iter().rev().fold(0, |word, name| word << 6 | number(name) & 0x3f)
    }
}

fn usr_bit() -> u8 {
    18
}
