//! Pairs of NVS in the forms that tools take and show: values with their types, masked ones, keys of encrypted partitions.

use esp_model::nvs::{self, Change, Difference, Keys, Value};
use esp_model::secure::nvs_keys;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value as Json;

use crate::Call;
use crate::error::{Code, ToolError};

/// The usual name of the partition with factory data.
pub const FACTORY_DATA: &str = "fctry";
/// The partition that applications use when they name none.
pub const USUAL: &str = "nvs";

/// Which values a result shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// Every value.
    All,
    /// Not what may be a secret by its name, nor bytes.
    Harmless,
    /// No value.
    None,
}

impl Show {
    /// By the parameter `show_values`.
    pub fn of(parameter: Option<bool>) -> Self {
        match parameter {
            Some(true) => Self::All,
            Some(false) => Self::None,
            None => Self::Harmless,
        }
    }
}

/// A pair, or what became of it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct EntryOut {
    /// Namespace.
    pub namespace: String,
    /// Key.
    pub key: String,
    /// u8 … i64, string or binary.
    #[serde(rename = "type")]
    pub kind: String,
    /// Value; bytes in hex, the first 64 of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Json>,
    /// The value may be a secret and is not shown; show_values=true shows it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
    /// Length of a text or of bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<usize>,
    /// For `diff`: added, removed, changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
    /// For `diff`: the value before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Json>,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct FindingOut {
    /// note, warning or error.
    pub severity: String,
    /// What it is.
    pub text: String,
}

impl FindingOut {
    /// A finding of an image.
    pub fn new(finding: &nvs::Finding) -> Self {
        Self { severity: format!("{:?}", finding.severity()).to_lowercase(), text: finding.to_string() }
    }
}

impl EntryOut {
    /// A difference; values that are not shown are still told to have changed.
    pub fn of(difference: &Difference, show: Show) -> Self {
        let changed =
            |entry: &nvs::Entry, change: &str| Self { change: Some(change.to_owned()), ..Self::new(entry, show) };
        match difference {
            Difference::Added(entry) => changed(entry, "added"),
            Difference::Removed(entry) => changed(entry, "removed"),
            Difference::Changed(before, after) => {
                Self { before: Self::new(before, show).value, ..changed(after, "changed") }
            }
        }
    }

    /// A pair.
    pub fn new(entry: &nvs::Entry, show: Show) -> Self {
        let secret = entry.is_secret();
        let hex = |bytes: &[u8]| Json::String(bytes.iter().take(64).map(|byte| format!("{byte:02x}")).collect());
        let (value, size_bytes) = match &entry.value {
            Value::Text(text) => (Json::String(text.clone()), Some(text.len())),
            Value::RawText(bytes) | Value::Blob(bytes) => (hex(bytes), Some(bytes.len())),
            Value::U64(number) => (Json::from(*number), None),
            number => (Json::from(number.number().and_then(|number| i64::try_from(number).ok())), None),
        };
        Self {
            namespace: entry.namespace.to_string(),
            key: entry.key.clone(),
            kind: entry.value.type_name().to_owned(),
            value: Some(value).filter(|_| show == Show::All || (show == Show::Harmless && !secret)),
            hidden: secret && show == Show::Harmless,
            size_bytes,
            change: None,
            before: None,
        }
    }
}

/// Files with the keys of an encrypted partition; at most one is given.
pub struct KeyFiles<'a> {
    /// 64 bytes of keys, or a key partition.
    pub keys: Option<&'a str>,
    /// 32 bytes from which a chip derives them.
    pub hmac: Option<&'a str>,
}

