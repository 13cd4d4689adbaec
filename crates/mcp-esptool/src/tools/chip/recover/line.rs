//! The rungs up to a loader that answers: port, reset variants, ROM alone, hands.

use std::path::Path;

use esp_link::ConnectOptions;
use esp_link::options::StubSource;
use esp_link::options::{Before, ROM_BAUD};
use esp_link::port::{PortUrl, scan};
use esp_link::reset::Sequence;
use esp_model::job::Job;
use esp_ops::error::{Code, ToolError};
use esp_ops::session::device::Connected;

use super::{Ladder, Verdict};
use crate::ctx::Ctx;

/// Climbs until somebody answers; `None`: nobody does, and the ladder says why.
pub fn connect(
    ctx: &Ctx,
    job: &Job,
    url: &PortUrl,
    watch_s: f64,
    ladder: &mut Ladder,
) -> Result<Option<Connected>, ToolError> {
    match ctx.ports.open(url) {
        Ok(port) => drop(port),
        Err(error) if is_held(&error) => {
            ladder.fault("open the port", error.message.clone());
            ladder.next(error.next_step);
            return Ok(None);
        }
        Err(error) => return Err(error),
    }
    if let PortUrl::Serial(path) | PortUrl::Pty(path) = url
        && let Some(holder) = scan::holder_of(Path::new(path))
    {
        // It opens beside the other program, and each would get a part of what the device says.
        ladder.fault("open the port", format!("{holder} has it open too"));
        ladder.next("close the program that is named and call again; it is never killed for you");
        return Ok(None);
    }
    ladder.note("open the port", true, "it opens");
    let mut last = None;
    for (name, options) in rungs(ctx, url) {
        job.progress(ladder.steps.len() as u64, 6, name);
        match attempt(ctx, job, url, name, options, ladder)? {
            Ok(connected) => return Ok(Some(connected)),
            Err(error) => keep_telling(&mut last, error),
        }
    }
    if watch_s > 0.0
        && let Some(connected) = watch(ctx, job, url, watch_s, ladder, &mut last)?
    {
        return Ok(Some(connected));
    }
    if let Some(error) = last {
        judge(&error, ladder);
    }
    Ok(None)
}

/// Somebody has to free the port or its permissions. Nobody is killed for it.
pub fn is_held(error: &ToolError) -> bool {
    matches!(error.code, Code::PortBusy | Code::PortForbidden | Code::DeviceBusy)
}

/// What no other rung can mend.
pub fn ends_everything(error: &ToolError) -> bool {
    matches!(error.code, Code::Cancelled | Code::PortLost | Code::IdentityMismatch | Code::PolicyRefused)
}

fn rungs(ctx: &Ctx, url: &PortUrl) -> Vec<(&'static str, ConnectOptions)> {
    let usual = ctx.options_for(url);
    let rom = ConnectOptions { baud: ROM_BAUD, stub: StubSource::None, ..usual.clone() };
    // EN rises slowly where much capacitance hangs on it: BOOT has to stay low longer than any usual sequence does.
    let slow = ConnectOptions { before: Before::Only(Sequence::classic(2000)), attempts: 3, ..rom.clone() };
    vec![("all reset sequences, stub", usual), ("ROM only, 115200 baud", rom), ("ROM only, long classic reset", slow)]
}

/// One rung. The outer error ends the ladder.
fn attempt(
    ctx: &Ctx,
    job: &Job,
    url: &PortUrl,
    name: &str,
    options: ConnectOptions,
    ladder: &mut Ladder,
) -> Result<Result<Connected, ToolError>, ToolError> {
    match ctx.connect(url, options.clone(), job) {
        Ok(connected) => {
            ladder.way = Some(options);
            ladder.note(name, true, format!("the {} answers", connected.loader.mode().describe()));
            Ok(Ok(connected))
        }
        Err(error) if ends_everything(&error) => Err(error),
        Err(error) => {
            let bytes = error.evidence.get("bytes").and_then(|bytes| bytes.as_str());
            let seen = bytes.map_or_else(String::new, |bytes| format!("; seen \"{bytes}\""));
            ladder.note(name, false, format!("{}{seen}", error.message));
            Ok(Err(error))
        }
    }
}

/// Seconds that one try without a reset takes.
const TRY_S: f64 = 1.0;

/// Asks for hands on BOOT and EN, and watches the line while they work.
fn watch(
    ctx: &Ctx,
    job: &Job,
    url: &PortUrl,
    watch_s: f64,
    ladder: &mut Ladder,
    last: &mut Option<ToolError>,
) -> Result<Option<Connected>, ToolError> {
    let tries = (watch_s / TRY_S).ceil().clamp(1.0, 600.0) as u64;
    let options = ConnectOptions { before: Before::NoReset, attempts: 1, baud: ROM_BAUD, ..ctx.options_for(url) };
    let mut heard = 0;
    for round in 0..tries {
        job.check()?;
        job.progress(round, tries, "hold BOOT, press and release EN, then release BOOT: watching the line");
        match ctx.connect(url, options.clone(), &job.silent()) {
            Ok(connected) => {
                ladder.way = Some(options);
                let mode = connected.loader.mode().describe();
                ladder.note("BOOT and EN by hand, watched", true, format!("the {mode} answers"));
                return Ok(Some(connected));
            }
            Err(error) if ends_everything(&error) => return Err(error),
            Err(error) => {
                heard += u64::from(error.evidence.contains_key("bytes"));
                keep_telling(last, error);
            }
        }
    }
    let seen = if heard > 0 { "the device speaks, but never waits for a download" } else { "nothing was heard" };
    ladder.note("BOOT and EN by hand, watched", false, seen);
    Ok(None)
}

/// Keeps the error that says most: silence tells less than an earlier boot message, and nothing more than that the
/// loader is closed.
fn keep_telling(last: &mut Option<ToolError>, error: ToolError) {
    let closed = last.as_ref().is_some_and(|last| last.code == Code::NotInDownloadMode);
    if last.is_none() || (!closed && error.code != Code::NoSerialData) {
        *last = Some(error);
    }
}

/// Nobody answered: why?
fn judge(error: &ToolError, ladder: &mut Ladder) {
    ladder.cause.get_or_insert_with(|| error.message.clone());
    if error.code == Code::NotInDownloadMode {
        ladder.verdict = Verdict::Locked;
        ladder.next(
            "the ROM says that download mode is disabled by eFuse: only an update over the air can change the firmware",
        );
        return;
    }
    ladder.verdict = Verdict::NeedsHands;
    ladder.next(error.next_step.clone());
    ladder.next("hold BOOT, press and release EN, release BOOT, and call again with watch_s=60");
}
