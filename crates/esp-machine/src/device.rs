//! The form of a device: what a block of registers does beyond keeping what is written.

use esp_sim::efuse::Efuse;
use esp_sim::nor::Nor;

use crate::events::{Event, Input};
use crate::memory::{IO, Memory, SHIFT};
use crate::mmu::Mmu;
use crate::registers::RegisterPage;

/// Never.
pub const NEVER: u64 = u64::MAX;

/// Why a core or the chip starts anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResetRequest {
    /// The cause as the chip's register holds it.
    pub cause: u32,
    /// RTC memory and RTC registers are lost as well.
    pub whole: bool,
    /// Only the processor: the peripherals keep what they hold.
    pub cpu_only: bool,
}

/// What is to happen to a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoreRequest {
    /// It leaves its reset and begins here.
    Start(u32),
    /// It goes on where it was.
    Continue,
    /// It stands still.
    Halt,
}

/// What all devices share, and by which they reach the rest of the chip.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Virtual time of this access, in picoseconds since power-on.
    pub now: u64,
    /// Interrupt sources that are active, one bit each.
    pub sources: [u64; 4],
    /// When each device wants [`Device::fire`] to be called.
    pub deadlines: Vec<u64>,
    /// What has happened, in order.
    pub events: Vec<Event>,
    /// The flash.
    pub flash: Nor,
    /// The eFuses.
    pub efuse: Efuse,
    /// The flash windows.
    pub mmu: Mmu,
    /// Bytes of external RAM, which shares the flash's lines.
    pub psram: u32,
    /// The running slice ends behind this instruction: interrupt lines, time or decoded code may have changed.
    pub stop: bool,
    /// What the signature unit decrypts a private key by, when the HMAC unit has made it.
    pub signing_key: Option<[u8; 32]>,
    /// A slice ends with an event: somebody waits for it.
    pub heed: bool,
    /// Encrypted bytes and their place in flash: what is programmed there comes from here, not from the controller's buffer.
    pub encrypted: Option<(u32, Vec<u8>)>,
    /// Power is cut in the middle of this write or erase of the flash.
    pub cut_after: Option<u32>,
    /// Since when the chip sleeps: no core runs until something wakes it, and clocks of the crystal stand.
    pub asleep: Option<u64>,
    /// How long it has slept since power-on without losing what its digital part holds.
    pub slept: u64,
    /// Somebody wants a reset.
    pub reset: Option<ResetRequest>,
    /// Why the last reset was, as the chip's register says.
    pub reset_cause: u32,
    /// What the register says after power has come.
    pub reset_cause_of_power: u32,
    /// GPIO_STRAP.
    pub straps: u32,
    /// The processor's clock in MHz.
    pub cpu_mhz: u32,
    /// The crystal.
    pub crystal_mhz: u32,
    /// State of the random number generator.
    pub random: u64,
    /// Where the processor is.
    pub pc: u32,
    /// Levels of the GPIO pins as something outside drives them, and which it drives.
    pub pins: [u64; 2],
    /// Pins whose level has changed, for the devices that look at them.
    pub edges: Vec<(u8, bool)>,
    /// The calibration channel of an ADC is connected to ground, by unit.
    pub adc_grounded: [bool; 2],
    /// What is to happen to the processor's second core.
    pub second_core: Option<CoreRequest>,
    /// The radio, which is not there.
    pub radio: crate::radio::Radio,
}

impl Shared {
    /// Raises or lowers an interrupt source.
    pub fn source(&mut self, number: u32, active: bool) {
        let Some(word) = self.sources.get_mut(number as usize / 64) else { return };
        let bit = 1 << (number % 64);
        let next = if active { *word | bit } else { *word & !bit };
        if next != *word {
            *word = next;
            self.stop = true;
        }
    }

    /// The next random word (xorshift64*, seeded).
    pub fn random(&mut self) -> u32 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }
}

/// What a device may touch during an access.
pub struct Ctx<'a> {
    /// Its number: index of its deadline.
    pub index: usize,
    /// Its first address.
    pub base: u32,
    /// All registers.
    pub pages: &'a mut Vec<RegisterPage>,
    /// All memory.
    pub memory: &'a mut Memory,
    /// The rest.
    pub shared: &'a mut Shared,
}

