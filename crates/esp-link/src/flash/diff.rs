//! Which sectors differ, asked from the chip itself: no old file is needed.

use esp_model::job::Job;

use super::source::Sectors;
use super::{BLOCK, SECTOR};
use crate::error::LoaderError;
use crate::loader::Loader;

/// Sectors in a large block.
const GROUP: u32 = BLOCK / SECTOR;

impl Loader {
    /// One flag a sector: its content on the chip is not what it should be.
    ///
    /// A handful of sectors is compared first. When all of them differ, it is another firmware: everything is
    /// called different rather than hashed for nothing.
    pub(super) fn differing(&mut self, job: &Job, sectors: &mut Sectors) -> Result<Vec<bool>, LoaderError> {
        let all = vec![true; sectors.count as usize];
        if !self.can_verify() {
            return Ok(all);
        }
        let samples = samples(sectors)?;
        // Where all is to be blank there is nothing to sample, and much of it may be blank already.
        let mut same = samples.is_empty();
        for sample in samples {
            if !self.differs(job, sectors, sample, 1)? {
                same = true;
                break;
            }
        }
        if !same && sectors.count > GROUP {
            return Ok(all);
        }
        let mut differing = vec![false; sectors.count as usize];
        for group in (0..sectors.count).step_by(GROUP as usize) {
            let count = GROUP.min(sectors.count - group);
            let (done, total) = (u64::from(group * SECTOR), u64::from(sectors.count * SECTOR));
            job.progress(done, total, format!("comparing {:#x}", sectors.address(group)));
            if !self.differs(job, sectors, group, count)? {
                continue;
            }
            for sector in group..group + count {
                differing[sector as usize] = count == 1 || self.differs(job, sectors, sector, 1)?;
            }
        }
        Ok(differing)
    }

    /// The first sector from `first` (at most `end`) whose content is not what it should be.
    pub(super) fn first_differing(
        &mut self,
        job: &Job,
        sectors: &mut Sectors,
        first: u32,
        end: u32,
    ) -> Result<Option<u32>, LoaderError> {
        for group in (first..end).step_by(GROUP as usize) {
            let count = GROUP.min(end - group);
            if !self.differs(job, sectors, group, count)? {
                continue;
            }
            for sector in group..group + count {
                if self.differs(job, sectors, sector, 1)? {
                    return Ok(Some(sector));
                }
            }
        }
        Ok(None)
    }

    /// A run of sectors is not on the chip as it should be. A lost or damaged answer is asked for again.
    pub(super) fn differs(
        &mut self,
        job: &Job,
        sectors: &mut Sectors,
        first: u32,
        count: u32,
    ) -> Result<bool, LoaderError> {
        let wanted = sectors.md5(first, count)?;
        Ok(self.digest(job, sectors.address(first), count * SECTOR)? != wanted)
    }

    /// MD5 over a flash region, asked for until it is answered; by a loader that is started anew if need be.
    pub(super) fn digest(&mut self, job: &Job, address: u32, length: u32) -> Result<[u8; 16], LoaderError> {
        let ask = |loader: &mut Self| loader.flash_md5(job, address, length);
        match self.retrying(job, ask) {
            Err(error) if error.is_silence() => self.get_back(job).and_then(|_| self.retrying(job, ask)),
            result => result,
        }
    }

    /// Repeats a question that changes nothing until it is answered, a few times at most.
    pub(crate) fn retrying<T>(
        &mut self,
        job: &Job,
        mut ask: impl FnMut(&mut Self) -> Result<T, LoaderError>,
    ) -> Result<T, LoaderError> {
        let mut tries = 0;
        loop {
            match ask(self) {
                // A refusal may be a damaged request, but is more likely meant; and a whole answer came: still in step.
                Err(error) if error.is_unknown_command() && tries < 2 => tries += 1,
                Err(error) if !error.is_final() && !error.is_unknown_command() && tries < 10 => {
                    tries += 1;
                    self.resync(job)?;
                }
                result => return result,
            }
        }
    }
}

/// Four sectors that are not blank: the first, the last, and two between.
fn samples(sectors: &mut Sectors) -> Result<Vec<u32>, LoaderError> {
    let mut picked = Vec::new();
    for quarter in 0..4 {
        let from = u64::from(sectors.count) * quarter / 4;
        for sector in from as u32..sectors.count {
            if sectors.read(sector, 1)?.iter().any(|byte| *byte != 0xff) {
                picked.push(sector);
                break;
            }
        }
    }
    picked.dedup();
    Ok(picked)
}
