//! All of the chip but its cores: memory, registers, devices, interrupt lines.

use crate::chip::{Board, ClockSource};
use crate::cpu::Fault;
use crate::device::{Ctx, Device, Shared};
use crate::events::{Event, Input, What};
use crate::interrupts::Interrupts;
use crate::memory::{EXEC, IO, Memory, READ, SHIFT, WRITE};
use crate::radio::Told;
use crate::registers::{NOBODY, PLAIN, RegisterPage};

/// See the module.
#[derive(Debug, Clone)]
pub struct Soc {
    /// The chip's data.
    pub board: &'static Board,
    /// Memory.
    pub memory: Memory,
    /// Registers.
    pub pages: Vec<RegisterPage>,
    /// Behaviour of blocks.
    pub devices: Vec<Box<dyn Device>>,
    /// First address of each device.
    pub bases: Vec<u32>,
    /// What devices share.
    pub shared: Shared,
    /// The interrupt controller.
    pub interrupts: Interrupts,
    /// The core that runs.
    pub core: usize,
    /// Its cycle count.
    pub cycle: u64,
    /// Cycle count and time at which the clock was last set: time goes on from there.
    pub anchor: (u64, u64),
    /// Registers by which more changes than themselves: clock, page size, software interrupts, flash page entries.
    pub watched: Vec<u32>,
    /// The processor's clock may be another now.
    pub clock_changed: bool,
    /// Up to this cycle no other core does anything: 0 while another one runs.
    pub alone_until: u64,
    /// What a debugger watches.
    pub watches: Vec<Watch>,
    /// One of them was accessed, by a store or a load.
    pub watched_access: Option<(Watch, bool)>,
}

/// Memory or registers that a debugger watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// Its first address.
    pub address: u32,
    /// Bytes.
    pub length: u32,
    /// Loads count.
    pub reads: bool,
    /// Stores count.
    pub writes: bool,
}

impl Watch {
    fn is_hit(&self, address: u32, size: u32, write: bool) -> bool {
        let wanted = if write { self.writes } else { self.reads };
        let (first, end) = (u64::from(self.address), u64::from(self.address) + u64::from(self.length));
        wanted && u64::from(address) < end && u64::from(address) + u64::from(size) > first
    }

    /// Numbers of the pages that it is on.
    fn pages(&self) -> impl Iterator<Item = u32> + use<> {
        let last = self.address.saturating_add(self.length.max(1) - 1);
        self.address >> 12..=last >> 12
    }
}

impl Soc {
    /// Virtual time at a cycle count of the core that runs, in picoseconds.
    pub fn time(&self, cycle: u64) -> u64 {
        let cycles = cycle.saturating_sub(self.anchor.0);
        self.anchor.1 + (u128::from(cycles) * 1_000_000 / u128::from(self.shared.cpu_mhz.max(1))) as u64
    }

    /// Cycles from `cycle` on until that time (at least 0, rounded up).
    pub fn cycles_until(&self, cycle: u64, time: u64) -> u64 {
        if time == u64::MAX {
            return u64::MAX;
        }
        let after = time.saturating_sub(self.anchor.1);
        let total = (u128::from(after) * u128::from(self.shared.cpu_mhz.max(1))).div_ceil(1_000_000);
        (self.anchor.0 + u64::try_from(total).unwrap_or(u64::MAX / 2)).saturating_sub(cycle)
    }

    /// A load of 1, 2 or 4 bytes that is not plain memory on one page.
    #[inline(never)]
    pub fn load(&mut self, address: u32, size: u32) -> Result<u32, Fault> {
        self.watch(address, size, false);
        let entry = self.memory.entry(address);
        if entry & IO != 0 {
            let word = self.read_register(address & !3)?;
            let shifted = word >> (8 * (address & 3));
            return Ok(if size == 4 { word } else { shifted & ((1 << (8 * size)) - 1) });
        }
        if entry & READ == 0 && !self.page_in(address) {
            let quiet = self.is_answered(address) || self.reads_as_nothing(address);
            return if quiet { Ok(0) } else { Err(Fault::Access) };
        }
        (0..size).try_fold(0, |word, index| {
            let at = address.wrapping_add(index);
            if self.memory.entry(at) & READ == 0 && !self.page_in(at) {
                return Err(Fault::Access);
            }
            Ok(word | u32::from(self.memory.byte(at).unwrap_or(0)) << (8 * index))
        })
    }

