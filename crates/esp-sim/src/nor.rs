//! A serial NOR flash: programming clears bits, erasing sets them; its command set on the SPI bus.

use std::collections::BTreeSet;
use std::time::Duration;

use md5::{Digest, Md5};

use crate::nor_command as command;
use crate::sfdp;
use crate::timing::FlashTiming;

/// Erase granule.
pub const SECTOR: usize = 4096;
/// Large erase granule.
pub const BLOCK: usize = 65536;

/// Write enable latch and busy flag of status register 1, and its block-protect bits (as on Winbond, GigaDevice).
const SR1_WEL: u8 = 1 << 1;
/// Longer than any client waits.
const FOR_GOOD: Duration = Duration::from_secs(24 * 3600);
const SR1_PROTECT: u8 = 0b0001_1100;

/// What is wrong with the part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NorFaults {
    /// Nothing answers: every read gives 0xff.
    pub absent: bool,
    /// It sleeps (deep power-down) until it is woken by 0xAB: an app sent it to sleep, and resets do not wake it.
    pub asleep: bool,
    /// Nothing answers until the chip's register overrides the supply voltage: the strapping pin chose a wrong one.
    pub wrong_voltage: bool,
    /// Programs and erases are ignored, as with the write-protect pin low.
    pub write_protected: bool,
    /// Once told to erase or to program, the part stays busy for good.
    pub busy: bool,
    /// Bits (byte address, mask) that always read as 0.
    pub stuck_low: Vec<(u32, u8)>,
}

/// An operation reached past the end of the part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("past the end of the flash")]
pub struct PastEnd;

/// The part. Sectors that were never programmed cost no memory.
#[derive(Debug, Clone)]
pub struct Nor {
    sectors: Vec<Option<Box<[u8; SECTOR]>>>,
    id: [u8; 3],
    unique_id: [u8; 8],
    status: [u8; 3],
    reset_enabled: bool,
    powered_down: bool,
    /// The supply voltage is overridden.
    overridden: bool,
    timing: FlashTiming,
    faults: NorFaults,
    changed: Option<BTreeSet<u32>>,
    /// Bits above those of three address bytes, while a command with four of them is carried out.
    upper: u32,
}

/// The command with three address bytes that does the same as one with four.
fn with_three(opcode: u8) -> Option<u8> {
    Some(match opcode {
        0x13 => command::READ,
        0x0c => command::FAST_READ,
        0x12 => command::PAGE_PROGRAM,
        0x21 => command::SECTOR_ERASE,
        0x5c => command::BLOCK_ERASE_32K,
        0xdc => command::BLOCK_ERASE_64K,
        _ => return None,
    })
}

impl Nor {
    /// A blank part of `size` bytes (a multiple of 4096).
    pub fn new(size: u32, id: [u8; 3], unique_id: [u8; 8], timing: FlashTiming, faults: NorFaults) -> Self {
        let count = size as usize / SECTOR;
        let sectors = std::iter::repeat_with(|| None).take(count).collect();
        // Factory state of quad parts in modules: QE set, nothing protected.
        let status = [0, 0x02, 0x60];
        Self {
            sectors,
            id,
            unique_id,
            status,
            reset_enabled: false,
            powered_down: faults.asleep,
            overridden: false,
            timing,
            faults,
            changed: None,
            upper: 0,
        }
    }

    /// Size in bytes.
    pub fn size(&self) -> u32 {
        (self.sectors.len() * SECTOR) as u32
    }

    /// The JEDEC id: manufacturer, type, capacity.
    pub fn id(&self) -> [u8; 3] {
        self.id
    }

    /// How long operations take.
    pub fn timing(&self) -> FlashTiming {
        self.timing
    }

    /// Puts `bytes` at `address` as they are, erased or not; what does not fit is left out. For loading an image.
    pub fn load(&mut self, address: u32, bytes: &[u8]) {
        for (number, at, chunk) in pieces(address, bytes.len()) {
            let Some(part) = bytes.get(chunk) else { return };
            let Some(slot) = self.sectors.get_mut(number) else { return };
            if part.iter().all(|&b| b == 0xff) && slot.is_none() {
                continue;
            }
            let sector = slot.get_or_insert_with(|| Box::new([0xff; SECTOR]));
            sector[at..at + part.len()].copy_from_slice(part);
            mark(&mut self.changed, number);
        }
    }

