//! Flash in blocks of 64 KiB: what is blank is not read, what is known already is recognised.

use esp_model::job::Job;
use md5::{Digest, Md5};

use super::meter::Meter;
use super::source::Source;
use super::{BLOCK, SECTOR};
use crate::error::LoaderError;
use crate::loader::{Loader, Mode};

/// A block of flash as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    /// This many bytes, all 0xff; they were not sent.
    Blank(u32),
    /// The bytes.
    Bytes(Vec<u8>),
}

impl Block {
    /// Number of bytes.
    pub fn len(&self) -> u32 {
        match self {
            Self::Blank(length) => *length,
            Self::Bytes(bytes) => bytes.len() as u32,
        }
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Loader {
    /// A region holds nothing but 0xff, told by its digest. `None` where the loader has none.
    pub fn is_blank(&mut self, job: &Job, address: u32, length: u32) -> Result<Option<bool>, LoaderError> {
        if !self.can_verify() {
            return Ok(None);
        }
        let wanted = blank_digest(length);
        Ok(Some(self.digest(job, address, length)? == wanted))
    }

    /// Reads a region block by block and hands each on only after its digest was right. Where the loader has no digest,
    /// blocks are handed on unchecked and the result is `false`.
    pub fn read_blocks(
        &mut self,
        job: &Job,
        address: u32,
        length: u32,
        mut sink: impl FnMut(Block) -> std::io::Result<()>,
    ) -> Result<bool, LoaderError> {
        self.attach_flash(job, None)?;
        self.check_range(address, length.into())?;
        let (mut done, mut checked) = (0, true);
        let mut meter = Meter::new(self.port().now(), length.into());
        while done < length {
            job.check()?;
            let at = address + done;
            meter.report(job, self.port().now(), done.into(), format_args!("reading {at:#x}"));
            let count = BLOCK.min(length - done);
            let (block, is_checked) = self.read_block(job, at, count, (&mut meter, done))?;
            sink(block).map_err(|error| LoaderError::Data(error.to_string()))?;
            checked &= is_checked;
            done += count;
        }
        job.progress(length.into(), length.into(), "read");
        Ok(checked)
    }

    fn read_block(
        &mut self,
        job: &Job,
        address: u32,
        length: u32,
        (meter, before): (&mut Meter, u32),
    ) -> Result<(Block, bool), LoaderError> {
        let quiet = job.silent();
        if !self.can_verify() {
            return self.read_sectors(job, address, length, (meter, before));
        }
        let digest = self.digest(&quiet, address, length)?;
        if digest == blank_digest(length) {
            return Ok((Block::Blank(length), true));
        }
        // The digest that said "not blank" also checks the bytes; only when they do not fit is there more to ask.
        if self.mode() == Mode::Stub {
            let mut progress = |now, got: usize| {
                meter.report(job, now, u64::from(before) + got as u64, format_args!("reading {address:#x}"));
            };
            match self.stream(&quiet, address, length, &mut progress) {
                Ok(bytes) if <[u8; 16]>::from(Md5::digest(&bytes)) == digest => return Ok((Block::Bytes(bytes), true)),
                Err(error) if error.is_final() => return Err(error),
                _ => {
                    self.get_back(&quiet)?;
                }
            }
        }
        self.read_sectors(job, address, length, (meter, before))
    }

    /// A block in sectors: a ROM takes seconds for a whole one, and somebody watches.
    fn read_sectors(
        &mut self,
        job: &Job,
        address: u32,
        length: u32,
        (meter, before): (&mut Meter, u32),
    ) -> Result<(Block, bool), LoaderError> {
        let quiet = job.silent();
        let (mut bytes, mut checked) = (Vec::with_capacity(length as usize), true);
        while let Some(left) = length.checked_sub(bytes.len() as u32).filter(|left| *left > 0) {
            let done = bytes.len() as u32;
            meter.report(job, self.port().now(), u64::from(before + done), format_args!("reading {address:#x}"));
            checked &= self.read_flash(&quiet, address + done, left.min(SECTOR), |piece| {
                bytes.extend_from_slice(piece);
                Ok(())
            })?;
        }
        Ok((Block::Bytes(bytes), checked && self.can_verify()))
    }

    /// How much of `known`, from its start and in whole blocks, stands at `address`: where an earlier read can go on.
    /// 0 where the loader has no digest.
    pub fn known_prefix(&mut self, job: &Job, address: u32, known: &mut dyn Source) -> Result<u64, LoaderError> {
        self.attach_flash(job, None)?;
        let block = u64::from(BLOCK);
        let blocks = known.len() / block;
        if blocks == 0 || !self.can_verify() || self.check_range(address, blocks * block).is_err() {
            return Ok(0);
        }
        // Equal to `good` blocks for sure, different at `bad` for sure.
        let (mut good, mut bad) = (0, blocks + 1);
        let mut next = blocks;
        while good + 1 < bad {
            job.check()?;
            let wanted = digest_of(known, good * block, next * block)?;
            let (at, count) = (address + (good * block) as u32, ((next - good) * block) as u32);
            let same = self.digest(job, at, count)? == wanted;
            if same {
                good = next
            } else {
                bad = next
            }
            next = good.midpoint(bad);
        }
        Ok(good * block)
    }
}

/// MD5 of `length` bytes of 0xff.
fn blank_digest(length: u32) -> [u8; 16] {
    const PIECE: [u8; 4096] = [0xff; 4096];
    let mut hash = Md5::new();
    let mut left = length as usize;
    while left > 0 {
        let count = left.min(PIECE.len());
        hash.update(&PIECE[..count]);
        left -= count;
    }
    hash.finalize().into()
}

fn digest_of(known: &mut dyn Source, from: u64, to: u64) -> Result<[u8; 16], LoaderError> {
    let mut hash = Md5::new();
    let mut buffer = vec![0; BLOCK as usize];
    for at in (from..to).step_by(buffer.len()) {
        known.read_at(at, &mut buffer).map_err(|error| LoaderError::source(&error))?;
        hash.update(&buffer);
    }
    Ok(hash.finalize().into())
}