    /// A page of flash that is not mapped, in download mode: the cache tells by an interrupt, which no loader enables, and the load ends.
    fn reads_as_nothing(&self, address: u32) -> bool {
        let windows = &self.board.cache.windows;
        self.shared.straps == self.board.straps.download
            && windows.iter().any(|window| address.wrapping_sub(window.start) < window.size)
    }

    /// A store of 1, 2 or 4 bytes that is not to plain memory without code on one page.
    #[inline(never)]
    pub fn store(&mut self, address: u32, size: u32, value: u32) -> Result<(), Fault> {
        self.watch(address, size, true);
        let entry = self.memory.entry(address);
        if entry & IO != 0 {
            let (at, shift) = (address & !3, 8 * (address & 3));
            let word = if size == 4 {
                value
            } else {
                let mask = ((1 << (8 * size)) - 1) << shift;
                self.peek_register(at) & !mask | value << shift & mask
            };
            return self.write_register(at, word);
        }
        for index in 0..size {
            let at = address.wrapping_add(index);
            // External RAM that was not touched yet.
            if self.memory.entry(at) & READ == 0 {
                self.page_in(at);
            }
            if self.memory.entry(at) & WRITE == 0 {
                return if self.is_answered(at) { Ok(()) } else { Err(Fault::Access) };
            }
        }
        for index in 0..size {
            self.memory.store_any(address.wrapping_add(index), (value >> (8 * index)) as u8);
        }
        if !self.memory.overwritten.is_empty() {
            self.shared.stop = true;
        }
        Ok(())
    }

    /// Makes sure that an address can be fetched from; its frame and offset.
    pub fn code(&mut self, address: u32) -> Result<u32, Fault> {
        let mut entry = self.memory.entry(address);
        if entry & EXEC == 0 {
            if entry & READ == 0 {
                self.page_in(address);
            }
            entry = self.memory.entry(address);
            if entry & EXEC == 0 {
                return Err(Fault::Access);
            }
        }
        Ok(entry >> SHIFT)
    }

    /// Sees it when a debugger waits for this access.
    fn watch(&mut self, address: u32, size: u32, write: bool) {
        if let Some(hit) = self.watches.iter().find(|watch| watch.is_hit(address, size, write)) {
            self.watched_access = Some((*hit, write));
            self.shared.stop = true;
        }
    }

    /// Nothing is there, and the access is no fault.
    fn is_answered(&self, address: u32) -> bool {
        self.board.answered.iter().any(|[start, length]| address.wrapping_sub(*start) < *length)
    }

    pub(crate) fn page_in(&mut self, address: u32) -> bool {
        self.shared.mmu.page_in(&mut self.memory, &self.shared.flash, address)
    }

    /// A register's word, as a debugger sees it: nothing happens by it.
    pub fn peek_register(&self, address: u32) -> u32 {
        let entry = self.memory.entry(address);
        self.pages.get((entry >> SHIFT) as usize).map_or(0, |page| page.read(address))
    }

    /// A register, not memory.
    #[inline]
    pub fn is_register(&self, address: u32) -> bool {
        self.memory.entry(address) & IO != 0
    }

    /// A store to this register does nothing but hand out a clock's count.
    pub fn hands_out_clock(&self, address: u32) -> bool {
        let address = self.canonical(address);
        let page = self.pages.get((self.memory.entry(address) >> SHIFT) as usize);
        let owner = page.map_or(NOBODY, |page| page.owner[(address as usize & 0xfff) / 256]);
        let device = self.devices.get(usize::from(owner)).zip(self.bases.get(usize::from(owner)));
        device.is_some_and(|(device, base)| device.hands_out_clock(address.wrapping_sub(*base)))
    }

    /// The address that a mirrored register has in the data.
    fn canonical(&self, address: u32) -> u32 {
        let inside = |[start, length, _]: &&[u32; 3]| address.wrapping_sub(*start) < *length;
        let alias = self.board.aliases.iter().find(inside);
        let address = alias.map_or(address, |[start, _, shown]| address - start + shown);
        let inside = |[start, _, length]: &&[u32; 3]| address.wrapping_sub(*start) < *length;
        let mirrored = self.board.interrupts.mirror.iter().find(inside);
        self.interrupts.private(self.core, mirrored.map_or(address, |[start, to, _]| address - start + to))
    }