    /// Holds what another part of the same size holds, with the same state of its registers; what differs counts as changed.
    pub fn become_like(&mut self, other: &Self) {
        for (number, (mine, theirs)) in self.sectors.iter_mut().zip(&other.sectors).enumerate() {
            if mine != theirs {
                mine.clone_from(theirs);
                mark(&mut self.changed, number);
            }
        }
        (self.status, self.powered_down) = (other.status, other.powered_down);
        (self.reset_enabled, self.overridden) = (other.reset_enabled, other.overridden);
    }

    /// Starts to note which sectors change; see [`Nor::take_changed`].
    pub fn watch(&mut self) {
        self.changed = Some(BTreeSet::new());
    }

    /// Numbers of the sectors changed since the last call, when watched.
    pub fn take_changed(&mut self) -> Vec<u32> {
        self.changed.as_mut().map(std::mem::take).unwrap_or_default().into_iter().collect()
    }

    /// A sector's content.
    pub fn sector(&self, number: u32) -> &[u8] {
        const BLANK: [u8; SECTOR] = [0xff; SECTOR];
        match self.sectors.get(number as usize) {
            Some(Some(sector)) if !self.is_dead() => &sector[..],
            _ => &BLANK,
        }
    }

    /// Numbers of the sectors that hold anything but 0xff, as far as known without looking.
    pub fn used_sectors(&self) -> impl Iterator<Item = u32> {
        self.sectors.iter().enumerate().filter(|(_, sector)| sector.is_some()).map(|(number, _)| number as u32)
    }

    fn check(&self, address: u32, length: usize) -> Result<(), PastEnd> {
        let end = address as usize + length;
        if end <= self.size() as usize { Ok(()) } else { Err(PastEnd) }
    }

    /// Hands out `length` bytes from `address` on, piece by piece.
    pub fn read_with(&self, address: u32, length: usize, mut take: impl FnMut(&[u8])) -> Result<Duration, PastEnd> {
        self.check(address, length)?;
        for (number, at, chunk) in pieces(address, length) {
            take(self.sector(number as u32).get(at..at + chunk.len()).unwrap_or_default());
        }
        Ok(self.timing.read(length))
    }

    /// `length` bytes from `address` on.
    pub fn read(&self, address: u32, length: usize) -> Result<Vec<u8>, PastEnd> {
        let mut out = Vec::with_capacity(length.min(self.size() as usize));
        self.read_with(address, length, |bytes| out.extend_from_slice(bytes))?;
        Ok(out)
    }

    /// MD5 of `length` bytes from `address` on, and the time it takes to read them.
    pub fn md5(&self, address: u32, length: usize) -> Result<([u8; 16], Duration), PastEnd> {
        let mut md5 = Md5::new();
        let time = self.read_with(address, length, |bytes| md5.update(bytes))?;
        Ok((md5.finalize().into(), time))
    }

    /// Programs `bytes` at `address`: bits only go from 1 to 0. Protected parts ignore it.
    pub fn program(&mut self, address: u32, bytes: &[u8]) -> Result<Duration, PastEnd> {
        self.check(address, bytes.len())?;
        if !self.writable() {
            return Ok(Duration::ZERO);
        }
        for (number, at, chunk) in pieces(address, bytes.len()) {
            let (Some(part), Some(slot)) = (bytes.get(chunk), self.sectors.get_mut(number)) else { continue };
            if part.iter().all(|&b| b == 0xff) {
                continue;
            }
            let sector = slot.get_or_insert_with(|| Box::new([0xff; SECTOR]));
            let target = &mut sector[at..at + part.len()];
            target.iter_mut().zip(part).for_each(|(cell, byte)| *cell &= byte);
            mark(&mut self.changed, number);
        }
        self.stick(address, bytes.len());
        Ok(self.busy_for(self.timing.program(bytes.len())))
    }

