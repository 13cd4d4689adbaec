//! What must not be lost without a copy: data partitions, and what lies outside of any partition.

use std::io::Write;

use esp_model::hex;
use esp_model::job::Job;
use esp_model::partition::{self, Area, AreaKind, Table};
use schemars::JsonSchema;
use serde::Serialize;

use crate::Call;
use crate::error::ToolError;
use crate::session::device::Connected;
use crate::session::identity::Device;

/// Where tables are looked for when none is at the usual place: ESP-IDF allows any sector; none is known beyond this.
const LAST_OFFSET: u32 = 0x2_0000;
/// Data that the device makes again by itself: otadata, RF calibration.
const REBUILT: [u8; 2] = [partition::DATA_OTA, partition::DATA_PHY];

/// A region, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// `nvs`, `0x9000` …
    pub name: String,
    /// First address.
    pub address: u32,
    /// Length.
    pub size: u32,
}

/// A copy that was made.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Copy {
    /// What it is a copy of.
    pub region: String,
    /// First address.
    pub address: u32,
    /// Its length.
    pub size_bytes: u32,
    /// The file.
    pub file: String,
}

/// A table and where it stands.
pub struct Found {
    /// The table.
    pub table: Table,
    /// Its flash address.
    pub offset: u32,
}

impl Found {
    /// The whole flash in areas, by this table if there is one.
    pub fn areas<'a>(found: Option<&'a Self>, connected: &Connected, flash_size: u32) -> Vec<Area<'a>> {
        let bootloader = connected.loader.chip().flash.bootloader_offset;
        partition::cover(found.map(|found| (&found.table, found.offset)), bootloader, flash_size)
    }
}

/// The partition table on the chip, if there is a readable one: at `offset` if that is given, else at the usual place or
/// at the first sector behind it or before it that holds one.
pub fn table(connected: &mut Connected, job: &Job, offset: Option<u32>) -> Result<Option<Found>, ToolError> {
    let flash_size = connected.loader.attach_flash(job, None)?;
    let usual = partition::DEFAULT_TABLE_OFFSET;
    if let found @ Some(_) = table_at(connected, job, offset.unwrap_or(usual))? {
        return Ok(found);
    }
    let last = LAST_OFFSET.min(flash_size);
    if offset.is_some() || connected.loader.is_blank(job, 0, last)? == Some(true) {
        return Ok(None);
    }
    let sector = partition::TABLE_SECTOR;
    let places = (usual + sector..last).step_by(sector as usize).chain((sector..usual).step_by(sector as usize));
    for place in places {
        let head = connected.loader.read_flash_bytes(&job.silent(), place, partition::ENTRY_LENGTH as u32)?;
        if Table::is_binary(&head)
            && let found @ Some(_) = table_at(connected, job, place)?
        {
            return Ok(found);
        }
    }
    Ok(None)
}

fn table_at(connected: &mut Connected, job: &Job, offset: u32) -> Result<Option<Found>, ToolError> {
    let flash_size = connected.loader.attach_flash(job, None)?;
    if u64::from(offset) + u64::from(partition::TABLE_SECTOR) > u64::from(flash_size) {
        return Ok(None);
    }
    let bytes = connected.loader.read_flash_bytes(&job.silent(), offset, partition::TABLE_LENGTH as u32)?;
    // Blank flash reads as a table without entries: that is none.
    let table = Table::from_binary(&bytes, true).ok().filter(|table| !table.partitions.is_empty());
    Ok(table.map(|table| Found { table, offset }))
}

/// The parts of `region` that hold data which nobody can rebuild, whole areas at a time: partitions that are neither
/// apps nor filled by the device itself, the table, and flash outside of any partition.
pub fn unique(areas: &[Area], region: &Region) -> Vec<Region> {
    let end = u64::from(region.address) + u64::from(region.size);
    let touched = |area: &&Area| u64::from(area.address) < end && area.end() > region.address.into();
    areas.iter().filter(touched).filter(|area| is_unique(area)).map(|area| cut(area, region)).collect()
}