    fn read_register(&mut self, address: u32) -> Result<u32, Fault> {
        self.shared.now = self.time(self.cycle);
        let address = self.canonical(address);
        let entry = self.memory.entry(address);
        if self.pages.get((entry >> SHIFT) as usize).is_none() {
            return Err(Fault::Access);
        }
        if self.board.cache.index != 0 && address == self.board.cache.table {
            return Ok(self.shared.mmu.entry(self.shared.mmu.index));
        }
        if let Some(active) = self.active_sources(address) {
            return Ok(active);
        }
        let Some(page) = self.pages.get((entry >> SHIFT) as usize) else { return Err(Fault::Access) };
        let owner = page.owner[(address as usize & 0xfff) / 256];
        if owner >= PLAIN {
            let value = page.read(address);
            if owner == NOBODY {
                self.note(address, entry, false);
            }
            return Ok(if self.is_radio(address) { self.radio_read(address, value) } else { value });
        }
        let read = |device: &mut dyn Device, ctx: &mut Ctx<'_>| device.read(ctx, address.wrapping_sub(ctx.base));
        let value = self.device(owner.into(), read).unwrap_or(0);
        Ok(if self.is_radio(address) { self.radio_read(address, value) } else { value })
    }

    fn is_radio(&self, address: u32) -> bool {
        self.board.radio.iter().any(|[first, last]| (*first..=*last).contains(&address))
    }

    /// Sees it when a program waits for the radio.
    fn radio_read(&mut self, address: u32, value: u32) -> u32 {
        let (time, pc) = (self.shared.now, self.shared.pc);
        let (given, told) = self.shared.radio.read(time, pc, address, value);
        let let_through = match told {
            Told::Nothing => return given,
            Told::Waits => false,
            Told::LetThrough => true,
        };
        let name = self.board.register_name(address);
        self.shared.events.push(Event { time, what: What::RadioNotEmulated { address, name, pc, let_through } });
        given
    }

    /// The registers of the matrix that show which sources are active, 32 a word.
    fn active_sources(&self, address: u32) -> Option<u32> {
        let map = &self.board.interrupts;
        let word = address.wrapping_sub(map.status) / 4;
        if map.status == 0 || word >= map.sources.div_ceil(32) {
            return None;
        }
        let sources = self.shared.sources.get(word as usize / 2).copied().unwrap_or(0);
        Some((sources >> (32 * (word % 2))) as u32)
    }

    fn write_register(&mut self, address: u32, value: u32) -> Result<(), Fault> {
        self.shared.now = self.time(self.cycle);
        let address = self.canonical(address);
        let entry = self.memory.entry(address);
        if self.shared.radio.lets_through && self.is_radio(address) {
            self.shared.radio.write();
        }
        let Some(page) = self.pages.get_mut((entry >> SHIFT) as usize) else { return Err(Fault::Access) };
        let owner = page.owner[(address as usize & 0xfff) / 256];
        if owner >= PLAIN {
            page.write(address, value);
            if owner == NOBODY {
                self.note(address, entry, true);
            }
            // Interrupts may be routed or enabled by any of them.
            self.shared.stop |= self.is_interrupt_register(address);
        } else {
            self.device(owner.into(), |device, ctx| device.write(ctx, address.wrapping_sub(ctx.base), value));
        }
        if self.watched.contains(&address) {
            self.watched_write(address, value);
        }
        Ok(())
    }

    fn is_interrupt_register(&self, address: u32) -> bool {
        let map = &self.board.interrupts;
        let near = |base: u32, length: u32| base != 0 && address.wrapping_sub(base) < length;
        near(map.enable, 4)
            || near(map.threshold, 4)
            || near(map.priority, 0x100)
            || near(self.interrupts.private(1, map.priority), 0x100)
            || map.matrix.iter().any(|base| near(*base, 4 * map.sources))
    }

    fn watched_write(&mut self, address: u32, value: u32) {
        let board = self.board;
        self.shared.stop = true;
        if let Some([_, source]) = board.interrupts.software.iter().find(|[at, _]| *at == address) {
            self.shared.source(*source, value & 1 != 0);
            return;
        }
        if board.cache.index != 0 && address == board.cache.index {
            self.shared.mmu.index = value;
        } else if board.cache.index != 0 && address == board.cache.table {
            let number = self.shared.mmu.index;
            self.shared.mmu.set_entry(&mut self.memory, number, value);
        } else {
            self.apply_page_size();
            self.clock_changed = true;
        }
    }