    /// Erases the sectors that hold `length` bytes from `address` on, by 64 KiB blocks where they fit.
    pub fn erase(&mut self, address: u32, length: u32) -> Result<Duration, PastEnd> {
        let start = address as usize / SECTOR * SECTOR;
        let end = (address as usize + length as usize).next_multiple_of(SECTOR);
        self.check(start as u32, end - start)?;
        let mut time = Duration::ZERO;
        let mut at = start;
        while at < end {
            let whole = at.is_multiple_of(BLOCK) && at + BLOCK <= end;
            let step = if whole { BLOCK } else { SECTOR };
            time += if whole { self.timing.block_erase } else { self.timing.sector_erase };
            self.blank(at / SECTOR, step / SECTOR);
            at += step;
        }
        Ok(if self.writable() { self.busy_for(time) } else { Duration::ZERO })
    }

    /// Erases the whole part.
    pub fn erase_all(&mut self) -> Duration {
        self.blank(0, self.sectors.len());
        self.busy_for(self.timing.block_erase * (self.sectors.len() * SECTOR).div_ceil(BLOCK) as u32)
    }

    /// Clears the block-protect bits, as loaders do before they write.
    pub fn unlock(&mut self) {
        if !self.locked_for_good() {
            self.status[0] &= !SR1_PROTECT;
        }
    }

    /// SRP0 and SRP1 are both set: no status register changes any more (Winbond W25Q data sheets).
    fn locked_for_good(&self) -> bool {
        self.status[0] & 0x80 != 0 && self.status[1] & 0x01 != 0
    }

    /// The sector holds nothing but 0xff.
    pub fn is_blank(&self, number: u32) -> bool {
        self.sector(number).iter().all(|&b| b == 0xff)
    }

    fn busy_for(&self, time: Duration) -> Duration {
        if self.faults.busy { FOR_GOOD } else { time }
    }

    /// The chip overrides the supply voltage, or no longer does.
    pub fn override_voltage(&mut self, on: bool) {
        self.overridden = on;
    }

    fn is_dead(&self) -> bool {
        self.is_unreachable() || self.powered_down
    }

    /// No command reaches it.
    fn is_unreachable(&self) -> bool {
        self.faults.absent || (self.faults.wrong_voltage && !self.overridden)
    }

    fn writable(&self) -> bool {
        !self.is_dead() && !self.faults.write_protected && self.status[0] & SR1_PROTECT == 0
    }

    fn blank(&mut self, first: usize, count: usize) {
        if !self.writable() {
            return;
        }
        for number in first..first + count {
            if let Some(slot) = self.sectors.get_mut(number)
                && slot.take().is_some()
            {
                mark(&mut self.changed, number);
            }
        }
        self.stick((first * SECTOR) as u32, count * SECTOR);
    }

    fn stick(&mut self, address: u32, length: usize) {
        for &(at, mask) in &self.faults.stuck_low {
            if (address as usize..address as usize + length).contains(&(at as usize))
                && let Some(slot) = self.sectors.get_mut(at as usize / SECTOR)
            {
                slot.get_or_insert_with(|| Box::new([0xff; SECTOR]))[at as usize % SECTOR] &= !mask;
            }
        }
    }

