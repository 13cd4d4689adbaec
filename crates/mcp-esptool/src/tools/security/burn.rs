//! `esp_efuse_burn`: any eFuse, for ever: plan, rehearsal, confirmation, staged burn, read-back.

use esp_model::efuse::{Efuses, Request, Voltage, text};
use esp_model::job::Job;
use schemars::{JsonSchema, Schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::ctx::Ctx;
use crate::ops::args::PortUrl;
use crate::ops::efuse::keys;
use crate::ops::efuse::pipeline::{self, Intent, Outcome, Purpose};
use crate::ops::error::{Code, ToolError};
use crate::ops::guard::Risk;
use crate::ops::session::identity::Device;
use crate::tool::Tool;
use crate::tools::security::read;

/// The tool.
pub struct Burn;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// Field to burn.
    efuse_name: Option<String>,
    /// Its value: a number, hex bytes, a MAC address, a key purpose; left out: its next bit.
    value: Option<String>,
    /// More to burn, in one plan; `kind` is field where it is left out.
    #[serde(default, deserialize_with = "items")]
    burns: Vec<Item>,
    /// What the chip is for: rules differ.
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    profile: Purpose,
    /// From the first call's result.
    confirm_token: Option<String>,
}

/// One thing to burn.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[schemars(transform = kind_may_be_left_out)]
pub enum Item {
    /// A field's value.
    Field {
        /// Its name.
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
        /// Its name.
        efuse: String,
    },
    /// Freeze a field or block.
    WriteProtect {
        /// Its name.
        efuse: String,
    },
    /// Fix the flash's voltage.
    FlashVoltage {
        /// `1.8V`, `3.3V` or `off`.
        voltage: String,
    },
}

/// What an item without a kind is: a field's value, as the tool's own parameters give it.
const USUAL_KIND: &str = "field";

fn items<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Item>, D::Error> {
    let items = Vec::<Map<String, Value>>::deserialize(from)?;
    let item = |mut item: Map<String, Value>| {
        item.entry("kind").or_insert_with(|| USUAL_KIND.into());
        Item::deserialize(Value::Object(item)).map_err(D::Error::custom)
    };
    items.into_iter().map(item).collect()
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

/// Result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Out {
    #[serde(flatten)]
    device: Device,
    #[serde(flatten)]
    outcome: Outcome,
}

impl Tool for Burn {
    const NAME: &'static str = "esp_efuse_burn";
    const TITLE: &'static str = "Burn eFuses";
    const ABOUT: &'static str = "Burn fields, keys, blocks, custom MAC or protection bits: irreversible. The first call \
        returns a checked and rehearsed plan with a token, the second call with confirm_token burns it.";
    const RISK: Risk = Risk::Irreversible;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        ctx.with_device(input.port.as_ref(), job, |connected| {
            let device = Device::read(connected, job)?;
            let efuses = pipeline::read(connected, job)?;
            let mut requests = Vec::new();
            if let Some(name) = &input.efuse_name {
                requests.push(field(&efuses, name, input.value.as_deref())?);
            }
            for item in &input.burns {
                requests.push(request(ctx, &efuses, item)?);
            }
            if requests.is_empty() {
                return Err(ToolError::new(Code::MissingParameter, "nothing to burn: give efuse_name or burns"));
            }
            let intent = Intent { profile: input.profile, token: input.confirm_token.as_deref(), ..Intent::default() };
            let outcome = pipeline::carry_out(ctx, job, connected, &requests, &intent)?;
            Ok(Out { device, outcome })
        })
    }

    fn summary(out: &Out) -> String {
        format!("{}\n{}", out.device, out.outcome.summary())
    }
}

/// An item as the engine takes it.
pub fn request(ctx: &Ctx, efuses: &Efuses, item: &Item) -> Result<Request, ToolError> {
    Ok(match item {
        Item::Field { efuse, value } => field(efuses, efuse, value.as_deref())?,
        Item::Bits { block, bits } => Request::Bits { block: block.clone(), bits: bits.clone() },
        Item::Block { block, data_file, offset } => {
            let data = keys::raw(ctx, data_file)?.to_vec();
            Request::Block { block: block.clone(), data, offset: usize::from(*offset) }
        }
        Item::Key { block, key_file, purpose, read_protect, write_protect } => Request::Key {
            block: block.clone(),
            key: key(ctx, efuses, key_file, purpose)?,
            purpose: purpose.clone(),
            read_protect: *read_protect,
            write_protect: *write_protect,
        },
        Item::CustomMac { mac } => Request::CustomMac(parse_mac(mac)?),
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
fn key(ctx: &Ctx, efuses: &Efuses, path: &str, purpose: &str) -> Result<Vec<u8>, ToolError> {
    let digest = efuses.table.purpose(purpose).is_some_and(|one| one.digest);
    let is_pem = ctx.files.read_some(path)?.starts_with(b"-----BEGIN");
    if digest && is_pem {
        return Ok(esp_model::secure::block::key_digest(&keys::public(ctx, path)?).to_vec());
    }
    if purpose.starts_with("ECDSA_KEY") && is_pem {
        let key = keys::private(ctx, path)?;
        let scalar = key.scalar().ok_or_else(|| ToolError::new(Code::BadKey, "not an ECDSA key"))?;
        return Ok(text::ecdsa_key(scalar));
    }
    Ok(keys::raw(ctx, path)?.to_vec())
}

/// A field's value from text.
pub fn field(efuses: &Efuses, name: &str, value: Option<&str>) -> Result<Request, ToolError> {
    let field = read::field(efuses, name)?;
    text::request(efuses, &field.name, value).map_err(|error| ToolError::new(Code::BadParameter, error.to_string()))
}

fn parse_mac(mac: &str) -> Result<[u8; 6], ToolError> {
    text::mac(mac).ok_or_else(|| ToolError::new(Code::BadParameter, format!("`{mac}` is no MAC address")))
}
