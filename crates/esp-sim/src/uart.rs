//! The line between host and chip: pacing, rates that differ, damage.

use std::collections::VecDeque;
use std::time::Duration;

use crate::faults::{Damage, Faults};
use crate::rng::Rng;
use crate::timing::byte_time;

/// Full-speed USB moves about 800 KB/s in bulk packets.
const USB_BYTE: Duration = Duration::from_nanos(1250);

/// Bytes on their way.
#[derive(Debug)]
struct Chunk {
    /// When the first byte begins.
    at: Duration,
    /// How long each byte takes.
    per_byte: Duration,
    /// The sender's rate; `None` where the line has none.
    baud: Option<u32>,
    bytes: Vec<u8>,
    used: usize,
}

impl Chunk {
    /// When the byte at this index is there.
    fn arrival(&self, index: usize) -> Duration {
        self.at + self.per_byte * (index as u32 + 1)
    }

    /// How many bytes are there at `now`.
    fn arrived(&self, now: Duration) -> usize {
        match now.checked_sub(self.at) {
            None => 0,
            Some(_) if self.per_byte.is_zero() => self.bytes.len(),
            Some(time) => ((time.as_nanos() / self.per_byte.as_nanos()) as usize).min(self.bytes.len()),
        }
    }
}

/// Both directions of the line.
#[derive(Debug)]
pub struct Uart {
    /// The chip's rate.
    pub baud: u32,
    /// The host's rate; `None` when the line has no rate (a socket, USB).
    pub host_baud: Option<u32>,
    /// The chip takes whatever rate comes (its auto-baud is waiting).
    pub auto_baud: bool,
    /// The line is USB: bytes come in packets at the bus's pace.
    pub usb: bool,
    pacing: bool,
    to_chip: VecDeque<Chunk>,
    to_chip_free: Duration,
    to_host: VecDeque<Chunk>,
    to_host_free: Duration,
    damage_in: Damage,
    damage_out: Damage,
    dead: bool,
    silent: bool,
    max_clean_baud: u32,
    noise: Rng,
}

impl Uart {
    pub fn new(baud: u32, pacing: bool, faults: &Faults, seed: u64) -> Self {
        let mut noise = Rng::new(seed ^ 0x006e_6f69_7365);
        let bytes: Vec<u8> = (0..faults.stale).map(|_| noise.byte()).collect();
        let stale = Chunk { at: Duration::ZERO, per_byte: Duration::ZERO, baud: None, bytes, used: 0 };
        Self {
            baud,
            host_baud: Some(115_200),
            auto_baud: false,
            usb: false,
            pacing,
            to_chip: VecDeque::new(),
            to_chip_free: Duration::ZERO,
            to_host: if stale.bytes.is_empty() { VecDeque::new() } else { [stale].into() },
            to_host_free: Duration::ZERO,
            damage_in: Damage::new(faults.to_chip, seed.wrapping_mul(2)),
            damage_out: Damage::new(faults.to_host, seed.wrapping_mul(2).wrapping_add(1)),
            dead: faults.tx_dead,
            silent: faults.silent,
            max_clean_baud: faults.max_clean_baud.unwrap_or(u32::MAX),
            noise,
        }
    }

    fn per_byte(&self, baud: u32) -> Duration {
        match (self.pacing, self.usb) {
            (false, _) => Duration::ZERO,
            (true, true) => USB_BYTE,
            (true, false) => byte_time(baud),
        }
    }

    /// The host sends `bytes`. Returns when the last of them has left.
    pub fn host_sends(&mut self, now: Duration, bytes: &[u8]) -> Duration {
        let at = now.max(self.to_chip_free);
        let per_byte = self.per_byte(self.host_baud.unwrap_or(self.baud));
        self.to_chip_free = at + per_byte * bytes.len() as u32;
        if !self.dead {
            let bytes = self.damage_in.apply(bytes).unwrap_or_else(|| bytes.to_vec());
            // A damaging line may leave nothing of a short write.
            if !bytes.is_empty() {
                self.to_chip.push_back(Chunk { at, per_byte, baud: self.host_baud, bytes, used: 0 });
            }
        }
        self.to_chip_free
    }

    /// When the chip next has something to look at: a frame mark or the end of what was sent.
    pub fn next_for_chip(&self) -> Option<Duration> {
        let chunk = self.to_chip.front()?;
        Some(chunk.arrival(chunk.used + stretch(&chunk.bytes[chunk.used..]) - 1))
    }

