//! `erase-flash` and `erase-region`.

use clap::Command;
use esp_link::flash::SECTOR;

use super::session::{self, Session, failed};
use super::{pins, security, sizes};
use crate::command::{Call, flag, place};
use crate::fault::Fault;

pub fn spec() -> Command {
    Command::new("erase-flash")
        .about("Erase the whole flash")
        .arg(flag("force", "Erase also when secure boot or flash encryption is on"))
        .arg(pins::spi_connection())
}

pub fn spec_region() -> Command {
    Command::new("erase-region")
        .about("Erase a region of the flash")
        .arg(flag("force", "Erase also when secure boot or flash encryption is on"))
        .arg(place("address", "First address"))
        .arg(place("size", "Bytes; k and M count; `all` to the end"))
        .arg(pins::spi_connection())
}

pub fn run(call: &Call<'_>) -> Result<(), Fault> {
    session::with(call, |session| whole(call, session, call.has("force")))
}

/// Erases everything.
pub fn whole(call: &Call<'_>, session: &mut Session, force: bool) -> Result<(), Fault> {
    security::refuse_to_erase(session, force)?;
    call.terminal.say("Erasing flash memory (this may take a while)...");
    let began = session.clock();
    session.loader.erase_all(&session.job).map_err(failed)?;
    let seconds = (session.clock() - began).as_secs_f64();
    call.terminal.say(format_args!("Flash memory erased successfully in {seconds:.1} seconds."));
    Ok(())
}

pub fn run_region(call: &Call<'_>) -> Result<(), Fault> {
    let address = sizes::number(call, "address")?;
    session::with(call, |session| {
        let size = sizes::length(call, session, address)?;
        sizes::within_flash(session, address, size)?;
        if !address.is_multiple_of(SECTOR) {
            return Err(Fault::Fatal(format!("Offset to erase from must be a multiple of {SECTOR}.")));
        }
        if !size.is_multiple_of(SECTOR) {
            return Err(Fault::Fatal(format!("Size of data to erase must be a multiple of {SECTOR}.")));
        }
        security::refuse_to_erase(session, call.has("force"))?;
        call.terminal.say("Erasing flash memory region (this may take a while depending on size)...");
        let began = session.clock();
        if session.is_locked() {
            // The flash cannot be asked for its size here.
            session.loader.attach_flash(&session.job, Some(16 << 20)).map_err(failed)?;
        }
        session.loader.erase_region(&session.job, address, size).map_err(failed)?;
        let seconds = (session.clock() - began).as_secs_f64();
        call.terminal.say(format_args!("Flash memory region erased successfully in {seconds:.1} seconds."));
        Ok(())
    })
}
