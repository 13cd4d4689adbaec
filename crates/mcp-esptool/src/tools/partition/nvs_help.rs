//! What is seldom meant in NVS data, and where it comes from.

use esp_model::image::kind;
use esp_model::literal::decode_marked;
use esp_model::nvs;
use esp_model::partition::{DATA, DATA_NVS};
use esp_ops::error::{Code, ToolError};
use esp_ops::partition::nvs_values::FindingOut;

use crate::ctx::Ctx;

/// Below this an image is read-only (the reference generator warns of it too).
const WRITABLE: u64 = 0x3000;

/// What is allowed and seldom meant.
pub fn doubts(csv: &[u8], size: u64) -> Vec<FindingOut> {
    let warning = |text: String| FindingOut { severity: "warning".into(), text };
    let text = String::from_utf8_lossy(csv);
    let long = nvs::long_rows(&text);
    let cut = |row: &nvs::LongRow| {
        let nvs::LongRow { line, key, columns, header } = row;
        warning(format!(
            "line {line} ({key:?}) has {columns} columns, the first row {header}: the value ends at its comma; put it in double quotes"
        ))
    };
    let small = (size < WRITABLE).then(|| {
        warning(format!("with {size:#x} bytes the partition can only be read: {WRITABLE:#x} are the least that a device can write to"))
    });
    let open = nvs::open_quote(&text).map(|line| {
        warning(format!(
            "line {line}: the quote that opens a value there is not closed: all that follows is part of the value"
        ))
    });
    let early = nvs::rows_before_a_namespace(&text).into_iter().map(|(line, key)| {
        warning(format!("line {line} ({key:?}) stands before the first row of type namespace: no program can read it; put NAME,namespace,, before it"))
    });
    small.into_iter().chain(long.iter().map(cut)).chain(open).chain(early).collect()
}

/// The CSV form and the folder that files in it are named from.
pub fn csv_text(ctx: &Ctx, text: &str) -> Result<(Vec<u8>, String), ToolError> {
    // Text with line ends is the data itself; files that it names are found from the project root.
    if text.contains('\n') {
        return Ok((text.as_bytes().to_vec(), String::new()));
    }
    let folder = text.rfind('/').map_or("", |at| text.get(..=at).unwrap_or_default());
    let bytes = ctx.files.read(text)?;
    // Spreadsheets write UTF-16 with a mark.
    let marked = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    let plain = decode_marked(&bytes).filter(|_| marked).map(String::into_bytes);
    Ok((plain.unwrap_or(bytes), folder.to_owned()))
}

/// Refuses a file that is shorter than a page: keys, most often.
pub fn whole_pages(path: &str, length: usize) -> Result<(), ToolError> {
    if length >= nvs::PAGE {
        return Ok(());
    }
    let text = format!("`{path}` has {length} bytes; an NVS image has whole pages of {}", nvs::PAGE);
    let error = ToolError::new(Code::NvsInvalid, text);
    Err(match length {
        32 => error.next("32 bytes are an HMAC key: give them as hmac_key_file, and the image as image_file"),
        64 => error.next("64 bytes are keys: give them as key_file, and the image as image_file"),
        _ => error.next("give the image that was read from the nvs partition"),
    })
}

/// Most entries in a result.
pub const LISTED: usize = 500;

/// The NVS partition of a whole flash, by the flash's own table; other bytes are one already.
pub fn nvs_of(bytes: Vec<u8>) -> Result<Vec<u8>, ToolError> {
    let Some(layout) = kind::flash_layout(&bytes) else { return Ok(bytes) };
    let table = esp_ops::firmware::facts::table_of(&layout, &bytes).unwrap_or_default();
    let found: Vec<_> = table.partitions.iter().filter(|one| one.kind == DATA && one.subtype == DATA_NVS).collect();
    let cut = found.first().and_then(|one| {
        let start = one.offset.checked_sub(layout.base())? as usize;
        bytes.get(start..bytes.len().min(start + one.size as usize)).filter(|part| !part.is_empty())
    });
    cut.map(<[u8]>::to_vec).ok_or_else(|| {
        ToolError::new(
            Code::NvsInvalid,
            "this is a whole flash, and its partition table has no NVS partition in the file",
        )
        .next("esp_firmware_analyze lists its partitions")
    })
}
