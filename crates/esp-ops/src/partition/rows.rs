//! Partition tables as parameters and results.

use std::borrow::Cow;

use esp_model::partition::{self, Options, Partition, Problem, SecureBoot, SubtypeError, Subtypes, Table, TableError};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::Call;
use crate::args::{Number, parse_number};
use crate::error::{Code, ToolError};

/// A layout: a preset's name, a CSV file, CSV text, or rows.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "expected a preset's name, CSV text, a CSV file or {\"partitions\": [...]}")]
pub enum Layout {
    /// Preset, CSV text or a file's path.
    Text(String),
    /// Rows.
    Rows(Rows),
}

impl JsonSchema for Layout {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Layout".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let rows = Rows::json_schema(generator);
        let rows = rows.get("properties").cloned().unwrap_or_default();
        json_schema!({"type": ["object", "string"], "properties": rows})
    }
}

/// Rows of a layout.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rows {
    /// Partitions in order.
    partitions: Vec<RowIn>,
}

/// One partition of a layout.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RowIn {
    /// Name, at most 16 bytes.
    name: String,
    /// app, data, bootloader, partition_table or a number.
    #[serde(rename = "type")]
    kind: NumberOrText,
    /// Such as factory, ota_0, nvs, spiffs, or a number.
    subtype: Option<NumberOrText>,
    /// Flash address; left out: behind the one before.
    offset: Option<NumberOrText>,
    /// Size: bytes, 64K, 4MB; -0x100000 means "up to this address".
    size: Option<NumberOrText>,
    /// encrypted, readonly.
    #[serde(default)]
    flags: Vec<String>,
}

/// A number, or a text that the CSV form understands.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(i64),
    Text(String),
}

impl JsonSchema for NumberOrText {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "NumberOrText".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["integer", "string"]})
    }
}

impl NumberOrText {
    /// As the CSV form writes it. Sizes such as `4MB` become plain numbers.
    fn field(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => parse_number(text).map_or_else(|| text.clone(), |number| number.to_string()),
        }
    }
}

impl Rows {
    fn csv(&self) -> Result<String, ToolError> {
        let mut out = String::new();
        for row in &self.partitions {
            let field = |value: &Option<NumberOrText>| value.as_ref().map(NumberOrText::field).unwrap_or_default();
            let flags = row.flags.join(":");
            let fields =
                [row.name.clone(), row.kind.field(), field(&row.subtype), field(&row.offset), field(&row.size), flags];
            let bad = |text: &&String| text.contains([',', '\n', '\r', '#', '$']);
            if let Some(text) = fields.iter().find(bad) {
                return Err(ToolError::new(
                    Code::PartitionInvalid,
                    format!("{text:?} cannot stand in a partition table"),
                ));
            }
            out += &fields.join(",");
            out.push('\n');
        }
        Ok(out)
    }
}

impl Layout {
    /// The table's bytes as the reference generator would read them: CSV text, or a binary table from a file.
    pub fn source(&self, call: &Call) -> Result<Vec<u8>, ToolError> {
        match self {
            Self::Rows(rows) => rows.csv().map(String::into_bytes),
            Self::Text(text) => match partition::preset(text) {
                Some(preset) => Ok(preset.csv.into()),
                None if text.contains([',', '\n']) => Ok(text.clone().into_bytes()),
                None => call.files.read_some(text).map_err(|error| {
                    let known = partition::PRESETS.iter().map(|preset| preset.name).collect::<Vec<_>>().join(", ");
                    error.seen("presets", known)
                }),
            },
        }
    }
}

/// What decides how a table is made and checked.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub struct TableOptions {
    /// Flash address of the table itself (default 0x8000).
    #[schemars(extend("x-rare" = true))]
    pub table_offset: Option<Number>,
    /// Size of the flash that the table must fit, such as 4MB.
    pub flash_size: Option<Number>,
    /// Secure boot scheme that apps must suit: v1 or v2.
    #[schemars(extend("x-rare" = true))]
    pub secure_boot: Option<Scheme>,
    /// Leave out the MD5 row (bootloaders before ESP-IDF 3.1).
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    pub no_md5: bool,
    /// Flash address of the bootloader, for rows of type bootloader.
    #[schemars(extend("x-rare" = true))]
    pub primary_bootloader_offset: Option<Number>,
    /// Flash address of the recovery bootloader, for its row.
    #[schemars(extend("x-rare" = true))]
    pub recovery_bootloader_offset: Option<Number>,
    /// The project's own subtypes, each "type, name, hex number".
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    pub custom_subtypes: Vec<String>,
}

