//! Recipes: what a unit must become, as one TOML file.
//!
//! A recipe names the chip, the images, the values that every unit gets (from pools of the ledger or from a row of
//! its own in a CSV file), the eFuses, the tests with their limits and the label. It is bound to its files by a
//! `[lock]` at its end ([`lock`]): with it, the file's hash stands for everything that is written.

mod example;
mod lint;
pub mod lock;
mod problems;
mod schema;
mod template;
mod unit_files;
pub mod units;

use std::collections::BTreeMap;

use esp_ops::args::Number;
use esp_ops::efuse::request::Item;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use esp_model::literal::quantity;

pub use example::example;
pub use lint::{Context, Finding, Severity, lint};
pub use problems::problems;
pub use schema::schema;
pub use template::{Template, TemplateError, Values};
pub use unit_files::UnitFiles;

/// A recipe with every section, each explained.
pub const ANNOTATED: &str = include_str!("annotated.toml");

/// A recipe.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What it is called.
    pub recipe: About,
    /// The chip that it is for.
    pub chip: ChipWanted,
    /// Files with their flash addresses.
    #[serde(default, rename = "image")]
    pub images: Vec<ImageAt>,
    /// The partition table, where it is not among the images.
    pub table: Option<TableFile>,
    /// Files that go into partitions by name.
    #[serde(default, rename = "data")]
    pub data: Vec<PartitionData>,
    /// Identities that the unit gets, by the name that templates use.
    #[serde(default)]
    pub identity: BTreeMap<String, FromPool>,
    /// A CSV file with a row of values for each unit.
    pub units: Option<Units>,
    /// NVS partitions.
    #[serde(default)]
    pub nvs: Vec<NvsData>,
    /// The certificate partition.
    pub secure_cert: Option<SecureCert>,
    /// The key of units whose flash encryption is on.
    pub encryption: Option<Encryption>,
    /// eFuses.
    pub efuse: Option<EfusePlan>,
    /// Tests, in order.
    #[serde(default, rename = "test")]
    pub tests: Vec<Test>,
    /// The label.
    pub label: Option<Label>,
    /// What the manufacturing execution system is asked and told.
    pub mes: Option<Mes>,
    /// Made by `recipe lock`.
    pub lock: Option<lock::Lock>,
}

/// Requests to the manufacturing execution system of the setting `mes_url`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mes {
    /// Path below `mes_url` that says whether a unit may be worked on; asked before anything is issued or written.
    pub check: Option<String>,
    /// Path below `mes_url` that gets the record of each run.
    pub report: Option<String>,
}

/// What a recipe is called.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Its name.
    pub name: String,
    /// Version of what is produced.
    #[serde(default)]
    pub version: String,
}

/// The chip that a recipe is for.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChipWanted {
    /// Chip id, as in `esp32c6`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Lowest revision, `major.minor`.
    pub min_revision: Option<String>,
    /// Highest revision.
    pub max_revision: Option<String>,
    /// Smallest flash, such as `4MB`.
    pub min_flash: Option<String>,
}

/// A file and its flash address.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageAt {
    /// Path from the recipe's folder.
    pub file: String,
    /// Number or text such as `0x10000`.
    #[schemars(with = "Number")]
    pub address: toml::Value,
}

/// A partition table, CSV or binary.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableFile {
    /// Path from the recipe's folder.
    pub file: String,
}

/// A file for a partition.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PartitionData {
    /// The partition's name.
    pub partition: String,
    /// Path from the recipe's folder.
    pub file: String,
}

/// An identity from a pool of the ledger.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FromPool {
    /// The pool's name.
    pub pool: String,
}

/// Values by unit.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Units {
    /// CSV file with a header line.
    pub file: String,
    /// Column that names the unit: `base_mac`, or the name of an identity.
    pub key: String,
}

/// An NVS partition with its namespaces.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NvsData {
    /// The partition's name.
    pub partition: String,
    /// Values by namespace and key.
    pub values: BTreeMap<String, BTreeMap<String, NvsValue>>,
}

/// A value: a number (i32), a text (a template), or with its type.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a number, a text or { type, value } or { type, file }")]
pub enum NvsValue {
    /// i32.
    Number(i32),
    /// String; a template.
    Text(String),
    /// With its type.
    Typed(TypedValue),
}

/// A value with its type.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TypedValue {
    /// `u8` … `i64`, `string`, `hex2bin`, `base64`, `binary`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The value as text, a template; or a number.
    #[schemars(with = "Option<Number>")]
    pub value: Option<toml::Value>,
    /// A file with the value; its name is a template.
    pub file: Option<String>,
}

