//! `read-flash`.

use clap::Command;

use super::options::{self, FlashValues};
use super::session::{self, failed};
use super::{pins, sizes};
use crate::command::{Call, flag, place};
use crate::fault::Fault;
use crate::files;

pub fn spec() -> Command {
    Command::new("read-flash")
        .about("Read a region of the flash into a file")
        .arg(place("address", "First address"))
        .arg(place("size", "Bytes; k and M count; `all` to the end"))
        .arg(place("output", "File to write"))
        .arg(flag("no-progress", "Show no progress").short('p'))
        .arg(options::flash_size(FlashValues::Detect))
        .arg(pins::spi_connection())
}

pub fn run(call: &Call<'_>) -> Result<(), Fault> {
    let (address, output) = (sizes::number(call, "address")?, call.text("output"));
    session::with(call, |session| {
        let size = sizes::length(call, session, address)?;
        sizes::within_flash(session, address, size)?;
        sizes::configure(call, session)?;
        if !call.has("no-progress") {
            session.meter.transfer("Reading from", address, size.into());
        }
        let began = session.clock();
        let data = session.loader.read_flash_bytes(&session.job, address, size).map_err(failed)?;
        session.meter.complete();
        let seconds = (session.clock() - began).as_secs_f64();
        let speed = sizes::speed(data.len() as u64, seconds);
        let bytes = data.len();
        call.terminal
            .say(format_args!("Read {bytes} bytes from {address:#010x} in {seconds:.1} seconds{speed} to '{output}'."));
        files::write(output, &data)
    })
}
