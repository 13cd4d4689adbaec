//! Tables on devices: reading them, and what a new one does to the data that is there.

use esp_link::flash::{Part, WriteOptions};
use esp_model::job::Job;
use esp_model::partition::{self, Area, AreaKind, Options, Partition, Recognised, Table, TableError};

use crate::Call;
use crate::error::{Code, FlashState, ToolError};
use crate::flash::keep::{self, Copy, Region};
use crate::session::device::Connected;
use crate::session::identity::Device;

/// What stands where a table belongs.
pub struct Sector {
    /// What it looks like.
    pub kind: Recognised,
    /// The table, or why it is none.
    pub table: Result<Table, TableError>,
}

impl Sector {
    /// A word for it.
    pub fn state(&self) -> &'static str {
        match (&self.table, self.kind) {
            (Ok(_), _) => "table",
            (_, Recognised::Table { .. }) => "damaged",
            (_, Recognised::Blank) => "blank",
            (_, Recognised::Encrypted) => "encrypted",
            (_, Recognised::Other) => "other",
        }
    }

    /// The table, or an error that says what is there instead.
    pub fn into_table(self, offset: u32) -> Result<Table, ToolError> {
        let state = self.state();
        self.table.map_err(|error| {
            let code = if state == "damaged" { Code::PartitionTableDamaged } else { Code::NoPartitionTable };
            let why = if state == "damaged" { error.to_string() } else { format!("the sector is {state}") };
            ToolError::new(code, format!("there is no partition table at {offset:#x}: {why}"))
        })
    }
}

/// Reads the sector at `offset`.
pub fn read(connected: &mut Connected, job: &Job, offset: u32) -> Result<Sector, ToolError> {
    connected.loader.attach_flash(job, None)?;
    let bytes = connected.loader.read_flash_bytes(job, offset, partition::TABLE_SECTOR)?;
    let kind = partition::recognise(&bytes);
    // A blank sector would read as a table without entries.
    let table = match kind {
        Recognised::Table { .. } => Table::from_binary(bytes.get(..partition::TABLE_LENGTH).unwrap_or(&bytes), true),
        _ => Err(TableError::Encoding),
    };
    Ok(Sector { kind, table })
}

/// What a new table means for a partition of the old one.
pub fn fate(old: &Partition, new: &Table) -> &'static str {
    let same_place =
        |p: &&Partition| (p.offset, p.size, p.kind, p.subtype) == (old.offset, old.size, old.kind, old.subtype);
    let overlaps = |p: &&Partition| u64::from(p.offset) < old.end() && u64::from(old.offset) < p.end();
    if new.partitions.iter().any(|p| same_place(&p)) {
        return "stays";
    }
    match (new.find(&old.name), new.partitions.iter().any(|p| overlaps(&p))) {
        (Some(p), _) if p.offset == old.offset => "resized",
        (Some(_), _) => "moved",
        (None, true) => "replaced",
        (None, false) => "unreachable",
    }
}

/// Copies data of the old table that the new one cuts off.
pub fn keep_data(
    call: &Call,
    job: &Job,
    connected: &mut Connected,
    device: &Device,
    old: &Table,
    new: &Table,
    dir: Option<&str>,
) -> Result<Vec<Copy>, ToolError> {
    let lost = |partition: &&Partition| fate(partition, new) != "stays";
    let mut regions: Vec<Region> = Vec::new();
    for partition in old.partitions.iter().filter(lost) {
        let region = Region { name: partition.name.clone(), address: partition.offset, size: partition.size };
        let area = Area {
            name: partition.name.clone(),
            address: partition.offset,
            size: partition.size,
            kind: AreaKind::Partition(partition),
        };
        regions.extend(keep::unique(&[area], &region));
    }
    regions.dedup();
    keep::copy(call, job, connected, &regions, &keep::folder(device, dir))
}

/// Writes bytes and verifies them.
pub fn write(connected: &mut Connected, job: &Job, parts: Vec<(u32, Vec<u8>)>) -> Result<bool, ToolError> {
    let mut parts: Vec<Part> = parts.into_iter().map(|(address, bytes)| Part::bytes(address, bytes)).collect();
    let report = connected.loader.write_flash(job, &mut parts, &WriteOptions::default());
    report.map(|report| report.verified).map_err(|error| ToolError::from(error).touched(FlashState::Partial))
}

/// Refuses to write plain data to a device that decrypts what it reads.
pub fn refuse_encrypted(connected: &mut Connected, job: &Job) -> Result<(), ToolError> {
    if connected.is_encrypted(job)? {
        let text = "flash encryption is on: a plain partition table or otadata would not be understood";
        return Err(ToolError::new(Code::EncryptionActive, text).touched(FlashState::Unchanged));
    }
    Ok(())
}

/// Checks a table against the device's flash.
pub fn check(table: &Table, flash_size: u32, offset: u32) -> Result<(), ToolError> {
    let options = Options { flash_size: u64::from(flash_size), table_offset: offset, ..Options::default() };
    Ok(table.check(&options)?)
}
