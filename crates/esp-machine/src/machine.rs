//! A whole chip with its flash, in virtual time.

use std::collections::VecDeque;

use esp_model::chip::default_efuses;
use esp_sim::efuse::Efuse;
use esp_sim::nor::{Nor, NorFaults};
use esp_sim::timing::FlashTiming;

use crate::chip::Board;
use crate::cpu::{Core, Exit};
use crate::device::{NEVER, ResetRequest, Shared};
use crate::devices;
use crate::events::{Event, Input, What};
use crate::interrupts::Interrupts;
use crate::memory::{EXEC, IO, Memory, PAGE, READ, WRITE};
use crate::mmu::Mmu;
use crate::radio::Radio;
use crate::registers::{Masks, NOBODY, PLAIN, RegisterPage};
use crate::rom::{Rom, RomError};
use crate::soc::{Soc, Watch};

mod look;
mod several;

/// A core runs at most so long before time is looked at.
const LONGEST_SLICE: u64 = 1 << 20;
/// Instructions of a core before it is another one's turn.
const TURN: u64 = 64;

/// What a machine is made as.
#[derive(Debug)]
pub struct Config {
    /// The chip's data.
    pub board: &'static Board,
    /// Chip revision, major × 100 + minor: which ROM it has.
    pub revision: u16,
    /// The flash.
    pub flash: Nor,
    /// The eFuses.
    pub efuse: Efuse,
    /// The ROM, when it is not one that is built in.
    pub rom: Option<Rom>,
    /// The boot pin is low: download mode.
    pub download: bool,
    /// Of all that is random.
    pub seed: u64,
    /// Bytes of external RAM; 0 for a board without it.
    pub psram: u32,
}

impl Config {
    /// A new chip of the usual revision with this much flash; `None` for a chip without a machine.
    pub fn new(chip: &str, flash_size: u32) -> Option<Self> {
        Self::with_revision(chip, flash_size, esp_model::chip::by_name(chip)?.factory.revision)
    }

    /// The same of a given revision.
    pub fn with_revision(chip: &str, flash_size: u32, revision: u16) -> Option<Self> {
        let board = crate::chip::board(chip)?;
        let chip = esp_model::chip::by_name(chip)?;
        let state = default_efuses(chip, None, Some(revision));
        let id = [0xc8, 0x40, flash_size.max(1).ilog2() as u8];
        Some(Self {
            board,
            revision,
            flash: Nor::new(flash_size, id, [0x5a; 8], FlashTiming::NONE, NorFaults::default()),
            efuse: Efuse::new(chip.efuse_at(revision), state.efuses),
            rom: None,
            download: false,
            seed: 1,
            psram: board.psram,
        })
    }
}

/// Why [`Machine::run`] came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The time is reached.
    Time,
    /// A core is about to execute the instruction at a breakpoint.
    Breakpoint {
        /// Which core.
        core: usize,
    },
    /// A core has accessed what is watched; the access is done.
    Watch {
        /// Which core.
        core: usize,
        /// What is watched.
        watch: Watch,
        /// It was a store.
        write: bool,
    },
    /// As many resets as were allowed.
    Resets,
    /// As many events as were allowed: take them first.
    Events,
}

/// A chip.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Everything but the cores.
    pub soc: Soc,
    /// The cores; the first one counts the time.
    pub cores: Vec<Core>,
    running: Vec<bool>,
    inputs: VecDeque<(u64, Input)>,
    rom: std::sync::Arc<Rom>,
    /// Something holds the boot pin as it was at the start: a reset of the whole chip finds it so again.
    pub pin_is_held: bool,
    /// Resets since power-on.
    pub resets: u32,
    /// [`Machine::run`] comes back after so many events.
    pub most_events: usize,
    /// [`Machine::run`] comes back when this many resets have happened.
    pub most_resets: u32,
    /// As many instructions as a core executes at once.
    longest: u64,
}

