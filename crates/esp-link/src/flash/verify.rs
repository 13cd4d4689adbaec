//! Verifying: by MD5 on the chip; the first difference is read back and named.

use esp_model::job::Job;
use serde::Serialize;

use super::meter::Meter;
use super::source::{Part, Sectors};
use super::{BLOCK, SECTOR};
use crate::error::LoaderError;
use crate::loader::Loader;

/// The first sector that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Address of the sector.
    pub address: u32,
    /// First differing byte, where the sector could be read back.
    pub first_byte: Option<u32>,
    /// What it looks like.
    pub kind: Kind,
}

/// What a difference looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// All bytes are 0xff: not written, or write-protected.
    Blank,
    /// Some bits read 0 where 1 was written: not erased, or worn.
    StuckAtZero,
    /// The right bytes at another place: the transfer went wrong.
    Shifted,
    /// Something else.
    Other,
    /// The sector could not be read back.
    Unknown,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Blank => "the sector is blank",
            Self::StuckAtZero => "reads 0 where 1 was written (sector not erased, or worn)",
            Self::Shifted => "the data is there but shifted",
            Self::Other => "other data",
            Self::Unknown => "it cannot be read back here",
        })
    }
}

impl Kind {
    /// Compares what should be with what is.
    pub fn of(wanted: &[u8], found: &[u8]) -> Self {
        if found.iter().all(|byte| *byte == 0xff) {
            return Self::Blank;
        }
        if wanted.iter().zip(found).all(|(w, f)| w & f == *f) {
            return Self::StuckAtZero;
        }
        let first = wanted.iter().zip(found).position(|(w, f)| w != f).unwrap_or(0);
        // Enough bytes to be no chance, and not a run of one value.
        let probe = found.get(first..first + 32).filter(|probe| probe.iter().any(|byte| *byte != probe[0]));
        match probe.is_some_and(|probe| wanted.windows(32).any(|window| window == probe)) {
            true => Self::Shifted,
            false => Self::Other,
        }
    }
}

impl Loader {
    /// Compares a part with the flash: `None` when it is there.
    ///
    /// Only the part's own bytes count, not the rest of its last sector.
    pub fn verify(&mut self, job: &Job, part: &mut Part) -> Result<Option<Difference>, LoaderError> {
        self.attach_flash(job, None)?;
        let (start, length) = (part.address, part.source.len());
        self.check_range(start, length)?;
        let mut at = 0;
        let mut meter = Meter::new(self.port().now(), length);
        while at < length {
            let step = u64::from(BLOCK).min(length - at);
            meter.report(job, self.port().now(), at, format_args!("verifying {:#x}", u64::from(start) + at));
            let mut wanted = vec![0; step as usize];
            part.source.read_at(at, &mut wanted).map_err(|error| LoaderError::source(&error))?;
            if let Some(difference) = self.verify_block(job, start + at as u32, &wanted)? {
                return Ok(Some(difference));
            }
            at += step;
        }
        job.progress(length, length, "verified");
        Ok(None)
    }

    fn verify_block(&mut self, job: &Job, address: u32, wanted: &[u8]) -> Result<Option<Difference>, LoaderError> {
        if self.matches(job, address, wanted)? {
            return Ok(None);
        }
        let mut at = 0;
        while at < wanted.len() {
            // Up to the next sector boundary.
            let step = (SECTOR as usize - (address as usize + at) % SECTOR as usize).min(wanted.len() - at);
            let piece = &wanted[at..at + step];
            if !self.matches(job, address + at as u32, piece)? {
                return self.name_difference(job, address + at as u32, piece).map(Some);
            }
            at += step;
        }
        Ok(None)
    }

    fn matches(&mut self, job: &Job, address: u32, wanted: &[u8]) -> Result<bool, LoaderError> {
        use md5::{Digest, Md5};
        let digest: [u8; 16] = Md5::digest(wanted).into();
        Ok(self.digest(job, address, wanted.len() as u32)? == digest)
    }

    /// Reads the sector back, where that is possible, and says what is wrong with it.
    pub(super) fn name_difference(
        &mut self,
        job: &Job,
        address: u32,
        wanted: &[u8],
    ) -> Result<Difference, LoaderError> {
        let found = match self.read_flash_bytes(job, address, wanted.len() as u32) {
            Ok(found) => found,
            Err(LoaderError::Unsupported { .. }) => {
                return Ok(Difference { address, first_byte: None, kind: Kind::Unknown });
            }
            Err(error) => return Err(error),
        };
        let first = wanted.iter().zip(&found).position(|(w, f)| w != f);
        let first_byte = first.map(|index| address + index as u32);
        Ok(Difference { address, first_byte, kind: Kind::of(wanted, &found) })
    }

    /// The bytes between the start of the part's first sector and the part: they are kept.
    pub(super) fn sectors<'a>(&mut self, job: &Job, part: &'a mut Part) -> Result<Sectors<'a>, LoaderError> {
        let before = part.address % SECTOR;
        let head = match before {
            0 => Vec::new(),
            _ => self.read_flash_bytes(job, part.address - before, before)?,
        };
        Ok(Sectors::new(part, head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_told_apart() {
        let wanted: Vec<u8> = (0..4096u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let shifted = [&wanted[..100], &wanted[36..4032]].concat();
        let stuck: Vec<u8> = wanted.iter().map(|byte| byte & 0xfe).collect();
        let other: Vec<u8> = wanted.iter().map(|byte| byte ^ 0x55).collect();
        assert_eq!(Kind::of(&wanted, &[0xff; 4096]), Kind::Blank);
        assert_eq!(Kind::of(&wanted, &stuck), Kind::StuckAtZero);
        assert_eq!(Kind::of(&wanted, &shifted), Kind::Shifted);
        assert_eq!(Kind::of(&wanted, &other), Kind::Other);
    }
}
