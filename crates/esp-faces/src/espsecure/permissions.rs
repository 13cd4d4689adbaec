//! What a debug certificate opens, as a JSON file says it.

use esp_model::secure::debug_certificate::Permissions;
use serde_json::Value;

use crate::fault::Fault;
use crate::files;

/// Version of the file's form.
const VERSION: u64 = 1;
const KEYS: [&str; 3] = ["enable_jtag", "enable_download_reuse", "enable_force_spi_boot"];

/// The permissions of a file; what it does not name is as in `flags`.
pub fn of_file(path: &str, flags: Permissions) -> Result<Permissions, Fault> {
    let bytes = files::read(path, "--usc")?;
    let whole: Value = serde_json::from_slice(&bytes)
        .map_err(|error| Fault::Fatal(format!("Invalid JSON in USC config file: {error}")))?;
    if !whole.is_object() {
        return Err(Fault::fatal("USC JSON file must contain a JSON object"));
    }
    let version = whole.get("version").unwrap_or(&Value::Null);
    if version.as_u64() != Some(VERSION) {
        return Err(Fault::Fatal(format!(
            "Unsupported USC JSON version: {version}. This espsecure supports version {VERSION}; add '\"version\": \
             {VERSION}' to the configuration file."
        )));
    }
    let mut found = flags;
    let none = Value::Array(Vec::new());
    for group in list(whole.get("groups").unwrap_or(&none), "groups")? {
        // Others are left to those who know them.
        if group.get("group").and_then(Value::as_str) != Some("config_flags") {
            continue;
        }
        for entry in list(group.get("entries").unwrap_or(&none), "entries")? {
            apply(entry, &mut found)?;
        }
    }
    Ok(found)
}

fn list<'a>(value: &'a Value, name: &str) -> Result<&'a Vec<Value>, Fault> {
    value.as_array().ok_or_else(|| Fault::Fatal(format!("'{name}' must be a JSON array")))
}

fn apply(entry: &Value, found: &mut Permissions) -> Result<(), Fault> {
    let (Some(key), Some(value)) = (entry.get("key").and_then(Value::as_str), entry.get("value")) else {
        return Err(Fault::fatal("Each USC entry must be a JSON object with 'key' and 'value' fields"));
    };
    let place = match key {
        "enable_jtag" => &mut found.jtag,
        "enable_download_reuse" => &mut found.download_reuse,
        "enable_force_spi_boot" => &mut found.force_spi_boot,
        other => {
            let known = KEYS.join(", ");
            return Err(Fault::Fatal(format!("Unknown USC config_flags key: '{other}'. Expected one of {known}.")));
        }
    };
    *place = value
        .as_bool()
        .ok_or_else(|| Fault::Fatal(format!("Invalid value for '{key}' in USC JSON: expected boolean, got {value}")))?;
    Ok(())
}

/// The names of what is opened.
pub fn names(opened: Permissions) -> Vec<&'static str> {
    let all =
        [(opened.jtag, "JTAG"), (opened.download_reuse, "Download Reuse"), (opened.force_spi_boot, "Force SPI Boot")];
    all.into_iter().filter_map(|(set, name)| set.then_some(name)).collect()
}
