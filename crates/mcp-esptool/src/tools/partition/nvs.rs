//! `esp_nvs_partition_create`: NVS images: made, read, compared, changed.

use std::collections::BTreeMap;
use std::fmt::Write;

use esp_model::job::Job;
use esp_model::nvs::{self, Contents, Keys, SlotState, Version};
use esp_model::secure::nvs_keys;
use esp_ops::args::Number;
use esp_ops::error::{Code, ToolError};
use esp_ops::guard::Risk;
use esp_ops::partition::nvs_values::{EntryOut, FindingOut, KeyFiles, Show, changes_of, object, value_of};
use esp_ops::words::counted;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::nvs_help::{LISTED, csv_text, doubts, nvs_of, whole_pages};
use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct NvsCreate;

/// What to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Make an image from `data`.
    #[default]
    Create,
    /// Read `image_file`; with output_file as CSV.
    Decode,
    /// Compare `image_file` with `other_file`.
    Diff,
    /// Change `image_file` by `data` (null removes).
    Edit,
}

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    /// What to do (default create).
    #[serde(default)]
    action: Action,
    /// CSV text, a CSV file, or {"namespace": {"key": value}}. A value is a number (i32 where it fits), a text, or
    /// {"type": "u16", "value": 5}, or {"type": "binary", "file": "cert.der"}; types as in the CSV: u8 … i64, string,
    /// hex2bin, base64, binary.
    data: Option<Data>,
    /// File to write.
    output_file: Option<String>,
    /// Size of the partition (default 0x6000 for create); whole sectors of 4096 bytes.
    size: Option<Number>,
    /// Blob format: 2 (default, blobs over pages) or 1.
    #[schemars(extend("x-rare" = true))]
    version: Option<u8>,
    /// File with the NVS keys (64 bytes or a key partition), for encrypted images.
    key_file: Option<String>,
    /// File with the 32-byte HMAC key of the eFuses, from which the keys are derived.
    #[schemars(extend("x-rare" = true))]
    hmac_key_file: Option<String>,
    /// New keys are made and written to this file as a key partition.
    #[schemars(extend("x-rare" = true))]
    generate_key_file: Option<String>,
    /// Image to decode, compare or change.
    image_file: Option<String>,
    /// Image to compare with.
    other_file: Option<String>,
    /// true: show all values, also passwords and keys; false: show none (default: all but passwords, keys and bytes).
    #[schemars(extend("x-rare" = true))]
    show_values: Option<bool>,
}

/// Data for an image.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Data {
    /// CSV text or a file's path.
    Text(String),
    /// Values by namespace and key.
    Values(serde_json::Map<String, Json>),
}

impl JsonSchema for Data {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NvsData".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": ["object", "string"]})
    }
}

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    /// The file that was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    output_file: Option<String>,
    /// The key file that was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_file: Option<String>,
    /// Length of the image.
    size_bytes: usize,
    /// The image is encrypted (or was, before it was read).
    encrypted: bool,
    /// Pairs in the image, or differences: the first 500; decode with output_file writes all of them.
    entries: Vec<EntryOut>,
    /// How many there are.
    entry_count: usize,
    /// How many entries (of 32 bytes) are in use.
    used_entries: usize,
    /// How many are free.
    free_entries: usize,
    /// Pages by state.
    pages: BTreeMap<String, usize>,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<FindingOut>,
    /// Entries that the CSV form cannot express.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_in_csv: Vec<String>,
}

impl Tool for NvsCreate {
    const NAME: &'static str = "esp_nvs_partition_create";
    const TITLE: &'static str = "NVS images";
    const ABOUT: &'static str = "Create, decode, compare or edit an NVS partition image (values, CSV, encryption), \
         byte for byte as ESP-IDF's generator. Works on files.";
    const RISK: Risk = Risk::Reads;
    const FILES: bool = true;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, _: &Job, input: In) -> Result<Out, ToolError> {
        match input.action {
            Action::Create => create(ctx, &input),
            Action::Decode => decode(ctx, &input),
            Action::Diff => diff(ctx, &input),
            Action::Edit => edit(ctx, &input),
        }
    }

    fn summary(out: &Out) -> String {
        let mut text = format!("{}, {} bytes", counted(out.entry_count, "entry"), out.size_bytes);
        if let Some(file) = &out.output_file {
            let _ = write!(text, " in {file}");
        }
        if out.encrypted {
            text += ", encrypted";
        }
        for finding in out.findings.iter().filter(|finding| finding.severity != "note").take(2) {
            let _ = write!(text, "\n{}: {}", finding.severity, finding.text);
        }
        text
    }
}

