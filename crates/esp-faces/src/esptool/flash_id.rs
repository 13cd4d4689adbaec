//! `flash-id`, `read-flash-sfdp`, `read-flash-status`, `write-flash-status`: the flash part itself.

use clap::Command;
use esp_link::flash::SpiCommand;

use super::session::{self, Session, failed};
use super::{pins, sizes};
use crate::command::{Call, flag, option, place};
use crate::fault::Fault;
use crate::text;

const WRITE_ENABLE: u8 = 0x06;
const WRITE_ENABLE_VOLATILE: u8 = 0x50;
const WRITE_STATUS: u8 = 0x01;
/// Opcodes that read the three status registers, lowest first.
const READ_STATUS: [u8; 3] = [0x05, 0x35, 0x15];

pub fn spec() -> Command {
    Command::new("flash-id").about("Print the flash part's id and size").arg(pins::spi_connection())
}

pub fn spec_sfdp() -> Command {
    Command::new("read-flash-sfdp")
        .about("Print bytes of the flash part's parameter table (SFDP)")
        .arg(place("address", "Address in the table"))
        .arg(place("bytes", "Bytes, 1 to 4"))
        .arg(pins::spi_connection())
}

pub fn spec_status() -> Command {
    Command::new("read-flash-status")
        .about("Print the flash part's status registers")
        .arg(option("bytes", "Registers").value_parser(["1", "2", "3"]).default_value("2"))
        .arg(pins::spi_connection())
}

pub fn spec_write_status() -> Command {
    Command::new("write-flash-status")
        .about("Write the flash part's status registers")
        .arg(place("value", "Value"))
        .arg(option("bytes", "Registers").value_parser(["1", "2", "3"]).default_value("2"))
        .arg(flag("non-volatile", "Write the bits for good"))
        .arg(pins::spi_connection())
}

fn say_id(call: &Call<'_>, session: &mut Session) -> Result<(), Fault> {
    let id = session.loader.flash_id(&session.job).map_err(failed)?;
    call.terminal.say(format_args!("Manufacturer: {:02x}", id.manufacturer));
    call.terminal.say(format_args!("Device: {:02x}{:02x}", id.kind, id.capacity));
    let size = id.size().map_or_else(|| "Unknown".into(), sizes::name);
    call.terminal.say(format_args!("Detected flash size: {size}"));
    Ok(())
}

pub fn run(call: &Call<'_>) -> Result<(), Fault> {
    session::with(call, |session| {
        call.terminal.say("Flash Memory Information:\n=========================");
        say_id(call, session)?;
        let chip = session.loader.chip();
        let efuses = session.loader.read_efuses(&session.job).map_err(failed)?;
        let octal = chip.efuse().field("FLASH_TYPE").map(|field| field.number(efuses.block(field.block)) == 1);
        if let Some(octal) = octal {
            let text = if octal { "octal (8 data lines)" } else { "quad (4 data lines)" };
            call.terminal.say(format_args!("Flash type set in eFuse: {text}"));
        }
        Ok(())
    })
}

pub fn run_sfdp(call: &Call<'_>) -> Result<(), Fault> {
    let (address, count) = (sizes::number(call, "address")?, sizes::number(call, "bytes")?);
    session::with(call, |session| {
        if !(1..=4).contains(&count) {
            return Err(Fault::fatal("Invalid number of bytes to read from SFDP (1-4)."));
        }
        say_id(call, session)?;
        let bytes = session.loader.read_sfdp(&session.job, address, count as usize).map_err(failed)?;
        let shown: String = bytes.iter().map(|byte| format!("{byte:#04x} ")).collect();
        call.terminal.say(format_args!("Flash memory SFDP[{address}..{}]: {shown}", address + count - 1));
        Ok(())
    })
}

fn status(session: &mut Session, count: usize) -> Result<u32, Fault> {
    let mut value = 0;
    for (index, opcode) in READ_STATUS.into_iter().take(count).enumerate() {
        let word = session.loader.spi_command(&session.job, SpiCommand::read(opcode, 8)).map_err(failed)?;
        value |= (word & 0xff) << (8 * index);
    }
    Ok(value)
}

fn count(call: &Call<'_>) -> usize {
    call.text("bytes").parse().unwrap_or(2)
}

pub fn run_status(call: &Call<'_>) -> Result<(), Fault> {
    session::with(call, |session| {
        session.loader.attach_flash(&session.job, None).map_err(failed)?;
        let value = status(session, count(call))?;
        call.terminal.say(format_args!("Flash memory status: {value:#06x}"));
        Ok(())
    })
}

pub fn run_write_status(call: &Call<'_>) -> Result<(), Fault> {
    let given = call.text("value");
    let value =
        text::word(given).ok_or_else(|| Fault::value("VALUE", format_args!("'{given}' is not a valid integer.")))?;
    let (count, value) = (count(call), value & (u32::MAX >> (32 - 8 * count(call))));
    let width = count * 2 + 2;
    session::with(call, |session| {
        session.loader.attach_flash(&session.job, None).map_err(failed)?;
        let say = |what: &str, value: u32| call.terminal.say(format_args!("{what} {value:#0width$x}"));
        say("Initial flash memory status:", status(session, count)?);
        say("Setting flash memory status:", value);
        let enable = if call.has("non-volatile") { WRITE_ENABLE } else { WRITE_ENABLE_VOLATILE };
        write_status(session, enable, value, count)?;
        say("After flash memory status:  ", status(session, count)?);
        Ok(())
    })
}

/// Writes the registers: the first two together, as older parts want it, then each by its own opcode.
fn write_status(session: &mut Session, enable: u8, value: u32, count: usize) -> Result<(), Fault> {
    const OPCODES: [u8; 3] = [WRITE_STATUS, 0x31, 0x11];
    let bytes = value.to_le_bytes();
    let mut writes = Vec::new();
    if let [first, second, ..] = bytes
        && count == 2
    {
        writes.push((WRITE_STATUS, vec![first, second]));
    }
    writes.extend(OPCODES.into_iter().zip(bytes).take(count).map(|(opcode, byte)| (opcode, vec![byte])));
    for (opcode, data) in writes {
        session.loader.spi_command(&session.job, SpiCommand::bare(enable)).map_err(failed)?;
        let write = SpiCommand { data, ..SpiCommand::bare(opcode) };
        session.loader.spi_command(&session.job, write).map_err(failed)?;
        // A non-volatile write takes up to 30 ms (data sheets).
        for _ in 0..20 {
            session.loader.port().sleep(std::time::Duration::from_millis(5));
            if status(session, 1)? & 1 == 0 {
                break;
            }
        }
    }
    Ok(())
}
