//! The smallest repair: each candidate is proved on the boot chain before it is written.

use esp_link::flash::{Part, WriteOptions};
use esp_model::boot::{Config, Device};
use esp_model::job::Job;
use esp_model::nvs;
use esp_model::partition::otadata::{Otadata, State};
use esp_model::partition::{self, Partition, Table};
use esp_ops::boot::check;
use esp_ops::boot::log::{BootLog, BootVerdict};
use esp_ops::error::{FlashState, ToolError};
use esp_ops::flash::files::Piece;
use esp_ops::flash::keep;
use esp_ops::session::device::Connected;

use super::Ladder;

/// A change that may help.
pub struct Change {
    /// What it repairs.
    pub name: String,
    /// Addresses and bytes.
    parts: Vec<(u32, Vec<u8>)>,
    /// It does not change what the boot chain looks at: only the console shows whether it helped.
    beyond_the_chain: bool,
    /// It takes something away that is put back when that did not help.
    takes_away: bool,
}

/// Walks the boot chain; true when the start would stop.
pub fn diagnose(connected: &mut Connected, job: &Job, ladder: &mut Ladder) -> Result<bool, ToolError> {
    let device = check::state_of(connected, job)?;
    let report = check::walk(connected, job, &device, &Config::default(), Vec::new())?;
    match report.failure() {
        Some(step) => {
            ladder.fault(format!("boot chain: {}", step.stage.name()), step.text.clone());
            Ok(true)
        }
        None => {
            let last = report.steps.last().map_or_else(String::new, |step| step.text.clone());
            ladder.note("boot chain", report.starts(), last);
            Ok(false)
        }
    }
}

/// What can be tried, the smallest first. `console`: what the last start showed.
pub fn candidates(
    connected: &mut Connected,
    job: &Job,
    artefacts: &[Piece],
    console: Option<&BootLog>,
) -> Result<Vec<Change>, ToolError> {
    let mut found = Vec::new();
    let layout = keep::table(connected, job, None)?;
    let table = layout.as_ref().map(|layout| &layout.table);
    if let Some(part) = table.and_then(|table| table.find_kind(partition::DATA, partition::DATA_OTA)) {
        found.push(Change::data("otadata", part, vec![0xff; part.size as usize], false));
        let now = Otadata::read(&connected.loader.read_flash_bytes(&job.silent(), part.offset, part.size)?);
        let slots = table.map_or(0, |table| table.ota_slots().len() as u32);
        let selects = |slot| now.switch_to(slot, slots, State::Undefined).map(|chosen| (slot, chosen.bytes()));
        found.extend((0..slots).filter_map(selects).map(|(slot, bytes)| {
            let name = format!("otadata (selects ota_{slot})");
            Change::data(name, part, bytes, false)
        }));
    }
    let nvs = table.and_then(|table| table.find_kind(partition::DATA, partition::DATA_NVS));
    let panics = console.is_some_and(|console| console.verdict == BootVerdict::Panic);
    let mut suspect = None;
    if let Some(part) = nvs {
        let blank = Change::data("nvs", part, vec![0xff; part.size as usize], true);
        let blamed = console.is_some_and(|console| console.codes.iter().any(|code| code == "nvs_unusable"));
        if blamed || is_damaged(connected, job, part.offset, part.size)? {
            found.push(blank);
        } else if panics {
            // Sound entries may still be settings that the app cannot bear.
            suspect = Some(blank);
        }
    }
    let bootloader_at = connected.loader.chip().flash.bootloader_offset;
    let of = |name: &str, pick: &dyn Fn(&Piece) -> bool| -> Result<Option<Change>, ToolError> {
        let parts = artefacts.iter().filter(|piece| pick(piece)).map(part).collect::<Result<Vec<_>, _>>()?;
        let change = Change { name: name.into(), parts, beyond_the_chain: false, takes_away: false };
        Ok((!change.parts.is_empty()).then_some(change))
    };
    let is_bootloader = |piece: &Piece| piece.address == bootloader_at;
    let is_table = |piece: &Piece| Table::is_binary(piece.head());
    let changes = [
        of("bootloader", &is_bootloader)?,
        of("partition table", &is_table)?,
        of("bootloader and partition table", &|piece| is_bootloader(piece) || is_table(piece))?,
        of("app and otadata", &|piece| !is_bootloader(piece) && !is_table(piece))?,
        suspect,
        of("everything", &|_| true)?,
    ];
    found.extend(changes.into_iter().flatten());
    Ok(found)
}

/// All of a build.
pub fn everything(artefacts: &[Piece]) -> Result<Change, ToolError> {
    let parts = artefacts.iter().map(part).collect::<Result<_, _>>()?;
    Ok(Change { name: "everything".into(), parts, beyond_the_chain: false, takes_away: false })
}

fn part(piece: &Piece) -> Result<(u32, Vec<u8>), ToolError> {
    Ok((piece.address, piece.bytes()?.into_owned()))
}

impl Change {
    fn data(name: impl Into<String>, part: &Partition, bytes: Vec<u8>, beyond_the_chain: bool) -> Self {
        Self { name: name.into(), parts: vec![(part.offset, bytes)], beyond_the_chain, takes_away: true }
    }

    /// What puts back what this change takes away; `None` for one that only brings what was given.
    pub fn before(&self, connected: &mut Connected, job: &Job) -> Result<Option<Self>, ToolError> {
        if !self.takes_away {
            return Ok(None);
        }
        let mut parts = Vec::new();
        for (address, bytes) in &self.parts {
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            parts.push((*address, connected.loader.read_flash_bytes(&job.silent(), *address, length)?));
        }
        Ok(Some(Self { name: self.name.clone(), parts, beyond_the_chain: true, takes_away: false }))
    }
}

/// Bytes that are neither blank nor what NVS writes.
fn is_damaged(connected: &mut Connected, job: &Job, address: u32, size: u32) -> Result<bool, ToolError> {
    let bytes = connected.loader.read_flash_bytes(&job.silent(), address, size)?;
    let lossy = |finding: &nvs::Finding| finding.severity() >= nvs::Severity::Warning;
    Ok(nvs::read(&bytes).worst().is_some_and(lossy))
}

/// With the change the boot chain goes through; where it does not look there, the change may help.
pub fn would_help(connected: &mut Connected, job: &Job, change: &Change) -> Result<bool, ToolError> {
    let device: Device = check::state_of(connected, job)?;
    let report = check::walk(connected, job, &device, &Config::default(), change.parts.clone())?;
    let now = check::walk(connected, job, &device, &Config::default(), Vec::new())?;
    Ok(report.starts() && (change.beyond_the_chain || !now.starts() || report.app != now.app))
}

/// Writes it and verifies it.
pub fn write(connected: &mut Connected, job: &Job, change: &Change) -> Result<(), ToolError> {
    let mut parts: Vec<Part> =
        change.parts.iter().map(|(address, bytes)| Part::bytes(*address, bytes.clone())).collect();
    let written = connected.loader.write_flash(&job.shielded(), &mut parts, &WriteOptions::default());
    written.map(drop).map_err(|error| ToolError::from(error).touched(FlashState::Partial))
}