/// Secure boot schemes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// Version 1.
    V1,
    /// Version 2.
    V2,
}

impl TableOptions {
    /// The options of the generator.
    pub fn read(&self) -> Result<Options<'static>, ToolError> {
        let word = |number: Option<Number>| match number.map(Number::as_u32) {
            Some(None) => Err(ToolError::new(Code::BadParameter, "an address does not fit 32 bits")),
            other => Ok(other.flatten()),
        };
        let mut subtypes = Subtypes::default();
        subtypes.add(self.custom_subtypes.iter().map(String::as_str))?;
        Ok(Options {
            table_offset: word(self.table_offset)?.unwrap_or(partition::DEFAULT_TABLE_OFFSET),
            md5: !self.no_md5,
            secure: self.secure_boot.map(|scheme| match scheme {
                Scheme::V1 => SecureBoot::V1,
                Scheme::V2 => SecureBoot::V2,
            }),
            primary_bootloader: word(self.primary_bootloader_offset)?,
            recovery_bootloader: word(self.recovery_bootloader_offset)?,
            flash_size: self.flash_size.map_or(0, |size| size.0),
            subtypes,
            ..Options::default()
        })
    }
}

/// One partition of a table.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct RowOut {
    /// Name.
    pub name: String,
    /// Type: a name, or its number.
    #[serde(rename = "type")]
    pub kind: String,
    /// Subtype: a name, or its number.
    pub subtype: String,
    /// Flash address.
    pub offset: u32,
    /// Size in bytes.
    pub size_bytes: u32,
    /// encrypted, readonly.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
}

impl RowOut {
    /// A partition, by names where there are some.
    pub fn new(partition: &Partition, subtypes: &Subtypes) -> Self {
        let named = |name: Option<&str>, number: u8| name.map_or_else(|| format!("{number:#04x}"), str::to_owned);
        Self {
            name: partition.name.clone(),
            kind: named(partition::type_name(partition.kind), partition.kind),
            subtype: named(subtypes.name(partition.kind, partition.subtype), partition.subtype),
            offset: partition.offset,
            size_bytes: partition.size,
            flags: partition.flags().into_iter().map(str::to_owned).collect(),
        }
    }

    /// All partitions of a table.
    pub fn of(table: &Table, subtypes: &Subtypes) -> Vec<Self> {
        table.partitions.iter().map(|partition| Self::new(partition, subtypes)).collect()
    }
}

impl From<TableError> for ToolError {
    fn from(error: TableError) -> Self {
        let code = match &error {
            TableError::FlashSize { .. } => Code::FlashTooSmall,
            TableError::Encoding | TableError::Truncated(_) | TableError::NoEnd | TableError::Md5 { .. } => {
                Code::PartitionTableDamaged
            }
            _ => Code::PartitionInvalid,
        };
        let tool_error = Self::new(code, error.to_string());
        match repair(&error) {
            Some(step) => tool_error.next(step),
            None => tool_error,
        }
    }
}

/// A number with a decimal point and a unit, in a smaller unit: `1.5M` is `1536K`.
fn in_smaller_unit(value: &str) -> Option<String> {
    let (digits, bytes) = match value.trim().trim_end_matches(['b', 'B', 'i']).trim_end() {
        text if text.ends_with(['m', 'M']) => (text, 1024.0 * 1024.0),
        text if text.ends_with(['k', 'K']) => (text, 1024.0),
        _ => return None,
    };
    let number: f64 = digits.get(..digits.len() - 1)?.trim().parse().ok()?;
    let bytes = (number * bytes) as u64;
    (digits.contains('.') && bytes > 0).then(|| match bytes % 1024 {
        0 => format!("write {}K: numbers of K and M are whole", bytes / 1024),
        _ => format!("write {bytes}: numbers of K and M are whole"),
    })
}

/// An offset that reads like a hexadecimal one without its `0x`: 9000 is not 0x9000.
fn without_0x(offset: i128) -> Option<String> {
    let digits = offset.to_string();
    let meant = i128::from_str_radix(&digits, 16).ok()?;
    (offset % 0x1000 != 0 && meant % 0x1000 == 0 && meant > 0)
        .then(|| format!("write 0x{digits}: numbers without 0x are decimal, and {digits} is {offset:#x}"))
}

