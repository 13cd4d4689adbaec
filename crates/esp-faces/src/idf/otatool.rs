//! `otatool`: which app a device starts, and its OTA slots.

use clap::{Arg, Command};
use esp_model::partition::Partition;
use esp_model::partition::otadata::{Otadata, State};

use super::target::{self, Target};
use crate::command::{Call, Entry, Face, option};
use crate::esptool::session::failed;
use crate::fault::Fault;
use crate::{files, text};

/// The face.
pub static FACE: Face = Face {
    name: "otatool",
    about: "Choose the app that a device starts, and read, write and erase its OTA slots",
    options: target::options,
    prepare: None,
    fatal_prefix: "",
    raises: true,
    of_chip: None,
    usage_of_chip: None,
    chain: None,
    single: None,
    commands: &[
        Entry { spec: spec_read_otadata, run: read_otadata },
        Entry { spec: spec_erase_otadata, run: erase_otadata },
        Entry { spec: spec_switch, run: switch },
        Entry { spec: spec_read, run: read },
        Entry { spec: spec_write, run: write },
        Entry { spec: spec_erase, run: erase },
    ],
    renamed: &[],
    shorts: &[],
};

/// Type and subtype of the partition that says which app is started.
const OTADATA: (u8, u8) = (1, 0);

fn slot() -> Vec<Arg> {
    vec![option("slot", "Number of the slot").conflicts_with("name"), option("name", "Name of the partition")]
}

fn spec_read_otadata() -> Command {
    Command::new("read_otadata").about("Print which app is started")
}

fn spec_erase_otadata() -> Command {
    Command::new("erase_otadata").about("Go back to the app that is started by default")
}

fn spec_switch() -> Command {
    Command::new("switch_ota_partition").about("Start another app").args(slot())
}

fn spec_read() -> Command {
    Command::new("read_ota_partition")
        .about("Read a slot into a file")
        .args(slot())
        .arg(option("output", "File to write").required(true))
}

fn spec_write() -> Command {
    Command::new("write_ota_partition")
        .about("Write a file into a slot")
        .args(slot())
        .arg(option("input", "File to read").required(true))
}

fn spec_erase() -> Command {
    Command::new("erase_ota_partition").about("Erase a slot").args(slot())
}

fn otadata_partition(target: &Target) -> Result<Partition, Fault> {
    let found = target.table.find_kind(OTADATA.0, OTADATA.1).cloned();
    found.ok_or_else(|| Fault::fatal("the partition table has no otadata partition"))
}

fn chosen(call: &Call<'_>, target: &Target) -> Result<(u32, Partition), Fault> {
    let slots = target.table.ota_slots();
    let index = match (call.optional("slot"), call.optional("name")) {
        (Some(number), _) => text::integer(number).and_then(|number| usize::try_from(number).ok()),
        (None, Some(name)) => slots.iter().position(|slot| slot.name == name),
        (None, None) => return Err(Fault::Usage("name a slot: --slot or --name".into())),
    };
    let found = index.and_then(|index| Some((index as u32, (*slots.get(index)?).clone())));
    found.ok_or_else(|| Fault::Fatal(format!("there is no such OTA slot (the table has {})", slots.len())))
}

fn read_data(call: &Call<'_>, target: &mut Target) -> Result<(Partition, Otadata), Fault> {
    let partition = otadata_partition(target)?;
    let session = target.device(call)?;
    let bytes = session.loader.read_flash_bytes(&session.job, partition.offset, partition.size).map_err(failed)?;
    Ok((partition, Otadata::read(&bytes)))
}

fn read_otadata(call: &Call<'_>) -> Result<(), Fault> {
    let mut target = Target::open(call)?;
    let (_, data) = read_data(call, &mut target)?;
    let [first, second] = data.entries;
    call.terminal
        .say(format_args!("             {:8} \t  {:8} | \t  {:8} \t   {:8}", "OTA_SEQ", "CRC", "OTA_SEQ", "CRC"));
    let (a, b, c, d) = (first.sequence, first.crc, second.sequence, second.crc);
    call.terminal.say(format_args!("Firmware:  {a:#08x} \t{b:#08x} | \t{c:#08x} \t {d:#08x}"));
    target.close(call)
}

fn erase_otadata(call: &Call<'_>) -> Result<(), Fault> {
    let mut target = Target::open(call)?;
    let partition = otadata_partition(&target)?;
    let session = target.device(call)?;
    session.loader.erase_region(&session.job, partition.offset, partition.size).map_err(failed)?;
    call.terminal.say("Erased ota_data partition contents");
    target.close(call)
}

fn switch(call: &Call<'_>) -> Result<(), Fault> {
    let mut target = Target::open(call)?;
    let (index, slot) = chosen(call, &target)?;
    let slots = target.table.ota_slots().len() as u32;
    let (partition, data) = read_data(call, &mut target)?;
    let switched = data.switch_to(index, slots, State::Undefined);
    let switched =
        switched.ok_or_else(|| Fault::fatal("the sequence number cannot go further: erase otadata first"))?;
    target::write(target.device(call)?, &partition, switched.bytes())?;
    // The original says nothing on standard output.
    call.terminal.plain_warning(format_args!("Switched to app partition {}", slot.name));
    target.close(call)
}

fn read(call: &Call<'_>) -> Result<(), Fault> {
    let mut target = Target::open(call)?;
    let (_, slot) = chosen(call, &target)?;
    let session = target.device(call)?;
    let data = session.loader.read_flash_bytes(&session.job, slot.offset, slot.size).map_err(failed)?;
    files::write(call.text("output"), &data)?;
    call.terminal.say(format_args!("Read ota partition contents to file {}", call.text("output")));
    target.close(call)
}

fn write(call: &Call<'_>) -> Result<(), Fault> {
    let data = files::read(call.text("input"), "--input")?;
    let mut target = Target::open(call)?;
    let (_, slot) = chosen(call, &target)?;
    if data.len() as u64 > u64::from(slot.size) {
        return Err(Fault::Fatal(format!(
            "Input file content length ({}) exceeds partition size ({})",
            data.len(),
            slot.size
        )));
    }
    let session = target.device(call)?;
    session.loader.erase_region(&session.job, slot.offset, slot.size).map_err(failed)?;
    target::write(session, &slot, data)?;
    call.terminal.say(format_args!("Written contents of file {} to ota partition", call.text("input")));
    target.close(call)
}

fn erase(call: &Call<'_>) -> Result<(), Fault> {
    let mut target = Target::open(call)?;
    let (_, slot) = chosen(call, &target)?;
    let session = target.device(call)?;
    session.loader.erase_region(&session.job, slot.offset, slot.size).map_err(failed)?;
    call.terminal.say("Erased contents of ota partition");
    target.close(call)
}
