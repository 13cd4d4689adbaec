//! What must not be lost without a copy: data partitions, and what lies outside of any partition.

use std::io::Write;

use esp_model::job::Job;
use esp_model::partition::{self, Partition, Table};
use schemars::JsonSchema;
use serde::Serialize;

use crate::ctx::Ctx;
use crate::ctx::device::Connected;
use crate::tools::error::ToolError;

/// Where partition tables usually are.
const TABLE_OFFSET: u32 = 0x8000;
/// Length of a table's sector.
const TABLE_LENGTH: u32 = 0xc00;
/// Data that the device makes again by itself: otadata, RF calibration, core dumps, eFuse emulation.
const REBUILT: [u8; 4] = [0x00, 0x01, 0x03, 0x05];

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

/// The partition table on the chip, if there is a readable one.
pub fn table(connected: &mut Connected, job: &Job) -> Result<Option<Table>, ToolError> {
    let bytes = connected.loader.read_flash_bytes(job, TABLE_OFFSET, TABLE_LENGTH)?;
    // Blank flash reads as a table without entries: that is none.
    Ok(Table::from_binary(&bytes, true).ok().filter(|table| !table.partitions.is_empty()))
}

/// The parts of `region` that hold data which nobody can rebuild: data partitions without those that the device fills
/// by itself. Without a table everything counts.
pub fn unique(table: Option<&Table>, region: &Region) -> Vec<Region> {
    let Some(table) = table else { return vec![region.clone()] };
    let end = u64::from(region.address) + u64::from(region.size);
    let touched = |partition: &&Partition| u64::from(partition.offset) < end && partition.end() > region.address.into();
    let kept = |partition: &&Partition| partition.kind != partition::APP && !REBUILT.contains(&partition.subtype);
    let both = table.partitions.iter().filter(touched).filter(kept);
    both.map(|p| Region { name: p.name.clone(), address: p.offset, size: p.size }).collect()
}

/// Copies the regions that are not blank to files below `dir`.
pub fn copy(
    ctx: &Ctx,
    job: &Job,
    connected: &mut Connected,
    regions: &[Region],
    dir: &str,
) -> Result<Vec<Copy>, ToolError> {
    let mut copies = Vec::new();
    for region in regions {
        let bytes = connected.loader.read_flash_bytes(job, region.address, region.size)?;
        if bytes.iter().all(|byte| *byte == 0xff) {
            continue;
        }
        let path = format!("{dir}/{:06x}-{}.bin", region.address, region.name.replace(['/', '\\', '\0'], "_"));
        let mut file = ctx.files.create(&path)?;
        file.write_all(&bytes).map_err(|error| ToolError::new("file_unwritable", format!("`{path}`: {error}")))?;
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
        let csv = "nvs,data,nvs,0x9000,0x6000\nphy,data,phy,0xf000,0x1000\nfactory,app,factory,0x10000,1M\nfs,data,spiffs,0x110000,1M\n";
        let table = Table::from_csv(csv, &partition::Options::default()).unwrap();
        let all = Region { name: "all".into(), address: 0, size: 4 << 20 };
        let names =
            |region: &Region| unique(Some(&table), region).into_iter().map(|kept| kept.name).collect::<Vec<_>>();
        assert_eq!(names(&all), ["nvs", "fs"]);
        assert_eq!(names(&Region { name: "x".into(), address: 0x10000, size: 0x1000 }), [""; 0]);
        assert_eq!(unique(None, &all), [all]);
    }
}
