//! Errors of NVS: each fault of a CSV file has its own next step.

use esp_model::nvs::{CsvError, Near, NvsError, ValueError};

use super::{Code, ToolError};

impl From<NvsError> for ToolError {
    fn from(error: NvsError) -> Self {
        let code = match &error {
            NvsError::Size(_) => Code::BadParameter,
            NvsError::Damaged(_) => Code::NvsDamaged,
            _ => Code::NvsInvalid,
        };
        let tool_error = Self::new(code, error.to_string());
        match repair(&error) {
            Some(step) => tool_error.next(step),
            None => tool_error,
        }
    }
}

/// The next step that fits the fault.
fn repair(error: &NvsError) -> Option<String> {
    let text = |text: &str| Some(text.to_owned());
    match error {
        NvsError::Csv(CsvError::Column(name, Near::Spaced(found))) => Some(format!(
            "write {name} instead of {found:?}: names and values are taken with their spaces and capitals"
        )),
        NvsError::Csv(CsvError::Column(_, Near::Separator(_))) => text("part the columns by commas"),
        NvsError::Csv(CsvError::Column(_, Near::Nothing)) => text("begin with the row key,type,encoding,value"),
        NvsError::Csv(CsvError::FieldLimit(_)) => text("put long values in a file and name it in a row of type file"),
        NvsError::Encoding => text("save the file as UTF-8"),
        NvsError::Row { problem: ValueError::Missing(_), .. } => text(
            "a value over several lines (a PEM block) needs double quotes around it, or a file and a row of type file",
        ),
        NvsError::Row { key, problem: ValueError::KeyLength, .. } if looks_like_pem(key) => text(
            "this is a line of a value over several lines: put the whole value in double quotes, or in a file with a row of type file",
        ),
        NvsError::Row { problem: ValueError::KeyLength, .. }
        | NvsError::Entry { problem: ValueError::KeyLength, .. } => text("shorten the key to 15 characters"),
        NvsError::Row { problem: ValueError::Encoding(found), .. } if found.trim() != found => {
            Some(format!("write {:?} without spaces", found.trim()))
        }
        NvsError::Row { problem: ValueError::Encoding(_), .. } => {
            text("use u8, i8, u16, i16, u32, i32, u64, i64, string, hex2bin, base64 or binary")
        }
        NvsError::Row { problem: ValueError::Number(_) | ValueError::Range(..), .. } => {
            text("write a whole number that fits the encoding, or choose a wider one")
        }
        NvsError::Row { problem: ValueError::Full, .. } | NvsError::Entry { problem: ValueError::Full, .. } => text(
            "give a larger size: the nvs partition must have it too; one sector of 4096 bytes stays free for the device",
        ),
        _ => None,
    }
}

/// A key that is a line of a certificate or a key: a mark, or 40 characters of base64 and more.
fn looks_like_pem(key: &str) -> bool {
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    key.starts_with("-----") || (key.len() >= 40 && key.bytes().all(base64))
}
