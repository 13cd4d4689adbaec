//! A port with a bad cable: bytes are lost, doubled or changed, the line stalls or breaks, all by a seed.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use esp_model::port::{Port, PortInfo};

/// What is wrong with the line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Faults {
    /// The same seed on the same traffic makes the same faults.
    pub seed: u64,
    /// Probability that a byte is lost, 0 to 1.
    pub drop: f64,
    /// Probability that a byte comes twice.
    pub duplicate: f64,
    /// Probability that one bit of a byte changes.
    pub corrupt: f64,
    /// Probability for each read that the device falls silent for `stall_for`; what it sends then comes later.
    pub stall: f64,
    /// How long a stall lasts.
    pub stall_for: Duration,
    /// The line breaks for good after this many bytes in both directions together.
    pub disconnect_after: Option<u64>,
}

/// A port behind [`Faults`].
pub struct Faulty<P> {
    port: P,
    faults: Faults,
    random: Random,
    /// Read from the device, not yet given to the client: a duplicate may need more room than the client has.
    pending: VecDeque<u8>,
    passed: u64,
    silent_until: Duration,
    made: u64,
}

impl<P: Port> Faulty<P> {
    /// Puts the faults between `port` and its user.
    pub fn new(port: P, faults: Faults) -> Self {
        let random = Random::new(faults.seed);
        Self { port, faults, random, pending: VecDeque::new(), passed: 0, silent_until: Duration::ZERO, made: 0 }
    }

    /// How many faults were made so far.
    pub fn made(&self) -> u64 {
        self.made
    }

    /// The port behind the faults.
    pub fn into_inner(self) -> P {
        self.port
    }

    fn count(&mut self, bytes: usize) -> io::Result<()> {
        self.passed += bytes as u64;
        match self.faults.disconnect_after {
            Some(limit) if self.passed > limit => Err(super::error::gone("the device left the bus")),
            _ => Ok(()),
        }
    }

    fn happens(&mut self, probability: f64) -> bool {
        let happens = probability > 0.0 && self.random.unit() < probability;
        self.made += u64::from(happens);
        happens
    }

    fn damage(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if self.happens(self.faults.drop) {
                continue;
            }
            let flip = if self.happens(self.faults.corrupt) { 1 << self.random.below(8) } else { 0 };
            out.push(byte ^ flip);
            if self.happens(self.faults.duplicate) {
                out.push(byte ^ flip);
            }
        }
        out
    }
}

impl<P: Port> Port for Faulty<P> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.count(bytes.len())?;
        let damaged = self.damage(bytes);
        self.port.write(&damaged)
    }

    fn read(&mut self, buf: &mut [u8], wait: Duration) -> io::Result<usize> {
        if self.pending.is_empty() {
            if self.happens(self.faults.stall) {
                self.silent_until = self.port.now() + self.faults.stall_for;
            }
            let mut wait = wait;
            let silent = self.silent_until.saturating_sub(self.port.now());
            if !silent.is_zero() {
                self.port.sleep(silent.min(wait));
                wait = wait.saturating_sub(silent);
                if wait.is_zero() {
                    return Ok(0);
                }
            }
            let count = self.port.read(buf, wait)?;
            self.count(count)?;
            let damaged = self.damage(buf.get(..count).unwrap_or_default());
            self.pending.extend(damaged);
        }
        io::Read::read(&mut self.pending, buf)
    }

    fn set_lines(&mut self, dtr: bool, rts: bool) -> io::Result<()> {
        self.count(0)?;
        self.port.set_lines(dtr, rts)
    }

    fn set_baud(&mut self, baud: u32) -> io::Result<()> {
        self.count(0)?;
        self.port.set_baud(baud)
    }

    fn baud(&self) -> u32 {
        self.port.baud()
    }

    fn sleep(&mut self, time: Duration) {
        self.port.sleep(time);
    }

    fn now(&self) -> Duration {
        self.port.now()
    }

    fn info(&self) -> PortInfo {
        self.port.info()
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.count(0)?;
        self.port.reopen()
    }
}

/// A small seeded generator (splitmix64, public domain): the same on every machine, which a fault's seed must be.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In 0 ≤ x < 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// In 0 ≤ x < `limit`; 0 when there is no such.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % (limit.max(1) as u64)) as usize
    }

    #[cfg(test)]
    pub(crate) fn byte(&mut self) -> u8 {
        self.next() as u8
    }
}

#[cfg(test)]
mod tests;
