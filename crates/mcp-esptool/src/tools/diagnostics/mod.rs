//! Diagnostics: evidence from a device, and what follows from it.

pub mod console;
pub mod console_live;
pub mod core_dump;
pub mod log_decode;
pub mod memory_dump;
pub mod performance;
pub mod power;
pub mod register_dump;
pub mod report;
pub mod rf_calibration;
pub mod symbols;
pub mod tasks;
pub mod thermal;

use serde::Serialize;
use serde_json::Value;

/// There is nothing to say.
pub fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// A value as JSON.
pub fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}
