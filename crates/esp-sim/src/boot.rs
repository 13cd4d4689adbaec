//! What ROM and second-stage bootloader say at a start, told by walking the flash. No code runs.

use esp_model::boot;
use esp_model::chip::{Chip, ChipData};
use esp_model::efuse::security::SecurityView;
use esp_model::secure::flash_encryption::{Direction, FlashKey};

use crate::app::{self, AppFaults};
use crate::machine::Machine;
use crate::nor::Nor;
use crate::security;

/// Why the chip started, with the code that the ROM prints and keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Power came, or EN rose.
    PowerOn,
    /// Software asked for it.
    Software,
    /// The panic handler restarted it.
    Panic,
    /// The supply broke down.
    BrownOut,
    /// The RTC watchdog fired.
    Watchdog,
    /// The USB-Serial/JTAG unit was told to.
    Usb,
}

impl Cause {
    /// The number in the reset cause register, as this chip's ROM prints it.
    pub fn number(self, chip: &ChipData) -> u32 {
        let resets = &chip.boot.resets;
        let known = |number: u32| if chip.boot.reset_name(number).is_some() { number } else { resets.power_on.into() };
        match self {
            Self::PowerOn => resets.power_on.into(),
            Self::Software => known(3),
            Self::Panic => known(12),
            Self::BrownOut => known(15),
            Self::Watchdog => resets.watchdog.into(),
            Self::Usb => resets.usb.unwrap_or(resets.power_on).into(),
        }
    }
}

/// The ROM's first lines.
pub fn banner(chip: &ChipData, cause: Cause, strap: u32) -> String {
    let boot = &chip.boot;
    let line = boot.line_for(cause.number(chip), strap);
    // The ESP8266's line goes on where its banner stops.
    let gap = if line.starts_with(',') { "" } else { "\r\n" };
    format!("{}{gap}{line}\r\n", boot.banner)
}

/// What a ROM says when its loader is ready.
pub fn waiting(chip: &ChipData, secure: bool) -> String {
    let text = if secure { &chip.boot.waiting_secure } else { &chip.boot.waiting };
    text.as_ref().map_or(String::new(), |text| format!("{text}\r\n"))
}

/// What a ROM says when the straps ask for a loader that the eFuses forbid; then it restarts. Known from logs of the
/// ESP32-C3, taken for the others.
pub const DOWNLOAD_DISABLED: &str = "Download boot modes disabled\r\n";

/// What follows a banner in a normal boot.
#[derive(Debug)]
pub struct Walk {
    /// The lines, as they leave the chip.
    pub text: String,
    /// An image was found and entered.
    pub started: bool,
    /// What the app says before it crashes.
    pub crash: Option<String>,
}

/// Walks bootloader, partition table and app by what lies in flash and eFuses.
pub fn walk(chip: &'static Chip, machine: &Machine, faults: &AppFaults) -> Walk {
    let mut device = SecurityView { chip: machine.chip, efuses: machine.efuse.decoded() }.boot_device(machine.revision);
    // What is read through the cache is decrypted: the walk sees what the chip sees.
    let key = if device.ciphertext { security::flash_key(machine) } else { None };
    device.ciphertext = device.ciphertext && key.is_none();
    let report = boot::walk(chip, &Content { flash: &machine.nor, key }, &device, &boot::Config::default());
    // What cannot be told (signed by an unknown key) is taken to work.
    let started = !matches!(report.outcome, boot::Outcome::Stops(_));
    let crash = app::crash(machine, faults, &report);
    Walk { text: report.log, started, crash }
}

/// The flash as the boot walk reads it, with the key if it is encrypted.
struct Content<'a> {
    flash: &'a Nor,
    key: Option<FlashKey>,
}

/// Encrypted data is read in whole units of this many bytes.
const UNIT: u32 = 128;

impl boot::FlashRead for Content<'_> {
    fn read(&self, address: u32, buf: &mut [u8]) -> bool {
        let Some(key) = &self.key else { return self.raw(address, buf) };
        let start = address / UNIT * UNIT;
        let (skip, length) = ((address - start) as usize, buf.len());
        let mut units = vec![0; (skip + length).next_multiple_of(UNIT as usize)];
        let read = self.raw(start, &mut units) && key.apply(Direction::Decrypt, start.into(), &mut units).is_ok();
        if let Some(plain) = units.get(skip..skip + length).filter(|_| read) {
            buf.copy_from_slice(plain);
        }
        read
    }
}

impl Content<'_> {
    fn raw(&self, address: u32, buf: &mut [u8]) -> bool {
        let mut rest = buf;
        let length = rest.len();
        let done = self.flash.read_with(address, length, |bytes| {
            let (now, later) = std::mem::take(&mut rest).split_at_mut(bytes.len());
            now.copy_from_slice(bytes);
            rest = later;
        });
        done.is_ok()
    }
}