fn create(ctx: &Ctx, input: &In) -> Result<Out, ToolError> {
    let output = needed(&input.output_file, "output_file")?;
    let data = input.data.as_ref().ok_or_else(|| missing("data"))?;
    let size = input.size.map_or(0x6000, |size| size.0);
    let version = version(input.version)?;
    let (keys, key_file) = keys(ctx, input)?;
    let mut warnings = Vec::new();
    let image = match data {
        Data::Text(text) => {
            let (bytes, folder) = csv_text(ctx, text)?;
            warnings = doubts(&bytes, size);
            from_csv(ctx, (&bytes, &folder), size, version, keys.as_ref())?
        }
        Data::Values(values) => {
            let mut builder = nvs::Builder::new(size, version, keys.as_ref())?;
            for (name, entries) in values {
                let index = builder.namespace(name).map_err(|error| entry_error(name, "", &error))?;
                for (key, value) in object(name, entries)? {
                    let value = value_of(ctx, name, key, value)?;
                    builder.entry(index, key, &value).map_err(|error| entry_error(name, key, &error))?;
                }
            }
            builder.finish()
        }
    };
    let output_file = Some(ctx.files.write(output, &image)?.display().to_string());
    let plain = keys.as_ref().map_or_else(|| image.clone(), |keys| nvs::decrypt(&image, keys));
    let mut out = describe(&nvs::read(&plain), image.len(), keys.is_some(), Show::of(input.show_values));
    out.findings.splice(0..0, warnings);
    Ok(Out { output_file, key_file, ..out })
}

fn from_csv(
    ctx: &Ctx,
    (bytes, folder): (&[u8], &str),
    size: u64,
    version: Version,
    keys: Option<&Keys>,
) -> Result<Vec<u8>, ToolError> {
    let mut files = |path: &str| {
        let beside = ctx.files.read(&format!("{folder}{path}"));
        let read = if folder.is_empty() || path.starts_with('/') { ctx.files.read(path) } else { beside };
        read.or_else(|_| ctx.files.read(path)).map_err(|error| error.message)
    };
    Ok(nvs::generate(&[bytes], size, version, keys, &mut files)?)
}

fn decode(ctx: &Ctx, input: &In) -> Result<Out, ToolError> {
    let (contents, length, encrypted) = image(ctx, input, &input.image_file, "image_file")?;
    let mut out = describe(&contents, length, encrypted, Show::of(input.show_values));
    if let Some(path) = &input.output_file {
        let (csv, left_out) = contents.to_csv();
        out.output_file = Some(ctx.files.keep(path, csv.as_bytes())?.display().to_string());
        out.not_in_csv = left_out;
    }
    Ok(out)
}

fn diff(ctx: &Ctx, input: &In) -> Result<Out, ToolError> {
    let (first, ..) = image(ctx, input, &input.image_file, "image_file")?;
    let (second, length, encrypted) = image(ctx, input, &input.other_file, "other_file")?;
    let show = Show::of(input.show_values);
    let mut out = describe(&second, length, encrypted, show);
    let differences = nvs::diff(&first, &second);
    out.entry_count = differences.len();
    out.entries = differences.iter().take(LISTED).map(|difference| EntryOut::of(difference, show)).collect();
    Ok(out)
}

