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
        NvsError::Row { key, problem: ValueError::Missing(_), .. } if key.trim_start().starts_with('#') => {
            text("begin comments with # at the start of the line, without spaces before it")
        }
        NvsError::Row { key, problem: ValueError::Missing(_), .. }
            if looks_like_pem(key) || !key.contains(' ') && key.len() > 15 =>
        {
            text(
                "this is a line of a value over several lines: put the whole value in double quotes, or in a file with a row of type file",
            )
        }
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
        NvsError::Row { problem: ValueError::Number(found), .. } if found.is_empty() => {
            text("give a number as value, or remove the row")
        }
        NvsError::Row { problem: ValueError::Number(_), .. } => {
            text("write a whole number (12, -5, 0x1f) without signs between its digits; text has the encoding string")
        }
        NvsError::Row { problem: ValueError::Range(narrow, number), .. }
        | NvsError::Entry { problem: ValueError::Range(narrow, number), .. } => Some(match wide_enough(*number) {
            Some(wide) => {
                format!("use the encoding {wide} (and read it as {wide} in the program), or a value that fits {narrow}")
            }
            None => "NVS holds no number as large: store it as string".into(),
        }),
        NvsError::Row { problem: ValueError::Hex, .. } => {
            text("write two digits for each byte, without 0x, spaces or colons, or use the encoding string or base64")
        }
        NvsError::Row { problem: ValueError::Base64, .. } => {
            text("give the value in Base64 with its = at the end, or use the encoding string or hex2bin")
        }
        NvsError::Row { problem: ValueError::File { path, .. }, .. } => Some(format!(
            "put {path:?} beside the CSV file, or name it with its folder: names count from the CSV file's folder"
        )),
        NvsError::Row { problem: ValueError::Text, .. } => text("save that file as UTF-8, or use the encoding binary"),
        NvsError::Row { problem: ValueError::TooLong { longest, .. }, .. } => Some(format!(
            "shorten the value to {longest} bytes, or store it as blob (encoding binary, hex2bin or base64)"
        )),
        NvsError::Row { problem: ValueError::FillLength(length), .. } => {
            Some(format!("name a length that is at least the value's own, above {length}"))
        }
        NvsError::Row { problem: ValueError::Chunks, .. } => text(
            "split the value: one blob has at most 255 pages; larger data belongs into a file system or a partition of its own",
        ),
        NvsError::Row { problem: ValueError::Namespaces, .. } => {
            text("use at most 254 namespaces, or a second NVS partition")
        }
        NvsError::Row { problem: ValueError::Full, .. } | NvsError::Entry { problem: ValueError::Full, .. } => text(
            "give a larger size: the nvs partition must have it too; one sector of 4096 bytes stays free for the device",
        ),
        _ => None,
    }
}

/// The narrowest encoding that holds a number.
fn wide_enough(number: i128) -> Option<&'static str> {
    let ranges: [(&str, i128, i128); 8] = [
        ("u8", 0, u8::MAX.into()),
        ("i8", i8::MIN.into(), i8::MAX.into()),
        ("u16", 0, u16::MAX.into()),
        ("i16", i16::MIN.into(), i16::MAX.into()),
        ("u32", 0, u32::MAX.into()),
        ("i32", i32::MIN.into(), i32::MAX.into()),
        ("u64", 0, u64::MAX.into()),
        ("i64", i64::MIN.into(), i64::MAX.into()),
    ];
    ranges.into_iter().find(|(_, least, most)| (*least..=*most).contains(&number)).map(|(name, ..)| name)
}

/// A key that is a line of a certificate or a key: a mark, or 40 characters of base64 and more.
fn looks_like_pem(key: &str) -> bool {
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    key.starts_with("-----") || (key.len() >= 40 && key.bytes().all(base64))
}

#[cfg(test)]
mod tests {
    use esp_model::nvs::{Version, generate};

    use super::*;

    /// The next step for a row behind a namespace.
    fn step(row: &str) -> String {
        let csv = format!("key,type,encoding,value\nw,namespace,,\n{row}\n");
        let mut none = |path: &str| Err(format!("there is no file {path}"));
        let error = generate(&[csv.as_bytes()], 0x3000, Version::V2, None, &mut none).unwrap_err();
        ToolError::from(error).next_step
    }

    #[test]
    fn every_fault_of_a_row_has_its_own_step() {
        for (row, want) in [
            ("n,data,u8,300", "use the encoding u16"),
            ("n,data,u16,-1", "use the encoding i8"),
            ("n,data,i64,99999999999999999999", "store it as string"),
            ("n,data,u8,", "give a number"),
            ("n,data,u8,1.5", "whole number (12, -5, 0x1f)"),
            ("n,data,hex2bin,abc", "two digits for each byte"),
            ("n,data,base64,a*b", "in Base64"),
            ("n,file,string,missing.pem", "put \"missing.pem\" beside the CSV file"),
            ("n,data,int,5", "use u8, i8"),
            ("n,data,string ,x", "write \"string\" without spaces"),
            ("sixteen_chars_xx,data,u8,1", "shorten the key"),
            ("  # a note", "at the start of the line"),
            ("-----BEGIN CERTIFICATE-----", "several lines"),
        ] {
            let found = step(row);
            assert!(found.contains(want), "{row}: {found}");
        }
    }
}