    /// One transaction on the SPI bus: `opcode`, then `sent` bytes (address, dummy, data), then `out` is clocked in.
    /// Returns how long the part is busy afterwards.
    pub fn transfer(&mut self, opcode: u8, sent: &[u8], out: &mut [u8]) -> Duration {
        if self.is_unreachable() || (self.powered_down && opcode != command::RELEASE_POWER_DOWN) {
            out.fill(0xff);
            return Duration::ZERO;
        }
        if let (Some(short), Some((top, rest))) = (with_three(opcode), sent.split_first()) {
            self.upper = u32::from(*top) << 24;
            let busy = self.transfer(short, rest, out);
            self.upper = 0;
            return busy;
        }
        let reset_enabled = std::mem::take(&mut self.reset_enabled);
        match opcode {
            command::READ_ID => answer(out, sent, &self.id),
            command::READ_MANUFACTURER => answer_after(out, sent, 3, &[self.id[0], self.id[2] - 1]),
            command::RELEASE_POWER_DOWN => {
                self.powered_down = false;
                answer_after(out, sent, 3, &[self.id[2] - 1]);
            }
            command::POWER_DOWN => self.powered_down = true,
            command::READ_UNIQUE_ID => answer_after(out, sent, 4, &self.unique_id),
            command::READ_SFDP => {
                let table = sfdp::table(self.size());
                let from = address(sent) as usize;
                answer_after(out, sent, 4, table.get(from..).unwrap_or_default());
            }
            command::READ_STATUS_1 => repeat(out, self.status[0]),
            command::READ_STATUS_2 => repeat(out, self.status[1]),
            command::READ_STATUS_3 => repeat(out, self.status[2]),
            command::WRITE_ENABLE | command::WRITE_ENABLE_VOLATILE => self.status[0] |= SR1_WEL,
            command::WRITE_DISABLE => self.status[0] &= !SR1_WEL,
            command::ENABLE_RESET => self.reset_enabled = true,
            command::RESET if reset_enabled => self.status[0] &= !SR1_WEL,
            command::READ => self.bus_read(out, sent, 3),
            command::FAST_READ | command::DUAL_OUTPUT_READ | command::QUAD_OUTPUT_READ => self.bus_read(out, sent, 4),
            command::WRITE_STATUS_1
            | command::WRITE_STATUS_3
            | command::WRITE_STATUS_2
            | command::PAGE_PROGRAM
            | command::SECTOR_ERASE
            | command::BLOCK_ERASE_32K
            | command::BLOCK_ERASE_64K
            | command::CHIP_ERASE
            | command::CHIP_ERASE_ALIAS => return self.modify(opcode, sent),
            _ => out.fill(0xff),
        }
        Duration::ZERO
    }

    fn bus_read(&self, out: &mut [u8], sent: &[u8], lead: usize) {
        let from = self.upper | address(sent);
        let size = self.size().max(1);
        let bytes: Vec<u8> = (0..out.len() as u32)
            .map(|i| {
                let at = from.wrapping_add(i) % size;
                self.sector(at / SECTOR as u32)[at as usize % SECTOR]
            })
            .collect();
        answer_after(out, sent, lead, &bytes);
    }

    /// Commands that change something need the write enable latch, and clear it.
    fn modify(&mut self, opcode: u8, sent: &[u8]) -> Duration {
        if self.status[0] & SR1_WEL == 0 {
            return Duration::ZERO;
        }
        let at = (self.upper | address(sent)) % self.size().max(1);
        let done = match opcode {
            command::WRITE_STATUS_1 | command::WRITE_STATUS_3 | command::WRITE_STATUS_2 if self.locked_for_good() => {
                Ok(self.timing.page_program)
            }
            command::WRITE_STATUS_1 | command::WRITE_STATUS_3 | command::WRITE_STATUS_2 => {
                let first = match opcode {
                    command::WRITE_STATUS_1 => 0,
                    command::WRITE_STATUS_2 => 1,
                    _ => 2,
                };
                for (register, &value) in self.status.iter_mut().skip(first).zip(sent) {
                    *register = if first == 0 { value & !3 } else { value };
                }
                Ok(self.timing.page_program)
            }
            // A page program wraps inside its page of 256 bytes; more than a page keeps the last 256 only.
            command::PAGE_PROGRAM => self.page_program(at, sent.get(3..).unwrap_or_default()),
            command::SECTOR_ERASE => self.erase(at, 1),
            command::BLOCK_ERASE_32K => self.erase(at & !0x7fff, 0x8000),
            command::BLOCK_ERASE_64K => self.erase(at & !0xffff, 0x1_0000),
            _ => Ok(self.erase_all()),
        };
        self.status[0] &= !SR1_WEL;
        done.unwrap_or(Duration::ZERO)
    }

    fn page_program(&mut self, at: u32, data: &[u8]) -> Result<Duration, PastEnd> {
        let (head, tail) = data.split_at(data.len().min(256 - at as usize % 256));
        self.program(at, head)?;
        self.program(at & !0xff, &tail[..tail.len().min(256)])?;
        Ok(self.timing.page_program)
    }
}

