//! Partition and NVS tools.

pub mod analyze;
pub mod create;
pub mod filesystem;
pub mod flash;
pub mod nvs;
mod nvs_help;
pub mod nvs_store;
pub mod ota_setup;
pub mod read;

use crate::ops::args::Number;
use crate::ops::error::{Code, ToolError};

/// Flash address of the partition table, 0x8000 when it is not given.
pub(crate) fn offset(number: Option<Number>) -> Result<u32, ToolError> {
    let Some(number) = number else { return Ok(esp_model::partition::DEFAULT_TABLE_OFFSET) };
    let fits = |offset: &u32| offset.is_multiple_of(esp_model::partition::TABLE_SECTOR);
    let bad = || {
        ToolError::new(Code::BadParameter, format!("table_offset {:#x} is no multiple of 0x1000 in 32 bits", number.0))
    };
    number.as_u32().filter(fits).ok_or_else(bad)
}
