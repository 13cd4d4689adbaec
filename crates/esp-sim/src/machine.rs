//! What a loader finds inside the chip: registers, flash, eFuses, its line and its own sense of time.

use std::time::Duration;

use esp_model::chip::{BaudScale, ChipData, Detect, default_efuses};
use esp_model::wire::{Reply, Status, slip};

use crate::bus::Bus;
use crate::config::{Config, jedec_id};
use crate::efuse::Efuse;
use crate::nor::{Nor, PastEnd};
use crate::rng::Rng;
use crate::spi::SpiController;
use crate::uart::Uart;
use crate::watchdog::Watchdog;

/// Time a loader needs to look at one command.
const COMMAND_TIME: Duration = Duration::from_micros(100);

/// The hardware.
#[derive(Debug)]
pub struct Machine {
    pub chip: &'static ChipData,
    /// Major × 100 + minor.
    pub revision: u16,
    /// The flash that is connected.
    pub nor: Nor,
    /// The part that is not: another one on pins of its own, if the board has one, or the chip's own meanwhile.
    unconnected: Option<Nor>,
    /// The flash is connected by the chip's own pins.
    own_pins: bool,
    pub efuse: Efuse,
    pub uart: Uart,
    pub watchdog: Watchdog,
    spi: SpiController,
    bus: Bus,
    /// Registers with a given content after reset.
    preset: Vec<(u32, u32)>,
    crystal_mhz: u32,
    /// The flash pins are connected to the controller.
    pub attached: bool,
    /// Uploads into RAM fail (a fault).
    pub refuses_ram: bool,
    /// The eFuse that leaves only what is needed to write flash, as the ROM found it at the last reset.
    pub secure_download: bool,
    /// The processor's own time while it works on a command.
    pub time: Duration,
    /// When the flash has finished what it was told.
    flash_free: Duration,
    paced: bool,
}

impl Machine {
    pub fn new(config: &Config) -> Self {
        let revision = config.revision.unwrap_or(config.chip.factory.revision);
        let chip = config.chip.at(revision);
        let factory = default_efuses(config.chip, Some(config.mac), Some(revision));
        let mut efuse = Efuse::new(config.chip.efuse_at(revision), factory.efuses);
        if let Some(image) = &config.efuse {
            efuse.load(image);
        }
        if config.faults.efuse_lost_bits {
            efuse.lose_bits();
        }
        let mut preset: Vec<_> = factory.registers.iter().map(|preset| (preset.register, preset.value)).collect();
        let unique = Rng::new(u64::from_le_bytes([&config.mac.0[..], &[0, 0]].concat().try_into().unwrap_or_default()));
        let unique_id = unique.clone().next().to_le_bytes();
        let timing = config.flash_timing.slower(config.faults.slow_flash.max(1).into());
        let mut nor = Nor::new(config.flash_size, config.jedec_id(), unique_id, timing, config.faults.flash.clone());
        nor.unlock();
        let unconnected = config.external_flash_size.map(|size| {
            let mut nor = Nor::new(size, jedec_id(size), unique_id, timing, Default::default());
            nor.unlock();
            nor
        });
        let crystal_mhz = config.crystal_mhz.unwrap_or_else(|| usual_crystal(chip));
        preset.extend(chip.detect.magic.first().map(|&magic| (Detect::MAGIC_REGISTER, magic)));
        if let Some(bits) = chip.crystal.register {
            // What the ROM takes for granted, whatever is fitted.
            let assumed = chip.crystal.rom_assumes.or(chip.crystal.mhz.first().copied()).unwrap_or(crystal_mhz);
            preset.push((bits.register, bits.placed(assumed)));
        }
        let mut machine = Self {
            chip,
            revision,
            nor,
            unconnected,
            own_pins: true,
            efuse,
            uart: Uart::new(chip.uart.boot_baud, config.pacing, &config.faults, config.seed),
            watchdog: Watchdog::default(),
            spi: SpiController::new(&chip.spi),
            bus: Bus::default(),
            preset,
            crystal_mhz,
            attached: chip.rom.flash_attached,
            refuses_ram: config.faults.refuses_ram,
            secure_download: false,
            time: Duration::ZERO,
            flash_free: Duration::ZERO,
            paced: config.pacing,
        };
        if let Some(calibration) = &chip.crystal.calibration {
            let count = calibration.count.placed(machine.calibration_count());
            machine.preset.retain(|(register, _)| *register != calibration.count.register);
            machine.preset.push((calibration.count.register, count));
        }
        machine
    }

