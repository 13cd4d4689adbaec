//! `--skip-flashed`, `--diff-with` and `--trust-flash-content`. The loader compares with the chip in any case and sends
//! only sectors that differ; these options say what may be left out even of that.

use esp_link::flash::SECTOR;
use esp_model::image::hex;
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

/// The file need not be written.
pub fn skips(call: &Call<'_>, session: &mut Session, job: &Job) -> Result<bool, Fault> {
    let (path, address) = (&job.piece.path, job.piece.part.address);
    if call.has("skip-flashed") && !job.encrypt {
        call.terminal.say("Comparing flash contents against new data...");
        let same = in_flash(session, job)?;
        if same {
            call.terminal.say(format_args!("'{path}' at {address:#010x} already in flash, skipping write."));
        }
        return Ok(same);
    }
    let Some(earlier) = &job.earlier else { return Ok(false) };
    if job.encrypt {
        let text = format!("Fast reflashing encrypted images is not supported. Will flash the full {path}.");
        call.terminal.note(text);
        return Ok(false);
    }
    if changed(call, earlier, job) {
        return Ok(false);
    }
    if call.has("trust-flash-content") {
        let text = "No changed sectors found and trust flash content mode is enabled, skipping write and verification.";
        call.terminal.say(text);
        return Ok(true);
    }
    call.terminal.say("No changed sectors found, verifying if data is in flash...");
    let same = in_flash(session, job)?;
    if same {
        call.terminal.say(format_args!("'{path}' at {address:#010x} verified."));
    } else {
        call.terminal.note("Data not found in flash, flashing the whole image...");
    }
    Ok(same)
}

fn in_flash(session: &mut Session, job: &Job) -> Result<bool, Fault> {
    let part = &job.piece.part;
    let found = session.loader.flash_md5(&session.job, part.address, part.data.len() as u32).map_err(failed)?;
    Ok(found == <[u8; 16]>::from(Md5::digest(&part.data)))
}

/// Says which sectors changed since the earlier file.
fn changed(call: &Call<'_>, earlier: &[u8], job: &Job) -> bool {
    let sector = SECTOR as usize;
    let base = job.piece.part.address;
    let pairs = job.piece.part.data.chunks(sector).enumerate();
    let differs = pairs.map(|(index, new)| earlier.get(index * sector..).is_none_or(|old| !old.starts_with(new)));
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (index, _) in differs.enumerate().filter(|(_, differs)| *differs) {
        match runs.last_mut() {
            Some((first, count)) if *first + *count == index => *count += 1,
            _ => runs.push((index, 1)),
        }
    }
    if runs.is_empty() {
        return false;
    }
    call.terminal.say("Changed data sectors found, fast reflashing...");
    for (first, count) in runs {
        let at = u64::from(base) + (first * sector) as u64;
        let plural = if count > 1 { "s" } else { "" };
        call.terminal.say(format_args!("Reflashing {count} changed sector{plural} at {at:#010x}..."));
    }
    true
}
