//! The whole flash cut into areas: bootloader, table, partitions, and what lies between them.

use super::{Partition, TABLE_SECTOR, Table};

/// What an area is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AreaKind<'a> {
    /// From the bootloader's place up to the table.
    Bootloader,
    /// The sector of the partition table.
    Table,
    /// A partition.
    Partition(&'a Partition),
    /// Flash that no partition claims; without a table all of it.
    Gap,
}

/// A part of flash. Areas do not overlap and leave nothing out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Area<'a> {
    /// The partition's name, `bootloader`, `partition-table` or `gap-0xADDRESS`.
    pub name: String,
    /// First address.
    pub address: u32,
    /// Length in bytes.
    pub size: u32,
    /// What it is.
    pub kind: AreaKind<'a>,
}

impl Area<'_> {
    /// First address behind it.
    pub fn end(&self) -> u64 {
        u64::from(self.address) + u64::from(self.size)
    }
}

/// All areas by address. `table`: the table and where it stands. What a broken table lets overlap goes to the partition
/// that begins first.
pub fn cover(table: Option<(&Table, u32)>, bootloader_offset: u32, flash_size: u32) -> Vec<Area<'_>> {
    let Some((table, table_offset)) = table else {
        return fill(Vec::new(), flash_size);
    };
    let mut named = Vec::new();
    if bootloader_offset < table_offset {
        named.push((AreaKind::Bootloader, "bootloader".to_owned(), bootloader_offset, u64::from(table_offset)));
    }
    let table_end = u64::from(table_offset) + u64::from(TABLE_SECTOR);
    named.push((AreaKind::Table, "partition-table".to_owned(), table_offset, table_end));
    let partitions = table.partitions.iter().filter(|partition| !partition.is_primary());
    named.extend(partitions.map(|p| (AreaKind::Partition(p), p.name.clone(), p.offset, p.end())));
    named.sort_by_key(|(_, _, start, _)| *start);
    fill(named, flash_size)
}

type Named<'a> = (AreaKind<'a>, String, u32, u64);

fn fill(named: Vec<Named<'_>>, flash_size: u32) -> Vec<Area<'_>> {
    let mut areas = Vec::new();
    let mut at = 0u32;
    for (kind, name, start, end) in named {
        // A sector belongs to one area only: it is erased as a whole.
        let start = (start / TABLE_SECTOR * TABLE_SECTOR).clamp(at, flash_size.max(at));
        let end = end.next_multiple_of(TABLE_SECTOR.into()).min(flash_size.into()) as u32;
        gap(&mut areas, at, start);
        if end > start {
            areas.push(Area { name, address: start, size: end - start, kind });
        }
        at = start.max(end);
    }
    gap(&mut areas, at, flash_size);
    areas
}

fn gap(areas: &mut Vec<Area<'_>>, from: u32, to: u32) {
    if to > from {
        areas.push(Area { name: format!("gap-{from:#x}"), address: from, size: to - from, kind: AreaKind::Gap });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::Options;

    fn names(areas: &[Area]) -> Vec<(String, u32, u32)> {
        areas.iter().map(|area| (area.name.clone(), area.address, area.size)).collect()
    }

    #[test]
    fn nothing_is_left_out_and_nothing_twice() {
        let csv = "nvs,data,nvs,0x9000,0x6000\nfactory,app,factory,0x10000,1M\nfs,data,spiffs,0x110000,1M\n";
        let table = Table::from_csv(csv, &Options::default()).unwrap();
        let areas = cover(Some((&table, 0x8000)), 0x1000, 4 << 20);
        let seen = names(&areas);
        assert_eq!(seen[0], ("gap-0x0".into(), 0, 0x1000));
        assert_eq!(seen[1], ("bootloader".into(), 0x1000, 0x7000));
        assert_eq!(seen[2], ("partition-table".into(), 0x8000, 0x1000));
        assert_eq!(seen[4], ("gap-0xf000".into(), 0xf000, 0x1000));
        assert_eq!(seen.last().unwrap(), &("gap-0x210000".into(), 0x21_0000, 0x1f_0000));
        assert_eq!(areas.iter().map(|area| u64::from(area.size)).sum::<u64>(), 4 << 20);
        assert!(areas.windows(2).all(|pair| pair[0].end() == u64::from(pair[1].address)));
    }

    #[test]
    fn broken_tables_are_covered_too() {
        let mut table =
            Table::from_csv("a,data,nvs,,64K\nb,data,spiffs,,4K\nc,data,fat,,4K\n", &Options::default()).unwrap();
        let places = [(0x9000, 0x2000), (0xa000, 0x3000), (0xffff_0000, 0x2_0000)];
        for (partition, place) in table.partitions.iter_mut().zip(places) {
            (partition.offset, partition.size) = place;
        }
        let areas = cover(Some((&table, 0x8000)), 0, 0x1_0000);
        assert_eq!(areas.iter().map(|area| u64::from(area.size)).sum::<u64>(), 0x1_0000);
        assert!(areas.windows(2).all(|pair| pair[0].end() == u64::from(pair[1].address)));
        assert_eq!(names(&cover(None, 0x1000, 0x1000)), [("gap-0x0".to_owned(), 0, 0x1000)]);
    }
}