    /// The chip's reset: registers and RAM lose their content, the flash and the eFuses keep theirs.
    pub fn reset(&mut self, strap: u32, cause: u32, buffer_number: Option<u32>) {
        self.bus.clear();
        self.efuse.reload();
        self.spi.reset();
        self.attach(0);
        self.nor.override_voltage(false);
        self.watchdog = Watchdog::default();
        self.attached = self.chip.rom.flash_attached;
        self.secure_download = self.efuse.number("ENABLE_SECURITY_DOWNLOAD") != 0;
        for &(address, value) in &self.preset {
            self.bus.write(address, value);
        }
        let chip = self.chip;
        if let Some(register) = chip.boot.strap_register {
            self.bus.write(register, strap);
        }
        if let Some(bits) = chip.boot.reset_cause {
            self.bus.write(bits.register, bits.placed(cause));
        }
        if let (Some(register), Some(number)) = (chip.uart.buf_no, buffer_number) {
            self.bus.write(register, number);
        }
    }

    /// Connects the flash at these pins, as a stub is told them: the chip's own for 0. Where no part is, none answers.
    pub fn attach(&mut self, pins: u32) {
        self.connect(pins == 0 || pins == self.package_pins());
    }

    /// The same for the ROM, which looks for no eFuses that name the pins.
    pub fn attach_by_rom(&mut self, pins: u32) {
        self.connect(pins == self.package_pins());
    }

    fn package_pins(&self) -> u32 {
        self.chip.spi.attach_word(|name| self.efuse.number(name))
    }

    fn connect(&mut self, own: bool) {
        self.attached = own || self.unconnected.is_some();
        if own != self.own_pins
            && let Some(other) = &mut self.unconnected
        {
            std::mem::swap(&mut self.nor, other);
        }
        self.own_pins = own;
    }

    /// The part at the chip's own pins, connected or not.
    pub fn own_flash(&mut self) -> &mut Nor {
        match &mut self.unconnected {
            Some(nor) if !self.own_pins => nor,
            _ => &mut self.nor,
        }
    }

    /// Begins work on a command that arrived at `when`.
    pub fn wake(&mut self, when: Duration) {
        self.time = self.time.max(when) + if self.paced { COMMAND_TIME } else { Duration::ZERO };
    }

    pub fn read_register(&mut self, address: u32) -> u32 {
        let address = self.own_address(address);
        let uart = &self.chip.uart;
        if let Some(word) = self.efuse.read(address) {
            return word;
        }
        if let Some(word) = self.spi.read(address) {
            return word;
        }
        if address == uart.clkdiv {
            return self.clock_divider();
        }
        self.bus.read(address)
    }

    /// Writes a register. Addresses that nobody claims keep what is written.
    pub fn write_register(&mut self, address: u32, value: u32) {
        let address = self.own_address(address);
        let busy = match self.attached {
            true => {
                let nor = &mut self.nor;
                self.spi.write(address, value, Some(nor))
            }
            false => self.spi.write(address, value, None),
        };
        match busy {
            Some(busy) => self.flash_works(busy),
            None if self.efuse.write(address, value) => {}
            None => {
                self.bus.write(address, value);
                if self.chip.flash.voltage_override.as_ref().is_some_and(|known| known.register == address) {
                    self.nor.override_voltage(true);
                }
                self.watchdog.register(&self.chip.reset, self.time, address, value);
            }
        }
    }

    /// Where a register lies that is reached through another bus.
    fn own_address(&self, address: u32) -> u32 {
        self.chip.mirror.map_or(address, |mirror| mirror.resolve(address))
    }

