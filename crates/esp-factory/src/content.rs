//! What goes into a unit's flash: images as they are, NVS and certificates made for this unit.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::recipe::{NvsData, Template, Values};
use esp_model::nvs::{self, Builder, Value, Version};
use esp_model::partition::{Partition, Table};
use esp_model::secure_cert::{self, Entry, kind};

use crate::Station;
use crate::prepared::{Placed, Prepared, below};
use esp_ops::error::{Code, ToolError};

/// A unit's content.
pub struct Content {
    /// Everything that is written as it stands here, by address.
    pub placed: Vec<Placed>,
    /// Plain bytes that the chip encrypts as they are written.
    pub by_chip: Vec<Placed>,
    /// The NVS partitions among them.
    pub nvs: Vec<NvsPlace>,
    /// The certificate partition among them.
    pub cert: Option<Placed>,
}

/// An NVS partition and what must be read from it.
pub struct NvsPlace {
    /// Its name.
    pub partition: String,
    /// First address.
    pub address: u32,
    /// Bytes.
    pub size: u32,
    /// Namespace, key, value.
    pub values: Vec<(String, String, Value)>,
    /// Where identities stand: namespace, key, and the identity's name.
    pub identities: Vec<(String, String, String)>,
}

/// Which part of a recipe is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All of it.
    Full,
    /// Identity, NVS and certificates: no images, no data partitions.
    Provision,
}

/// Makes a unit's content.
pub fn build(
    station: &Station,
    prepared: &Prepared,
    table: Option<&Table>,
    values: &Values,
    scope: Scope,
) -> Result<Content, ToolError> {
    let mut content = Content { placed: Vec::new(), by_chip: Vec::new(), nvs: Vec::new(), cert: None };
    if scope == Scope::Full {
        content.placed.extend(prepared.images.iter().cloned());
        for (partition, bytes, file) in &prepared.data {
            let found = place(table, partition)?;
            content.placed.push(Placed { name: file.clone(), address: found.offset, bytes: bytes.clone() });
        }
    }
    for data in &prepared.recipe.nvs {
        let found = place(table, &data.partition)?;
        let (image, nvs) = nvs_image(station, prepared, data, found, values)?;
        content.placed.push(Placed { name: data.partition.clone(), address: found.offset, bytes: Arc::new(image) });
        content.nvs.push(nvs);
    }
    if let Some(placed) = certificates(station, prepared, table, values)? {
        content.placed.push(placed.clone());
        content.cert = Some(placed);
    }
    content.placed.sort_by_key(|placed| placed.address);
    Ok(content)
}

fn place<'t>(table: Option<&'t Table>, name: &str) -> Result<&'t Partition, ToolError> {
    let table = table.ok_or_else(|| {
        ToolError::new(Code::NoPartitionTable, "neither the recipe nor the unit has a partition table")
    })?;
    table.find(name).ok_or_else(|| ToolError::new(Code::UnknownPartition, format!("there is no partition `{name}`")))
}

/// Fills a template with a unit's values.
pub fn filled(prepared: &Prepared, text: &str, values: &Values) -> Result<String, ToolError> {
    prepared.recipe.fill(text, values).map_err(|error| ToolError::new(Code::RecipeInvalid, error.to_string()))
}