/// The certificate partition (`esp_secure_cert`), from files whose names are templates.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecureCert {
    /// The partition's name (default `esp_secure_cert`).
    #[serde(default = "secure_cert_partition")]
    pub partition: String,
    /// Certificate of the authority, PEM or DER.
    pub ca_cert: Option<String>,
    /// The unit's certificate.
    pub device_cert: String,
    /// The unit's private key.
    pub private_key: Option<String>,
}

fn secure_cert_partition() -> String {
    "esp_secure_cert".into()
}

/// Where the flash encryption key of a unit is known to this computer.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Encryption {
    /// File with the raw key; a template where each unit has its own.
    pub key_file: String,
}

/// eFuses to burn.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EfusePlan {
    /// `development` or `production` (default): what the rules look at.
    #[serde(default = "production")]
    pub profile: String,
    /// As the `burns` of `esp_efuse_burn`; texts are templates.
    #[schemars(with = "Vec<Item>")]
    pub burn: Vec<toml::Table>,
}

fn production() -> String {
    "production".into()
}

/// One test.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "toml::Table")]
pub struct Test {
    /// What it is called in records.
    pub name: String,
    /// What is measured.
    pub what: Measure,
    /// Lower limit, in the measure's unit.
    pub min: Option<f64>,
    /// Upper limit.
    pub max: Option<f64>,
    /// The exact value; a template.
    pub equals: Option<String>,
    /// Counted, but not needed for a pass.
    pub optional: bool,
}

/// What all tests have in common; the rest is the measure's own.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Limits {
    /// What it is called in records.
    name: String,
    /// Lower limit, in the measure's unit.
    min: Option<f64>,
    /// Upper limit.
    max: Option<f64>,
    /// The exact value; a template.
    equals: Option<String>,
    /// Counted, but not needed for a pass.
    #[serde(default)]
    optional: bool,
}

impl TryFrom<toml::Table> for Test {
    type Error = toml::de::Error;

    fn try_from(mut fields: toml::Table) -> Result<Self, toml::de::Error> {
        let common = ["name", "min", "max", "equals", "optional"];
        let common = common.into_iter().filter_map(|name| fields.remove_entry(name)).collect::<toml::Table>();
        let Limits { name, min, max, equals, optional } = common.try_into()?;
        Ok(Self { name, what: fields.try_into()?, min, max, equals, optional })
    }
}

/// What a test measures.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Measure {
    /// Chip revision as `major.minor`.
    ChipRevision {},
    /// Flash size in bytes.
    FlashSize {},
    /// JEDEC id of the flash, six hex digits.
    FlashId {},
    /// MD5 of a flash region, hex.
    RegionMd5 {
        /// First address.
        #[schemars(with = "Number")]
        address: toml::Value,
        /// Bytes.
        #[schemars(with = "Number")]
        size: toml::Value,
    },
    /// An eFuse field's value.
    Efuse {
        /// The field's name.
        field: String,
    },
    /// A value in an NVS partition.
    Nvs {
        /// The partition's name.
        partition: String,
        /// Namespace.
        namespace: String,
        /// Key.
        key: String,
    },
    /// The console after a reset. With a group in `expect`, its number is the value.
    Console {
        /// Regular expression that must be seen.
        expect: String,
        /// Regular expression that must not be seen.
        fail: Option<String>,
        /// Seconds to wait (default 5).
        seconds: Option<f64>,
    },
    /// A program in RAM and what it prints; as `console`.
    Ram {
        /// RAM image or ELF, from the recipe's folder.
        file: String,
        /// Regular expression that must be seen.
        expect: String,
        /// Seconds to wait (default 5).
        seconds: Option<f64>,
    },
}

impl Measure {
    /// It restarts the device, so that it comes after all that needs the loader.
    pub fn leaves_loader(&self) -> bool {
        matches!(self, Self::Console { .. } | Self::Ram { .. })
    }
}

/// What is printed.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// A template.
    pub payload: String,
}

/// A recipe that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{0}")]
pub struct RecipeError(pub String);

impl Recipe {
    /// Reads the TOML text.
    pub fn parse(text: &str) -> Result<Self, RecipeError> {
        let mut read: Self = toml::from_str(text).map_err(|error| RecipeError(error.to_string()))?;
        // What needs the loader first: the device is left running only once.
        read.tests.sort_by_key(|test| test.what.leaves_loader());
        Ok(read)
    }