    /// The next stretch of bytes that reached the chip by `now`, at most up to a frame mark, and when it did.
    pub fn chip_takes(&mut self, now: Duration) -> Option<(Duration, Vec<u8>)> {
        let chunk = self.to_chip.front_mut()?;
        let arrived = chunk.arrived(now);
        if arrived <= chunk.used {
            return None;
        }
        let end = (chunk.used + stretch(&chunk.bytes[chunk.used..])).min(arrived);
        let mut bytes = chunk.bytes[chunk.used..end].to_vec();
        let (when, sender) = (chunk.arrival(end - 1), chunk.baud);
        chunk.used = end;
        if end == chunk.bytes.len() {
            self.to_chip.pop_front();
        }
        if self.auto_baud
            && let Some(baud) = sender
        {
            self.baud = baud;
        }
        if !self.fits(sender, Some(self.baud)) {
            bytes = self.garble(&bytes, sender.unwrap_or(self.baud), self.baud);
        }
        Some((when, bytes))
    }

    /// The chip sends `bytes`, beginning at `at` or when the line is free. Returns when the last has left.
    pub fn chip_sends(&mut self, at: Duration, bytes: Vec<u8>) -> Duration {
        let at = at.max(self.to_host_free);
        let baud = self.host_baud.map(|_| self.baud);
        let per_byte = self.per_byte(self.baud);
        self.to_host_free = at + per_byte * bytes.len() as u32;
        if !self.silent {
            let bytes = self.damage_out.apply(&bytes).unwrap_or(bytes);
            if !bytes.is_empty() {
                self.to_host.push_back(Chunk { at, per_byte, baud, bytes, used: 0 });
            }
        }
        self.to_host_free
    }

    /// When the next byte reaches the host.
    pub fn next_for_host(&self) -> Option<Duration> {
        self.to_host.front().map(|chunk| chunk.arrival(chunk.used))
    }

    /// Fills `buf` with what reached the host by `now`.
    pub fn host_takes(&mut self, now: Duration, buf: &mut [u8]) -> usize {
        let mut filled = 0;
        while filled < buf.len() {
            let Some(chunk) = self.to_host.front() else { break };
            if chunk.used == 0 && !self.fits(chunk.baud, self.host_baud) {
                self.garble_front();
                continue;
            }
            let Some(chunk) = self.to_host.front_mut() else { break };
            let ready = chunk.arrived(now).saturating_sub(chunk.used).min(buf.len() - filled);
            if ready == 0 {
                break;
            }
            buf[filled..filled + ready].copy_from_slice(&chunk.bytes[chunk.used..chunk.used + ready]);
            chunk.used += ready;
            filled += ready;
            if chunk.used == chunk.bytes.len() {
                self.to_host.pop_front();
            }
        }
        filled
    }

    /// The chip stops sending at `now`: what has not left it by then never will.
    pub fn chip_stops(&mut self, now: Duration) {
        while let Some(chunk) = self.to_host.back_mut() {
            let left = chunk.arrived(now).max(chunk.used);
            chunk.bytes.truncate(left);
            if chunk.used < left {
                break;
            }
            self.to_host.pop_back();
        }
        self.to_host_free = now;
    }

    /// A UART still reads bytes right when the rates differ by a few percent.
    fn fits(&self, sender: Option<u32>, receiver: Option<u32>) -> bool {
        let (Some(sender), Some(receiver)) = (sender, receiver) else { return true };
        u64::from(sender.abs_diff(receiver)) * 100 <= 4 * u64::from(receiver) && sender <= self.max_clean_baud
    }

    fn garble_front(&mut self) {
        let Some(mut chunk) = self.to_host.pop_front() else { return };
        let (sender, receiver) = (chunk.baud.unwrap_or(1), self.host_baud.unwrap_or(1));
        chunk.bytes = self.garble(&chunk.bytes, sender, receiver);
        // From here on it counts as sent at the host's rate, however senseless.
        chunk.baud = None;
        if !chunk.bytes.is_empty() {
            self.to_host.push_front(chunk);
        }
    }

    /// What a receiver at another rate makes of `bytes`: fewer or more of them, without sense.
    fn garble(&mut self, bytes: &[u8], sender: u32, receiver: u32) -> Vec<u8> {
        let count = (bytes.len() as u64 * u64::from(receiver)).div_ceil(u64::from(sender.max(1)));
        (0..count.min(4 * bytes.len() as u64)).map(|_| self.noise.byte()).collect()
    }
}

/// Length of the stretch up to and including the next frame mark.
fn stretch(bytes: &[u8]) -> usize {
    bytes.iter().position(|&byte| byte == 0xc0).map_or(bytes.len(), |at| at + 1)
}