fn mark(changed: &mut Option<BTreeSet<u32>>, number: usize) {
    if let Some(changed) = changed {
        changed.insert(number as u32);
    }
}

/// Cuts a range by sectors: sector number, offset in it, range of the caller's bytes.
fn pieces(address: u32, length: usize) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        (done < length).then(|| {
            let at = address as usize + done;
            let step = (SECTOR - at % SECTOR).min(length - done);
            let range = done..done + step;
            done += step;
            (at / SECTOR, at % SECTOR, range)
        })
    })
}

/// The first three bytes sent, most significant first.
fn address(sent: &[u8]) -> u32 {
    sent.iter().take(3).fold(0, |address, &byte| address << 8 | u32::from(byte))
}

fn repeat(out: &mut [u8], value: u8) {
    out.fill(value);
}

fn answer(out: &mut [u8], sent: &[u8], bytes: &[u8]) {
    answer_after(out, sent, 0, bytes);
}

/// Fills `out` with what the part drives after `sent.len()` bytes, when its answer begins after `lead` bytes.
fn answer_after(out: &mut [u8], sent: &[u8], lead: usize, bytes: &[u8]) {
    for (i, byte) in out.iter_mut().enumerate() {
        let position = (sent.len() + i).checked_sub(lead);
        *byte = position.and_then(|at| bytes.get(at)).copied().unwrap_or(0xff);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part() -> Nor {
        Nor::new(1 << 20, [0xef, 0x40, 0x14], [1, 2, 3, 4, 5, 6, 7, 8], FlashTiming::typical(), NorFaults::default())
    }

    #[test]
    fn programming_clears_bits_and_erasing_sets_them() {
        let mut nor = part();
        nor.program(0xfff, &[0x0f, 0xf0]).unwrap();
        nor.program(0xfff, &[0xf3, 0xff]).unwrap();
        assert_eq!(nor.read(0xffe, 4).unwrap(), [0xff, 0x03, 0xf0, 0xff]);
        nor.erase(0x1000, 1).unwrap();
        assert_eq!(nor.read(0xfff, 2).unwrap(), [0x03, 0xff]);
        assert_eq!(nor.program((1 << 20) - 1, &[0, 0]), Err(PastEnd));
        assert_eq!(nor.erase(1 << 20, 1), Err(PastEnd));
    }

    #[test]
    fn erase_uses_blocks_where_they_fit() {
        let mut nor = part();
        assert_eq!(nor.erase(0xf000, 0x12000).unwrap(), Duration::from_millis(45 + 150 + 45));
    }

    #[test]
    fn bus_commands_answer_as_a_part_does() {
        let mut nor = part();
        let mut out = [0; 4];
        nor.transfer(command::READ_ID, &[], &mut out);
        assert_eq!(out, [0xef, 0x40, 0x14, 0xff]);
        nor.transfer(command::READ_UNIQUE_ID, &[0; 4], &mut out);
        assert_eq!(out, [1, 2, 3, 4]);
        nor.transfer(command::READ_SFDP, &[0, 0, 0, 0], &mut out);
        assert_eq!(&out, b"SFDP");
        nor.transfer(command::PAGE_PROGRAM, &[0, 0, 0, 0x55], &mut []);
        assert!(nor.is_blank(0), "no write enable");
        nor.transfer(command::WRITE_ENABLE, &[], &mut []);
        nor.transfer(command::PAGE_PROGRAM, &[0, 0, 0, 0x55], &mut []);
        nor.transfer(command::READ, &[0, 0, 0], &mut out);
        assert_eq!(out, [0x55, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn protect_bits_stop_writes_until_unlocked() {
        let mut nor = part();
        nor.transfer(command::WRITE_ENABLE, &[], &mut []);
        nor.transfer(command::WRITE_STATUS_1, &[0x1c], &mut []);
        nor.program(0, &[0]).unwrap();
        assert!(nor.is_blank(0));
        nor.unlock();
        nor.program(0, &[0]).unwrap();
        assert!(!nor.is_blank(0));
    }
}
