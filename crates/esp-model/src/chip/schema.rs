//! What `chip.toml` can say.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::identity::{Factory, Identity};

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

impl Detect {
    /// The ROM word whose content differs from chip to chip.
    pub const MAGIC_REGISTER: u32 = 0x4000_1000;
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
    /// Bytes in a flash block, at most.
    #[serde(default = "flash_block")]
    pub flash_block: u32,
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
    /// RAM word in which the ROM keeps the number of the unit it talks through, where it is known.
    pub buf_no: Option<u32>,
    /// Pins of the download UART, for advice on wiring.
    pub pins: Option<UartPins>,
    /// Rate of the ROM's boot messages in baud, on the crystal that the ROM takes for granted; see
    /// [`ChipData::boot_rate`].
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

/// Image format.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Layout of the header and the way segments are built.
    pub format: ImageFormat,
    /// UF2 family id; none for chips that have none.
    pub uf2_family: Option<u32>,
    /// Addresses mapped to flash for instructions, `[start, end)`.
    pub irom: [u32; 2],
    /// Addresses mapped to flash for data, `[start, end)`.
    pub drom: [u32; 2],
    /// Possible MMU page sizes in bytes, the default first.
    #[serde(default = "mmu_pages")]
    pub mmu_page_sizes: Vec<u32>,
    /// Bytes that the last page of a mapped segment must hold at least: less would be lost in the ESP32's cache when
    /// it prefetches beyond the end of the segment.
    #[serde(default)]
    pub min_last_page: u32,
    /// Number of segments the ROM and the second-stage bootloader accept.
    #[serde(default = "max_segments")]
    pub max_segments: u8,
}

fn mmu_pages() -> Vec<u32> {
    vec![0x1_0000]
}

fn max_segments() -> u8 {
    16
}

impl Image {
    /// The address is mapped to flash.
    pub fn is_flash(&self, address: u32) -> bool {
        [self.irom, self.drom].iter().any(|[start, end]| (*start..*end).contains(&address))
    }
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

/// Secure boot and flash encryption.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Security {
    /// Secure boot schemes; several may be possible on one chip.
    #[serde(default)]
    pub secure_boot: Vec<SecureBoot>,
    /// Flash encryption, where the chip has it.
    pub flash_encryption: Option<FlashEncryption>,
    /// eFuse fields that lock the chip when all of a group are set.
    #[serde(default)]
    pub never_together: Vec<Vec<String>>,
}

/// A secure boot scheme.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecureBoot {
    /// What is signed and how.
    pub scheme: SecureBootScheme,
    /// eFuse field that enables it.
    pub enable: String,
    /// Number of public key digests.
    pub digests: u8,
    /// First chip revision (major × 100 + minor) that has it.
    #[serde(default)]
    pub min_revision: u16,
}

/// Secure boot schemes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecureBootScheme {
    /// Symmetric bootloader digest, ECDSA-signed apps (ESP32).
    V1,
    /// RSA-3072 PSS signature blocks.
    V2Rsa,
    /// ECDSA signature blocks.
    V2Ecdsa,
}

/// Flash encryption.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlashEncryption {
    /// Algorithm.
    pub cipher: FlashCipher,
    /// eFuse field whose number of set bits, when odd, turns it on.
    pub count: String,
    /// Possible key lengths in bits.
    pub key_bits: Vec<u16>,
    /// eFuse field that forbids the loader to encrypt what it writes.
    pub no_manual_encrypt: Option<String>,
}

/// Flash encryption algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlashCipher {
    /// AES-256 with an address tweak of the key (ESP32).
    Esp32Aes,
    /// XTS-AES.
    XtsAes,
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
