//! Reading and burning eFuses through the controller's registers.
//!
//! Source: technical reference manuals, chapter "eFuse Controller". Burning has not been run on silicon.

use std::time::Duration;

use esp_model::efuse::bits;
use esp_model::efuse::{BlockError, Controller, ControllerStyle, Efuses, Stage, Step};
use esp_model::job::Job;

use crate::error::LoaderError;
use crate::loader::Loader;

/// Bits of EFUSE_CMD.
const READ: u32 = 1;
const PROGRAM: u32 = 2;
/// Longest time a command may take; programming a block takes some milliseconds.
const BUSY_TIME: Duration = Duration::from_millis(500);
/// Times a block is programmed until all of its bits read back.
const ATTEMPTS: u32 = 3;

/// Why a burn stopped.
#[derive(Debug, thiserror::Error)]
pub enum BurnFault {
    /// The line or the loader failed; steps before this one are done.
    #[error("step {step} (block {block}): {source}")]
    Loader {
        /// Number of the step, from 0.
        step: usize,
        /// Its block.
        block: u8,
        /// What failed.
        source: LoaderError,
    },
    /// Bits did not become 1, or others did.
    #[error("step {step}: block {block} reads back otherwise than burned: {missing} bits are missing")]
    ReadBack {
        /// Number of the step, from 0.
        step: usize,
        /// Its block.
        block: u8,
        /// Bits that should be 1 and are not.
        missing: u32,
    },
    /// The controller reports errors in a block that had none.
    #[error("step {step}: block {block} reports {count} errors (fail: {fail})")]
    Coding {
        /// Number of the step, from 0.
        step: usize,
        /// Its block.
        block: u8,
        /// Errors that are corrected.
        count: u32,
        /// They cannot be corrected.
        fail: bool,
    },
    /// The chip holds something else than when the plan was made.
    #[error("the eFuses changed since the plan was made")]
    Changed,
}

/// What a finished burn could prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Everything reads back.
    ReadBack,
    /// The last stage closed the way to read it back; everything before it reads back.
    Unreadable,
}

impl Loader {
    /// Reads all eFuses with the controller's error registers.
    pub fn read_efuses(&mut self, job: &Job) -> Result<Efuses, LoaderError> {
        let chip = self.chip();
        let table = chip.efuse_at(self.revision().unwrap_or(chip.factory.revision));
        let mut efuses = Efuses::blank(table);
        for block in &table.blocks {
            job.check()?;
            let words = self.read_efuse_block(job, block.id)?;
            efuses.words.insert(block.id, words);
        }
        // Coded blocks hold fewer words than there are registers.
        for block in &table.blocks {
            let words = efuses.capacity(block) / 4;
            if let Some(block) = efuses.words.get_mut(&block.id) {
                block.iter_mut().skip(words).for_each(|word| *word = 0);
            }
        }
        efuses.errors = self.efuse_errors(job, &efuses)?;
        Ok(efuses)
    }

    fn efuse_errors(&mut self, job: &Job, efuses: &Efuses) -> Result<Vec<BlockError>, LoaderError> {
        let Some(controller) = &efuses.table.controller else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        let mut repeats = 0;
        for register in &controller.block0_errors {
            repeats += self.read_reg(job, *register)?.count_ones();
        }
        found.push(BlockError { block: 0, count: repeats, fail: repeats != 0 });
        for errors in &controller.errors {
            let count = errors.count.of(self.read_reg(job, errors.count.register)?);
            let fail = match errors.fail {
                Some(bits) => bits.of(self.read_reg(job, bits.register)?) != 0,
                None => false,
            };
            found.push(BlockError { block: errors.block, count, fail });
        }
        if let Some(register) = controller.decode_status {
            let fail = self.read_reg(job, register)? & 0xfff != 0;
            let coded = efuses.table.blocks.iter().filter(|block| block.id != 0);
            found.extend(coded.map(|block| BlockError { block: block.id, count: 0, fail }));
        }
        found.retain(|error| error.fail || error.count != 0);
        Ok(found)
    }

    /// Carries out steps in their order, and reads back each before the next. Not to be cut: hand in a shielded job.
    ///
    /// `before` is what the chip must still hold; otherwise nothing is burned. `journal` is called before each step.
    pub fn burn_efuses(
        &mut self,
        job: &Job,
        before: &Efuses,
        steps: &[Step],
        mut journal: impl FnMut(usize, &Step),
    ) -> Result<Proof, BurnFault> {
        let first = steps.first().map_or(0, |step| step.block);
        let now = self.read_efuses(job).map_err(|source| BurnFault::Loader { step: 0, block: first, source })?;
        if now.words != before.words {
            return Err(BurnFault::Changed);
        }
        let mut expected = before.clone();
        for (number, step) in steps.iter().enumerate() {
            journal(number, step);
            job.progress(number as u64, steps.len() as u64, format!("burning block {}", step.block));
            let closing = step.stage == Stage::Last && closes(&expected, step);
            match self.burn_checked(job, number, step, &mut expected) {
                Ok(()) => {}
                // What the last stage closes cannot be asked any more.
                Err(BurnFault::Loader { .. }) if closing => return Ok(Proof::Unreadable),
                Err(fault) => return Err(fault),
            }
        }
        Ok(Proof::ReadBack)
    }