fn nvs_image(
    station: &Station,
    prepared: &Prepared,
    data: &NvsData,
    found: &Partition,
    values: &Values,
) -> Result<(Vec<u8>, NvsPlace), ToolError> {
    let mut builder = Builder::new(found.size.into(), Version::V2, None)?;
    let (mut written, mut identities) = (Vec::new(), Vec::new());
    for (namespace, entries) in &data.values {
        let at = |key: &str, what: String| ToolError::new(Code::NvsInvalid, format!("{namespace}/{key}: {what}"));
        let index = builder.namespace(namespace).map_err(|error| at("", error.to_string()))?;
        for (key, wanted) in entries {
            let (text, is_file) = wanted.source().ok_or_else(|| at(key, "neither value nor file".into()))?;
            let full = filled(prepared, &text, values)?;
            let source = if is_file { "file" } else { "data" };
            // Read here: what keeps a file from being used is an error of its own, not one of the entry.
            let held = if is_file { station.call.files.read(&below(&prepared.folder, &full))? } else { Vec::new() };
            let mut files = |_: &str| Ok(held.clone());
            let value = nvs::encode_value(wanted.kind(), source, &full, &mut files);
            let value = value.map_err(|error| at(key, error.to_string()))?;
            builder.entry(index, key, &value).map_err(|error| at(key, error.to_string()))?;
            identities.extend(identity_of(prepared, &text).map(|name| (namespace.clone(), key.clone(), name)));
            written.push((namespace.clone(), key.clone(), value));
        }
    }
    let mut image = builder.finish();
    image.resize(found.size as usize, 0xff);
    let place = NvsPlace {
        partition: data.partition.clone(),
        address: found.offset,
        size: found.size,
        values: written,
        identities,
    };
    Ok((image, place))
}

/// The identity that a template is, if it is one and nothing else.
fn identity_of(prepared: &Prepared, text: &str) -> Option<String> {
    let template = Template::parse(text).ok()?;
    let hole = template.holes().next()?.to_owned();
    let name = hole.strip_suffix(".hex").unwrap_or(&hole).to_owned();
    let alone = text.trim() == format!("{{{hole}}}");
    (alone && prepared.recipe.identity.contains_key(&name)).then_some(name)
}

fn certificates(
    station: &Station,
    prepared: &Prepared,
    table: Option<&Table>,
    values: &Values,
) -> Result<Option<Placed>, ToolError> {
    let Some(cert) = &prepared.recipe.secure_cert else { return Ok(None) };
    let found = place(table, &cert.partition)?;
    let files = [
        (kind::CA_CERT, cert.ca_cert.as_ref()),
        (kind::DEVICE_CERT, Some(&cert.device_cert)),
        (kind::PRIVATE_KEY, cert.private_key.as_ref()),
    ];
    let mut entries = Vec::new();
    for (kind, file) in files.into_iter().filter_map(|(kind, file)| Some((kind, file?))) {
        let file = filled(prepared, file, values)?;
        entries.push(Entry::from_file(kind, &station.call.files.read_some(&below(&prepared.folder, &file))?));
    }
    let size = secure_cert::SIZE.min(found.size as usize);
    let bytes =
        secure_cert::build(&entries, size).map_err(|error| ToolError::new(Code::RecipeInvalid, error.to_string()))?;
    Ok(Some(Placed { name: cert.partition.clone(), address: found.offset, bytes: Arc::new(bytes) }))
}

/// What an NVS partition on the unit holds that it should not, or lacks; empty when it is right.
pub fn nvs_differences(wanted: &NvsPlace, found: &[u8]) -> Vec<String> {
    let contents = nvs::read(found);
    let differs = |(namespace, key, value): &&(String, String, Value)| contents.get(namespace, key) != Some(value);
    wanted.values.iter().filter(differs).map(|(namespace, key, _)| format!("{namespace}/{key}")).collect()
}

/// Identities that an NVS partition on the unit holds, by name: text as in the ledger.
pub fn identities_on_unit(wanted: &NvsPlace, found: &[u8]) -> BTreeMap<String, String> {
    let contents = nvs::read(found);
    let value = |(namespace, key, name): &(String, String, String)| {
        let text = match contents.get(namespace, key)? {
            Value::Text(text) => text.clone(),
            Value::Blob(bytes) if bytes.len() == 6 => esp_model::hex::joined(bytes, ":"),
            Value::Blob(bytes) => esp_model::hex::encode(bytes),
            number => number.number()?.to_string(),
        };
        Some((name.clone(), text))
    };
    wanted.identities.iter().filter_map(value).collect()
}
