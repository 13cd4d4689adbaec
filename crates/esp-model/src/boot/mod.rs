//! The boot chain, walked on bytes as the ROM and ESP-IDF's second-stage bootloader walk it: what each step finds, where
//! the start would end, and what the console would show.
//!
//! Sources: ESP-IDF `bootloader_support` (`bootloader_init.c`, `bootloader_utility.c`, `esp_image_format.c`,
//! `flash_partitions.c`) for the second stage; the ROMs' own output for the first. A bootloader's build options are not
//! in flash: they are given in [`Config`], and what depends on unknown ones is said to be unknown.

mod app;
mod device;
mod flash;
mod log;
mod rom;
mod second;
#[cfg(test)]
mod tests;

pub use app::{AppFacts, block_revision_fault};
pub use device::{Config, Device, SecureBootState, Trust};
pub use flash::FlashRead;

use crate::chip::{Chip, ImageFormat};
use crate::partition::otadata::Otadata;
use crate::partition::{Partition, Table};

/// A part of the boot chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The ROM reads the bootloader.
    Rom,
    /// The ROM checks the bootloader's signature.
    BootloaderSignature,
    /// The bootloader looks at chip and flash.
    Bootloader,
    /// The bootloader reads the partition table.
    PartitionTable,
    /// The bootloader chooses an app.
    Otadata,
    /// The bootloader checks an app's secure version.
    AntiRollback,
    /// The bootloader reads an app.
    App,
    /// The bootloader checks an app's signature.
    AppSignature,
}

impl Stage {
    /// A name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rom => "rom",
            Self::BootloaderSignature => "bootloader_signature",
            Self::Bootloader => "bootloader",
            Self::PartitionTable => "partition_table",
            Self::Otadata => "otadata",
            Self::AntiRollback => "anti_rollback",
            Self::App => "app",
            Self::AppSignature => "app_signature",
        }
    }
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// The start goes on, but not as intended.
    Warning,
    /// This step fails.
    Fail,
    /// It cannot be told from these bytes.
    Unknown,
}

impl Verdict {
    /// A name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warning => "warning",
            Self::Fail => "fail",
            Self::Unknown => "unknown",
        }
    }
}

/// One step of the walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which part of the chain.
    pub stage: Stage,
    /// What it came to.
    pub verdict: Verdict,
    /// What was looked at and found.
    pub text: String,
    /// Where in flash, in bytes.
    pub address: Option<u32>,
}

/// How the start ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// An app is started (on chips without a second stage: the program in flash).
    Starts {
        /// Name of its partition, where there is a table.
        partition: Option<String>,
        /// Where it lies in flash.
        address: u32,
    },
    /// The start ends here; the chip resets and tries again.
    Stops(Stage),
    /// The rest cannot be told.
    Unknown(Stage),
}

/// The whole walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootReport {
    /// Steps in order.
    pub steps: Vec<Step>,
    /// How it ends.
    pub outcome: Outcome,
    /// What the console shows after the ROM's boot line; lines end in CR LF. Times are made up.
    pub log: String,
    /// Where the partition table was found.
    pub table_offset: Option<u32>,
    /// The partition table.
    pub table: Option<Table>,
    /// otadata before and after, when there is such a partition.
    pub otadata: Option<(Otadata, Otadata)>,
    /// What is known of the app that is started.
    pub app: Option<AppFacts>,
    /// The chip decrypts its flash, and what was read is not decrypted.
    pub ciphertext: bool,
}

impl BootReport {
    /// An app is started.
    pub fn starts(&self) -> bool {
        matches!(self.outcome, Outcome::Starts { .. })
    }

    /// The first step that fails, or the step that ends the start.
    pub fn failure(&self) -> Option<&Step> {
        let Outcome::Stops(stage) = self.outcome else { return None };
        let failed = |step: &&Step| step.verdict == Verdict::Fail;
        let at_stage = self.steps.iter().filter(failed).find(|step| step.stage == stage);
        at_stage.or_else(|| self.steps.iter().find(failed))
    }
}

/// Walks the chain.
pub fn walk(chip: &'static Chip, flash: &dyn FlashRead, device: &Device, config: &Config) -> BootReport {
    let mut walk = Walk { chip, flash, device, config, steps: Vec::new(), log: log::Log::default() };
    let mut found = Found::default();
    let outcome = match walk.rom() {
        Ok(()) if chip.image.format == ImageFormat::Esp8266 => {
            Outcome::Starts { partition: None, address: chip.flash.bootloader_offset }
        }
        Ok(()) => walk.second_stage(&mut found).unwrap_or_else(Into::into),
        Err(end) => end.into(),
    };
    BootReport {
        steps: walk.steps,
        outcome,
        log: walk.log.into_text(),
        table_offset: found.table_offset,
        table: found.table,
        otadata: found.otadata,
        app: found.app,
        ciphertext: device.ciphertext,
    }
}

/// What the walk found on its way.
#[derive(Default)]
struct Found {
    table_offset: Option<u32>,
    table: Option<Table>,
    otadata: Option<(Otadata, Otadata)>,
    app: Option<AppFacts>,
}

/// The start does not go on.
enum End {
    Stops(Stage),
    Unknown(Stage),
}

impl From<End> for Outcome {
    fn from(end: End) -> Self {
        match end {
            End::Stops(stage) => Self::Stops(stage),
            End::Unknown(stage) => Self::Unknown(stage),
        }
    }
}

struct Walk<'a> {
    chip: &'static Chip,
    flash: &'a dyn FlashRead,
    device: &'a Device,
    config: &'a Config,
    steps: Vec<Step>,
    log: log::Log,
}

impl Walk<'_> {
    fn step(&mut self, stage: Stage, verdict: Verdict, address: Option<u32>, text: impl Into<String>) {
        self.steps.push(Step { stage, verdict, text: text.into(), address });
    }

    fn pass(&mut self, stage: Stage, address: impl Into<Option<u32>>, text: impl Into<String>) {
        self.step(stage, Verdict::Pass, address.into(), text);
    }

    /// Notes a failure that ends the start.
    fn stop(&mut self, stage: Stage, address: impl Into<Option<u32>>, text: impl Into<String>) -> End {
        self.step(stage, Verdict::Fail, address.into(), text);
        End::Stops(stage)
    }

    /// Reads `N` bytes.
    fn bytes<const N: usize>(&self, address: u32) -> Option<[u8; N]> {
        let mut out = [0; N];
        self.flash.read(address, &mut out).then_some(out)
    }

    fn word(&self, address: u32) -> Option<u32> {
        self.bytes(address).map(u32::from_le_bytes)
    }

    fn partition_name(partition: &Partition) -> String {
        partition.name.clone()
    }
}
