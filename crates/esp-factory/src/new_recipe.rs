//! A recipe to begin with, and what it needs beside it.

use crate::recipe;
use esp_model::chip;
use esp_model::partition::{self, Options, Partition, Table};

use esp_ops::Call;
use esp_ops::error::{Code, ToolError};
use esp_ops::firmware::sample;
use esp_ops::flash::project;
use esp_ops::partition::nvs_values::FACTORY_DATA;

/// Partitions of a new recipe: NVS for the application, factory data apart from it.
const TABLE: &str = "# Name, Type, SubType, Offset, Size\n\
    nvs,      data, nvs,     0x9000,  0x4000\n\
    fctry,    data, nvs,     0xd000,  0x3000\n\
    factory,  app,  factory, 0x10000, 1M\n";

/// Writes a recipe for a project's firmware, or for images that only look like firmware; what was written, in words.
pub fn create(call: &Call, file: &str, chip: Option<&str>, project: Option<&str>) -> Result<String, ToolError> {
    if call.files.input(file).is_ok() {
        return Err(ToolError::new(Code::FileUnwritable, format!("`{file}` is there already")));
    }
    let folder = file.rfind(['/', '\\']).map_or("", |at| file.get(..=at).unwrap_or_default()).to_owned();
    let (mut images, mut written, mut own_table) = (Vec::new(), vec![file.to_owned()], None);
    let missing =
        || ToolError::new(Code::MissingParameter, "the chip is not known: name it (chip), or a project that does");
    let chip_name;
    let mut keep = |name: &str, bytes: &[u8]| {
        if call.files.input(&format!("{folder}{name}")).is_ok() {
            return Ok(());
        }
        call.files.write(&format!("{folder}{name}"), bytes)?;
        written.push(format!("{folder}{name}"));
        Ok::<_, ToolError>(())
    };
    match project {
        Some(path) => {
            let project = project::read(call, path)?;
            chip_name = project.chip.or_else(|| chip.map(str::to_owned)).ok_or_else(missing)?;
            images.extend(project.files.into_iter().filter_map(|file| Some((file.path, file.address.as_u32()?))));
            own_table = table_among(call, &images)?;
        }
        None => {
            let named = chip.ok_or_else(missing)?;
            let known = chip::by_name(named);
            let known =
                known.ok_or_else(|| ToolError::new(Code::UnknownChip, format!("there is no chip `{named}`")))?;
            chip_name = known.id.to_owned();
            let failed = |error: String| ToolError::new(Code::Internal, error);
            for part in sample::make(known).map_err(failed)? {
                let bytes = if part.name == "partition-table.bin" { table()? } else { part.bytes };
                keep(part.name, &bytes)?;
                images.push((part.name.to_owned(), part.address));
            }
        }
    }
    let partition = own_table.as_ref().map(factory_data).transpose()?;
    if partition.is_none() {
        keep("partitions.csv", TABLE.as_bytes())?;
    }
    let name = file.rsplit(['/', '\\']).next().unwrap_or(file).trim_end_matches(".toml");
    call.files.write(file, recipe::example(&chip_name, name, &images, partition.as_deref()).as_bytes())?;
    let mut text = format!("wrote {}", written.join(", "));
    if project.is_none() {
        text += "\nthe images only look like firmware: no chip would run them";
    }
    Ok(text)
}

/// The partition table among a build's files.
fn table_among(call: &Call, images: &[(String, u32)]) -> Result<Option<Table>, ToolError> {
    for (file, _) in images {
        let bytes = call.files.read(file)?;
        if Table::is_binary(&bytes) {
            return Ok(Some(Table::from_binary(&bytes, true)?));
        }
    }
    Ok(None)
}

/// The NVS partition of a build's table that takes factory data: one for that, else the application's.
fn factory_data(table: &Table) -> Result<String, ToolError> {
    let is_nvs = |one: &&Partition| (one.kind, one.subtype) == (partition::DATA, partition::DATA_NVS);
    let named = table.find(FACTORY_DATA).filter(is_nvs);
    let found = named.or_else(|| table.partitions.iter().find(is_nvs));
    found.map(|one| one.name.clone()).ok_or_else(|| {
        ToolError::new(Code::UnknownPartition, "the build's partition table has no NVS partition for serial numbers")
            .next("add one to the build's table (fctry, data, nvs, , 0x3000), build again and repeat the call")
    })
}

fn table() -> Result<Vec<u8>, ToolError> {
    Ok(Table::from_csv(TABLE, &Options::default())?.to_binary(true)?)
}
