//! `read-mem`, `write-mem`, `dump-mem`: RAM and registers.

use clap::{Arg, Command};

use super::session::{self, failed};
use super::sizes;
use crate::command::{Call, place};
use crate::fault::Fault;
use crate::{files, text};

pub fn spec_read() -> Command {
    Command::new("read-mem").about("Print a word of memory").arg(place("address", "Address"))
}

pub fn spec_write() -> Command {
    Command::new("write-mem")
        .about("Write a word of memory")
        .arg(place("address", "Address"))
        .arg(place("value", "Value"))
        .arg(Arg::new("mask").help("Bits to change").default_value("0xffffffff"))
}

pub fn spec_dump() -> Command {
    Command::new("dump-mem")
        .about("Read memory into a file")
        .arg(place("address", "First address"))
        .arg(place("size", "Bytes; k and M count"))
        .arg(place("output", "File to write"))
}

pub fn read(call: &Call<'_>) -> Result<(), Fault> {
    let address = sizes::number(call, "address")?;
    session::with(call, |session| {
        let value = session.loader.read_reg(&session.job, address).map_err(failed)?;
        call.terminal.say(format_args!("{address:#010x} = {value:#010x}"));
        Ok(())
    })
}

pub fn write(call: &Call<'_>) -> Result<(), Fault> {
    let number = |name: &str| {
        let value = call.text(name);
        text::word(value)
            .ok_or_else(|| Fault::value(&name.to_uppercase(), format_args!("'{value}' is not a valid integer.")))
    };
    let (address, value, mask) = (number("address")?, number("value")?, number("mask")?);
    session::with(call, |session| {
        session.loader.write_reg(&session.job, address, value, mask).map_err(failed)?;
        call.terminal.say(format_args!("Wrote {value:#010x} with mask {mask:#010x} to {address:#010x}."));
        Ok(())
    })
}

pub fn dump(call: &Call<'_>) -> Result<(), Fault> {
    let (address, output) = (sizes::number(call, "address")?, call.text("output"));
    let size = sizes::plain_length(call.text("size"))?;
    session::with(call, |session| {
        call.terminal.say(format_args!("Dumping {size} bytes from {address:#010x} to file '{output}'..."));
        session.meter.transfer("Dumping from", address, size.into());
        let began = session.clock();
        let mut bytes = Vec::with_capacity(size as usize);
        while (bytes.len() as u32) < size {
            let at = address.wrapping_add(bytes.len() as u32);
            let word = session.loader.read_reg(&session.job, at).map_err(failed)?;
            bytes.extend(word.to_le_bytes());
            session.job.progress(bytes.len() as u64, size.into(), "reading");
        }
        session.meter.complete();
        bytes.truncate(size as usize);
        let seconds = (session.clock() - began).as_secs_f64();
        let speed = sizes::speed(size.into(), seconds);
        call.terminal.say(format_args!(
            "Dumped {size} bytes from {address:#010x} in {seconds:.1} seconds{speed} to '{output}'."
        ));
        files::write(output, &bytes)
    })
}