fn is_unique(area: &Area) -> bool {
    match area.kind {
        // Code can be built again.
        AreaKind::Bootloader => false,
        AreaKind::Table | AreaKind::Gap => true,
        AreaKind::Partition(partition) => match partition.kind {
            partition::APP | partition::BOOTLOADER => false,
            partition::DATA => !REBUILT.contains(&partition.subtype),
            _ => true,
        },
    }
}

/// A partition is copied whole, so that the copy can be put back; of a gap only what is in danger.
fn cut(area: &Area, region: &Region) -> Region {
    if area.kind != AreaKind::Gap {
        return Region { name: area.name.clone(), address: area.address, size: area.size };
    }
    let address = area.address.max(region.address);
    let end = area.end().min(u64::from(region.address) + u64::from(region.size));
    Region { name: "gap".into(), address, size: (end - u64::from(address)) as u32 }
}

/// The usual folder for copies of a device's data.
pub fn folder(device: &Device, given: Option<&str>) -> String {
    let who = device.mac.map_or_else(|| "unknown".into(), |mac| hex::encode(mac.0));
    given.map_or_else(|| format!("esp-backup/{who}"), str::to_owned)
}

/// Copies the regions that are not blank to files below `dir`.
pub fn copy(
    call: &Call,
    job: &Job,
    connected: &mut Connected,
    regions: &[Region],
    dir: &str,
) -> Result<Vec<Copy>, ToolError> {
    let mut copies = Vec::new();
    for region in regions {
        if connected.loader.is_blank(job, region.address, region.size)? == Some(true) {
            continue;
        }
        let path = format!("{dir}/{:06x}-{}.bin", region.address, region.name.replace(['/', '\\', '\0'], "_"));
        let mut file = call.files.create(&path)?;
        let mut blank = true;
        connected.loader.read_blocks(job, region.address, region.size, |block| match block {
            esp_link::flash::Block::Blank(length) => file.write_all(&vec![0xff; length as usize]),
            esp_link::flash::Block::Bytes(bytes) => {
                blank &= bytes.iter().all(|byte| *byte == 0xff);
                file.write_all(&bytes)
            }
        })?;
        if blank {
            continue;
        }
        let file = file.finish_secret()?.display().to_string();
        copies.push(Copy { region: region.name.clone(), address: region.address, size_bytes: region.size, file });
    }
    Ok(copies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_kept_apps_are_not() {
        let csv = "nvs,data,nvs,0x9000,0x6000\nphy,data,phy,0xf000,0x1000\nfactory,app,factory,0x10000,1M\n\
                   own,0x40,0x01,0x110000,64K\ndump,data,coredump,0x120000,64K\nfs,data,spiffs,0x130000,1M\n";
        let table = Table::from_csv(csv, &partition::Options::default()).unwrap();
        let areas = partition::cover(Some((&table, 0x8000)), 0x1000, 4 << 20);
        let all = Region { name: "all".into(), address: 0, size: 4 << 20 };
        let names = |region: &Region| unique(&areas, region).into_iter().map(|kept| kept.name).collect::<Vec<_>>();
        assert_eq!(names(&all), ["gap", "partition-table", "nvs", "own", "dump", "fs", "gap"]);
        assert_eq!(names(&Region { name: "x".into(), address: 0x10000, size: 0x1000 }), [""; 0]);
        let tail = unique(&areas, &Region { name: "x".into(), address: 0x3f_0000, size: 0x1000 });
        assert_eq!((tail[0].address, tail[0].size), (0x3f_0000, 0x1000), "of a gap only what is in danger");
        let none = partition::cover(None, 0x1000, 4 << 20);
        assert_eq!(unique(&none, &all).len(), 1, "without a table everything counts");
    }
}