impl KeyFiles<'_> {
    /// The keys; none where no file is given.
    pub fn read(&self, ctx: &Call) -> Result<Option<Keys>, ToolError> {
        let bad = |error: String| ToolError::new(Code::KeyInvalid, error);
        match (self.keys, self.hmac) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(ToolError::new(Code::BadParameter, "give either key_file or hmac_key_file")),
            (Some(path), None) => {
                let bytes = ctx.files.read_some(path)?;
                // A whole key partition has a CRC; 64 bare bytes have none.
                if bytes.len() > nvs_keys::KEYS + 4 && nvs_keys::from_partition(&bytes).is_none() {
                    return Err(bad(format!("`{path}` is longer than two keys, and its CRC is wrong")));
                }
                Ok(Some(Keys::from_bytes(&bytes).map_err(|error| bad(error.to_string()))?))
            }
            (None, Some(path)) => {
                let derived = nvs_keys::from_hmac_key(&ctx.files.read_some(path)?);
                let derived = derived.map_err(|error| bad(error.to_string()))?;
                Ok(Some(Keys::from_bytes(&*derived).map_err(|error| bad(error.to_string()))?))
            }
        }
    }
}

/// Changes as `{"namespace": {"key": value}}`; null removes a key or a namespace.
pub fn changes_of(ctx: &Call, values: &serde_json::Map<String, Json>) -> Result<Vec<Change>, ToolError> {
    let mut changes = Vec::new();
    for (namespace, entries) in values {
        if entries.is_null() {
            changes.push(Change::Remove { namespace: namespace.clone(), key: None });
            continue;
        }
        for (key, value) in object(namespace, entries)? {
            let (namespace, key) = (namespace.clone(), key.clone());
            changes.push(match value {
                Json::Null => Change::Remove { namespace, key: Some(key) },
                value => Change::Set { value: value_of(ctx, &namespace, &key, value)?, namespace, key },
            });
        }
    }
    Ok(changes)
}

/// The keys and values of a namespace.
pub fn object<'a>(namespace: &str, value: &'a Json) -> Result<&'a serde_json::Map<String, Json>, ToolError> {
    let text = || format!("namespace {namespace:?} is not an object of keys and values");
    value.as_object().ok_or_else(|| ToolError::new(Code::BadParameter, text()))
}

/// A value: number, text, bool, or {"type", "value"}.
pub fn value_of(ctx: &Call, namespace: &str, key: &str, json: &Json) -> Result<Value, ToolError> {
    let bad = |text: &str| ToolError::new(Code::NvsInvalid, format!("{namespace}/{key}: {text}"));
    match json {
        Json::String(text) => Ok(Value::Text(text.clone())),
        Json::Bool(flag) => Ok(Value::U8(u8::from(*flag))),
        Json::Number(number) => {
            let whole = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from));
            whole.map(number_of).ok_or_else(|| bad("NVS does not store floating-point values; use a string"))
        }
        Json::Object(fields) => {
            if let Some(name) = fields.keys().find(|name| !matches!(name.as_str(), "type" | "value" | "file")) {
                return Err(bad(&format!("unknown field {name:?}; known are type, value and file")));
            }
            let kind = fields.get("type").and_then(Json::as_str).unwrap_or("binary");
            let (text, source) = match (fields.get("value"), fields.get("file").and_then(Json::as_str)) {
                (None, Some(path)) => (path.to_owned(), "file"),
                (Some(Json::String(text)), None) => (text.clone(), "data"),
                (Some(other), None) => (other.to_string(), "data"),
                _ => return Err(bad("give value or file")),
            };
            let mut files = |path: &str| ctx.files.read(path).map_err(|error| error.message);
            nvs::encode_value(kind, source, &text, &mut files).map_err(|error| bad(&error.to_string()))
        }
        Json::Null | Json::Array(_) => Err(bad("a value is a number, a text or {\"type\", \"value\"}")),
    }
}

/// The first of i32, u32, u64 and i64 that holds a number.
fn number_of(number: i128) -> Value {
    if let Ok(value) = i32::try_from(number) {
        Value::I32(value)
    } else if let Ok(value) = u32::try_from(number) {
        Value::U32(value)
    } else if let Ok(value) = u64::try_from(number) {
        Value::U64(value)
    } else {
        Value::I64(number as i64)
    }
}