fn edit(ctx: &Ctx, input: &In) -> Result<Out, ToolError> {
    let path = needed(&input.image_file, "image_file")?;
    let output = needed(&input.output_file, "output_file")?;
    let Some(Data::Values(values)) = &input.data else {
        return Err(ToolError::new(Code::BadParameter, "edit takes data as {\"namespace\": {\"key\": value}}"));
    };
    let changes = changes_of(ctx, values)?;
    let (keys, key_file) = keys(ctx, input)?;
    let image = ctx.files.read_some(path)?;
    let plain = keys.as_ref().map_or_else(|| image.clone(), |keys| nvs::decrypt(&image, keys));
    let edited = nvs::edit(&plain, &changes, keys.as_ref())?;
    let output_file = Some(ctx.files.write(output, &edited)?.display().to_string());
    let plain = keys.as_ref().map_or_else(|| edited.clone(), |keys| nvs::decrypt(&edited, keys));
    Ok(Out {
        output_file,
        key_file,
        ..describe(&nvs::read(&plain), edited.len(), keys.is_some(), Show::of(input.show_values))
    })
}

fn image(ctx: &Ctx, input: &In, path: &Option<String>, name: &str) -> Result<(Contents, usize, bool), ToolError> {
    let path = needed(path, name)?;
    let bytes = nvs_of(ctx.files.read_some(path)?)?;
    whole_pages(path, bytes.len())?;
    let (keys, _) = keys(ctx, input)?;
    let plain = keys.as_ref().map_or_else(|| bytes.clone(), |keys| nvs::decrypt(&bytes, keys));
    Ok((nvs::read(&plain), bytes.len(), keys.is_some()))
}

fn describe(contents: &Contents, size_bytes: usize, encrypted: bool, show: Show) -> Out {
    let mut pages = BTreeMap::new();
    for page in &contents.pages {
        *pages.entry(page.state.name().to_owned()).or_default() += 1;
    }
    let findings = contents.findings.iter().map(FindingOut::new);
    Out {
        output_file: None,
        key_file: None,
        size_bytes,
        encrypted,
        entries: contents.entries.iter().take(LISTED).map(|entry| EntryOut::new(entry, show)).collect(),
        entry_count: contents.entries.len(),
        used_entries: contents.count(SlotState::Written),
        free_entries: contents.count(SlotState::Empty),
        pages,
        findings: findings.collect(),
        not_in_csv: Vec::new(),
    }
}

fn version(number: Option<u8>) -> Result<Version, ToolError> {
    match number {
        Some(1) => Ok(Version::V1),
        None | Some(2) => Ok(Version::V2),
        Some(other) => Err(ToolError::new(Code::BadParameter, format!("version {other} is neither 1 nor 2"))),
    }
}

/// The keys that are meant, and the file of new ones.
fn keys(ctx: &Ctx, input: &In) -> Result<(Option<Keys>, Option<String>), ToolError> {
    let given = KeyFiles { keys: input.key_file.as_deref(), hmac: input.hmac_key_file.as_deref() };
    let Some(path) = &input.generate_key_file else { return Ok((given.read(ctx)?, None)) };
    if given.keys.is_some() || given.hmac.is_some() {
        return Err(ToolError::new(Code::BadParameter, "give one of key_file, hmac_key_file and generate_key_file"));
    }
    let fresh = esp_ops::random::with(nvs_keys::generate)?;
    let mut file = ctx.files.create(path)?;
    let failed = |error: std::io::Error| ToolError::of_io(Code::FileUnwritable, format!("`{path}`"), &error);
    std::io::Write::write_all(&mut file, &nvs_keys::to_partition(&fresh)).map_err(failed)?;
    let file = file.finish_secret()?.display().to_string();
    let bad = |error: nvs::KeysError| ToolError::new(Code::KeyInvalid, error.to_string());
    Ok((Some(Keys::from_bytes(&*fresh).map_err(bad)?), Some(file)))
}

fn needed<'a>(text: &'a Option<String>, name: &str) -> Result<&'a str, ToolError> {
    text.as_deref().ok_or_else(|| missing(name))
}

fn missing(name: &str) -> ToolError {
    ToolError::new(Code::MissingParameter, format!("{name} is needed for this action"))
}

fn entry_error(namespace: &str, key: &str, error: &nvs::ValueError) -> ToolError {
    ToolError::new(Code::NvsInvalid, format!("{namespace}/{key}: {error}"))
}
