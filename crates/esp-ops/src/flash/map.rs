//! Areas of the flash as names and as a picture.

use esp_model::partition::{self, Area, AreaKind, Subtypes};
use esp_model::picture::flash_map::{Kind, Region};

/// What an area is: `bootloader`, `partition_table`, `gap`, or type/subtype.
pub fn kind_of(area: &Area) -> String {
    match area.kind {
        AreaKind::Bootloader => "bootloader".into(),
        AreaKind::Table => "partition_table".into(),
        AreaKind::Gap => "gap".into(),
        AreaKind::Partition(partition) => {
            let subtypes = Subtypes::default();
            let kind = partition::type_name(partition.kind).map_or_else(|| partition.kind.to_string(), str::to_owned);
            let subtype = subtypes.name(partition.kind, partition.subtype);
            format!("{kind}/{}", subtype.map_or_else(|| partition.subtype.to_string(), str::to_owned))
        }
    }
}

/// What an area is in the picture, by the name of its kind.
pub fn kind_in_map(kind: &str) -> Kind {
    match kind.split('/').next() {
        Some("app") => Kind::App,
        Some("data") => Kind::Data,
        Some("bootloader") => Kind::Bootloader,
        Some("partition_table") => Kind::Table,
        Some("gap") => Kind::Gap,
        _ => Kind::Other,
    }
}

/// An area in the picture; what it holds is not known here.
pub fn region(area: &Area) -> Region {
    let about = kind_of(area);
    let (name, kind) = (area.name.clone(), kind_in_map(&about));
    Region { name, about, address: area.address, size: area.size, used: None, kind }
}