    /// All files that it names outright, each once: images, table, data, fixed values, per-unit rows, test programs.
    /// Files whose names are templates belong to one unit and are not among them ([`Recipe::unit_files`]).
    pub fn files(&self) -> Vec<&str> {
        let mut files = self.all_files();
        files.retain(|file| !Template::has_holes(file));
        files
    }

    /// The same with those whose names are templates.
    fn all_files(&self) -> Vec<&str> {
        let mut files: Vec<&str> = self.images.iter().map(|image| image.file.as_str()).collect();
        files.extend(self.table.iter().map(|table| table.file.as_str()));
        files.extend(self.data.iter().map(|data| data.file.as_str()));
        files.extend(self.units.iter().map(|units| units.file.as_str()));
        files.extend(self.tests.iter().filter_map(|test| match &test.what {
            Measure::Ram { file, .. } => Some(file.as_str()),
            _ => None,
        }));
        files.extend(self.efuse.iter().flat_map(|plan| &plan.burn).flat_map(|item| {
            let named = ["key_file", "data_file"].into_iter().filter_map(|name| item.get(name));
            named.filter_map(toml::Value::as_str)
        }));
        let values = self.nvs.iter().flat_map(|nvs| nvs.values.values()).flat_map(BTreeMap::values);
        files.extend(values.filter_map(|value| match value {
            NvsValue::Typed(typed) => typed.file.as_deref(),
            _ => None,
        }));
        files.extend(self.encryption.iter().map(|encryption| encryption.key_file.as_str()));
        let cert = self.secure_cert.as_ref();
        let certs = cert.map(|cert| [cert.ca_cert.as_deref(), Some(&cert.device_cert), cert.private_key.as_deref()]);
        files.extend(certs.into_iter().flatten().flatten());
        files.sort_unstable();
        files.dedup();
        files
    }

    /// All templates with the place where each stands.
    pub fn templates(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for nvs in &self.nvs {
            for (namespace, values) in &nvs.values {
                for (key, value) in values {
                    let place = format!("nvs {}, {namespace}/{key}", nvs.partition);
                    all.extend(value.templates().into_iter().map(|text| (place.clone(), text)));
                }
            }
        }
        if let Some(cert) = &self.secure_cert {
            let files = [cert.ca_cert.clone(), Some(cert.device_cert.clone()), cert.private_key.clone()];
            all.extend(files.into_iter().flatten().map(|text| ("secure_cert".to_owned(), text)));
        }
        all.extend(self.encryption.iter().map(|encryption| ("encryption".to_owned(), encryption.key_file.clone())));
        for item in self.efuse.iter().flat_map(|plan| &plan.burn) {
            let texts = item.values().filter_map(toml::Value::as_str);
            all.extend(texts.map(|text| ("efuse".to_owned(), text.to_owned())));
        }
        for test in &self.tests {
            all.extend(test.equals.iter().map(|text| (format!("test {}", test.name), text.clone())));
        }
        all.extend(self.label.iter().map(|label| ("label".to_owned(), label.payload.clone())));
        all
    }
}

impl NvsValue {
    /// The type as [`esp_model::nvs::encode_value`] names it.
    pub fn kind(&self) -> &str {
        match self {
            Self::Number(_) => "i32",
            Self::Text(_) => "string",
            Self::Typed(typed) => &typed.kind,
        }
    }

    /// The text, still with holes; `true` when it names a file.
    pub fn source(&self) -> Option<(String, bool)> {
        match self {
            Self::Number(number) => Some((number.to_string(), false)),
            Self::Text(text) => Some((text.clone(), false)),
            Self::Typed(typed) => match (&typed.value, &typed.file) {
                (Some(toml::Value::String(text)), None) => Some((text.clone(), false)),
                (Some(value), None) => Some((value.to_string(), false)),
                (None, Some(file)) => Some((file.clone(), true)),
                _ => None,
            },
        }
    }

    fn templates(&self) -> Vec<String> {
        self.source().into_iter().map(|(text, _)| text).collect()
    }
}

/// A number, or text such as `0x10000`, `64K`, `4MB`.
pub fn number(value: &toml::Value) -> Option<u64> {
    match value {
        toml::Value::Integer(number) => u64::try_from(*number).ok(),
        toml::Value::String(text) => quantity(text),
        _ => None,
    }
}

/// `major.minor` as major × 100 + minor.
pub fn revision(text: &str) -> Option<u16> {
    let (major, minor) = text.trim().trim_start_matches('v').split_once('.')?;
    let (major, minor): (u16, u16) = (major.parse().ok()?, minor.parse().ok()?);
    (minor < 100).then(|| major.checked_mul(100)?.checked_add(minor))?
}

#[cfg(test)]
mod tests;
