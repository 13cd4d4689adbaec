//! `--skip-flashed`, `--diff-with` and `--trust-flash-content`. The loader compares with the chip in any case and sends
//! only sectors that differ; these options say what need not even be compared.

use esp_link::flash::SECTOR;
use esp_model::image::hex::{self, Part};
use md5::{Digest, Md5};

use super::Job;
use crate::command::Call;
use crate::esptool::session::{Session, failed};
use crate::fault::Fault;
use crate::files;

/// The files of `--diff-with` in the order of the files to write; none where `skip` stands.
pub fn earlier(call: &Call<'_>) -> Result<Vec<Option<Vec<u8>>>, Fault> {
    let (words, count) = (call.list("diff-with"), call.list("addr-filename").len() / 2);
    let mut found = Vec::new();
    for path in words {
        if path.eq_ignore_ascii_case("skip") {
            found.push(None);
            continue;
        }
        let data = files::read(path, "--diff-with")?;
        match hex::is_hex(&data) {
            false => found.push(Some(data)),
            true => {
                let parts = hex::read(&data).map_err(|error| Fault::Fatal(format!("'{path}': {error}")))?;
                found.extend(parts.into_iter().map(|part| Some(part.data)));
            }
        }
    }
    if found.len() > count.max(1) && call.list("encrypt-files").is_empty() {
        call.terminal.note("More files are given to --diff-with than are written; the others are ignored.");
    }
    Ok(found)
}

/// Whether these options can be followed; says why not.
pub fn allowed(call: &Call<'_>, session: &Session, encrypts: bool) -> bool {
    let locked = session.is_locked();
    let reason = match () {
        () if call.has("erase-all") => "enabled erase-all",
        () if encrypts && call.has("encrypt") => "enabled encryption",
        () if session.is_first_family() && call.switch("no-stub") => "ESP8266 in ROM bootloader",
        () if locked => "enabled secure download mode",
        () => return true,
    };
    if !call.list("diff-with").is_empty() {
        let text =
            format!("Fast reflashing of changed data sectors is not supported with {reason}. Will flash all data.");
        call.terminal.note(text);
    }
    if call.has("skip-flashed") {
        let text = format!(
            "Skipping flashing of already flashed content is not supported with {reason}. Will flash all data."
        );
        call.terminal.note(text);
    }
    false
}

/// What of a file is to be written.
pub enum Plan {
    /// Nothing.
    Nothing,
    /// All of it.
    Whole,
    /// These sectors of it; the rest is in flash already, if the earlier file is.
    Regions(Vec<Part>),
}

/// What the options leave to be written.
pub fn plan(call: &Call<'_>, session: &mut Session, job: &Job) -> Result<Plan, Fault> {
    let (path, address) = (&job.piece.path, job.piece.part.address);
    if call.has("skip-flashed") && !job.encrypt {
        call.terminal.say("Comparing flash contents against new data...");
        if !in_flash(session, job)? {
            return Ok(Plan::Whole);
        }
        call.terminal.say(format_args!("'{path}' at {address:#010x} already in flash, skipping write."));
        return Ok(Plan::Nothing);
    }
    let Some(earlier) = &job.earlier else { return Ok(Plan::Whole) };
    if job.encrypt {
        let text = format!("Fast reflashing encrypted images is not supported. Will flash the full {path}.");
        call.terminal.note(text);
        return Ok(Plan::Whole);
    }
    let regions = changed(earlier, job);
    if !regions.is_empty() {
        return Ok(Plan::Regions(regions));
    }
    if call.has("trust-flash-content") {
        let text = "No changed sectors found and trust flash content mode is enabled, skipping write and verification.";
        call.terminal.say(text);
        return Ok(Plan::Nothing);
    }
    call.terminal.say("No changed sectors found, verifying if data is in flash...");
    if in_flash(session, job)? {
        call.terminal.say(format_args!("'{path}' at {address:#010x} verified."));
        return Ok(Plan::Nothing);
    }
    call.terminal.note("Data not found in flash, flashing the whole image...");
    Ok(Plan::Whole)
}

/// The whole file is in flash.
pub fn in_flash(session: &mut Session, job: &Job) -> Result<bool, Fault> {
    let part = &job.piece.part;
    let found = session.loader.flash_md5(&session.job, part.address, part.data.len() as u32).map_err(failed)?;
    Ok(found == <[u8; 16]>::from(Md5::digest(&part.data)))
}

/// Stretches of sectors that changed since the earlier file. What neither file holds counts as erased.
fn changed(earlier: &[u8], job: &Job) -> Vec<Part> {
    let address = job.piece.part.address;
    let before = address % SECTOR;
    let (new, old) = (laid_out(before, &job.piece.part.data), laid_out(before, earlier));
    let sectors = (address - before..).step_by(SECTOR as usize).zip(new.chunks(SECTOR as usize)).enumerate();
    let mut runs: Vec<Part> = Vec::new();
    for (index, (address, sector)) in sectors {
        let from = old.get(index * SECTOR as usize..).unwrap_or_default();
        if from.starts_with(sector) || from.is_empty() && is_blank(sector) {
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.end() == u64::from(address) => run.data.extend_from_slice(sector),
            _ => runs.push(Part { address, data: sector.to_vec() }),
        }
    }
    runs
}

/// A file as it stands in whole sectors, with so many bytes before it.
fn laid_out(before: u32, data: &[u8]) -> Vec<u8> {
    let mut sectors = vec![0xff; before as usize];
    sectors.extend_from_slice(data);
    sectors.resize(sectors.len().next_multiple_of(SECTOR as usize), 0xff);
    sectors
}

fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0xff)
}