impl Ctx<'_> {
    fn page(&mut self, address: u32) -> Option<&mut RegisterPage> {
        let entry = self.memory.entry(address);
        if entry & IO == 0 { None } else { self.pages.get_mut((entry >> SHIFT) as usize) }
    }

    /// The word that stands in the register at this offset.
    pub fn get(&mut self, offset: u32) -> u32 {
        let address = self.base.wrapping_add(offset);
        self.page(address).map_or(0, |page| page.get(address))
    }

    /// The word as software reads it (bits that always read as 1, and the like).
    pub fn read(&mut self, offset: u32) -> u32 {
        let address = self.base.wrapping_add(offset);
        self.page(address).map_or(0, |page| page.read(address))
    }

    /// Puts a word there as it is.
    pub fn put(&mut self, offset: u32, value: u32) {
        let address = self.base.wrapping_add(offset);
        if let Some(page) = self.page(address) {
            page.put(address, value);
        }
    }

    /// What a write by software leaves, by the register file.
    pub fn store(&mut self, offset: u32, value: u32) {
        let address = self.base.wrapping_add(offset);
        if let Some(page) = self.page(address) {
            page.write(address, value);
        }
    }

    /// A register anywhere.
    pub fn get_at(&mut self, address: u32) -> u32 {
        self.page(address).map_or(0, |page| page.get(address))
    }

    /// Puts a word in a register anywhere.
    pub fn put_at(&mut self, address: u32, value: u32) {
        if let Some(page) = self.page(address) {
            page.put(address, value);
        }
    }

    /// Sets when this device is called again; [`NEVER`] for not at all.
    pub fn wake(&mut self, when: u64) {
        if let Some(slot) = self.shared.deadlines.get_mut(self.index)
            && *slot != when
        {
            *slot = when;
            self.shared.stop = true;
        }
    }

    /// Time since power-on without the time that the chip has slept: what clocks count that stand meanwhile.
    pub fn awake(&self) -> u64 {
        self.shared.asleep.unwrap_or(self.shared.now).saturating_sub(self.shared.slept)
    }

    /// [`Ctx::wake`] at a time that is told as [`Ctx::awake`] tells it.
    pub fn wake_awake(&mut self, when: u64) {
        let behind = self.shared.now.saturating_sub(self.awake());
        self.wake(when.saturating_add(behind));
    }

    /// Something that the outside sees.
    pub fn say(&mut self, what: crate::events::What) {
        let event = Event { time: self.shared.now, what };
        self.shared.events.push(event);
        self.shared.stop |= self.shared.heed;
    }
}

/// One block's behaviour. Everything it knows is plain data, so that a machine can be copied.
pub trait Device: Send + std::fmt::Debug {
    /// A load of the word at `offset` (a multiple of 4).
    fn read(&mut self, ctx: &mut Ctx<'_>, offset: u32) -> u32 {
        ctx.read(offset)
    }

    /// A store of a word.
    fn write(&mut self, ctx: &mut Ctx<'_>, offset: u32, value: u32) {
        ctx.store(offset, value);
    }

    /// Its deadline is reached.
    fn fire(&mut self, _ctx: &mut Ctx<'_>) {}

    /// Something comes from outside; true when it was for this device.
    fn input(&mut self, _ctx: &mut Ctx<'_>, _input: &Input) -> bool {
        false
    }

    /// A store at this offset does nothing but put a clock's count where it can be read.
    fn hands_out_clock(&self, _offset: u32) -> bool {
        false
    }

    /// Pins have another level, whoever drives them.
    fn edges(&mut self, _ctx: &mut Ctx<'_>, _edges: &[(u8, bool)]) {}

    /// The registers hold their reset values again; `whole` when RTC state is lost too.
    fn reset(&mut self, _ctx: &mut Ctx<'_>, _whole: bool) {}

    /// Registers and state outlive a reset that is not a power-on.
    fn keeps(&self) -> bool {
        false
    }

    /// A copy, for snapshots.
    fn copy(&self) -> Box<dyn Device>;
}

impl Clone for Box<dyn Device> {
    fn clone(&self) -> Self {
        self.copy()
    }
}