impl Machine {
    /// Powers a chip on.
    pub fn new(config: Config) -> Result<Self, RomError> {
        let board = config.board;
        let rom = match config.rom {
            Some(rom) => rom,
            None => Rom::named(rom_name(board, config.revision))?,
        };
        let mut memory = Memory::default();
        for area in &board.memory {
            let frame = memory.allocate(area.size as usize, 0);
            if area.rom {
                let views: Vec<_> = area.at.iter().map(|view| (view.start, view.offset)).collect();
                for (index, page) in rom.image(&views, area.size).chunks(PAGE).enumerate() {
                    memory.fill(frame + index as u32, 0, page);
                }
            }
            for view in &area.at {
                let size = view.shown(area.size);
                let flags = READ | if area.rom { 0 } else { WRITE } | if view.data_only { 0 } else { EXEC };
                memory.map(view.start, size as usize, frame + view.offset / PAGE as u32, flags);
            }
        }
        let pages = register_pages(board, &mut memory);
        let shared = Shared {
            now: 0,
            sources: [0; 4],
            deadlines: Vec::new(),
            events: Vec::new(),
            flash: config.flash,
            efuse: config.efuse,
            mmu: Mmu::new(&board.cache, config.psram),
            psram: config.psram,
            stop: false,
            signing_key: None,
            heed: false,
            encrypted: None,
            cut_after: None,
            asleep: None,
            slept: 0,
            reset: None,
            reset_cause: board.reset_cause.power_on,
            reset_cause_of_power: board.reset_cause.power_on,
            straps: if config.download { board.straps.download } else { board.straps.boot },
            cpu_mhz: board.crystal_mhz,
            crystal_mhz: board.crystal_mhz,
            random: config.seed.max(1),
            pc: 0,
            pins: [0; 2],
            edges: Vec::new(),
            adc_grounded: [false; 2],
            second_core: None,
            radio: Radio::default(),
        };
        let mut soc = Soc::new(board, memory, pages, shared);
        let cores: Vec<_> = (0..board.cores).map(|number| Core::new(&board.isa, number)).collect();
        for peripheral in &board.peripheral {
            match devices::make(board, peripheral) {
                Some(device) => soc.attach(device, peripheral.base, peripheral.size),
                None => soc.own(peripheral.base, peripheral.size, PLAIN),
            }
        }
        let mut machine = Self {
            soc,
            running: vec![false; cores.len()],
            cores,
            inputs: VecDeque::new(),
            rom: std::sync::Arc::new(rom),
            pin_is_held: true,
            resets: 0,
            most_events: 1 << 16,
            most_resets: u32::MAX,
            longest: LONGEST_SLICE,
        };
        let cause = board.reset_cause.power_on;
        machine.start(ResetRequest { cause, whole: true, cpu_only: false });
        Ok(machine)
    }

    /// Virtual time since power-on in picoseconds.
    pub fn now(&self) -> u64 {
        self.soc.time(self.cycles())
    }

    /// Instructions and idle cycles of the first core.
    pub fn cycles(&self) -> u64 {
        self.cores.first().map_or(0, |core| core.get().cycles())
    }

    /// Instructions that all cores have executed since power-on.
    pub fn instructions(&self) -> u64 {
        self.cores.iter().map(|core| core.get().instructions()).sum()
    }

    /// The core is not held in its reset.
    pub fn is_running(&self, core: usize) -> bool {
        self.running.get(core).copied().unwrap_or(false)
    }

    /// The mask ROM.
    pub fn rom(&self) -> &Rom {
        &self.rom
    }

    /// An input at a time; one that is past comes at once.
    pub fn input(&mut self, time: u64, input: Input) {
        let at = self.inputs.partition_point(|(other, _)| *other <= time);
        self.inputs.insert(at, (time, input));
    }