    /// `size` bytes at `address`, the lowest first.
    pub fn load(&mut self, address: u32, size: u32) -> u32 {
        if size == 4 && address.is_multiple_of(4) {
            return self.read_register(address);
        }
        (0..size).fold(0, |value, index| {
            let at = address.wrapping_add(index);
            value | (self.read_register(at & !3) >> (at % 4 * 8) & 0xff) << (index * 8)
        })
    }

    /// Stores the lowest `size` bytes of `value`.
    pub fn save(&mut self, address: u32, size: u32, value: u32) {
        match size {
            4 if address.is_multiple_of(4) => self.write_register(address, value),
            _ => self.store(address, value.to_le_bytes().get(..size as usize).unwrap_or_default()),
        }
    }

    pub fn store(&mut self, address: u32, bytes: &[u8]) {
        self.bus.store(address, bytes);
    }

    /// The divider that makes the present rate out of the UART's clock.
    fn clock_divider(&self) -> u32 {
        let clock = u64::from(self.crystal_mhz) * 1_000_000 * u64::from(self.chip.crystal.uart_divider);
        (clock / u64::from(self.uart.baud.max(1))) as u32 & self.chip.uart.clkdiv_mask
    }

    /// The ROM's count of crystal ticks against its internal 8 MHz clock (see `BaudScale::RomCalibration`).
    fn calibration_count(&self) -> u32 {
        let Some(calibration) = &self.chip.crystal.calibration else { return 0 };
        let one = calibration.hertz(1, self.efuse.number(&calibration.clock)).max(1);
        (u64::from(self.crystal_mhz) * 1_000_000 / one) as u32
    }

    /// The rate that results when the ROM is told `wanted`.
    pub fn rom_baud(&self, wanted: u32) -> u32 {
        let real = u64::from(self.crystal_mhz) * 1_000_000;
        let assumed = match self.chip.rom.baud_scale {
            BaudScale::None => real,
            BaudScale::RomCrystal => u64::from(self.chip.crystal.rom_assumes.unwrap_or(self.crystal_mhz)) * 1_000_000,
            BaudScale::RomCalibration => self.chip.crystal.calibration.as_ref().map_or(real, |calibration| {
                calibration.hertz(self.calibration_count(), self.efuse.number(&calibration.clock))
            }),
        };
        (u64::from(wanted) * real / assumed.max(1)) as u32
    }

    /// Sends one frame.
    pub fn send_frame(&mut self, payload: &[u8]) {
        let mut line = Vec::with_capacity(payload.len() + payload.len() / 32 + 8);
        slip::encode(payload, &mut line);
        self.uart.chip_sends(self.time, line);
    }

    /// Answers a command.
    pub fn reply(&mut self, command: u8, value: u32, data: &[u8], status: Status, status_len: usize) {
        self.send_frame(&Reply::new(command, value, data, status, status_len).encode());
    }

    /// Sends text as it is. Returns when the last of it has left.
    pub fn say(&mut self, text: &str) -> Duration {
        self.uart.chip_sends(self.time, text.as_bytes().to_vec())
    }

    /// The flash is given `busy` more work; the processor does not wait.
    pub fn flash_works(&mut self, busy: Duration) {
        self.flash_free = self.flash_free.max(self.time) + busy;
    }

    /// The processor waits until the flash is ready.
    pub fn wait_flash(&mut self) {
        self.time = self.time.max(self.flash_free);
    }

    /// Runs a flash operation and waits for its end.
    pub fn flash_now(&mut self, work: impl FnOnce(&mut Nor) -> Result<Duration, PastEnd>) -> Result<(), PastEnd> {
        self.wait_flash();
        let busy = work(&mut self.nor)?;
        self.flash_works(busy);
        self.wait_flash();
        Ok(())
    }
}

/// The crystal that fits the rate of the ROM's messages: 115200 baud comes from the first one listed (an ESP8266 that
/// greets at 74880 baud has 26 MHz, not 40).
fn usual_crystal(chip: &ChipData) -> u32 {
    let first = chip.crystal.mhz.first().copied().unwrap_or(40);
    (u64::from(first) * u64::from(chip.uart.boot_baud) / 115_200) as u32
}
