//! What is asked to be burned, as parameters and recipes write it.

use esp_model::efuse::{Efuses, Request, Voltage, text};
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use serde_json::Value;

use crate::Call;
use crate::efuse::{keys, read};
use crate::error::{Code, ToolError};

/// What an item without a kind is: a field's value, as the tool's own parameters give it.
pub const USUAL_KIND: &str = "field";

/// One thing to burn.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[schemars(transform = kind_may_be_left_out)]
pub enum Item {
    /// A field's value.
    Field {
        /// Name of the field, as esp_efuse_read lists it.
        efuse: String,
        /// Its value; left out: its next bit.
        value: Option<String>,
    },
    /// Single bits of a block.
    Bits {
        /// Block name.
        block: String,
        /// Bit numbers.
        bits: Vec<u16>,
    },
    /// Data of a block.
    Block {
        /// Block name.
        block: String,
        /// File with the data.
        data_file: String,
        /// First byte in the block.
        #[serde(default)]
        offset: u16,
    },
    /// A key with its purpose.
    Key {
        /// Block name.
        block: String,
        /// File with the raw key, or a PEM file for ECDSA purposes and digests.
        key_file: String,
        /// Key purpose.
        purpose: String,
        /// Hide it from software where the purpose wants it (default).
        #[serde(default = "yes")]
        read_protect: bool,
        /// Freeze it (default).
        #[serde(default = "yes")]
        write_protect: bool,
    },
    /// A MAC address of your own.
    CustomMac {
        /// `aa:bb:cc:dd:ee:ff`.
        mac: String,
    },
    /// Hide a field or block.
    ReadProtect {
        /// Name of the field or block.
        efuse: String,
    },
    /// Freeze a field or block.
    WriteProtect {
        /// Name of the field or block.
        efuse: String,
    },
    /// Fix the flash's voltage.
    FlashVoltage {
        /// `1.8V`, `3.3V` or `off`.
        voltage: String,
    },
}

/// Only the other kinds must be named.
fn kind_may_be_left_out(schema: &mut Schema) {
    let kinds = schema.get_mut("oneOf").and_then(Value::as_array_mut).into_iter().flatten();
    let usual = |kind: &&mut Value| kind["properties"]["kind"]["const"] == USUAL_KIND;
    for required in kinds.filter(usual).filter_map(|kind| kind["required"].as_array_mut()) {
        required.retain(|name| name != "kind");
    }
}

fn yes() -> bool {
    true
}

/// An item as a plan takes it.
pub fn of(call: &Call, efuses: &Efuses, item: &Item) -> Result<Request, ToolError> {
    Ok(match item {
        Item::Field { efuse, value } => field(efuses, efuse, value.as_deref())?,
        Item::Bits { block, bits } => Request::Bits { block: block.clone(), bits: bits.clone() },
        Item::Block { block, data_file, offset } => {
            let data = keys::raw(call, data_file)?.to_vec();
            Request::Block { block: block.clone(), data, offset: usize::from(*offset) }
        }
        Item::Key { block, key_file, purpose, read_protect, write_protect } => Request::Key {
            block: block.clone(),
            key: key(call, efuses, key_file, purpose)?,
            purpose: purpose.clone(),
            read_protect: *read_protect,
            write_protect: *write_protect,
        },
        Item::CustomMac { mac } => Request::CustomMac(
            mac.parse()
                .map_err(|error: esp_model::mac::NotMac| ToolError::new(Code::BadParameter, error.to_string()))?,
        ),
        Item::ReadProtect { efuse } => Request::ReadProtect { name: efuse.clone() },
        Item::WriteProtect { efuse } => Request::WriteProtect { name: efuse.clone() },
        Item::FlashVoltage { voltage } => Request::FlashVoltage(match voltage.to_ascii_lowercase().as_str() {
            "1.8v" | "1.8" => Voltage::V1_8,
            "3.3v" | "3.3" => Voltage::V3_3,
            "off" => Voltage::Off,
            _ => return Err(ToolError::new(Code::BadParameter, format!("`{voltage}` is not 1.8V, 3.3V or off"))),
        }),
    })
}

/// Raw bytes, the scalar of an ECDSA key, or the digest of a public key, as the purpose wants it.
fn key(call: &Call, efuses: &Efuses, path: &str, purpose: &str) -> Result<Vec<u8>, ToolError> {
    let digest = efuses.table.purpose(purpose).is_some_and(|one| one.digest);
    let is_pem = call.files.read_some(path)?.starts_with(b"-----BEGIN");
    if digest && is_pem {
        return Ok(esp_model::secure::block::key_digest(&keys::public(call, path)?).to_vec());
    }
    if purpose.starts_with("ECDSA_KEY") && is_pem {
        let key = keys::private(call, path)?;
        let scalar = key.scalar().ok_or_else(|| ToolError::new(Code::BadKey, "not an ECDSA key"))?;
        return Ok(text::ecdsa_key(scalar));
    }
    Ok(keys::raw(call, path)?.to_vec())
}

/// A field's value from text.
pub fn field(efuses: &Efuses, name: &str, value: Option<&str>) -> Result<Request, ToolError> {
    let field = read::field(efuses, name)?;
    text::request(efuses, &field.name, value).map_err(|error| ToolError::new(Code::BadParameter, error.to_string()))
}