/// The next step that fits the fault of a row.
fn repair(error: &TableError) -> Option<String> {
    let TableError::Row { name, problem, .. } = error else { return None };
    let text = |text: &str| Some(text.to_owned());
    let other_sign = [';', '\t', '|'].into_iter().find(|sign| name.contains(*sign));
    if other_sign.is_some() {
        return text("part the columns by commas");
    }
    let is_title = name.trim_matches(|c: char| !c.is_ascii_alphanumeric()).eq_ignore_ascii_case("name");
    if is_title && matches!(problem, Problem::Unknown { .. }) {
        return text("begin the row of titles with #: it is a comment");
    }
    match problem {
        Problem::Flag(found) | Problem::NotANumber { value: found, .. } if found.contains('#') => {
            text("comments stand on lines of their own, which begin with #")
        }
        Problem::Flag(found) if found.starts_with(|c: char| c.is_ascii_digit()) => text(
            "this is the second half of a number with a comma: write sizes as whole numbers of K or M, such as 1536K",
        ),
        Problem::Flag(_) => text("the flags are encrypted and readonly, parted by a colon"),
        Problem::NotANumber { value, .. } if in_smaller_unit(value).is_some() => in_smaller_unit(value),
        Problem::NotANumber { value, .. } => {
            let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
            let unit = value.get(digits.len()..).unwrap_or_default().to_ascii_uppercase();
            match unit.chars().next().filter(|_| !digits.is_empty()) {
                Some(unit @ ('K' | 'M')) => {
                    let digits = digits.trim();
                    Some(format!("write {digits}{unit}: sizes end in K or M, or are plain numbers"))
                }
                _ => text("write a number (0x10000, 65536) or one with K or M (64K, 1M)"),
            }
        }
        Problem::Unknown { value, known, .. } => Some(match crate::nearest(value, known.split(", ")) {
            Some(near) => format!("write {near}, if that is meant; else one of {known}, or a number"),
            None => format!("use one of {known}, or a number"),
        }),
        Problem::Empty(field) => Some(format!("give the {field}; only offset and flags may be left out")),
        Problem::Order { offset, .. } if without_0x(*offset).is_some() => without_0x(*offset),
        Problem::BelowTable { offset, .. } if without_0x((*offset).into()).is_some() => without_0x((*offset).into()),
        Problem::Order { .. } | Problem::Overlap { .. } | Problem::BelowTable { .. } => {
            text("leave the offset out and it follows the row before, or move it behind the end that is named")
        }
        Problem::Alignment { field: "offset", align, .. } => {
            Some(format!("use a multiple of {align:#x}, or leave the offset out"))
        }
        Problem::Alignment { align, .. } => Some(format!("use a multiple of {align:#x}")),
        Problem::SmallNvs(_) => text("give it 0x3000 bytes or more, or the flag readonly"),
        Problem::AlwaysWritten => text("remove the flag readonly"),
        Problem::DuplicateName(_) => text("give each partition a name of its own"),
        Problem::SecondOtadata(_) => text("remove one of the two"),
        Problem::OtadataSize { .. } => text("write 0x2000 as its size"),
        Problem::Variable(_) => text("replace the variable by its value"),
        Problem::NoBootloaderOffset(_) => {
            text("give primary_bootloader_offset (esp_docs name=esp://docs/chips lists the bootloader addresses)")
        }
        _ => None,
    }
}

impl From<SubtypeError> for ToolError {
    fn from(error: SubtypeError) -> Self {
        Self::new(Code::PartitionInvalid, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(row: &str) -> String {
        let csv = format!("# Name, Type, SubType, Offset, Size, Flags\n{row}\n");
        let fault = match Table::from_csv(&csv, &Options::default()) {
            Ok(table) => table.verify(&Options::default()).unwrap_err(),
            Err(fault) => fault,
        };
        ToolError::from(fault).next_step
    }

    #[test]
    fn faults_of_rows_have_steps_that_work() {
        for (row, want) in [
            ("factory,app,factory,0x10000,1.5M,", "write 1536K"),
            ("factory,app,factory,0x10000,0.7M,", "write 734003"),
            ("factory,app,factory,0x10000,1,5M", "number with a comma"),
            ("factory,app,factory,0x10000,20 KB,", "write 20K"),
            ("Name, Type, SubType, Offset, Size, Flags", "row of titles with #"),
            ("app0,app,ota0,0x10000,1M,", "write ota_0"),
            ("nvs,data,nvs,9000,0x4000,", "write 0x9000"),
            ("nvs,data,nvs,0x8000,0x4000,", "leave the offset out"),
        ] {
            let found = step(row);
            assert!(found.contains(want), "{row}: {found}");
        }
    }
}
