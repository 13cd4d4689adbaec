//! `esp_efuse_burn`: any eFuse, permanently: plan, rehearsal, confirmation, staged burn, read-back.

use esp_model::job::Job;
use esp_ops::args::PortUrl;
use esp_ops::efuse::pipeline::{self, Intent, Outcome, Purpose};
use esp_ops::efuse::request::{self, Item};
use esp_ops::error::{Code, ToolError};
use esp_ops::guard::Risk;
use esp_ops::session::identity::Device;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::ctx::Ctx;
use crate::tool::Tool;

/// The tool.
pub struct Burn;

/// Parameters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct In {
    port: Option<PortUrl>,
    /// Field to burn.
    efuse_name: Option<String>,
    /// Its value (default: its next bit); a number, hex bytes, a MAC address or a key purpose.
    value: Option<String>,
    /// More burns in one plan; e.g.
    /// [{"kind":"key","block":"BLOCK_KEY0","key_file":"k.bin","purpose":"XTS_AES_128_KEY"}]. kind defaults to field.
    #[serde(default, deserialize_with = "items")]
    burns: Vec<Item>,
    /// Rules to judge by: development or production (default).
    #[serde(default)]
    #[schemars(extend("x-rare" = true))]
    profile: Purpose,
    /// Token from the first call.
    confirm_token: Option<String>,
}

fn items<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Item>, D::Error> {
    let items = Vec::<Map<String, Value>>::deserialize(from)?;
    let item = |mut item: Map<String, Value>| {
        item.entry("kind").or_insert_with(|| request::USUAL_KIND.into());
        Item::deserialize(Value::Object(item)).map_err(D::Error::custom)
    };
    items.into_iter().map(item).collect()
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
    const ABOUT: &'static str = "Burn eFuse fields, keys, blocks, custom MAC or protection bits: permanent. The \
         first call returns a checked plan and a token; a second call with confirm_token burns.";
    const RISK: Risk = Risk::Irreversible;
    type In = In;
    type Out = Out;

    fn run(ctx: &Ctx, job: &Job, input: In) -> Result<Out, ToolError> {
        ctx.with_device(input.port.as_ref(), job, |connected| {
            let device = Device::read(connected, job)?;
            let efuses = pipeline::read(connected, job)?;
            let mut requests = Vec::new();
            if let Some(name) = &input.efuse_name {
                requests.push(request::field(&efuses, name, input.value.as_deref())?);
            }
            for item in &input.burns {
                requests.push(request::of(ctx, &efuses, item)?);
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
