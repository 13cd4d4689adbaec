//! A flash download in progress, raw or compressed.

use esp_model::secure::flash_encryption::{Direction, FlashKey};
use flate2::{Decompress, FlushDecompress, Status as Inflated};

use crate::machine::Machine;
use crate::nor::{BLOCK, PastEnd, SECTOR};

/// The stub inflates into a window of this size and programs when it is full.
const WINDOW: usize = 32768;

/// Why a block could not be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Past the end of the part.
    Flash,
    /// The compressed data is damaged.
    Inflate,
    /// What was programmed does not read back.
    Verify,
}

impl From<PastEnd> for Trouble {
    fn from(_: PastEnd) -> Self {
        Self::Flash
    }
}

/// Inflates a stream cut into blocks.
#[derive(Debug)]
struct Inflate {
    stream: Decompress,
    window: Vec<u8>,
    done: bool,
}

/// Where the download stands.
#[derive(Debug)]
pub struct FlashJob {
    /// Where the next byte goes.
    address: u32,
    /// Bytes announced and not yet written. The stub's counter wraps when more arrive.
    remaining: u32,
    inflate: Option<Box<Inflate>>,
    /// Sectors still to be erased before they are written.
    erase_at: u32,
    erase_end: u32,
    /// A sector that was not blank has been seen: from here on the stub erases without looking.
    dirty: bool,
    /// Each write is read back (ROM).
    verify: bool,
    /// The chip encrypts what it writes.
    key: Option<FlashKey>,
}

impl FlashJob {
    pub fn new(address: u32, size: u32, compressed: bool) -> Self {
        let inflate = compressed.then(|| {
            Box::new(Inflate { stream: Decompress::new(true), window: Vec::with_capacity(WINDOW), done: false })
        });
        let sector = SECTOR as u32;
        Self {
            address,
            remaining: size,
            inflate,
            erase_at: address / sector * sector,
            erase_end: address.saturating_add(size).div_ceil(sector).saturating_mul(sector),
            dirty: false,
            verify: false,
            key: None,
        }
    }

    /// The chip encrypts what it writes with this key.
    pub fn encrypted(mut self, key: Option<FlashKey>) -> Self {
        self.key = key;
        self
    }

    /// A ROM's download: the caller has erased, and what is written is read back.
    pub fn erased(mut self) -> Self {
        self.erase_at = self.erase_end;
        self.verify = true;
        self
    }

    pub fn remaining(&self) -> u32 {
        self.remaining
    }

    /// Takes a raw block. The stub cuts what goes beyond the announced size.
    pub fn raw(&mut self, machine: &mut Machine, data: &[u8]) -> Result<(), Trouble> {
        let length = if self.verify { data.len() } else { data.len().min(self.remaining as usize) };
        self.write(machine, &data[..length])
    }

    /// Takes a compressed block.
    pub fn compressed(&mut self, machine: &mut Machine, data: &[u8]) -> Result<(), Trouble> {
        let Some(mut inflate) = self.inflate.take() else { return Err(Trouble::Inflate) };
        let result = self.inflate_block(&mut inflate, machine, data);
        self.inflate = Some(inflate);
        result
    }

    fn inflate_block(&mut self, inflate: &mut Inflate, machine: &mut Machine, mut data: &[u8]) -> Result<(), Trouble> {
        while !inflate.done {
            self.erase_next(machine)?;
            let (before_in, before_out) = (inflate.stream.total_in(), inflate.window.len());
            let state = inflate.stream.decompress_vec(data, &mut inflate.window, FlushDecompress::None);
            let state = state.map_err(|_| Trouble::Inflate)?;
            data = data.get((inflate.stream.total_in() - before_in) as usize..).unwrap_or_default();
            inflate.done = state == Inflated::StreamEnd;
            let full = inflate.window.len() == WINDOW;
            if full || inflate.done {
                self.write(machine, &inflate.window)?;
                inflate.window.clear();
            } else if data.is_empty() || inflate.window.len() == before_out {
                break;
            }
        }
        Ok(())
    }

    /// Starts the next erase if one is due: nothing where the flash is blank already and nothing else was seen yet.
    pub fn erase_next(&mut self, machine: &mut Machine) -> Result<(), PastEnd> {
        let sector = SECTOR as u32;
        if self.erase_at >= self.erase_end {
            return Ok(());
        }
        machine.wait_flash();
        if !self.dirty {
            machine.flash_now(|nor| nor.read_with(self.erase_at, SECTOR, |_| ()))?;
            if machine.nor.is_blank(self.erase_at / sector) {
                self.erase_at += sector;
                return Ok(());
            }
            self.dirty = true;
        }
        let block = BLOCK as u32;
        let whole = self.erase_at.is_multiple_of(block) && self.erase_end - self.erase_at >= block;
        let step = if whole { block } else { sector };
        let busy = machine.nor.erase(self.erase_at, step)?;
        machine.flash_works(busy);
        self.erase_at += step;
        Ok(())
    }

    fn write(&mut self, machine: &mut Machine, plain: &[u8]) -> Result<(), Trouble> {
        let mut cipher = Vec::new();
        let data = match &self.key {
            None => plain,
            Some(key) => {
                cipher.extend_from_slice(plain);
                let done = key.apply(Direction::Encrypt, self.address.into(), &mut cipher);
                done.map_err(|_| Trouble::Flash)?;
                &cipher
            }
        };
        let end = self.address.checked_add(data.len() as u32).ok_or(Trouble::Flash)?;
        while self.erase_at < self.erase_end && self.erase_at < end {
            self.erase_next(machine)?;
        }
        machine.flash_now(|nor| nor.program(self.address, data))?;
        if self.verify && !reads_back(machine, self.address, data)? {
            return Err(Trouble::Verify);
        }
        self.address = end;
        self.remaining = self.remaining.wrapping_sub(data.len() as u32);
        Ok(())
    }
}

fn reads_back(machine: &Machine, address: u32, data: &[u8]) -> Result<bool, PastEnd> {
    let mut rest = data;
    let mut same = true;
    machine.nor.read_with(address, data.len(), |bytes| {
        let (now, later) = rest.split_at(bytes.len().min(rest.len()));
        same &= now == bytes;
        rest = later;
    })?;
    Ok(same)
}