    /// What has happened since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.soc.shared.events)
    }

    fn begin_reset(&mut self, request: ResetRequest) {
        let pc = self.cores.first().map_or(0, |core| core.get().pc());
        let time = self.now();
        self.soc.shared.events.push(Event { time, what: What::Reset { cause: request.cause, pc } });
        self.resets += 1;
        if request.whole && !self.pin_is_held {
            self.soc.shared.straps = self.soc.board.straps.boot;
        }
        self.start(request);
    }

    fn start(&mut self, request: ResetRequest) {
        let now = self.now();
        self.soc.reset(request, now);
        self.apply_clock();
        let entry = self.soc.board.reset_vector;
        for (core, running) in self.cores.iter_mut().zip(&mut self.running) {
            core.get_mut().reset(entry);
            *running = false;
        }
        if let Some(first) = self.running.first_mut() {
            *first = true;
        }
        self.soc.set_reset_cause(request.cause);
    }

    /// Stop before these addresses.
    pub fn set_breakpoints(&mut self, addresses: &[u32]) {
        for core in &mut self.cores {
            core.get_mut().set_breakpoints(addresses);
        }
    }

    /// Runs until that time, or until something else ends it.
    pub fn run(&mut self, until: u64) -> Stop {
        loop {
            if let Some(stop) = self.turn(until) {
                return stop;
            }
        }
    }

    /// What is due, then a slice.
    fn turn(&mut self, until: u64) -> Option<Stop> {
        let now = self.now();
        while self.inputs.front().is_some_and(|(time, _)| *time <= now) {
            match self.inputs.pop_front() {
                Some((_, Input::Reset | Input::PowerCut)) => self.power_on(),
                Some((_, Input::CutAtFlashWrite(count))) => self.soc.shared.cut_after = Some(count),
                Some((_, input)) => {
                    self.soc.shared.now = now;
                    self.soc.input(&input);
                    self.look_again();
                }
                None => {}
            }
        }
        if self.soc.next_deadline() <= now {
            self.soc.fire(now);
            self.look_again();
        }
        if let Some(request) = self.soc.shared.reset.take() {
            self.begin_reset(request);
            return (self.resets >= self.most_resets).then_some(Stop::Resets);
        }
        if now >= until {
            return Some(Stop::Time);
        }
        if self.soc.shared.events.len() >= self.most_events {
            return Some(Stop::Events);
        }
        self.slice(until)
    }

    fn look_again(&mut self) {
        self.cores.iter_mut().for_each(|core| core.get_mut().look_again());
    }

    /// Lets the cores run to the next thing that happens.
    fn slice(&mut self, until: u64) -> Option<Stop> {
        let input = self.inputs.front().map_or(NEVER, |(time, _)| *time);
        let next = self.soc.next_deadline().min(until).min(input);
        let start = self.cycles();
        let mut budget = self.soc.cycles_until(start, next).clamp(1, self.longest);
        let several = self.running.iter().filter(|running| **running).count() > 1;
        self.soc.alone_until = if several { self.alone_until() } else { u64::MAX };
        if several {
            budget = budget.min(self.soc.alone_until.saturating_sub(start).max(TURN));
        }
        let mut idle = true;
        let target = start.saturating_add(budget);
        if self.soc.shared.asleep.is_none() {
            for index in 0..self.cores.len() {
                if !self.running.get(index).copied().unwrap_or(false) {
                    continue;
                }
                let Some(core) = self.cores.get_mut(index) else { continue };
                // A core that was stopped early catches up with the others.
                let left = target.saturating_sub(core.get().cycles());
                let budget = core.get().next_timer().map_or(left, |timer| left.min(timer.max(1)));
                if budget == 0 {
                    idle = false;
                    continue;
                }
                self.soc.core = index;
                match core.get_mut().run(&mut self.soc, budget) {
                    Exit::Breakpoint => return Some(Stop::Breakpoint { core: index }),
                    Exit::Idle => {}
                    Exit::Budget => idle = false,
                }
                self.settle();
                if let Some((watch, write)) = self.soc.watched_access.take() {
                    return Some(Stop::Watch { core: index, watch, write });
                }
            }
        }
        if !idle && several {
            self.align();
        }
        if idle && self.soc.shared.reset.is_none() {
            self.skip_to(next);
        }
        self.release_second_core();
        None
    }

    /// After a slice: overwritten code, the clock.
    fn settle(&mut self) {
        if !self.soc.memory.overwritten.is_empty() {
            for place in std::mem::take(&mut self.soc.memory.overwritten) {
                for core in &mut self.cores {
                    core.get_mut().overwritten(place);
                }
            }
        }
        if std::mem::take(&mut self.soc.clock_changed) {
            self.apply_clock();
        }
    }

    /// No core has anything to do until that time.
    fn skip_to(&mut self, next: u64) {
        let timer = self.cores.iter().zip(&self.running).filter(|(_, running)| **running);
        let timer = timer.filter_map(|(core, _)| core.get().next_timer()).min().unwrap_or(u64::MAX);
        let cycles = self.soc.cycles_until(self.cycles(), next).min(timer).max(1);
        for core in &mut self.cores {
            core.get_mut().skip(cycles);
        }
    }

    /// Time goes on from here at the frequency that the registers say.
    fn apply_clock(&mut self) {
        let mhz = self.soc.frequency().max(1);
        let cycles = self.cycles();
        self.soc.anchor = (cycles, self.soc.time(cycles));
        self.soc.shared.cpu_mhz = mhz;
    }
}