    /// The processor's clock in MHz, as the registers say.
    pub fn frequency(&self) -> u32 {
        let field = |[address, bit, count]: [u32; 3]| {
            self.peek_register(address) >> (bit & 31) & 1u32.checked_shl(count).unwrap_or(0).wrapping_sub(1)
        };
        let clock = &self.board.clock;
        let of = |source: &ClockSource| {
            let choice = source.field.map_or(0, field) as usize;
            let mhz = source.mhz.get(choice).or(source.mhz.first()).copied().unwrap_or(1);
            mhz / (source.divider.map_or(0, field) + 1)
        };
        clock.sources.get(field(clock.select) as usize).map_or(self.board.crystal_mhz, of)
    }

    /// The page size of the flash windows is what its register says.
    pub fn apply_page_size(&mut self) {
        let Some([address, bit, count]) = self.board.cache.size_field else { return };
        let choice = self.peek_register(address) >> (bit & 31) & ((1 << count.min(8)) - 1);
        if let Some(size) = self.board.cache.page_sizes.get(choice as usize) {
            self.shared.mmu.set_page_size(&mut self.memory, *size);
        }
    }

    /// The first access to a register that nothing models is an event.
    fn note(&mut self, address: u32, entry: u32, write: bool) {
        let Some(page) = self.pages.get_mut((entry >> SHIFT) as usize) else { return };
        let word = (address as usize & 0xfff) / 4;
        let (slot, bit) = (word / 64, 1 << (word % 64));
        if page.touched[slot] & bit != 0 {
            return;
        }
        page.touched[slot] |= bit;
        let what = What::Unmodelled { address, name: self.board.register_name(address), pc: self.shared.pc, write };
        self.shared.events.push(Event { time: self.shared.now, what });
    }

    /// A debugger watches these, and nothing else.
    pub fn set_watches(&mut self, watches: Vec<Watch>) {
        self.memory.watch(watches.iter().flat_map(Watch::pages).collect());
        self.watches = watches;
        self.watched_access = None;
    }

    /// Calls a device.
    pub fn device<T>(&mut self, index: usize, call: impl FnOnce(&mut dyn Device, &mut Ctx<'_>) -> T) -> Option<T> {
        let base = *self.bases.get(index)?;
        let device = self.devices.get_mut(index)?;
        let mut ctx = Ctx { index, base, pages: &mut self.pages, memory: &mut self.memory, shared: &mut self.shared };
        let done = call(device.as_mut(), &mut ctx);
        if !self.shared.edges.is_empty() {
            self.tell_edges();
        }
        Some(done)
    }

    /// Pins have another level: whoever looks at them is told.
    fn tell_edges(&mut self) {
        let edges = std::mem::take(&mut self.shared.edges);
        for (index, (device, base)) in self.devices.iter_mut().zip(&self.bases).enumerate() {
            let base = *base;
            let mut ctx =
                Ctx { index, base, pages: &mut self.pages, memory: &mut self.memory, shared: &mut self.shared };
            device.edges(&mut ctx, &edges);
        }
        self.shared.edges.clear();
    }

    /// Hands an input to the device it is for; false when there is none.
    pub fn input(&mut self, input: &Input) -> bool {
        (0..self.devices.len()).any(|index| self.device(index, |device, ctx| device.input(ctx, input)) == Some(true))
    }

    /// Calls the devices whose time has come, in their order.
    pub fn fire(&mut self, now: u64) {
        self.shared.now = now;
        for index in 0..self.shared.deadlines.len() {
            if self.shared.deadlines.get(index).is_some_and(|deadline| *deadline <= now) {
                if let Some(slot) = self.shared.deadlines.get_mut(index) {
                    *slot = u64::MAX;
                }
                self.device(index, |device, ctx| device.fire(ctx));
            }
        }
    }

    /// When the next device wants to be called.
    pub fn next_deadline(&self) -> u64 {
        self.shared.deadlines.iter().copied().min().unwrap_or(u64::MAX)
    }

    /// Xtensa: the core's 32 lines as the matrix drives them.
    pub fn lines(&self, core: usize) -> u32 {
        self.interrupts.lines(core, &self.pages, &self.memory, &self.shared.sources)
    }

    /// RISC-V: the interrupt that the controller offers to the core: its number and, with a CLIC, its level.
    pub fn offered(&self, core: usize, level: u8, threshold: u8) -> Option<crate::interrupts::Offer> {
        self.interrupts.offered(core, &self.pages, &self.memory, &self.shared.sources, level.max(threshold))
    }
}
