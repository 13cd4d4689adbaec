//! Regions of flash by name: `all`, a partition, `bootloader`, or ADDRESS+SIZE.

use esp_link::flash::SECTOR;
use esp_model::job::Job;
use esp_model::partition::{Partition, Recognised, TABLE_LENGTH, Table, recognise};

use crate::Call;
use crate::args::{FileAt, FileForFlash, FlashPlace, Number, PortUrl, parse_number};
use crate::error::{Code, ToolError};
use crate::flash::keep::{self, Found, Region};
use crate::session::device::Connected;

/// The whole flash.
pub const ALL: &str = "all";

/// A region as a caller names it.
pub struct Place<'a> {
    /// `all`, a name, or ADDRESS+SIZE.
    pub text: &'a str,
    /// Widen to whole sectors instead of refusing.
    pub widen: bool,
    /// Flash address of the partition table, where it is given.
    pub table_offset: Option<u32>,
}

/// The region that is meant, in whole sectors.
pub fn find(connected: &mut Connected, job: &Job, place: &Place, flash_size: u32) -> Result<Region, ToolError> {
    let text = place.text.trim();
    if text.eq_ignore_ascii_case(ALL) {
        return Ok(Region { name: ALL.into(), address: 0, size: flash_size });
    }
    if let Some((address, size)) = text.split_once('+') {
        let both = parse_number(address).zip(parse_number(size));
        let (address, size) =
            both.ok_or_else(|| ToolError::new(Code::BadParameter, format!("`{text}` is not ADDRESS+SIZE")))?;
        return aligned(address, size, place.widen, flash_size);
    }
    named(connected, job, text, place.table_offset)
}

/// A partition by its name; the bootloader and the table too.
pub fn named(connected: &mut Connected, job: &Job, name: &str, table_offset: Option<u32>) -> Result<Region, ToolError> {
    let flash_size = connected.loader.attach_flash(job, None)?;
    let found = keep::table(connected, job, table_offset)?;
    let found = found.ok_or_else(|| ToolError::new(Code::NoPartitionTable, "there is no partition table in flash"))?;
    let areas = Found::areas(Some(&found), connected, flash_size);
    if let Some(partition) = found.table.find(name) {
        return Ok(Region { name: name.into(), address: partition.offset, size: partition.size });
    }
    let other = areas.iter().find(|area| area.name == name && area.kind != esp_model::partition::AreaKind::Gap);
    other.map(|area| Region { name: name.into(), address: area.address, size: area.size }).ok_or_else(|| {
        let names =
            found.table.partitions.iter().map(|partition| partition.name.as_str()).collect::<Vec<_>>().join(", ");
        ToolError::new(Code::UnknownPartition, format!("there is no partition `{name}`")).seen("partitions", names)
    })
}

/// Files with the names of partitions replaced by their addresses: by the table among the files if there is one, else by
/// the device's. A file that is larger than its partition is refused.
pub fn addressed(
    ctx: &Call,
    job: &Job,
    port: Option<&PortUrl>,
    files: &[FileForFlash],
) -> Result<Vec<FileAt>, ToolError> {
    let placed = |file: &FileForFlash| match &file.address {
        FlashPlace::At(address) => Some(FileAt { path: file.path.clone(), address: *address }),
        FlashPlace::Partition(_) => None,
    };
    let numbered: Vec<FileAt> = files.iter().filter_map(placed).collect();
    if numbered.len() == files.len() {
        return Ok(numbered);
    }
    let new_table = table_among(ctx, &numbered)?;
    let mut all = Vec::new();
    for file in files {
        let FlashPlace::Partition(name) = &file.address else {
            all.extend(placed(file));
            continue;
        };
        let of_table = |one: &Partition| Region { name: name.clone(), address: one.offset, size: one.size };
        let region = match new_table.as_ref().and_then(|table| table.find(name)).map(of_table) {
            Some(region) => region,
            None => ctx.with_device(port, job, |connected| named(connected, job, name, None))?,
        };
        let size = ctx.files.open_some(&file.path)?.2;
        if size > u64::from(region.size) {
            let text = format!("size {size:#x} of `{}` exceeds partition `{name}` ({:#x})", file.path, region.size);
            return Err(ToolError::new(Code::PartitionOverflow, text));
        }
        all.push(FileAt { path: file.path.clone(), address: Number(region.address.into()) });
    }
    Ok(all)
}

fn table_among(ctx: &Call, files: &[FileAt]) -> Result<Option<Table>, ToolError> {
    for file in files {
        if ctx.files.open_some(&file.path)?.2 > 2 * TABLE_LENGTH as u64 {
            continue;
        }
        let bytes = ctx.files.read_some(&file.path)?;
        if matches!(recognise(&bytes), Recognised::Table { .. }) {
            return Ok(Table::from_binary(bytes.get(..TABLE_LENGTH).unwrap_or(&bytes), true).ok());
        }
    }
    Ok(None)
}

fn aligned(address: u64, size: u64, widen: bool, flash_size: u32) -> Result<Region, ToolError> {
    let sector = u64::from(SECTOR);
    let beyond = || {
        let text = format!("{size:#x} bytes at {address:#x} reach beyond the end of the flash at {flash_size:#x}");
        ToolError::new(Code::AddressOutOfRange, text)
    };
    let end = address.checked_add(size).filter(|end| *end <= u64::from(flash_size)).ok_or_else(beyond)?;
    if size == 0 {
        return Err(ToolError::new(Code::NothingToDo, "the size is 0"));
    }
    if !widen && (!address.is_multiple_of(sector) || !size.is_multiple_of(sector)) {
        return Err(ToolError::new(
            Code::NotAligned,
            format!("{address:#x}+{size:#x} is not a multiple of {sector:#x}"),
        ));
    }
    let (start, end) = (address / sector * sector, end.div_ceil(sector) * sector);
    match (u32::try_from(start), u32::try_from(end - start)) {
        (Ok(address), Ok(size)) => Ok(Region { name: format!("{address:#x}"), address, size }),
        _ => Err(beyond()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_widened_only_when_told() {
        assert_eq!(aligned(0x1001, 0x10, false, 1 << 20).unwrap_err().code, Code::NotAligned);
        let region = aligned(0x1001, 0x1000, true, 1 << 20).unwrap();
        assert_eq!((region.address, region.size), (0x1000, 0x2000));
        assert_eq!(aligned(0xff000, 0x2000, false, 1 << 20).unwrap_err().code, Code::AddressOutOfRange);
        assert_eq!(aligned(u64::MAX, 1, true, 1 << 20).unwrap_err().code, Code::AddressOutOfRange);
        assert_eq!(aligned(0, 0, false, 1 << 20).unwrap_err().code, Code::NothingToDo);
    }
}
