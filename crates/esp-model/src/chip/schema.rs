//! What `chip.toml` can say.

use std::collections::BTreeMap;

use serde::Deserialize;

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
    /// Revision, package, features, MAC addresses.
    pub identity: Identity,
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
    /// Values of the word at 0x4000_1000, for chips whose security info carries no chip id.
    #[serde(default)]
    pub magic: Vec<u32>,
}

/// What the ROM loader does.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rom {
    /// Status bytes at the end of its replies: 2 (ESP8266) or 4.
    pub status_len: usize,
    /// Bytes of the security info without status: 0 (refused), 12 or 20.
    pub security_info_len: usize,
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
    /// The flash answers on the SPI registers before SPI_ATTACH.
    #[serde(default)]
    pub flash_attached: bool,
}

fn yes() -> bool {
    true
}

fn ram_block() -> u32 {
    0x1800
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
    /// First chip revision it fits, as major × 100 + minor.
    #[serde(default)]
    pub min_revision: u16,
    /// Last chip revision it fits.
    #[serde(default = "any_revision")]
    pub max_revision: u16,
}

fn any_revision() -> u16 {
    u16::MAX
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
    /// RAM word in which the ROM keeps the number of the unit it talks through, where there is one.
    pub buf_no: Option<u32>,
    /// Rate of the ROM's boot messages in baud.
    #[serde(default = "boot_baud")]
    pub boot_baud: u32,
}

fn boot_baud() -> u32 {
    115_200
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
    /// Register that names the frequency in MHz.
    pub register: Option<Bits>,
    /// The ROM's calibration count against the 8 MHz clock, ESP32.
    pub calibration: Option<Bits>,
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
    /// From `register`.
    Register,
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
        (word >> self.bit) & (u32::MAX >> (32 - u32::from(self.len.clamp(1, 32))))
    }
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
}

fn usr_bit() -> u8 {
    18
}

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
    /// GPIO_STRAP register, where there is one.
    pub strap_register: Option<u32>,
    /// The ROM's first line: `ESP-ROM:esp32c6-20220919`.
    pub banner: String,
    /// The ROM's boot line with `{reset}`, `{reset_name}`, `{strap}` and `{mode}` to be filled in.
    pub line: String,
    /// The name the ROM prints for a flash boot: `SPI_FAST_FLASH_BOOT`.
    pub flash_mode_name: String,
    /// The name the ROM prints for download mode: `DOWNLOAD(USB/UART0)`.
    pub download_mode_name: String,
    /// Register with the latched reset cause and its name in the manual.
    pub reset_cause: Option<Bits>,
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
    /// It has a USB-Serial/JTAG unit; the value is what `uart.buf_no` holds when the ROM talks through it.
    pub serial_jtag: Option<u32>,
    /// It has USB-OTG; the value is what `uart.buf_no` holds when the ROM talks through it.
    pub otg: Option<u32>,
}

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
}

/// Image format.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Layout of the header and the way segments are built.
    pub format: ImageFormat,
    /// UF2 family id.
    pub uf2_family: u32,
    /// Addresses mapped to flash for instructions, `[start, end)`.
    pub irom: [u32; 2],
    /// Addresses mapped to flash for data, `[start, end)`.
    pub drom: [u32; 2],
    /// Possible MMU page sizes in bytes, the default first.
    #[serde(default = "mmu_pages")]
    pub mmu_page_sizes: Vec<u32>,
}

fn mmu_pages() -> Vec<u32> {
    vec![0x1_0000]
}

/// Layout of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageFormat {
    /// 8-byte header, no hash (ESP8266).
    Esp8266,
    /// 24-byte header with chip id and revisions, SHA-256 at the end.
    Esp32,
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

/// Revision, package, features, MAC addresses: what they are read from.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Major revision.
    pub major: Value,
    /// Minor revision.
    pub minor: Value,
    /// eFuse field with the base MAC, or the way it is put together.
    #[serde(default)]
    pub mac: MacSource,
    /// eFuse field whose two bytes stand between the MAC's halves in an EUI-64 (C6, H2, C5 …).
    pub mac_ext: Option<String>,
    /// Package names; the first rule that holds counts.
    pub packages: Vec<Rule>,
    /// Features; every rule that holds counts, in order.
    pub features: Vec<Rule>,
}

/// Where the base MAC comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MacSource {
    /// The eFuse field `MAC`, most significant byte first.
    #[default]
    Field,
    /// ESP8266: three OTP words, the vendor part partly implied.
    Esp8266Otp,
}

/// A number put together from eFuse fields and register bits, lowest part first, then looked up.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Value {
    /// The parts, lowest bits first. None: always 0.
    #[serde(default)]
    pub parts: Vec<Part>,
    /// What the combined number stands for; without an entry it stands for 0 where the table is not empty.
    #[serde(default)]
    pub map: BTreeMap<String, u32>,
}

/// One part of a [`Value`].
#[derive(Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Part {
    /// An eFuse field by name.
    Efuse(String),
    /// Bits of a register.
    Register(Bits),
}

/// A text that applies when all conditions hold.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The package's or feature's name.
    pub text: String,
    /// eFuse fields (or `MAJOR`, `MINOR`) and the values that satisfy the rule.
    #[serde(default)]
    pub when: BTreeMap<String, Vec<u32>>,
}

impl Rule {
    /// The rule holds, given a way to look up a field's value.
    pub fn holds(&self, mut value_of: impl FnMut(&str) -> Option<u32>) -> bool {
        self.when.iter().all(|(field, values)| value_of(field).is_some_and(|value| values.contains(&value)))
    }
}

impl Identity {
    /// All eFuse fields that the identity is read from.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        let parts = self.major.parts.iter().chain(&self.minor.parts).filter_map(|part| match part {
            Part::Efuse(name) => Some(name.as_str()),
            Part::Register(_) => None,
        });
        let rules = self.packages.iter().chain(&self.features).flat_map(|rule| rule.when.keys().map(String::as_str));
        parts.chain(rules).chain(self.mac_ext.as_deref()).filter(|name| !matches!(*name, "MAJOR" | "MINOR"))
    }
}

impl ChipData {
    /// The stub for a chip of this revision (major × 100 + minor).
    pub fn stub_for(&self, revision: u16) -> Option<&Stub> {
        self.stub.iter().find(|stub| (stub.min_revision..=stub.max_revision).contains(&revision))
    }

    /// The first memory region that holds `address`.
    pub fn region(&self, address: u32) -> Option<&Region> {
        self.memory.iter().find(|region| (region.start..region.end).contains(&address))
    }

    /// Checks what the types cannot say.
    pub fn validate(&self) -> Result<(), String> {
        let backwards = self.memory.iter().find(|region| region.start >= region.end);
        match backwards {
            Some(region) => Err(format!("memory region {} is empty", region.name)),
            None if self.crystal.mhz.is_empty() => Err("no crystal frequency".into()),
            None if !self.flash.frequencies.contains_key(&self.flash.default_frequency) => {
                Err("the default flash frequency has no code".into())
            }
            None => Ok(()),
        }
    }
}