/// The ROM of the newest revision that is not newer than the chip's.
pub(crate) fn rom_name(board: &'static Board, revision: u16) -> &'static str {
    let known = board.roms.iter().filter_map(|(least, name)| Some((least.parse::<u16>().ok()?, name)));
    let fitting = known.filter(|(least, _)| *least <= revision).max_by_key(|(least, _)| *least);
    fitting
        .or_else(|| board.roms.iter().filter_map(|(least, name)| Some((least.parse().ok()?, name))).min())
        .map_or("", |(_, name)| name.as_str())
}

/// The pages of all registers, with what the files know of them.
fn register_pages(board: &'static Board, memory: &mut Memory) -> Vec<RegisterPage> {
    let mut pages = Vec::new();
    for [start, length] in &board.registers {
        for offset in (0..*length).step_by(PAGE) {
            memory.map(start + offset, PAGE, pages.len() as u32, IO);
            pages.push(RegisterPage::new(start + offset));
        }
    }
    for [start, length, shown] in &board.aliases {
        for offset in (0..*length).step_by(PAGE) {
            let entry = memory.entry(shown + offset);
            if entry & IO != 0 {
                memory.map(start + offset, PAGE, entry >> crate::memory::SHIFT, IO);
            }
        }
    }
    let find = |address: u32| {
        let entry = memory.entry(address);
        (entry & IO != 0).then_some((entry >> crate::memory::SHIFT) as usize)
    };
    for block in &board.blocks {
        for (offset, register) in &block.registers {
            let Some(page) = find(block.base + offset).and_then(|index| pages.get_mut(index)) else { continue };
            let masks = Masks {
                reset: register.reset,
                writable: register.writable,
                write_1_clears: register.write_1_clears,
                ones: 0,
                copies: (0, 0),
            };
            page.learn((block.base + offset) & 0xfff, masks);
        }
    }
    for bits in &board.bits {
        let Some(page) = find(bits.address).and_then(|index| pages.get_mut(index)) else { continue };
        let mut masks = page.masks(bits.address);
        masks.ones |= bits.ones;
        masks.writable = (masks.writable | bits.writable) & !bits.zeros;
        if let Some([from, to]) = bits.copy {
            // All of a register stand equally far above.
            masks.copies = (masks.copies.0 | 1 << (from & 31), to.saturating_sub(from));
        }
        masks.reset = bits.reset.unwrap_or(masks.reset);
        page.learn(bits.address & 0xfff, masks);
    }
    for page in &mut pages {
        debug_assert!(page.owner.iter().all(|owner| *owner == NOBODY));
        page.reset_all();
    }
    pages
}

impl Soc {
    /// A chip without devices.
    pub fn new(board: &'static Board, memory: Memory, pages: Vec<RegisterPage>, shared: Shared) -> Self {
        let mut watched: Vec<u32> = vec![board.clock.select[0]];
        for source in &board.clock.sources {
            watched.extend(source.field.iter().chain(&source.divider).map(|field| field[0]));
        }
        watched.extend(board.cache.size_field.map(|field| field[0]));
        watched.extend(board.interrupts.software.iter().map(|pair| pair[0]));
        if board.cache.index != 0 {
            watched.extend([board.cache.index, board.cache.table]);
        }
        Self {
            board,
            memory,
            pages,
            devices: Vec::new(),
            bases: Vec::new(),
            shared,
            interrupts: Interrupts::new(&board.interrupts),
            core: 0,
            cycle: 0,
            anchor: (0, 0),
            watched,
            clock_changed: false,
            alone_until: u64::MAX,
            watches: Vec::new(),
            watched_access: None,
        }
    }

    fn attach(&mut self, device: Box<dyn crate::device::Device>, base: u32, size: u32) {
        let index = self.devices.len();
        self.devices.push(device);
        self.bases.push(base);
        self.shared.deadlines.push(NEVER);
        self.own(base, size, index as u16);
    }

    fn own(&mut self, base: u32, size: u32, owner: u16) {
        for address in (base..base.saturating_add(size)).step_by(256) {
            let entry = self.memory.entry(address);
            if entry & IO != 0
                && let Some(page) = self.pages.get_mut((entry >> crate::memory::SHIFT) as usize)
            {
                page.owner[(address as usize & 0xfff) / 256] = owner;
            }
        }
    }

    /// Registers hold their reset values, devices begin anew; RTC state stays unless the reset is a whole one.
    fn reset(&mut self, request: ResetRequest, now: u64) {
        self.shared.now = now;
        self.shared.asleep = None;
        self.shared.slept = 0;
        self.shared.radio.reset();
        self.shared.second_core = None;
        self.shared.encrypted = None;
        let keeps: Vec<bool> = self.devices.iter().map(|device| device.keeps() && !request.whole).collect();
        for page in &mut self.pages {
            for slot in 0..16u32 {
                let owner = page.owner[slot as usize];
                let kept = keeps.get(usize::from(owner)).copied().unwrap_or(false);
                if !kept {
                    (0..64).for_each(|word| page.reset(slot * 256 + word * 4));
                }
            }
        }
        self.shared.sources = [0; 4];
        self.shared.mmu.reset(&mut self.memory);
        self.apply_page_size();
        if request.whole {
            for area in self.board.memory.iter().filter(|area| area.retained) {
                for view in area.at.iter().take(1) {
                    for offset in 0..area.size {
                        self.memory.store_any(view.start + offset, 0);
                    }
                }
            }
        }
        for index in 0..self.devices.len() {
            if let Some(deadline) = self.shared.deadlines.get_mut(index) {
                *deadline = NEVER;
            }
            self.device(index, |device, ctx| device.reset(ctx, request.whole));
        }
        self.update_encryption();
    }

    /// Flash encryption is on when an odd number of bits of the counter is set and a key is there.
    fn update_encryption(&mut self) {
        let keys = crate::security::flash_keys(self.board, &self.shared.efuse);
        self.shared.mmu.set_keys(&mut self.memory, &self.shared.flash, keys);
    }

    fn set_reset_cause(&mut self, cause: u32) {
        self.shared.reset_cause = cause;
        for [address, bit, count] in &self.board.reset_cause.fields {
            let entry = self.memory.entry(*address);
            if entry & IO != 0
                && let Some(page) = self.pages.get_mut((entry >> crate::memory::SHIFT) as usize)
            {
                let mask = 1u32.checked_shl(*count).unwrap_or(0).wrapping_sub(1) << (bit & 31);
                let old = page.get(*address);
                page.put(*address, old & !mask | cause << (bit & 31) & mask);
            }
        }
    }
}
