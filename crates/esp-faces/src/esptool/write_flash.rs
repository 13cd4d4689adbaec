//! `write-flash`.

mod checks;
mod fast;

use clap::{Arg, ArgAction, Command};
use esp_link::flash::{Compress, Part, SECTOR, WriteOptions, WriteReport};
use esp_model::image::hex;
use esp_model::image::merge::FlashSettings;

use self::fast::Plan;
use super::options::{self, FlashValues, Piece};
use super::session::{self, Session, failed};
use super::{erase_flash, images, pins, security, sizes};
use crate::command::{Call, flag, option};
use crate::fault::Fault;

pub fn spec() -> Command {
    let many = |name: &'static str, help| Arg::new(name).long(name).num_args(1..).action(ArgAction::Append).help(help);
    Command::new("write-flash")
        .about("Write files to flash")
        .arg(options::pairs())
        .arg(flag("erase-all", "Erase the whole flash first").short('e'))
        .arg(flag("no-progress", "Show no progress").short('p'))
        .arg(flag("encrypt", "Let the chip encrypt what is written"))
        .arg(many("encrypt-files", "Pairs of address and file that the chip encrypts"))
        .arg(flag("ignore-flash-enc-efuse", "Encrypt whatever the eFuses say"))
        .arg(many("diff-with", "Files that were flashed before, or `skip`"))
        .arg(flag("trust-flash-content", "Do not verify what did not change").conflicts_with("skip-flashed"))
        .arg(flag("skip-flashed", "Skip files that are in flash already").short('s').conflicts_with("diff-with"))
        .arg(flag("force", "Skip checks of security and compatibility"))
        .arg(flag("compress", "Compress (the default with a stub)").short('z').conflicts_with("no-compress"))
        .arg(flag("no-compress", "Do not compress").short('u'))
        .arg(option("flash-type", "Kind of flash").value_parser(["nor"]).default_value("nor").hide(true))
        .args(options::flash(FlashValues::Detect))
        .arg(pins::spi_connection())
}

pub fn run(call: &Call<'_>) -> Result<(), Fault> {
    if call.has("encrypt") && !call.list("encrypt-files").is_empty() {
        return Err(Fault::fatal("Options --encrypt and --encrypt-files must not be specified at the same time."));
    }
    if call.has("trust-flash-content") && call.list("diff-with").is_empty() {
        return Err(Fault::fatal("Option --trust-flash-content requires --diff-with to be specified."));
    }
    let mut jobs: Vec<Job> = plain(call)?;
    let earlier = fast::earlier(call)?;
    jobs.iter_mut().zip(earlier).for_each(|(job, earlier)| job.earlier = earlier);
    session::with(call, |session| write_all(call, session, jobs))
}

/// A file to write.
#[derive(Debug)]
pub struct Job {
    /// Where and what.
    pub piece: Piece,
    /// The chip encrypts it.
    pub encrypt: bool,
    /// What was flashed there before.
    pub earlier: Option<Vec<u8>>,
}

fn plain(call: &Call<'_>) -> Result<Vec<Job>, Fault> {
    let job = |encrypt| move |piece| Job { piece, encrypt, earlier: None };
    let mut jobs: Vec<Job> = options::own_pieces(call)?.into_iter().map(job(call.has("encrypt"))).collect();
    let encrypted = options::pieces(&call.list("encrypt-files"), "--encrypt-files")?;
    if !encrypted.is_empty() {
        jobs.extend(encrypted.into_iter().map(job(true)));
        jobs.sort_by_key(|job| job.piece.part.address);
    }
    Ok(jobs)
}

fn write_all(call: &Call<'_>, session: &mut Session, mut jobs: Vec<Job>) -> Result<(), Fault> {
    let security = security::read(session)?;
    let encrypts = jobs.iter().any(|job| job.encrypt);
    let fast = fast::allowed(call, session, encrypts);
    checks::before(call, session, security, &jobs)?;
    let size = sizes::configure(call, session)?;
    let flash = FlashSettings { size, ..options::flash_settings(call) };
    checks::fits(session, &jobs)?;
    if call.has("erase-all") {
        erase_flash::whole(call, session, call.has("force"))?;
    }
    let many = jobs.len() > 1;
    for job in &mut jobs {
        let (path, address) = (job.piece.path.clone(), job.piece.part.address);
        if many {
            call.terminal.say(format_args!("\nWriting '{path}' at {address:#010x}..."));
        }
        if job.piece.part.data.is_empty() {
            call.terminal.warn(format_args!("'{path}' is empty."));
            continue;
        }
        prepare(call, session, job, (security.secure_boot, &flash))?;
        match if fast { fast::plan(call, session, job)? } else { Plan::Whole } {
            Plan::Nothing => {}
            Plan::Whole => whole(call, session, job)?,
            Plan::Regions(regions) => changed(call, session, job, &regions)?,
        }
    }
    Ok(())
}

