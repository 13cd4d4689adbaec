//! Parameters that many tools take.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{Code, ToolError};

pub use esp_link::port::PortUrl;
pub use esp_model::literal::quantity as parse_number;

/// An address or a size: a number, or text such as `0x10000`, `64K`, `4MB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Number(pub u64);

impl Number {
    /// The number, if it fits an address of the chips (32 bits).
    pub fn as_u32(self) -> Option<u32> {
        u32::try_from(self.0).ok()
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a number or text such as \"0x10000\", \"64K\", \"4MB\"")]
        enum Either {
            Number(u64),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Number(number) => Ok(Self(number)),
            Either::Text(text) => parse_number(&text).map(Self).ok_or_else(|| {
                serde::de::Error::custom(format!(
                    "`{text}` is not a number: write 65536, \"0x10000\", \"64K\" or \"4MB\""
                ))
            }),
        }
    }
}

impl JsonSchema for Number {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Number".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["integer", "string"]})
    }
}

/// The parameters of a tool that needs nothing but its device.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OnlyPort {
    port: Option<PortUrl>,
}

impl OnlyPort {
    /// The device; none: the only one there is.
    pub fn port(&self) -> Option<&PortUrl> {
        self.port.as_ref()
    }
}

/// A file and where it goes in flash.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileAt {
    /// The file, below a project root.
    pub path: String,
    /// Flash address.
    pub address: Number,
}

/// A file and where it goes in flash, on a device whose partitions have names.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileForFlash {
    /// The file, below a project root.
    pub path: String,
    /// Flash address, or a partition's name.
    pub address: FlashPlace,
}

/// Where a file goes in flash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlashPlace {
    /// An address.
    At(Number),
    /// A partition by its name; the device's table, or one among the files, says where it is.
    Partition(String),
}

impl<'de> Deserialize<'de> for FlashPlace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected an address such as \"0x10000\", or a partition's name")]
        enum Either {
            Number(u64),
            Text(String),
        }
        Ok(match Either::deserialize(deserializer)? {
            Either::Number(number) => Self::At(Number(number)),
            Either::Text(text) => match parse_number(&text) {
                Some(number) => Self::At(Number(number)),
                // A slip in a number is not a name.
                None if text.starts_with(|first: char| first.is_ascii_digit() || first == '-') || text.is_empty() => {
                    return Err(serde::de::Error::custom(format!(
                        "`{text}` is not a number: write 65536 or \"0x10000\""
                    )));
                }
                None => Self::Partition(text),
            },
        })
    }
}

impl JsonSchema for FlashPlace {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "FlashPlace".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["integer", "string"]})
    }
}

/// Flash address of the partition table, 0x8000 when it is not given.
pub fn table_offset(number: Option<Number>) -> Result<u32, ToolError> {
    let Some(number) = number else { return Ok(esp_model::partition::DEFAULT_TABLE_OFFSET) };
    let fits = |offset: &u32| offset.is_multiple_of(esp_model::partition::TABLE_SECTOR);
    let bad = || {
        ToolError::new(
            Code::BadParameter,
            format!("table_offset {:#x} is not a multiple of 0x1000 in 32 bits", number.0),
        )
    };
    number.as_u32().filter(fits).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_all_spellings() {
        for (text, number) in
            [("65536", 65536), ("0x10000", 65536), ("64K", 65536), ("4MB", 4 << 20), ("1 MiB", 1 << 20)]
        {
            assert_eq!(parse_number(text), Some(number), "{text}");
        }
        for text in ["", "x", "0x", "-1", "1.5M", "99999999999999999999", "K"] {
            assert_eq!(parse_number(text), None, "{text}");
        }
        assert_eq!(serde_json::from_str::<Number>("\"0x20\"").unwrap(), Number(32));
        assert!(serde_json::from_str::<Number>("-3").is_err());
    }
}