    fn burn_checked(&mut self, job: &Job, step: usize, what: &Step, expected: &mut Efuses) -> Result<(), BurnFault> {
        let block = what.block;
        let loader = |source| BurnFault::Loader { step, block, source };
        let old_errors = expected.errors.clone();
        if let Some(block) = expected.table.block(block) {
            expected.burn(block, &what.data);
        }
        for attempt in 1..=ATTEMPTS {
            self.program(job, expected, what).map_err(loader)?;
            let now = self.read_efuses(job).map_err(loader)?;
            if let Some(error) = now.errors.iter().find(|error| error.block == block && !old_errors.contains(error)) {
                return Err(BurnFault::Coding { step, block, count: error.count, fail: error.fail });
            }
            let (wanted, got) = (expected.block(block), now.block(block));
            if bits::contains(got, wanted) {
                *expected = now;
                return Ok(());
            }
            // Only plain bits can be burned again.
            let coded = what.coded.len() != what.data.len();
            if attempt == ATTEMPTS || coded {
                let missing = wanted.iter().zip(got).map(|(wanted, got)| (wanted & !got).count_ones()).sum();
                return Err(BurnFault::ReadBack { step, block, missing });
            }
        }
        Ok(())
    }

    /// One programming command, and the read command that makes its result visible.
    fn program(&mut self, job: &Job, efuses: &Efuses, step: &Step) -> Result<(), LoaderError> {
        let Some(controller) = &efuses.table.controller else { return Err(self.no_controller()) };
        let block = efuses.table.block(step.block).ok_or_else(|| self.no_controller())?;
        self.set_timing(job, controller)?;
        let (first, clear, block_bits) = match controller.style {
            ControllerStyle::Esp32 => (block.write, 0, 0),
            ControllerStyle::PgmData => (controller.pgm_data, 8 * 4, u32::from(step.block) << 2),
        };
        let first = first.ok_or_else(|| self.no_controller())?;
        self.fill(job, first, clear)?;
        for (index, word) in step.coded.iter().enumerate() {
            self.write_reg(job, first + index as u32 * 4, *word, u32::MAX)?;
        }
        self.wait_idle(job, controller)?;
        self.write_reg(job, controller.conf, controller.write_code, u32::MAX)?;
        self.write_reg(job, controller.cmd, PROGRAM | block_bits, u32::MAX)?;
        self.wait_idle(job, controller)?;
        // Keys do not stay in registers.
        self.fill(job, first, (step.coded.len() as u32 * 4).max(clear))?;
        self.write_reg(job, controller.conf, controller.read_code, u32::MAX)?;
        self.write_reg(job, controller.cmd, READ, u32::MAX)?;
        self.wait_idle(job, controller)
    }

    fn fill(&mut self, job: &Job, first: u32, bytes: u32) -> Result<(), LoaderError> {
        (0..bytes).step_by(4).try_for_each(|offset| self.write_reg(job, first + offset, 0, u32::MAX))
    }

    fn set_timing(&mut self, job: &Job, controller: &Controller) -> Result<(), LoaderError> {
        if controller.timing.is_empty() {
            return Ok(());
        }
        let crystal = self.crystal_mhz(job)?;
        for timing in controller.timing.iter().filter(|timing| timing.crystal.is_none_or(|mhz| mhz == crystal)) {
            let bits = timing.bits();
            let old = self.read_reg(job, bits.register)?;
            self.write_reg(job, bits.register, old & !bits.mask() | bits.placed(timing.value), u32::MAX)?;
        }
        Ok(())
    }

    /// Waits until the controller's command is done. The register is read twice: the first can be early.
    fn wait_idle(&mut self, job: &Job, controller: &Controller) -> Result<(), LoaderError> {
        let deadline = self.port().now() + BUSY_TIME;
        loop {
            let busy = |word: u32| word & (READ | PROGRAM) != 0;
            if !busy(self.read_reg(job, controller.cmd)?) && !busy(self.read_reg(job, controller.cmd)?) {
                return Ok(());
            }
            if self.port().now() > deadline {
                return Err(LoaderError::Data("the eFuse controller does not finish its command".into()));
            }
        }
    }

    fn no_controller(&self) -> LoaderError {
        LoaderError::Unsupported {
            what: "burning this eFuse block".into(),
            mode: self.mode().describe(),
            chip: self.chip().name.clone(),
            stub_can: false,
        }
    }
}

/// The step ends the connection: no loader, or one that reads no registers.
fn closes(efuses: &Efuses, step: &Step) -> bool {
    use esp_model::efuse::security::{NO_DOWNLOAD, SECURE_DOWNLOAD};
    let mut names = NO_DOWNLOAD.iter().chain([&SECURE_DOWNLOAD]);
    names.any(|name| {
        efuses
            .table
            .field(name)
            .is_some_and(|field| field.block == step.block && bits::contains(&step.data, &efuses.bits_of(field)))
    })
}