/// Pads the file, and puts the flash settings into a bootloader.
fn prepare(
    call: &Call<'_>,
    session: &Session,
    job: &mut Job,
    (secure_boot, flash): (bool, &FlashSettings),
) -> Result<(), Fault> {
    let unit = if job.encrypt { 16 } else { 4 };
    let pad = |data: &mut Vec<u8>| data.resize(data.len().next_multiple_of(unit), 0xff);
    pad(&mut job.piece.part.data);
    if session.is_locked() || secure_boot {
        call.terminal.warn("Security features enabled, so not changing any flash settings.");
        return Ok(());
    }
    let chip = session.loader.chip();
    images::patch(call.terminal, chip, &mut job.piece, flash)?;
    if let Some(earlier) = &mut job.earlier {
        pad(earlier);
        let mut piece = Piece { path: job.piece.path.clone(), part: job.piece.part.clone() };
        std::mem::swap(&mut piece.part.data, earlier);
        images::patch(&crate::terminal::Terminal::silent(), chip, &mut piece, flash)?;
        *earlier = piece.part.data;
    }
    Ok(())
}

/// Writes one file and says so.
fn whole(call: &Call<'_>, session: &mut Session, job: &Job) -> Result<(), Fault> {
    let report = write(call, session, &job.piece.part, job.encrypt)?;
    call.terminal.say("Verifying written data...");
    call.terminal.say(if report.verified { VERIFIED } else { NOT_VERIFIED });
    Ok(())
}

/// Writes what changed since the earlier file. Where that was not in flash, the rest is wrong: then all is written.
fn changed(call: &Call<'_>, session: &mut Session, job: &Job, regions: &[hex::Part]) -> Result<(), Fault> {
    call.terminal.say("Changed data sectors found, fast reflashing...");
    for region in regions {
        let sectors = region.data.len() / SECTOR as usize;
        let plural = if sectors > 1 { "s" } else { "" };
        call.terminal.say(format_args!("Reflashing {sectors} changed sector{plural} at {:#010x}...", region.address));
        write(call, session, region, false)?;
    }
    call.terminal.say("Verifying written data...");
    if fast::in_flash(session, job)? {
        call.terminal.say(VERIFIED);
        return Ok(());
    }
    call.terminal.note(
        "Verification failed after fast reflash (flash content did not match the expected data). Reflashing the whole \
         image...",
    );
    whole(call, session, job)
}

/// Writes bytes and says so.
fn write(call: &Call<'_>, session: &mut Session, part: &hex::Part, encrypt: bool) -> Result<WriteReport, Fault> {
    let (address, mut data) = (part.address, part.data.clone());
    let length = data.len() as u64;
    let before = address % SECTOR;
    if !call.has("erase-all") {
        if before != 0 {
            call.terminal.note(format_args!(
                "Flash address {address:#010x} is not aligned to a {SECTOR:#x} byte flash sector. {before:#x} bytes \
                 before this address will be erased."
            ));
        }
        let last = (u64::from(address) + length).next_multiple_of(SECTOR.into()) - 1;
        call.terminal.say(format_args!("Flash will be erased from {:#010x} to {last:#010x}...", address - before));
    }
    if !call.has("no-progress") {
        session.meter.transfer("Writing at", address, length);
    }
    let compress = match (call.has("no-compress"), call.has("compress")) {
        (true, _) => Compress::Never,
        (false, true) if call.switch("no-stub") => Compress::Always,
        _ => Compress::Auto,
    };
    // Where nobody can ask, the size that was configured counts.
    let options = WriteOptions { compress, encrypt, ..WriteOptions::default() };
    // What stands before it in its sector goes, as with esptool.
    data.splice(0..0, std::iter::repeat_n(0xff, before as usize));
    let mut parts = [Part::bytes(address - before, data)];
    let began = session.clock();
    let report = session.loader.write_flash(&session.job, &mut parts, &options).map_err(failed)?;
    session.meter.complete();
    let seconds = (session.clock() - began).as_secs_f64();
    say_written(call, &report, address, length, seconds);
    Ok(report)
}

const VERIFIED: &str = "Hash of data verified.";
const NOT_VERIFIED: &str = "Cannot verify written data if encrypted or in secure download mode.";

fn say_written(call: &Call<'_>, report: &WriteReport, address: u32, length: u64, seconds: f64) {
    // What is sent is whole sectors: a short file may take more bytes than it has.
    let compressed = match report.sent_bytes {
        sent if call.has("no-compress") || sent >= report.written_bytes => String::new(),
        sent => format!(" ({sent} compressed)"),
    };
    // The reference fills up the sector's beginning itself where no stub does, and counts that.
    let length = if call.switch("no-stub") { length + u64::from(address % SECTOR) } else { length };
    let speed = sizes::speed(length, seconds);
    call.terminal
        .say(format_args!("Wrote {length} bytes{compressed} at {address:#010x} in {seconds:.1} seconds{speed}."));
    if report.skipped_bytes > 0 {
        let kept = report.skipped_bytes / u64::from(SECTOR);
        call.terminal.note(format_args!("{kept} sectors held the data already and were not written again."));
    }
}
