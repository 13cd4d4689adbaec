//! Uploads into RAM, by the ROM or by a stub, and what starting one of them leads to.

use crate::machine::Machine;
use crate::rom::Next;

/// An upload of at least this size with its entry inside is a stub; `load-ram` programs are smaller.
/// (The smallest stub known has 3,396 bytes.)
const STUB_MIN: u32 = 3000;

/// What was uploaded since the loader started.
#[derive(Debug, Default)]
pub struct Upload {
    /// Where the next block goes.
    at: Option<u32>,
    /// Start and length of what is there.
    parts: Vec<(u32, u32)>,
}

impl Upload {
    /// The next block goes to `address`.
    pub fn begin(&mut self, address: u32) {
        self.at = Some(address);
    }

    /// Takes a block; false when none was announced.
    pub fn block(&mut self, machine: &mut Machine, data: &[u8]) -> bool {
        let Some(address) = self.at else { return false };
        machine.store(address, data);
        let length = data.len() as u32;
        match self.parts.last_mut() {
            Some((start, known)) if start.wrapping_add(*known) == address => *known += length,
            _ => self.parts.push((address, length)),
        }
        self.at = Some(address.wrapping_add(length));
        true
    }

    /// Blocks are no longer taken; `entry` other than 0 is jumped to.
    pub fn end(&mut self, entry: u32) -> Next {
        self.at = None;
        if entry == 0 {
            return Next::Stay;
        }
        let total: u32 = self.parts.iter().map(|(_, length)| length).sum();
        if self.holds(entry) && total >= STUB_MIN { Next::Stub } else { Next::Program(entry) }
    }

    /// Something was uploaded to this address.
    pub fn holds(&self, address: u32) -> bool {
        self.parts.iter().any(|&(start, length)| (start..start.saturating_add(length)).contains(&address))
    }
}
