//! Whether what is written will be what starts: said with the result, for a write that went well may still change nothing.

use esp_link::Mode;
use esp_model::boot::{Device, block_revision_fault};
use esp_model::chip::{Chip, ImageFormat};
use esp_model::image::Header;
use esp_model::image::content::Content;
use esp_model::job::Job;
use esp_model::partition::otadata::{self, Choice, Otadata, Rules};
use esp_model::partition::{self, Partition, Table};

use crate::error::ToolError;
use crate::flash::files::Piece;
use crate::session::device::Connected;

/// What will keep the written apps from starting, each with its next step. `device`: the chip's state, where it is known.
pub fn notes(
    connected: &mut Connected,
    job: &Job,
    pieces: &[Piece],
    table: Option<&Table>,
    device: &Device,
) -> Result<Vec<String>, ToolError> {
    let chip = connected.loader.chip();
    let readable = connected.loader.mode() != Mode::SecureDownload && device.encrypted != Some(true);
    let apps: Vec<&Piece> = pieces.iter().filter(|piece| matches!(piece.content(), Content::App(_))).collect();
    if chip.image.format != ImageFormat::Esp32 {
        return Ok(Vec::new());
    }
    let mut notes = block_revisions(&apps, device);
    let boot = chip.flash.bootloader_offset;
    let covers_boot = pieces.iter().any(|piece| piece.address <= boot && u64::from(boot) < piece.end());
    if !readable || (apps.is_empty() && !covers_boot) {
        return Ok(notes);
    }
    notes.extend(no_bootloader(connected, job, pieces, chip)?);
    if apps.is_empty() {
        return Ok(notes);
    }
    match table {
        Some(table) => notes.extend(other_slot(connected, job, pieces, &apps, table)?),
        None => notes.push(format!(
            "there is no partition table at {:#x}: the app cannot start; write the build's partition-table.bin there \
             (esp_partition_create makes one)",
            partition::DEFAULT_TABLE_OFFSET
        )),
    }
    Ok(notes)
}

/// What the table that comes along does to the one in flash at the same address: whose data nobody finds any more.
pub fn table_change(
    connected: &mut Connected,
    job: &Job,
    new: &Table,
    offset: u32,
    device: &Device,
) -> Result<Option<String>, ToolError> {
    if !connected.loader.can_read() || device.encrypted == Some(true) {
        return Ok(None);
    }
    let bytes = connected.loader.read_flash_bytes(&job.silent(), offset, partition::TABLE_LENGTH as u32)?;
    Ok(Table::from_binary(&bytes, true).ok().and_then(|old| lost(&old, new)))
}

fn lost(old: &Table, new: &Table) -> Option<String> {
    let names = |wanted: &dyn Fn(&Partition, Option<&Partition>) -> bool| {
        let found = old.partitions.iter().filter(|one| {
            let after = new.find(&one.name).filter(|after| (after.kind, after.subtype) == (one.kind, one.subtype));
            wanted(one, after)
        });
        found.map(|one| format!("`{}`", one.name)).collect::<Vec<_>>().join(", ")
    };
    let gone = names(&|_, after| after.is_none());
    let moved = names(&|one, after| after.is_some_and(|after| after.offset != one.offset));
    let told = [(gone, "no longer has"), (moved, "moves")].into_iter().filter(|(names, _)| !names.is_empty());
    let told = told.map(|(names, verb)| format!("{verb} {names}")).collect::<Vec<_>>().join(" and ");
    (!told.is_empty()).then(|| {
        format!(
            "the partition table was replaced: the new one {told}; what those held is not copied (esp_partition_flash \
             reports and copies it first; esp_flash_backup keeps everything)"
        )
    })
}

fn block_revisions(apps: &[&Piece], device: &Device) -> Vec<String> {
    let Some(revision) = device.block_revision else { return Vec::new() };
    let fault = |piece: &&Piece| {
        let desc = piece.image()?.app_desc()?;
        let fault = block_revision_fault(&desc, revision, device.ignores_block_limit)?;
        Some(format!("`{}` will not start on this chip: {fault}", piece.path))
    };
    apps.iter().filter_map(fault).collect()
}

/// Bytes as they will be in flash.
fn future(
    connected: &mut Connected,
    job: &Job,
    pieces: &[Piece],
    address: u32,
    len: usize,
) -> Result<Vec<u8>, ToolError> {
    let end = u64::from(address) + len as u64;
    let written = pieces.iter().find(|piece| piece.address <= address && end <= piece.end());
    match written {
        Some(piece) => piece.at(u64::from(address - piece.address), len),
        None => Ok(connected.loader.read_flash_bytes(&job.silent(), address, len as u32)?),
    }
}

fn no_bootloader(
    connected: &mut Connected,
    job: &Job,
    pieces: &[Piece],
    chip: &Chip,
) -> Result<Option<String>, ToolError> {
    let place = chip.flash.bootloader_offset;
    let head = future(connected, job, pieces, place, Header::LEN)?;
    let found = Header::decode(&head).is_some_and(|header| header.magic == esp_model::image::MAGIC);
    let what =
        if head.iter().all(|byte| *byte == 0xff) { "the flash is blank there" } else { "there is no image there" };
    Ok((!found).then(|| {
        format!(
            "there is no bootloader at {place:#x} ({what}): nothing can start; esp_bootloader_build makes one, or write \
             the build's bootloader.bin"
        )
    }))
}

/// The slot that otadata selects is not the one that was written.
fn other_slot(
    connected: &mut Connected,
    job: &Job,
    pieces: &[Piece],
    apps: &[&Piece],
    table: &Table,
) -> Result<Option<String>, ToolError> {
    let slots = table.ota_slots().len() as u32;
    let Some(place) = table.find_kind(partition::DATA, partition::DATA_OTA).filter(|_| slots > 0) else {
        return Ok(None);
    };
    let data = Otadata::read(&future(connected, job, pieces, place.offset, otadata::LENGTH)?);
    let factory = table.find_kind(partition::APP, partition::APP_FACTORY);
    let selected = match data.decide(Rules { slots, factory: factory.is_some(), rollback: false }).choice {
        Choice::Factory => factory,
        Choice::Slot(slot) => table.partitions.iter().find(|one| one.ota_slot().map(u32::from) == Some(slot)),
    };
    let written: Vec<&Partition> = apps
        .iter()
        .filter_map(|piece| {
            table.partitions.iter().find(|one| one.kind == partition::APP && one.offset == piece.address)
        })
        .collect();
    let (Some(selected), Some(first)) = (selected, written.first()) else { return Ok(None) };
    if written.iter().any(|one| one.offset == selected.offset) {
        return Ok(None);
    }
    let next = match first.ota_slot() {
        Some(slot) => format!("esp_ota_flash_prepare action=switch slot={slot} selects it"),
        None => format!("esp_flash_erase region=\"{}\" (blank otadata) lets it start", place.name),
    };
    let (selected, first) = (&selected.name, &first.name);
    Ok(Some(format!("otadata selects `{selected}`; what was written to `{first}` does not start: {next}")))
}
